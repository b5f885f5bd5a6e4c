/** Requests that wait for their answer. None is left pending: each is answered, times out, or is failed. */

import type { Environment, Timer } from "./environment.js";

interface Pending {
  readonly resolve: (data: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Timer;
  isWritten: boolean;
}

export class Requests {
  readonly #environment: Environment;
  readonly #prefix: string;
  readonly #pending = new Map<string, Pending>();
  #last = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
    this.#prefix = Math.floor(environment.random() * 36 ** 8).toString(36);
  }

  /** Return a ref that no other request has or had, on whatever connection. */
  newRef(): string {
    return `${this.#prefix}-${(this.#last += 1).toString(36)}`;
  }

  /** Wait for an answer; `onTimeout` makes the error of one that did not come. */
  add(ref: string, timeoutMs: number, onTimeout: () => Error): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = this.#environment.setTimeout(() => this.fail(ref, onTimeout()), timeoutMs);
      this.#pending.set(ref, { resolve, reject, timer, isWritten: false });
    });
  }

  /** The request left: it is lost with its connection. */
  written(ref: string): void {
    const pending = this.#pending.get(ref);
    if (pending) pending.isWritten = true;
  }

  answer(ref: string, data: unknown): void {
    this.#take(ref)?.resolve(data);
  }

  fail(ref: string, error: Error): void {
    this.#take(ref)?.reject(error);
  }

  /** Fail all that left; those that wait in the queue go on waiting. */
  failWritten(makeError: () => Error): void {
    for (const [ref, pending] of [...this.#pending]) if (pending.isWritten) this.fail(ref, makeError());
  }

  #take(ref: string): Pending | undefined {
    const pending = this.#pending.get(ref);
    if (pending) {
      this.#pending.delete(ref);
      this.#environment.clearTimeout(pending.timer);
    }
    return pending;
  }
}
