/** Functions that want to be told. What one throws is reported, and does not keep the others from being told. */

import type { ErrorListener } from "./errors.js";

/** Return whether this is a promise; those of other realms and libraries are no instances of ours. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

export class Listeners<Args extends unknown[]> {
  // Wrapped, so that a function that was added twice is told twice, and removed once.
  readonly #listeners = new Set<{ run: (...args: Args) => unknown }>();
  readonly #what: string;
  readonly #report: ErrorListener;
  readonly #era: () => unknown;

  /** @param era another value once what is being told has been overtaken: then the listeners left over are not called. */
  constructor(what: string, report: ErrorListener, era: () => unknown) {
    this.#what = what;
    this.#report = report;
    this.#era = era;
  }

  get size(): number {
    return this.#listeners.size;
  }

  /** Return the function that removes it again. */
  add(run: (...args: Args) => unknown): () => void {
    const listener = { run };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  tell(...args: Args): void {
    const era = this.#era();
    for (const listener of [...this.#listeners]) {
      if (this.#era() !== era) return;
      // Another one may have removed it meanwhile.
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
