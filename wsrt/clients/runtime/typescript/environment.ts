/** What a client takes from its surroundings: sockets, time, chance. No types of browsers or Node are needed. */

import { browserPage, type Page } from "./page.js";

/** What is used of a WebSocket. */
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

export interface Environment {
  WebSocket: SocketClass | undefined;
  /** Milliseconds since 1970. */
  now(): number;
  /** From 0 to 1. */
  random(): number;
  setTimeout(run: () => void, ms: number): Timer;
  clearTimeout(timer: Timer): void;
  /** Null where there is none, as in Node. */
  page: Page | null;
}

interface Globals {
  WebSocket?: SocketClass;
  setTimeout(run: () => void, ms: number): Timer;
  clearTimeout(timer: Timer): void;
  URL: new (url: string, base?: string) => { readonly href: string };
  location?: { href: string };
  console: { error(...values: unknown[]): void };
}

const globals = globalThis as unknown as Globals;

/** Timers of more than 24 days, infinite ones too, would run at once. */
const LONGEST_MS = 2 ** 31 - 1;

export function environment(given: Partial<Environment> = {}): Environment {
  return {
    WebSocket: globals.WebSocket,
    now: () => Date.now(),
    random: () => Math.random(),
    // Not the functions themselves: browsers want them called on their own global.
    setTimeout: (run, ms) => globals.setTimeout(run, Math.min(ms, LONGEST_MS)),
    clearTimeout: (timer) => globals.clearTimeout(timer),
    page: "page" in given ? null : browserPage(),
    ...given,
  };
}

/** Return an address as browsers of any age take it: ws or wss, absolute, without a fragment. Throws TypeError. */
export function socketUrl(address: string, here: string | undefined = globals.location?.href): string {
  return absolute(address, here)
    .replace(/^http/i, "ws")
    .replace(/#.*/, "");
}

function absolute(address: string, here: string | undefined): string {
  // Left as it is: URL in React Native sets nothing, does not know its parts, and adds slashes to what it is given.
  if (/^(http|ws)s?:\/\/[^/?#]/i.test(address)) return address;
  try {
    // What was made out of a Blob has no paths, but an origin in its name, or null.
    return new globals.URL(address, here?.replace(/^blob:(?!null)/, "")).href;
  } catch {
    throw new TypeError(`"${address}" leads nowhere from here: pass an absolute URL`);
  }
}

/** Return how many bytes of UTF-8 a text has. */
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
