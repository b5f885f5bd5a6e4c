/** One socket, from its dial to its end. What a dropped one still says is heard by nobody. */

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

  /** Throws what the class throws: bad URLs and bad subprotocols. */
  constructor(WebSocket: SocketClass, url: string, protocols: string[], listener: ConnectionListener) {
    const socket = (this.#socket = new WebSocket(url, protocols));
    // Asked at each call: an event may be on its way when the socket is dropped.
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
    // Node 20 says no more of a dial that failed. Everywhere else a close follows, and says as little.
    const failed = unlessDropped(() => listener.ended(1006, ""));
    socket.onerror = (event) => {
      if (isOpen) return;
      this.#gone();
      failed(event);
    };
    const closed = unlessDropped(({ code, reason }) => listener.ended(code, reason ?? ""));
    socket.onclose = (event) => {
      this.#gone();
      closed(event);
    };
  }

  /** Whether the socket has ended, also one that was dropped before. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** Be told when the socket has ended. */
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

  /** Give it up; it need not answer. */
  drop(code?: number): void {
    this.#isDropped = true;
    try {
      if (code === undefined) this.#socket.close();
      else this.#socket.close(code);
    } catch {
      // Nothing is left to be done with it.
    }
  }

  #gone(): void {
    this.#isGone = true;
    this.#onGone?.();
  }
}
