declare module "wsrt" {
    export * from "wsrt/index";
    export * from "wsrt/store";
    export * from "wsrt/history";
}
declare module "wsrt/index" {
    /** The runtime that all generated clients share. */
    export { Client } from "wsrt/client";
    export { reconnectFor, type CloseRow, type Reconnect } from "wsrt/reconnect";
    export { CLOSE_CODES } from "wsrt/close_codes";
    export type { Environment, Socket, SocketClass, Timer } from "wsrt/environment";
    export { ConnectionError, PayloadTooLargeError, ProtocolError, QueueExpiredError, QueueFullError, RequestError, TimeoutError, UnauthorizedError, WsrtError, type ErrorListener, type FieldError, } from "wsrt/errors";
    export type { Page, PageSignal } from "wsrt/page";
    export { pathOf, type PathParameter, type PathParameters } from "wsrt/paths";
    export type { Address, AnyEvents, ClientOptions, Context, Member, Membership, Name, Position, Presence, QueueLimits, Reason, ReasonKind, Recovery, RequestOptions, Rest, Retry, SendOptions, SendResult, State, Status, Subscription, SubscriptionState, TicketRequest, Timings, } from "wsrt/types";
}
declare module "wsrt/store" {
    /**
     * Stores: observable values for Svelte (`$status`), Vue (`store.subscribe((value) => (ref.value = value))`) and others.
     */
    import type { Client } from "wsrt/client";
    import type { Context, Membership, Name, Presence, Status } from "wsrt/types";
    /**
     * An observable value. subscribe() calls `run` immediately and with every new value, and returns a function that ends
     * this.
     */
    export interface Store<Value> {
        subscribe(run: (value: Value) => void): () => void;
    }
    type AnyClient = Client<any, any, any, any, any>;
    /** Return a store of the client's status. */
    export function statusStore(client: AnyClient): Store<Status>;
    /** Return a store of the client's rooms, which also shows their recovery. Each value is a new map. */
    export function roomsStore(client: AnyClient): Store<ReadonlyMap<string, Membership>>;
    /** Return a store of the members of a room. Its value is null while they aren't known. */
    export function presenceStore<MemberData>(client: Client<any, any, any, MemberData, any>, room: string): Store<Presence<MemberData> | null>;
    /**
     * Return a store whose value is computed from events, such as a list of messages. It listens while it has subscribers.
     *
     * @param client The client.
     * @param event The name of the event.
     * @param initial The first value.
     * @param reduce Returns the next value for a value and an event.
     */
    export function eventStore<Receives extends object, K extends Name<Receives>, Value>(client: Client<Receives, any, any, any, any>, event: K, initial: Value, reduce: (value: Value, data: Receives[K], context: Context) => Value): Store<Value>;
}
declare module "wsrt/history" {
    /**
     * Fetching missed events over HTTP, if there are more than the server sends over the WebSocket:
     *
     *     import { historyFrom } from "./realtime/runtime/history.js";
     *     const client = new ChatClient("/ws/lobby/", { history: historyFrom("/history/chat/") });
     */
    import type { Environment } from "wsrt/environment";
    import type { Position } from "wsrt/types";
    /** A page of the publications after a position, as the server's history view returns it. */
    export interface HistoryPage {
        /** The position of the room's last publication. */
        readonly epoch: string;
        readonly offset: number;
        readonly events: readonly {
            readonly event: string;
            readonly data: unknown;
            readonly epoch: string;
            readonly offset: number;
        }[];
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
    export function historyFrom(source: string | HistorySource, request?: HistoryRequest | (() => HistoryRequest | PromiseLike<HistoryRequest>)): History;
}
declare module "wsrt/client" {
    import type { Address, AnyEvents, ClientOptions, Context, Membership, Name, Position, Presence, Recovery, RequestOptions, Rest, SendOptions, SendResult, State, Status, Subscription } from "wsrt/types";
    /**
     * The client of one consumer.
     *
     * When the connection ends, the close code decides whether and when the client reconnects; the page "Close codes" of
     * wsrt's documentation lists the rule for each code. After close() it stays closed. An error in a listener doesn't
     * affect the others.
     *
     * @typeParam Receives The data of received events, by name.
     * @typeParam Sends The data of sent events, by name.
     * @typeParam Replies The data of the answers, by the name of the request.
     * @typeParam MemberData The data shown for the members of a room.
     * @typeParam Subscribable The names of the rooms that the client may subscribe to.
     */
    export class Client<Receives extends object = AnyEvents, Sends extends object = AnyEvents, Replies extends object = AnyEvents, MemberData = unknown, Subscribable extends string = string> {
        #private;
        /** For the compiler only, never set: hooks and stores infer the types of a subclass from it. */
        protected readonly types?: {
            readonly receives: Receives;
            readonly member: MemberData;
        };
        /**
         * Create a client. It connects when connect() is called.
         *
         * @param url The URL of the consumer, a path on the page's host, or a function that returns one of them.
         * @param options Credentials, limits and handlers. See ClientOptions.
         */
        constructor(url: Address, options?: ClientOptions);
        /**
         * Connect and stay connected. While waiting for a retry, retry immediately.
         *
         * Resolves when the connection is open. Rejects with ConnectionError or UnauthorizedError when the client is closed,
         * by close() or because the server rejects it permanently.
         */
        connect(): Promise<void>;
        /** Close the client. Queued events are dropped and pending requests rejected. connect() opens it again. */
        close(): void;
        /** The state of the connection. */
        get state(): State;
        /** The state of the connection, the reason for it, and the scheduled retry. */
        get status(): Status;
        /** Whether the server's events differ from those this client was generated from. If so, reload the page. */
        get outdated(): boolean;
        /**
         * Call a listener when `status` changes. Return a function that removes the listener, like all methods named `on...`.
         */
        onState(listener: (status: Status) => unknown): () => void;
        /** Call a listener for each event with a name. Errors that it throws or rejects with are passed to `onError`. */
        on<K extends Name<Receives>>(event: K, listener: (data: Receives[K], context: Context) => unknown): () => void;
        /** Call a listener for every event, including events unknown to this client. */
        onAny(listener: (event: string, data: unknown, context: Context) => unknown): () => void;
        /**
         * Send an event without waiting for an answer. Use request() to know whether the server handled it.
         *
         * Throws QueueFullError if the event can't be queued, and PayloadTooLargeError if it is larger than the server
         * accepts.
         */
        send<K extends Name<Sends>>(event: K, ...rest: Rest<Sends[K], SendOptions>): SendResult;
        /**
         * Send an event and return the data of the server's answer, or undefined if the server answers `wsrt.ok`.
         *
         * Rejects with RequestError if the server refused the request, and with TimeoutError, ConnectionError,
         * QueueFullError, QueueExpiredError or PayloadTooLargeError. After a timeout or a lost connection, the server may
         * have processed the request all the same.
         */
        request<K extends Name<Sends> & Name<Replies>>(event: K, ...rest: Rest<Sends[K], RequestOptions>): Promise<Replies[K]>;
        /**
         * Subscribe to a room: be in it as long as there are subscriptions to it, also after a reconnect. Components that use the
         * same room each call this, and each end their own subscription.
         *
         * Call it at any time, connected or not. Without a listener, and if nothing waits for `ready`, a refusal is passed to
         * `onError`.
         *
         * @param room The name of the room.
         * @param listener Called when the state of this subscription changes.
         */
        subscribe(room: Subscribable, listener?: (subscription: Subscription) => unknown): Subscription;
        /** The rooms that this client is in, with their positions. */
        get rooms(): ReadonlyMap<string, Membership>;
        /**
         * Call a listener when the client joins a room, with null when it leaves one, and with `joined: false` when the
         * connection is lost.
         */
        onRoom(listener: (room: string, membership: Membership | null) => unknown): () => void;
        /**
         * Start from a position in a room, such as that of a page which the server has rendered: publications after it are
         * received, and those up to it are duplicates. Call it before connect(): positions are sent in the first frame.
         */
        setPosition(room: string, position: Position): void;
        /**
         * Call a listener after a reconnect, with whether the client has received the events that it missed in a room: after
         * the missed events, or immediately if events are missing. Load the data of the room again then. It is also called
         * when the history of a room is lost while the client is connected.
         */
        onRecovered(listener: (room: string, recovery: Recovery) => unknown): () => void;
        /**
         * Call a listener when the server has deleted an event from the history of a room. It gets the position that the event
         * was delivered with. If the page still shows the event, remove it there: the client doesn't keep events.
         */
        onForgotten(listener: (room: string, position: Position) => unknown): () => void;
        /** The members of this client's rooms, if the consumer has `presence`. */
        get presence(): ReadonlyMap<string, Presence<MemberData>>;
        /**
         * Call a listener when the members of a room change, and with null when the room is left or the connection is lost.
         */
        onPresence(listener: (room: string, presence: Presence<MemberData> | null) => unknown): () => void;
    }
}
declare module "wsrt/reconnect" {
    /**
     * What the client does after a close.
     *
     * - `never`: it doesn't reconnect
     * - `backoff`: reconnects after a random delay that grows with each attempt
     * - `spread`: reconnects at a random time within a window
     * - `auth`: reconnects with new credentials
     * - `later`: reconnects with backoff, after 5 s or more
     */
    export type Reconnect = "never" | "backoff" | "spread" | "auth" | "later";
    /** A close code, its number on Daphne without with_runtime, its reason, and what the client does after it. */
    export type CloseRow = readonly [code: number, fallback: number, reason: string, reconnect: Reconnect];
    /**
     * Return the reconnect policy after a close, also for codes that are not in the table.
     *
     * @param code The close code.
     * @param reason The reason in the close frame.
     * @param outdated Whether the server's events differ from the client's. The client then also reconnects after codes that
     *   usually mean that it sent something invalid.
     */
    export function reconnectFor(code: number, reason?: string, outdated?: boolean): Reconnect;
    /** Return whether a code means that the connection ended without a close frame. */
    export function isNetwork(code: number): boolean;
}
declare module "wsrt/close_codes" {
    /** The close codes of wsrt and the client's reaction to each: a copy of wsrt.close_codes.TABLE. */
    import type { CloseRow } from "wsrt/reconnect";
    export const CLOSE_CODES: readonly CloseRow[];
}
declare module "wsrt/environment" {
    /** The environment of a client: sockets, time and random numbers. It needs no types of browsers or Node. */
    import { type Page } from "wsrt/page";
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
    export type Fetch = (url: string, request: {
        method: string;
        body?: string;
        headers: Readonly<Record<string, string>>;
        credentials: "omit" | "same-origin" | "include";
        redirect: "error";
    }) => Promise<{
        readonly status: number;
        readonly headers: {
            get(name: string): string | null;
        };
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
    export function environment(given?: Partial<Environment>): Environment;
    /**
     * Return an address in the form that all browsers accept: absolute, ws or wss, without a fragment. Throws TypeError.
     */
    export function socketUrl(address: string, here?: string | undefined): string;
    /** Return the length of a text in bytes of UTF-8. */
    export function byteLength(text: string): number;
    export function logError(error: unknown, where: string): void;
}
declare module "wsrt/errors" {
    /**
     * The errors of the client.
     *
     * - WsrtError
     *   - RequestError         the server refused a request
     *   - TimeoutError         the server didn't answer a request in time
     *   - ConnectionError      there is no connection, or it was lost before the answer arrived
     *   - QueueFullError       too many events are waiting for a connection
     *   - QueueExpiredError    an event waited too long for a connection, and was not sent
     *   - PayloadTooLargeError an event is larger than the server accepts
     *   - ProtocolError        the server sent an invalid frame, or doesn't support wsrt.v1
     *   - UnauthorizedError    thrown by getToken when there are no credentials, and retrying is useless
     */
    /** A validation error of one field. */
    export interface FieldError {
        /** The path to the field within the event's data. */
        readonly loc: readonly (string | number)[];
        /** A message for humans. */
        readonly msg: string;
        /** An identifier for programs, such as "string_too_long". */
        readonly type: string;
    }
    /** A function that receives errors. `where` names the place, such as "a listener of message.sent". */
    export type ErrorListener = (error: unknown, where: string) => void;
    export class WsrtError extends Error {
        readonly name: string;
    }
    export class RequestError extends WsrtError {
        readonly name = "RequestError";
        readonly code: string;
        readonly errors: readonly FieldError[];
        constructor(code: string, message: string, errors?: readonly FieldError[]);
    }
    export class TimeoutError extends WsrtError {
        readonly name = "TimeoutError";
    }
    export class ConnectionError extends WsrtError {
        readonly name = "ConnectionError";
    }
    export class QueueFullError extends WsrtError {
        readonly name = "QueueFullError";
    }
    export class QueueExpiredError extends WsrtError {
        readonly name = "QueueExpiredError";
    }
    export class PayloadTooLargeError extends WsrtError {
        readonly name = "PayloadTooLargeError";
    }
    export class ProtocolError extends WsrtError {
        readonly name = "ProtocolError";
    }
    export class UnauthorizedError extends WsrtError {
        readonly name = "UnauthorizedError";
    }
}
declare module "wsrt/page" {
    /** The page that a client runs in, and its lifecycle events. */
    /**
     * A lifecycle event of the page.
     *
     * - `online`, `offline`: the network became available or unavailable, according to the browser
     * - `visible`, `hidden`: the tab became visible or hidden
     * - `pageshow`, `pagehide`: the page was shown, possibly from the back/forward cache, or was left
     * - `freeze`, `resume`: a hidden tab was suspended or resumed
     */
    export type PageSignal = "online" | "offline" | "visible" | "hidden" | "pageshow" | "pagehide" | "freeze" | "resume";
    export interface Page {
        readonly isHidden: boolean;
        subscribe(listener: (signal: PageSignal) => void): () => void;
    }
    /** Return the page of a browser. Return null in workers, Node and Deno. */
    export function browserPage(): Page | null;
}
declare module "wsrt/paths" {
    /** The paths of consumers, built from URL patterns and their parameters. */
    /** The value of a parameter of a URL pattern. */
    export type PathParameter = string | number;
    export type PathParameters = {
        readonly [name: string]: PathParameter;
    };
    /**
     * Return the percent-encoded path for the pattern with exactly these parameters.
     *
     * Throws TypeError if no pattern has exactly these parameters, or if one is neither a string nor a number. Throws
     * RangeError if one is empty, "." or "..", which would lead to another path.
     */
    export function pathOf(patterns: readonly string[], parameters?: PathParameters): string;
}
declare module "wsrt/types" {
    /** The public types of the runtime, for applications and generated code. */
    import type { ErrorListener } from "wsrt/errors";
    import type { Environment, SocketClass } from "wsrt/environment";
    import type { History } from "wsrt/history";
    /** The event names of an interface that maps event names to their data. */
    export type Name<Events> = keyof Events & string;
    /** The events of a client that isn't generated: any event with any data. */
    export type AnyEvents = Record<string, any>;
    /** The arguments after an event's name. The data may be left out if no field is required. */
    export type Rest<Data, Options> = {} extends Data ? [data?: Data | undefined, options?: Options] : [data: Data, options?: Options];
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
    export type ReasonKind = "client" | "server" | "network" | "timeout" | "dead" | "offline" | "page" | "token" | "unauthorized" | "invalid";
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
}
