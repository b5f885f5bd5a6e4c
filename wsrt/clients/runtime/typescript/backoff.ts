/** The delays between attempts to connect: random, within a window that grows with each attempt. */

import type { Reconnect } from "./reconnect.js";
import type { Timings } from "./types.js";

export class Backoff {
  /** The number of retries since the last stable connection. */
  attempt = 0;

  readonly #timings: Timings;
  readonly #random: () => number;

  constructor(timings: Timings, random: () => number) {
    this.#timings = timings;
    this.#random = random;
  }

  /** Record how long a connection was open when it ended, in milliseconds. Null if it never was open. */
  ended(openMs: number | null): void {
    // Not reset on open: a server that accepts and closes immediately must not look like one that works.
    if (openMs !== null && openMs >= this.#timings.stableMs) this.attempt = 0;
  }

  /**
   * Count an attempt and return the delay before it, in milliseconds.
   *
   * @param reconnect What the client does after the close.
   * @param hint The delay that the server asked for, in milliseconds.
   * @param isLost Whether the network lost an open connection. The first retry then comes soon.
   * @param laterMs What is added to the delay, unless there is a hint.
   */
  next(reconnect: Reconnect, hint: number | null = null, isLost = false, laterMs = 0): number {
    const { minMs, baseMs, capMs, spreadMs } = this.#timings;
    // A hint is used unchanged, because the server has already spread its clients over a window.
    this.attempt += 1;
    if (hint !== null) return hint;
    if (isLost && this.attempt === 1) return this.jump();
    // Jitter is applied after the cap. Otherwise all clients that reached the cap would reconnect in step.
    const window = Math.min(capMs, baseMs * 2 ** (this.attempt - 1));
    if (reconnect === "spread") return minMs + this.#random() * Math.max(spreadMs, window);
    return laterMs + minMs + this.#random() * window;
  }

  /** Return a short random delay, for when the connection is likely to succeed now. */
  jump(): number {
    return this.#random() * this.#timings.jumpMs;
  }
}
