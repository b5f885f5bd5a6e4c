/** A single connection: one socket, from its handshake to its end. After drop() its events are ignored. */

import type { Socket, SocketClass } from "./environment.js";

export interface ConnectionListener {
  opened(): void;
  received(text: string): void;
  ended(code: number, reason: string): void;
}

export class Connection {
  readonly #socket: Socket;
  #isDropped = false;
  #isGone = false;
  #onGone: (() => void) | null = null;

  /** Open a socket. Throws the errors of the WebSocket class, for bad URLs and bad subprotocols. */
  constructor(WebSocket: SocketClass, url: string, protocols: string[], listener: ConnectionListener) {
    const socket = (this.#socket = new WebSocket(url, protocols));
    // Checked for each event, because some may still arrive after the socket was dropped.
    const unlessDropped = (run: (event: any) => void) => (event: unknown) => {
      if (!this.#isDropped) run(event);
    };
    let isOpen = false;
    socket.onopen = unlessDropped(() => {
      isOpen = true;
      listener.opened();
    });
    socket.onmessage = unlessDropped(({ data }) => {
      if (typeof data === "string") listener.received(data);
    });
    // Node 20 only fires "error" when the handshake fails. Elsewhere "close" follows, without further information.
    const fail = unlessDropped(() => listener.ended(1006, ""));
    socket.onerror = (event) => {
      if (isOpen) return;
      this.#gone();
      fail(event);
    };
    const close = unlessDropped(({ code, reason }) => listener.ended(code, reason ?? ""));
    socket.onclose = (event) => {
      this.#gone();
      close(event);
    };
  }

  /** Whether the socket has ended, including one that was dropped. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** Called when the socket has ended. */
  set onGone(run: () => void) {
    this.#onGone = run;
  }

  get protocol(): string {
    return this.#socket.protocol;
  }

  get buffered(): number {
    return this.#socket.bufferedAmount;
  }

  send(text: string): void {
    this.#socket.send(text);
  }

  /** Close the socket without waiting for the server's answer, and ignore its events. */
  drop(code?: number): void {
    this.#isDropped = true;
    try {
      if (code === undefined) this.#socket.close();
      else this.#socket.close(code);
    } catch {
      // The socket can't be closed, for example because it already is.
    }
  }

  #gone(): void {
    this.#isGone = true;
    this.#onGone?.();
  }
}
