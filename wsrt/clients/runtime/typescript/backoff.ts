/** When to come back: random delays whose window grows with each attempt. */

import type { Reconnect } from "./reconnect.js";
import type { Timings } from "./types.js";

export class Backoff {
  /** Retries since the last connection that was stable. */
  attempt = 0;

  readonly #timings: Timings;
  readonly #random: () => number;

  constructor(timings: Timings, random: () => number) {
    this.#timings = timings;
    this.#random = random;
  }

  /** A connection ended that was open for so long; null where it never was. */
  ended(openMs: number | null): void {
    // Counted only here: a server that accepts and closes at once must not look like one that works.
    if (openMs !== null && openMs >= this.#timings.stableMs) this.attempt = 0;
  }

  /**
   * Count an attempt, and return its delay in milliseconds.
   *
   * @param hint what the server asked for.
   * @param isLost whether an open connection was lost to the network: the server is there, but for the first attempt.
   */
  next(reconnect: Reconnect, hint: number | null = null, isLost = false): number {
    const { minMs, baseMs, capMs, spreadMs, laterMs } = this.#timings;
    // A hint is used once, and as it is: the server has spread its clients.
    this.attempt += 1;
    if (hint !== null) return hint;
    if (isLost && this.attempt === 1) return this.jump();
    // Jitter comes after the cap, or all clients would come in step once they reach it.
    const window = Math.min(capMs, baseMs * 2 ** (this.attempt - 1));
    if (reconnect === "spread") return minMs + this.#random() * Math.max(spreadMs, window);
    return (reconnect === "later" ? laterMs : 0) + minMs + this.#random() * window;
  }

  /** Return a short delay, for whoever has a reason to believe that it works now. */
  jump(): number {
    return this.#random() * this.#timings.jumpMs;
  }
}
