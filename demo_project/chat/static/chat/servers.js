/** The servers, one of which the client is connected to. */
export class Servers {
  #ports;
  #path;
  #current = 0;

  /**
   * @param ports The ports of the servers on the page's host, in order of preference.
   * @param path The path of the consumer.
   */
  constructor(ports, path) {
    this.#ports = ports;
    this.#path = path;
  }

  /** The URL for the next attempt to connect. */
  get url() {
    const { protocol, hostname } = location;
    return `${protocol}//${hostname}:${this.#ports[this.#current]}${this.#path}`;
  }

  /** Go on at the next server when the current one can't be reached. A lost connection is retried there first. */
  follow(client) {
    let wasOpen = false;
    client.onState(({ state }) => {
      if (state === "open") wasOpen = true;
      if (state !== "waiting") return;
      if (!wasOpen) this.#current = (this.#current + 1) % this.#ports.length;
      wasOpen = false;
    });
  }
}
