/** The renewal of the token over the open connection, before it expires. */

import type { Credentials } from "./credentials.js";
import type { Environment, Timer } from "./environment.js";
import { RequestError, TimeoutError } from "./errors.js";
import { fields } from "./frame.js";
import type { Timings } from "./types.js";

/** The codes of errors that say nothing about the token. */
const TEMPORARY = ["rate_limited", "unavailable"];

export interface RenewalListener {
  /** Send a token to the server. Return the data of the answer. */
  send(token: string): Promise<unknown>;
  /** Called when getToken, or sending the token, has failed. */
  failed(error: unknown): void;
  /** Called when the user isn't signed in any more. */
  signedOut(error: Error): void;
}

/**
 * Requests another token before the present one expires, and sends it to the server.
 *
 * If it fails, the server closes the connection with 4401 when the token expires, and the client reconnects.
 */
export class Renewal {
  readonly #credentials: Credentials;
  readonly #timings: Timings;
  readonly #environment: Environment;
  readonly #listener: RenewalListener;
  #timer: Timer | null = null;
  // Incremented by stop(). Results that belong to an earlier connection are ignored.
  #generation = 0;

  constructor(credentials: Credentials, timings: Timings, environment: Environment, listener: RenewalListener) {
    this.#credentials = credentials;
    this.#timings = timings;
    this.#environment = environment;
    this.#listener = listener;
  }

  /** Renew the token in time. `expiresIn` is in seconds, as the server sent it; without a number, nothing is renewed. */
  start(expiresIn: unknown): void {
    this.stop();
    if (typeof expiresIn !== "number") return;
    const leftMs = expiresIn * 1000;
    // Spread over a window, so that clients whose tokens were made together don't renew them together.
    const marginMs = Math.min(this.#timings.renewMs, leftMs / 4) * (1 + this.#environment.random());
    this.#schedule(Math.max(this.#timings.minMs, leftMs - marginMs));
  }

  /** Stop, because the connection has ended. */
  stop(): void {
    this.#generation += 1;
    this.#clear();
  }

  #schedule(ms: number): void {
    this.#setTimer(ms, () => void this.#renew());
  }

  async #renew(): Promise<void> {
    const generation = this.#generation;
    try {
      const token = await this.#request();
      if (generation !== this.#generation) return;
      this.#clear();
      const answer = await this.#listener.send(token ?? "");
      if (generation === this.#generation) this.start(fields(answer)["expires_in"]);
    } catch (error) {
      // Errors of a connection that has ended are those of its requests.
      if (generation === this.#generation) this.#failed(error);
    }
  }

  /** Request a token, for at most `connectTimeoutMs`. */
  #request(): Promise<string | null> {
    return new Promise((resolve, reject) => {
      this.#setTimer(this.#timings.connectTimeoutMs, () => {
        this.#credentials.abandon();
        reject(new TimeoutError("no token in time"));
      });
      this.#credentials.renew().then(resolve, reject);
    });
  }

  #failed(error: unknown): void {
    this.#clear();
    // Compared by name, because an application may have bundled the class twice.
    if (error instanceof Error && error.name === "UnauthorizedError") return this.#listener.signedOut(error);
    this.#listener.failed(error);
    if (error instanceof RequestError && !TEMPORARY.includes(error.code)) this.#credentials.expire();
    else this.#schedule(this.#timings.laterMs * (1 + this.#environment.random()));
  }

  #setTimer(ms: number, run: () => void): void {
    this.#clear();
    this.#timer = this.#environment.setTimeout(run, ms);
  }

  #clear(): void {
    if (this.#timer !== null) this.#environment.clearTimeout(this.#timer);
    this.#timer = null;
  }
}
