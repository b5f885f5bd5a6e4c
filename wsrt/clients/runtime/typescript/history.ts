/**
 * Fetching missed events over HTTP, if there are more than the server sends over the WebSocket:
 *
 *     import { historyFrom } from "./realtime/runtime/history.js";
 *     const client = new ChatClient("/ws/lobby/", { history: historyFrom("/history/chat/") });
 */

import type { Environment } from "./environment.js";
import { ProtocolError, TimeoutError } from "./errors.js";
import { fields, positionOf } from "./frame.js";
import type { Position } from "./types.js";

/** A page of the publications after a position, as the server's history view returns it. */
export interface HistoryPage {
  /** The position of the room's last publication. */
  readonly epoch: string;
  readonly offset: number;
  readonly events: readonly { readonly event: string; readonly data: unknown; readonly epoch: string; readonly offset: number }[];
  /** Whether there are more after the last event. */
  readonly has_more: boolean;
  /** Why events are missing: `epoch`, `trimmed` or `expired`. Null if none are. */
  readonly gap: string | null;
}

/** A function that returns the publications in a room after a position, perhaps not all at once. */
export type HistorySource = (room: string, since: Position) => PromiseLike<HistoryPage>;

/** Events that a client has missed in a room, between two positions. */
export interface HistoryGap {
  readonly room: string;
  readonly since: Position;
  readonly until: Position;
  readonly environment: Environment;
  /** How long one page may take, in milliseconds. */
  readonly timeoutMs: number;
  /** Pass an event to the listeners. Returns false if no more are wanted, because the room or the connection was left. */
  deliver(event: string, data: unknown, position: Position): boolean;
}

/** Fills a gap. Resolves with the reason if events are missing, and with null if none are. */
export type History = (gap: HistoryGap) => Promise<string | null>;

/** How pages are requested. */
export interface HistoryRequest {
  /** Headers, such as `Authorization`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether cookies are sent. By default they are, to the page's own origin. */
  readonly credentials?: "omit" | "same-origin" | "include";
}

/**
 * Return a value for the option `history` of a client.
 *
 * @param source The URL of the server's history view, or a function that returns pages.
 * @param request How pages are requested from the URL. A function is called for each request.
 */
export function historyFrom(
  source: string | HistorySource,
  request: HistoryRequest | (() => HistoryRequest | PromiseLike<HistoryRequest>) = {},
): History {
  return async ({ room, since, until, environment, timeoutMs, deliver }) => {
    let position = since;
    for (;;) {
      const reading =
        typeof source === "string" ? fetchPage(source, request, environment, room, position) : source(room, position);
      const page = checked(await within(timeoutMs, environment, reading));
      if (page.gap !== null) return page.gap;
      if (page.epoch !== since.epoch) return "epoch";
      const before = position.offset;
      for (const { event, data, epoch, offset } of page.events) {
        position = { epoch, offset };
        if (!deliver(event, data, position)) return null;
      }
      if (!page.has_more) {
        if (page.offset < until.offset) throw new ProtocolError("the history ends before the position of the room");
        return null;
      }
      if (position.offset <= before) throw new ProtocolError("the fetched page of a history has no events after the previous page");
    }
  };
}

async function fetchPage(
  url: string,
  request: HistoryRequest | (() => HistoryRequest | PromiseLike<HistoryRequest>),
  { fetch }: Environment,
  room: string,
  { epoch, offset }: Position,
): Promise<unknown> {
  const { headers = {}, credentials = "same-origin" } = typeof request === "function" ? await request() : request;
  const query = `room=${encodeURIComponent(room)}&since=${encodeURIComponent(`${epoch}:${offset}`)}`;
  const response = await fetch(`${url}${url.includes("?") ? "&" : "?"}${query}`, {
    method: "GET",
    headers: { Accept: "application/json", ...headers },
    credentials,
    // A redirect, such as one to the login page, isn't a page of the history.
    redirect: "error",
  });
  if (response.status !== 200) throw new Error(`can't fetch the history: the server answered ${response.status}`);
  return response.json();
}

/** Return a page. Throws ProtocolError if it isn't one. */
function checked(value: unknown): HistoryPage {
  const { events, has_more, gap } = fields(value);
  const isEvent = (each: unknown) => typeof fields(each)["event"] === "string" && positionOf(fields(each)) !== null;
  const isGap = gap === null || typeof gap === "string";
  if (!positionOf(fields(value)) || typeof has_more !== "boolean" || !isGap) {
    throw new ProtocolError("the fetched data isn't a page of a history");
  }
  if (!Array.isArray(events) || !events.every(isEvent)) {
    throw new ProtocolError("the fetched page of a history has invalid events");
  }
  return value as HistoryPage;
}

/** Return the result of a promise. Rejects with TimeoutError if it takes too long. */
async function within<Value>(ms: number, environment: Environment, promise: PromiseLike<Value>): Promise<Value> {
  let timer: unknown;
  const timeout = new Promise<never>((_, reject) => {
    timer = environment.setTimeout(() => reject(new TimeoutError("no page of the history in time")), ms);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    environment.clearTimeout(timer);
  }
}
