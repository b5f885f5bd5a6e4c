/** Clients of the consumers of this project. */

import { Client } from "wsrt";

/** One visitor in one room. */
export class ChatClient extends Client {
  constructor(address, options = {}) {
    super(address, { ...options, schemaHash: "9864c5b06e066c84" });
  }
}
