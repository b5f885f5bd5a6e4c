/**
 * Detection of dead connections by the times of received frames.
 *
 * A dead connection may not close its socket for minutes, and the timers of hidden pages fire late or in bursts.
 */

import type { Timings } from "./types.js";

/** A check that is this late means that this page was suspended. Frames may be waiting in the socket. */
const LATE_MS = 1000;

/** What to do with the connection: keep it, ping the server, or drop it. */
export type Verdict = "alive" | "ping" | "dead";

export class Liveness {
  /** The time of the next check(). */
  due: number;

  readonly #silenceMs: number;
  readonly #idleMs: number;
  readonly #probeMs: number;
  readonly #mustPing: boolean;
  #receivedAt: number;
  #pingedAt: number | null = null;
  #hasExtraProbe = false;

  /**
   * @param heartbeat The silence in seconds after which the server pings. Null if it doesn't ping.
   * @param timeout How long the server waits for an answer to its ping, in seconds.
   * @param timings The time limits of the client.
   * @param now The current time, in milliseconds.
   */
  constructor(heartbeat: number | null, timeout: number | null, timings: Timings, now: number) {
    const pings = heartbeat !== null && timeout !== null;
    this.#silenceMs = timings.deadAfterMs ?? (pings ? (heartbeat + timeout) * 1000 : timings.idleMs);
    this.#idleMs = pings ? Math.min(heartbeat * 1000, this.#silenceMs) : this.#silenceMs;
    this.#mustPing = !pings && timings.deadAfterMs === null;
    this.#probeMs = timings.probeMs;
    this.#receivedAt = now;
    this.due = now + this.#silenceMs;
  }

  /** Record that a frame arrived. */
  received(now: number): void {
    this.#receivedAt = now;
    this.#pingedAt = null;
    this.#hasExtraProbe = false;
  }

  /** Check the connection. To be called at `due`. */
  check(now: number): Verdict {
    if (now < this.#receivedAt) this.#receivedAt = now; // the clock was set back
    const late = now - this.due;
    if (this.#pingedAt === null) {
      this.due = this.#receivedAt + this.#silenceMs;
      if (now < this.due) return "alive";
      return this.#mustPing || late > LATE_MS ? this.#ping(now) : "dead";
    }
    this.due = Math.min(this.#pingedAt, now) + this.#probeMs;
    if (now < this.due) return "alive";
    if (late > LATE_MS && !this.#hasExtraProbe) {
      this.#hasExtraProbe = true;
      return this.#ping(now);
    }
    return "dead";
  }

  /** Check the connection when the page becomes active: ping if the server should have sent something by now. */
  wake(now: number): Verdict {
    if (this.#pingedAt !== null || now - this.#receivedAt < this.#idleMs) return "alive";
    return this.#ping(now);
  }

  #ping(now: number): Verdict {
    this.#pingedAt = now;
    this.due = now + this.#probeMs;
    return "ping";
  }
}
