/** Lists of listeners. An error in one is reported and doesn't stop the others. */

import type { ErrorListener } from "./errors.js";

/** Return whether a value is a promise, including those of other realms and libraries. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

export class Listeners<Args extends unknown[]> {
  // Wrapped, so that a function that was added twice is called twice, and removed once.
  readonly #listeners = new Set<{ run: (...args: Args) => unknown }>();
  readonly #what: string;
  readonly #report: ErrorListener;
  readonly #generation: () => unknown;

  /**
   * @param what A description of the listeners, for error reports.
   * @param report Receives the errors that listeners throw or reject with.
   * @param generation Returns a value. When it changes during a call, the remaining listeners are skipped.
   */
  constructor(what: string, report: ErrorListener, generation: () => unknown) {
    this.#what = what;
    this.#report = report;
    this.#generation = generation;
  }

  get size(): number {
    return this.#listeners.size;
  }

  /** Add a listener. Return a function that removes it. */
  add(run: (...args: Args) => unknown): () => void {
    const listener = { run };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Call all listeners. */
  notify(...args: Args): void {
    const generation = this.#generation();
    for (const listener of [...this.#listeners]) {
      if (this.#generation() !== generation) return;
      // A previous listener may have removed it.
      if (!this.#listeners.has(listener)) continue;
      try {
        const result = listener.run(...args);
        if (isPromise(result)) result.then(undefined, (error: unknown) => this.#report(error, this.#what));
      } catch (error) {
        this.#report(error, this.#what);
      }
    }
  }
}
