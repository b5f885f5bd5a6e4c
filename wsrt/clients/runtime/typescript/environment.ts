/** The environment of a client: sockets, time and random numbers. It needs no types of browsers or Node. */

import { browserPage, type Page } from "./page.js";

/** The parts of a WebSocket that the client uses. */
export interface Socket {
  readonly protocol: string;
  readonly bufferedAmount: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type SocketClass = new (url: string, protocols: string[]) => Socket;

export type Timer = unknown;

/** The part of fetch() that the client uses. */
export type Fetch = (
  url: string,
  request: {
    method: string;
    body?: string;
    headers: Readonly<Record<string, string>>;
    credentials: "omit" | "same-origin" | "include";
    redirect: "error";
  },
) => Promise<{
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  json(): Promise<unknown>;
}>;

export interface Environment {
  WebSocket: SocketClass | undefined;
  fetch: Fetch;
  /** Return Django's CSRF token from its cookie; null if there is none, or if the URL isn't of the page's origin. */
  csrfToken(url: string): string | null;
  /** Return the time in milliseconds since 1970. */
  now(): number;
  /** Return a number from 0 to 1. */
  random(): number;
  setTimeout(run: () => void, ms: number): Timer;
  clearTimeout(timer: Timer): void;
  /** The page; null if there is none, as in Node. */
  page: Page | null;
}

interface Globals {
  WebSocket?: SocketClass;
  setTimeout(run: () => void, ms: number): Timer;
  clearTimeout(timer: Timer): void;
  URL: new (url: string, base?: string) => { readonly href: string; readonly origin: string };
  location?: { href: string; origin: string };
  document?: { cookie?: string };
  fetch: Fetch;
  console: { error(...values: unknown[]): void };
}

const globals = globalThis as unknown as Globals;

/** The longest delay of a timer. Longer ones, including infinite ones, would fire immediately. */
const LONGEST_MS = 2 ** 31 - 1;

export function environment(given: Partial<Environment> = {}): Environment {
  return {
    WebSocket: globals.WebSocket,
    fetch: (url, request) => globals.fetch(url, request),
    csrfToken,
    now: () => Date.now(),
    random: () => Math.random(),
    // Wrapped, because browsers require these functions to be called on the global object.
    setTimeout: (run, ms) => globals.setTimeout(run, Math.min(ms, LONGEST_MS)),
    clearTimeout: (timer) => globals.clearTimeout(timer),
    page: "page" in given ? null : browserPage(),
    ...given,
  };
}

/**
 * Return an address in the form that all browsers accept: absolute, ws or wss, without a fragment. Throws TypeError.
 */
export function socketUrl(address: string, here: string | undefined = globals.location?.href): string {
  return absolute(address, here)
    .replace(/^http/i, "ws")
    .replace(/#.*/, "");
}

function csrfToken(url: string): string | null {
  const { document, location, URL } = globals;
  const found = /(?:^|; )csrftoken=([^;]*)/.exec(document?.cookie ?? "");
  if (!found || !location || new URL(url, location.href).origin !== location.origin) return null;
  return found[1]!;
}

function absolute(address: string, here: string | undefined): string {
  // Absolute addresses are left unchanged: URL in React Native has no setters, lacks parts, and adds slashes.
  if (/^(http|ws)s?:\/\/[^/?#]/i.test(address)) return address;
  try {
    // A worker created from a Blob has the URL blob:<origin>/<id>. Paths are resolved against that origin.
    return new globals.URL(address, here?.replace(/^blob:(?!null)/, "")).href;
  } catch {
    throw new TypeError(`"${address}" can't be resolved without a page: pass an absolute URL`);
  }
}

/** Return the length of a text in bytes of UTF-8. */
export function byteLength(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0)!;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}

export function logError(error: unknown, where: string): void {
  globals.console.error(`wsrt: ${where}:`, error);
}
