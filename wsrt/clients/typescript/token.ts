/** Credentials: asked for when there are none, kept until the server refuses them. */

export class Credentials {
  #token: string | null;
  readonly #ask: (() => string | Promise<string>) | undefined;
  #asking: Promise<string> | null = null;

  constructor(token: string | undefined, ask: (() => string | Promise<string>) | undefined) {
    this.#token = token ?? null;
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

  /** Return the token, or null where there is none; a promise where it has to be asked for, one for all who ask. */
  get(): string | null | Promise<string> {
    if (this.#token !== null || !this.#ask) return this.#token;
    this.#asking ??= this.#refresh(this.#ask).finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #refresh(ask: () => string | Promise<string>): Promise<string> {
    this.#token = await ask();
    return this.#token;
  }
}
