/**
 * Whether the link is alive, told from the times of frames: a dead link closes no socket, and timers of hidden pages come
 * late or in bursts.
 */

import type { Timings } from "./types.js";

/** A check that comes this late tells of our own standstill: what the server sent meanwhile is still to be read. */
const LATE_MS = 1000;

export type Verdict = "alive" | "ask" | "dead";

export class Liveness {
  /** When check() wants to be called next. */
  due: number;

  readonly #silenceMs: number;
  readonly #idleMs: number;
  readonly #probeMs: number;
  readonly #isAsking: boolean;
  #heardAt: number;
  #askedAt: number | null = null;
  #wasGranted = false;

  /**
   * @param heartbeat seconds of silence before the server pings, and `timeout` for an answer; null: it never does.
   */
  constructor(heartbeat: number | null, timeout: number | null, timings: Timings, now: number) {
    const pings = heartbeat !== null && timeout !== null;
    this.#silenceMs = timings.deadAfterMs ?? (pings ? (heartbeat + timeout) * 1000 : timings.idleMs);
    this.#idleMs = pings ? Math.min(heartbeat * 1000, this.#silenceMs) : this.#silenceMs;
    this.#isAsking = !pings && timings.deadAfterMs === null;
    this.#probeMs = timings.probeMs;
    this.#heardAt = now;
    this.due = now + this.#silenceMs;
  }

  /** A frame came, whichever. */
  heard(now: number): void {
    this.#heardAt = now;
    this.#askedAt = null;
    this.#wasGranted = false;
  }

  /** Let time pass; to be called at `due`. "ask": a ping is to be sent. */
  check(now: number): Verdict {
    if (now < this.#heardAt) this.#heardAt = now; // the clock was set back
    const late = now - this.due;
    if (this.#askedAt === null) {
      this.due = this.#heardAt + this.#silenceMs;
      if (now < this.due) return "alive";
      return this.#isAsking || late > LATE_MS ? this.#ask(now) : "dead";
    }
    this.due = Math.min(this.#askedAt, now) + this.#probeMs;
    if (now < this.due) return "alive";
    if (late > LATE_MS && !this.#wasGranted) {
      this.#wasGranted = true;
      return this.#ask(now);
    }
    return "dead";
  }

  /** The page is back: ask, if nothing was heard for as long as the server is ever silent. */
  wake(now: number): Verdict {
    if (this.#askedAt !== null || now - this.#heardAt < this.#idleMs) return "alive";
    return this.#ask(now);
  }

  #ask(now: number): Verdict {
    this.#askedAt = now;
    this.due = now + this.#probeMs;
    return "ask";
  }
}
