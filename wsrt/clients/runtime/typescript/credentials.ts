/** The credentials of a client: a token, and the function that provides a new one. */

import type { Token } from "./types.js";

type GetToken = () => Token | PromiseLike<Token>;

/** A token, kept until the server rejects it. */
export class Credentials {
  #token: string | null;
  readonly #getToken: GetToken | undefined;
  #pending: Promise<string | null> | null = null;

  constructor(token: Token, getToken: GetToken | undefined) {
    this.#token = token || null;
    this.#getToken = getToken;
  }

  /** Whether another token can be requested. */
  get canRefresh(): boolean {
    return this.#getToken !== undefined;
  }

  /** Forget the token, because the server rejected it. */
  expire(): void {
    this.#token = null;
  }

  /** Abandon a pending call of getToken. The next get() calls it again. */
  abandon(): void {
    this.#pending = null;
  }

  /**
   * Return the token, or null if there is none. Return a promise if it must be requested; concurrent calls share it.
   */
  get(): string | null | Promise<string | null> {
    return this.#token !== null || !this.#getToken ? this.#token : this.renew();
  }

  /** Request another token. If that fails, the present one is kept. */
  renew(): Promise<string | null> {
    return (this.#pending ??= this.#refresh(this.#getToken ?? (() => this.#token)));
  }

  #refresh(getToken: GetToken): Promise<string | null> {
    // An async function, so that an error thrown by getToken also becomes a rejection.
    const pending = (async () => (await getToken()) || null)();
    const settle = (token: string | null) => {
      if (pending !== this.#pending) return; // it was abandoned
      this.#pending = null;
      this.#token = token;
    };
    pending.then(settle, () => settle(this.#token));
    return pending;
  }
}
