/** The requests that wait for an answer. Each is answered, times out or fails; none stays pending. */

import type { Environment, Timer } from "./environment.js";
import type { Frame } from "./frame.js";

interface Pending {
  readonly resolve: (answer: Frame) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Timer;
  isSent: boolean;
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

  /** Return a ref that no other request of this client has used, on any connection. */
  newRef(): string {
    return `${this.#prefix}-${(this.#last += 1).toString(36)}`;
  }

  /** Add a request and return a promise of its answer. `onTimeout` creates the error if no answer arrives in time. */
  add(ref: string, timeoutMs: number, onTimeout: () => Error): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const timer = this.#environment.setTimeout(() => this.fail(ref, onTimeout()), timeoutMs);
      this.#pending.set(ref, { resolve, reject, timer, isSent: false });
    });
  }

  /** Record that a request was written to the socket. Only the current connection can deliver its answer. */
  noteSent(ref: string): void {
    const pending = this.#pending.get(ref);
    if (pending) pending.isSent = true;
  }

  answer(ref: string, answer: Frame): void {
    this.#take(ref)?.resolve(answer);
  }

  fail(ref: string, error: Error): void {
    this.#take(ref)?.reject(error);
  }

  /** Fail every request that was sent. Those in the queue continue to wait. */
  failSent(makeError: () => Error): void {
    for (const [ref, pending] of [...this.#pending]) if (pending.isSent) this.fail(ref, makeError());
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
