/** Credentials: asked for when there are none, kept until the server refuses them. */

import type { Token } from "./types.js";

type Ask = () => Token | PromiseLike<Token>;

export class Credentials {
  #token: string | null;
  readonly #ask: Ask | undefined;
  #asking: Promise<string | null> | null = null;

  constructor(token: Token, ask: Ask | undefined) {
    this.#token = token || null;
    this.#ask = ask;
  }

  /** Whether there may be others, once these are refused. */
  get isRefreshable(): boolean {
    return this.#ask !== undefined;
  }

  /** The server refused them. */
  refuse(): void {
    this.#token = null;
  }

  /** Wait no more for what was asked for; the next who asks, asks anew. */
  forget(): void {
    this.#asking = null;
  }

  /** Return the token, or null where there is none; a promise where it has to be asked for, one for all who ask. */
  get(): string | null | Promise<string | null> {
    if (this.#token !== null || !this.#ask) return this.#token;
    return (this.#asking ??= this.#refresh(this.#ask));
  }

  #refresh(ask: Ask): Promise<string | null> {
    // Async, so that what it throws is a rejection too.
    const asking = (async () => (await ask()) || null)();
    const settle = (token: string | null) => {
      if (asking !== this.#asking) return; // it was given up
      this.#asking = null;
      this.#token = token;
    };
    asking.then(settle, () => settle(null));
    return asking;
  }
}
