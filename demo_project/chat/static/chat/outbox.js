import { make } from "./dom.js";
import { explain } from "./words.js";

/** How long a message waits for a connection, in milliseconds. */
const PATIENCE_MS = 5 * 60_000;

export const QUEUE = { ageMs: PATIENCE_MS };

/** Messages that the server hasn't confirmed yet. They wait while the client is offline, and are sent when it reconnects. */
export class Outbox {
  #client;
  #list;

  constructor(client, list) {
    this.#client = client;
    this.#list = list;
  }

  async send(text) {
    const note = make("p", "note", "Waiting to be sent");
    const item = make("li", "waiting", make("p", "text", text), note);
    this.#list.append(item);
    try {
      await this.#client.request("message.send", { text }, { queue: true, timeout: PATIENCE_MS });
      item.remove();
    } catch (error) {
      item.className = "failed";
      note.textContent = `Not sent. ${explain(error, { text: "A message has 1 to 2,000 characters." })}`;
      const again = make("button", "quiet", "Send again");
      again.onclick = () => {
        item.remove();
        this.send(text);
      };
      const drop = make("button", "quiet", "Drop it");
      drop.onclick = () => item.remove();
      item.append(again, drop);
    }
  }
}
