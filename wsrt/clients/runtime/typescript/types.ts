/** The types that users and generated code see. */

import type { ErrorListener } from "./errors.js";
import type { Environment, SocketClass } from "./environment.js";

/** The names of a map from event names to the data of the events. */
export type Name<Events> = keyof Events & string;

/** Where nothing was generated: any event, any data. */
export type AnyEvents = Record<string, any>;

/** What follows the name of an event: its data may be left out where no field is required. */
export type Rest<Data, Options> = {} extends Data
  ? [data?: Data | undefined, options?: Options]
  : [data: Data, options?: Options];

/** What is known of a received event beside its data. */
export interface Context {
  /** The room that it was published to; null where it was published to no single room. */
  readonly room: string | null;
  /** Its place in the room's history; null where it is not kept. */
  readonly offset: number | null;
}

/**
 * - `connecting`: from the start of a dial until the server's greeting
 * - `open`: greeted; events go in and out
 * - `waiting`: no socket; a retry is scheduled, or comes when the page is back
 * - `closed`: not connected, and not going to be
 */
export type State = "connecting" | "open" | "waiting" | "closed";

/**
 * Why a client waits or is closed.
 *
 * - `client`: close() was called
 * - `server`: a close frame came, with `code` and `text`
 * - `network`: the socket ended without one, or could not be opened
 * - `timeout`: it took too long to connect
 * - `dead`: silence for too long
 * - `offline`: the page says so
 * - `page`: the page is left, or was hidden for too long
 * - `token`: getToken, or the function of the URL, failed or took too long; it is tried again
 * - `unauthorized`: there are no credentials that the server takes; for good
 * - `invalid`: it cannot work, such as a bad URL; for good
 */
export type ReasonKind =
  | "client"
  | "server"
  | "network"
  | "timeout"
  | "dead"
  | "offline"
  | "page"
  | "token"
  | "unauthorized"
  | "invalid";

export interface Reason {
  readonly kind: ReasonKind;
  readonly code: number | null;
  readonly text: string;
}

/** A retry that is scheduled. */
export interface Retry {
  /** From 1; anew once a connection was stable. */
  readonly attempt: number;
  readonly delayMs: number;
  /** When, in milliseconds since 1970. */
  readonly at: number;
}

/** All about the connection at one time. A new object whenever something changes. */
export interface Status {
  readonly state: State;
  /** Null while connecting or open, and before the first connect(). */
  readonly reason: Reason | null;
  /** Whether the server's events are others than those that this client was generated from: reload the page. */
  readonly outdated: boolean;
  /** Null where none is scheduled. */
  readonly retry: Retry | null;
}

/** What is known of a room that the server has put this client into. */
export interface Membership {
  /** False between the loss of a connection and the server's joining anew; then `recovered` and `reason` are null. */
  readonly joined: boolean;
  /** The position in the room's history; null where none is kept. */
  readonly epoch: string | null;
  readonly offset: number | null;
  /** Whether all that was missed follows. False: load the state of the room anew. Null: nothing was asked for. */
  readonly recovered: boolean | null;
  /** Why it was not recovered: `epoch`, `trimmed`, `expired`, `too_many`, `late`. */
  readonly reason: string | null;
}

/** Somebody in a room, with all their connections. */
export interface Member<Data = unknown> {
  /** Null stands for all guests together. */
  readonly user_id: string | null;
  readonly connections: number;
  /** What they show; null for nothing. */
  readonly data: Data | null;
}

/** Who is in a room. A new object whenever it changes. */
export interface Presence<Data = unknown> {
  readonly version: number;
  /** By user id. Null where there are too many to be listed. */
  readonly members: ReadonlyMap<string | null, Member<Data>> | null;
  /** Users and guests. */
  readonly count: number;
}

export interface SendOptions {
  /** Keep it while not connected, within the limits of the queue. While `closed` it is dropped all the same. */
  readonly queue?: boolean;
  /** A key: while the connection is congested, only the latest event of the key waits. Without `queue` it is dropped
   * while not connected. */
  readonly volatile?: string;
}

/** `dropped`: not connected, and not to be queued; or closed. */
export type SendResult = "sent" | "queued" | "dropped";

export interface RequestOptions {
  /** Milliseconds until it rejects with TimeoutError. */
  readonly timeout?: number;
  /** Wait for a connection. Without it, and while `closed`, a request rejects at once where there is none. */
  readonly queue?: boolean;
}

/** Limits of what waits. */
export interface QueueLimits {
  readonly items: number;
  readonly bytes: number;
  readonly ageMs: number;
}

/** Milliseconds, but for `bufferBytes`. */
export interface Timings {
  /** A retry comes after minMs + random(0, min(capMs, baseMs * 2 ** (attempt - 1))). */
  readonly minMs: number;
  readonly baseMs: number;
  readonly capMs: number;
  /** After a lost network, and when a page is back: random(0, jumpMs). */
  readonly jumpMs: number;
  /** Added after a rate limit. */
  readonly laterMs: number;
  /** The window after a shutdown that gave no hint. */
  readonly spreadMs: number;
  /** How long a connection is open until attempts count anew. */
  readonly stableMs: number;
  /** How long a socket may take to open; and, before that, the functions that give token and URL. */
  readonly connectTimeoutMs: number;
  readonly helloTimeoutMs: number;
  /** Silence after which a link is dead; null: what the server's greeting says. */
  readonly deadAfterMs: number | null;
  /** Silence after which a server that sends no pings of its own gets one. */
  readonly idleMs: number;
  /** How long a ping of ours may stay unanswered. */
  readonly probeMs: number;
  /** How long the server may take to answer a close, before a connect() that follows dials all the same. */
  readonly closeTimeoutMs: number;
  /** A page that is hidden for longer dials no more. */
  readonly hiddenAfterMs: number;
  readonly requestTimeoutMs: number;
  /** Unsent bytes in the socket from which on events wait. */
  readonly bufferBytes: number;
}

/** An absolute URL, or a path on this page's host; a function is called for each dial. */
export type Address = string | URL_ | (() => string | URL_ | PromiseLike<string | URL_>);

/** Null, undefined and an empty text: there is none. */
export type Token = string | null | undefined;

/** A URL object, without the need for the types of a browser. */
interface URL_ {
  readonly href: string;
}

export interface ClientOptions {
  /** The first token; offered as the subprotocol `bearer.<token>`. */
  readonly token?: Token;
  /**
   * Called where there is no token, and after the server refused the last. Throw UnauthorizedError to give up. What takes
   * longer than `connectTimeoutMs` is asked for anew.
   */
  readonly getToken?: () => Token | PromiseLike<Token>;
  /** Further subprotocols. */
  readonly protocols?: readonly string[];
  /** Hash of the events that this client was generated from. */
  readonly schemaHash?: string;
  readonly queue?: Partial<QueueLimits>;
  readonly timings?: Partial<Timings>;
  /** Told of what listeners throw and of what was dropped; by default the console is. */
  readonly onError?: ErrorListener;
  /** For where no global one is, as in Node 20. */
  readonly WebSocket?: SocketClass;
  /** For tests. */
  readonly environment?: Partial<Environment>;
}
