/** The public types of the runtime, for applications and generated code. */

import type { ErrorListener } from "./errors.js";
import type { Environment, SocketClass } from "./environment.js";
import type { History } from "./history.js";

/** The event names of an interface that maps event names to their data. */
export type Name<Events> = keyof Events & string;

/** The events of a client that isn't generated: any event with any data. */
export type AnyEvents = Record<string, any>;

/** The arguments after an event's name. The data may be left out if no field is required. */
export type Rest<Data, Options> = {} extends Data
  ? [data?: Data | undefined, options?: Options]
  : [data: Data, options?: Options];

/** The room in which a received event was published, and its position there. */
export interface Context {
  /** The room that the event was published to. Null if it wasn't published to a single room. */
  readonly room: string | null;
  /** The event's position in the room's history. Null if there is no history. */
  readonly epoch: string | null;
  readonly offset: number | null;
}

/** A place in the history of a room. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
}

/** Whether a client has received the events that it missed in a room. */
export interface Recovery {
  /** False: events are missing, so the application has to load the data of the room again. */
  readonly recovered: boolean;
  /** The number of missed events that were received. */
  readonly count: number;
  /**
   * Why events are missing. Null if none are.
   *
   * - `epoch`: the history was lost, or started again
   * - `trimmed`: more events were published than the history keeps
   * - `expired`: the missed events are older than the time for which the history keeps them
   * - `too_many`: there are more missed events than the server sends over the WebSocket
   * - `late`: the client didn't send its position in the first frame of the connection
   */
  readonly reason: string | null;
}

/**
 * The state of a client.
 *
 * - `connecting`: requesting a token, opening a socket, or waiting for `wsrt.hello`, the server's first frame
 * - `open`: `wsrt.hello` was received; events can be sent and received
 * - `waiting`: no socket; the client will reconnect after a delay, or when the page is visible again
 * - `closed`: not connected, and not trying to connect
 */
export type State = "connecting" | "open" | "waiting" | "closed";

/**
 * Why a client is waiting or closed.
 *
 * - `client`: close() was called
 * - `server`: the server sent a close frame, with `code` and `text`
 * - `network`: the connection ended without a close frame, or could not be opened
 * - `timeout`: no answer to the handshake, or no `wsrt.hello`, in time
 * - `dead`: the server was silent for too long
 * - `offline`: the browser reported that it is offline
 * - `page`: the page was left, or was hidden for too long
 * - `token`: getToken, the request for a ticket, or the function that returns the URL, failed or took too long; the
 *   client retries
 * - `unauthorized`: the server rejected the credentials, and there are no others; permanent
 * - `invalid`: connecting can't work, such as with a bad URL; permanent
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

/** Why there is no connection. */
export interface Reason {
  readonly kind: ReasonKind;
  /** The close code; null if there is none. */
  readonly code: number | null;
  /** The reason in the close frame, or a description of the problem. */
  readonly text: string;
}

/** A scheduled retry. */
export interface Retry {
  /** The number of the attempt, counted from 1 again after a stable connection. */
  readonly attempt: number;
  readonly delayMs: number;
  /** The time of the retry, in milliseconds since 1970. */
  readonly at: number;
}

/** The state of a client, with details. Every change creates a new object. */
export interface Status {
  readonly state: State;
  /** Why the client is waiting or closed. Null while connecting or open, and before the first connect(). */
  readonly reason: Reason | null;
  /** Whether the server's events differ from those this client was generated from. If so, reload the page. */
  readonly outdated: boolean;
  /** The scheduled retry; null if there is none. */
  readonly retry: Retry | null;
}

/**
 * The state of a subscription.
 *
 * - `waiting`: the server has not answered yet, or there is no connection
 * - `subscribed`: events that are published to the room are received
 * - `refused`: the server refused the room, see `error`. The client asks again on the next connection
 * - `removed`: the server has removed the client from the room. The client asks again on the next connection
 * - `ended`: unsubscribe() was called
 */
export type SubscriptionState = "waiting" | "subscribed" | "refused" | "removed" | "ended";

/** A subscription of one part of the page to a room. The client stays in the room while it has any. */
export interface Subscription {
  readonly room: string;
  readonly state: SubscriptionState;
  /** Why the server refused the room. Null if it didn't. */
  readonly error: Error | null;
  /**
   * Resolves when the client is in the room. Rejects with RequestError if the server refuses, and with ConnectionError
   * if the subscription ends or the client is closed before.
   */
  readonly ready: Promise<void>;
  /** End this subscription. With the last one, the client leaves the room, unless the server joined it, too. */
  unsubscribe(): void;
}

/** A room that this client is in. */
export interface Membership {
  /**
   * Whether the current connection is in the room. False after the connection is lost, until the server joins the next
   * one to the room; `recovered` and `reason` are null in the meantime.
   */
  readonly joined: boolean;
  /** The position of the last received publication. Null if there is no history. */
  readonly epoch: string | null;
  readonly offset: number | null;
  /** Whether missed events are being received. Listeners of `onRecovered` are called afterwards. */
  readonly recovering: boolean;
  /** Whether all missed events are received. False: reload the room's state. Null: none were asked for, or not known yet. */
  readonly recovered: boolean | null;
  /** Why missed events can't be received: see Recovery. */
  readonly reason: string | null;
  /** The number of missed events. */
  readonly count: number;
  /** Whether the room has more last values (`history="latest"`) than the server sends. Load them in another way. */
  readonly valuesMissing: boolean;
}

/** A user in a room. */
export interface Member<Data = unknown> {
  /** The user's id. Null stands for all users who aren't signed in. */
  readonly user_id: string | null;
  /** The number of the user's connections, such as devices and tabs. */
  readonly connections: number;
  /** The data that the application shows for the user. Null if there is none. */
  readonly data: Data | null;
}

/** The members of a room. Every change creates a new object. */
export interface Presence<Data = unknown> {
  readonly version: number;
  /** The members by user id. Null if the server sends only a count. */
  readonly members: ReadonlyMap<string | null, Member<Data>> | null;
  /** The number of users plus connections of guests. */
  readonly count: number;
}

export interface SendOptions {
  /** Queue the event while not connected, within the limits. A `closed` client drops it. */
  readonly queue?: boolean;
  /**
   * A key. While the socket is congested, only the latest event with this key is kept. While not connected, the event is
   * dropped unless `queue` is set.
   */
  readonly volatile?: string;
}

/**
 * `sent`: written to the socket. `queued`: waiting. `dropped`: there is no connection and `queue` isn't set, or the
 * client is closed.
 */
export type SendResult = "sent" | "queued" | "dropped";

export interface RequestOptions {
  /** Milliseconds until the request is rejected with TimeoutError. */
  readonly timeout?: number;
  /** Wait for a connection. Without it, or while `closed`, the request is rejected immediately if there is none. */
  readonly queue?: boolean;
}

/** The limits of events that wait for a connection: their number, their bytes in UTF-8, and how long one may wait. */
export interface QueueLimits {
  readonly items: number;
  readonly bytes: number;
  readonly ageMs: number;
}

/** Delays and time limits, in milliseconds, except `bufferBytes`. */
export interface Timings {
  /** The delay before a retry is minMs + random(0, min(capMs, baseMs * 2 ** (attempt - 1))). */
  readonly minMs: number;
  readonly baseMs: number;
  readonly capMs: number;
  /** After a lost network, and when the page becomes visible, the delay is random(0, jumpMs). */
  readonly jumpMs: number;
  /** Added to the delay after a close whose rule is `later`, such as 4429. */
  readonly laterMs: number;
  /** The window for reconnecting after a server shutdown, if `wsrt.closing` named no delay. */
  readonly spreadMs: number;
  /** How long a connection must stay open before attempts are counted from 1 again. */
  readonly stableMs: number;
  /**
   * A token is renewed over the open connection between once and twice this time before it expires. A token that is valid
   * for less than four times this time is renewed after half to three quarters of its validity.
   */
  readonly renewMs: number;
  /** The limit for opening a socket, and for getting the token or ticket and the URL. */
  readonly connectTimeoutMs: number;
  /** How long the client waits for `wsrt.hello`, the server's first frame, after the socket was opened. */
  readonly helloTimeoutMs: number;
  /** How long the server may be silent before the connection is considered dead. Null: use the times in `wsrt.hello`. */
  readonly deadAfterMs: number | null;
  /** If the server sends no pings: the silence after which the client sends one. */
  readonly idleMs: number;
  /** How long the client waits for the answer to its ping. */
  readonly probeMs: number;
  /** The limit for the server's answer to a close, before the next connect() opens another socket. */
  readonly closeTimeoutMs: number;
  /** A page that is hidden for longer doesn't reconnect until it is visible. */
  readonly hiddenAfterMs: number;
  /** How long a request waits for its answer, unless it sets its own timeout. */
  readonly requestTimeoutMs: number;
  /** The number of unsent bytes in the socket above which events wait. */
  readonly bufferBytes: number;
}

/** An absolute URL, or a path on the page's host. A function is called for each attempt to connect. */
export type Address = string | URL_ | (() => string | URL_ | PromiseLike<string | URL_>);

/** A token. Null, undefined and an empty string mean that there is none. */
export type Token = string | null | undefined;

/** A URL object, declared here because the runtime doesn't use the types of browsers. */
interface URL_ {
  readonly href: string;
}

/** How a ticket is requested. */
export interface TicketRequest {
  /** Headers, such as `Authorization`, or `X-CSRFToken` if the page can't read the cookie `csrftoken`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether cookies are sent. By default they are, to the page's own origin. */
  readonly credentials?: "omit" | "same-origin" | "include";
}

export interface ClientOptions {
  /** The first token, sent as the subprotocol `bearer.<token>`. */
  readonly token?: Token;
  /**
   * Called when there is no token, after the server rejected it, and before it expires if the consumer has a login event,
   * which renews it over the open connection. Throw UnauthorizedError if the user isn't signed in. After any other error,
   * or if it takes longer than `connectTimeoutMs`, it is called again later.
   */
  readonly getToken?: () => Token | PromiseLike<Token>;
  /**
   * The URL of the server's TicketView. Before each connection, a ticket is requested there and sent as the subprotocol
   * `ticket.<ticket>`. A client has tickets or tokens, not both.
   */
  readonly ticketUrl?: string;
  /** How tickets are requested. A function is called for each request. */
  readonly ticketRequest?: TicketRequest | (() => TicketRequest | PromiseLike<TicketRequest>);
  /** How the token is sent: "frame" sends it in the login event, as the first frame, instead of as a subprotocol. */
  readonly bearer?: "subprotocol" | "frame";
  /** The name of the event that sends a token in its field `token`. Generated classes set it. */
  readonly loginEvent?: string;
  /** Further subprotocols. */
  readonly protocols?: readonly string[];
  /** The hash of the events that this client was generated from. */
  readonly schemaHash?: string;
  /** Where to fetch missed events if there are more than the server sends: `historyFrom(url)`. */
  readonly history?: History;
  readonly queue?: Partial<QueueLimits>;
  readonly timings?: Partial<Timings>;
  /**
   * Receives errors that can't be thrown to a caller, such as those of listeners. By default they are logged to the
   * console.
   */
  readonly onError?: ErrorListener;
  /** The WebSocket class, if there is no global one, as in Node 20. */
  readonly WebSocket?: SocketClass;
  /** For tests. */
  readonly environment?: Partial<Environment>;
}
