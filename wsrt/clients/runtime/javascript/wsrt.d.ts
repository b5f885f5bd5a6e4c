declare module "wsrt" {
    export * from "wsrt/index";
    export * from "wsrt/store";
}
declare module "wsrt/index" {
    /** The runtime of all clients. */
    export { Client } from "wsrt/client";
    export { reconnectFor, type CloseRow, type Reconnect } from "wsrt/reconnect";
    export { CLOSE_CODES } from "wsrt/close_codes";
    export type { Environment, Socket, SocketClass, Timer } from "wsrt/environment";
    export { ConnectionError, PayloadTooLargeError, ProtocolError, QueueExpiredError, QueueFullError, RequestError, TimeoutError, UnauthorizedError, WsrtError, type ErrorListener, type FieldError, } from "wsrt/errors";
    export type { Page, PageSignal } from "wsrt/page";
    export { pathOf, type PathParameter, type PathParameters } from "wsrt/paths";
    export type { Address, AnyEvents, ClientOptions, Context, Member, Membership, Name, Presence, QueueLimits, Reason, ReasonKind, RequestOptions, Rest, Retry, SendOptions, SendResult, State, Status, Timings, } from "wsrt/types";
}
declare module "wsrt/store" {
    /**
     * Stores: values that change, for Svelte (`$status`), Vue (`store.subscribe((value) => (ref.value = value))`) and others.
     */
    import type { Client } from "wsrt/client";
    import type { Context, Membership, Name, Presence, Status } from "wsrt/types";
    /** subscribe() calls `run` at once and with every new value, until the function that it returns is called. */
    export interface Store<Value> {
        subscribe(run: (value: Value) => void): () => void;
    }
    type AnyClient = Client<any, any, any, any>;
    /** The state of the connection. */
    export function statusStore(client: AnyClient): Store<Status>;
    /** The rooms of the client; each value is a new map. */
    export function roomsStore(client: AnyClient): Store<ReadonlyMap<string, Membership>>;
    /** Who is in a room; null while that is not known. */
    export function presenceStore<Shown>(client: Client<any, any, any, Shown>, room: string): Store<Presence<Shown> | null>;
    /** What events make of a value, such as a list of the messages so far. It counts from its first subscriber on. */
    export function eventStore<Receives extends object, K extends Name<Receives>, Value>(client: Client<Receives, any, any, any>, event: K, initial: Value, reduce: (value: Value, data: Receives[K], context: Context) => Value): Store<Value>;
}
declare module "wsrt/client" {
    import type { Address, AnyEvents, ClientOptions, Context, Membership, Name, Presence, RequestOptions, Rest, SendOptions, SendResult, State, Status } from "wsrt/types";
    /**
     * A client of one consumer.
     *
     * @typeParam Receives data of the events that it receives, by name
     * @typeParam Sends data of the events that it sends, by name
     * @typeParam Replies data of the answers, by the name of the request
     * @typeParam Shown what members of a room show of themselves
     */
    export class Client<Receives extends object = AnyEvents, Sends extends object = AnyEvents, Replies extends object = AnyEvents, Shown = unknown> {
        #private;
        /** For the compiler alone, and never there: of a subclass it tells the types, which hooks and stores ask for. */
        protected readonly types?: {
            readonly receives: Receives;
            readonly shown: Shown;
        };
        /** It connects when connect() is called. */
        constructor(url: Address, options?: ClientOptions);
        /**
         * Connect, and stay connected. While waiting for a retry, retry at once.
         *
         * Resolves when it is open; rejects with ConnectionError or UnauthorizedError when it is closed for good.
         */
        connect(): Promise<void>;
        /** End the connection. What waits is dropped, requests are rejected; nothing waits until connect() begins anew. */
        close(): void;
        get state(): State;
        /** The state, why it is so, when it is tried again. */
        get status(): Status;
        /** Whether the server's events are others than those that this client was generated from: reload the page. */
        get outdated(): boolean;
        /** Be told of every change of `status`. Returns the function that ends it, as all that begin with `on` do. */
        onState(listener: (status: Status) => unknown): () => void;
        /** Be told of an event. What the listener throws, or rejects with, goes to `onError`. */
        on<K extends Name<Receives>>(event: K, listener: (data: Receives[K], context: Context) => unknown): () => void;
        /** Be told of all events, those too that are younger than this client. */
        onAny(listener: (event: string, data: unknown, context: Context) => unknown): () => void;
        /**
         * Send an event; nothing says whether it was handled.
         *
         * Throws QueueFullError where it is to wait and cannot, and PayloadTooLargeError.
         */
        send<K extends Name<Sends>>(event: K, ...rest: Rest<Sends[K], SendOptions>): SendResult;
        /**
         * Send an event, and return the data of its answer: undefined where the server has nothing to say.
         *
         * Rejects with RequestError where the server refused, TimeoutError, ConnectionError, QueueFullError,
         * QueueExpiredError or PayloadTooLargeError. After a time-out, and where the connection was lost, it may have been
         * carried out nonetheless.
         */
        request<K extends Name<Sends> & Name<Replies>>(event: K, ...rest: Rest<Sends[K], RequestOptions>): Promise<Replies[K]>;
        /** The rooms that the server has put this client into, with their positions. */
        get rooms(): ReadonlyMap<string, Membership>;
        /**
         * Be told of rooms that were joined or, with null, left; and, with `joined: false`, of those that the loss of the
         * connection leaves for now. `recovered: false` says: load the room's state anew.
         */
        onRoom(listener: (room: string, membership: Membership | null) => unknown): () => void;
        /** Who is in the rooms of this client, where the consumer shows it. */
        get presence(): ReadonlyMap<string, Presence<Shown>>;
        /** Be told who is in a room, whenever that changes; null after it was left, and when the connection is lost. */
        onPresence(listener: (room: string, presence: Presence<Shown> | null) => unknown): () => void;
    }
}
declare module "wsrt/reconnect" {
    /**
     * - `never`: stays away
     * - `backoff`: comes back after a random time that grows with each attempt
     * - `spread`: over the window that the server hinted
     * - `auth`: with new credentials
     * - `later`: after 5 s or more
     */
    export type Reconnect = "never" | "backoff" | "spread" | "auth" | "later";
    /** Code, the code on stock Daphne, reason on the wire, policy. */
    export type CloseRow = readonly [code: number, fallback: number, reason: string, reconnect: Reconnect];
    /**
     * Return what to do after a close, also after codes that are not in the table.
     *
     * @param outdated whether the server has other events than this client: then it may be another one soon.
     */
    export function reconnectFor(code: number, reason?: string, outdated?: boolean): Reconnect;
    /** Return whether a code stands for a socket that ended without a close frame. */
    export function isNetwork(code: number): boolean;
}
declare module "wsrt/close_codes" {
    /** The close table. Generated from wsrt.close_codes: do not edit. */
    import type { CloseRow } from "wsrt/reconnect";
    export const CLOSE_CODES: readonly CloseRow[];
}
declare module "wsrt/environment" {
    /** What a client takes from its surroundings: sockets, time, chance. No types of browsers or Node are needed. */
    import { type Page } from "wsrt/page";
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
    export function environment(given?: Partial<Environment>): Environment;
    /** Return an address as browsers of any age take it: ws or wss, absolute, without a fragment. Throws TypeError. */
    export function socketUrl(address: string, here?: string | undefined): string;
    /** Return how many bytes of UTF-8 a text has. */
    export function byteLength(text: string): number;
    export function logError(error: unknown, where: string): void;
}
declare module "wsrt/errors" {
    /**
     * Errors of a client.
     *
     * - WsrtError
     *   - RequestError         the server answered with wsrt.error
     *   - TimeoutError         no answer in time
     *   - ConnectionError      no connection, or lost before the answer: it may or may not have been carried out
     *   - QueueFullError       too much waits already
     *   - QueueExpiredError    waited for too long, and was never sent
     *   - PayloadTooLargeError the server would close the connection for it
     *   - ProtocolError        the server sent what is no frame, or does not speak wsrt.v1
     *   - UnauthorizedError    thrown by getToken: there will be no credentials
     */
    /** What is wrong with one field of the data that was sent. */
    export interface FieldError {
        readonly loc: readonly (string | number)[];
        readonly msg: string;
        readonly type: string;
    }
    /** Told of an error; `where` says what failed, such as "a listener of message.sent". */
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
    /** What happens to the page that a client lives in. */
    /**
     * - `online`, `offline`: what the browser believes of the network
     * - `visible`, `hidden`: the tab
     * - `pageshow`, `pagehide`: the page is shown, also out of the back/forward cache; or is left
     * - `freeze`, `resume`: a hidden tab is stopped, and goes on
     */
    export type PageSignal = "online" | "offline" | "visible" | "hidden" | "pageshow" | "pagehide" | "freeze" | "resume";
    export interface Page {
        readonly isHidden: boolean;
        subscribe(listener: (signal: PageSignal) => void): () => void;
    }
    /** Return the page of a browser; null in workers, Node and Deno. */
    export function browserPage(): Page | null;
}
declare module "wsrt/paths" {
    /** Paths: what leads to a consumer. */
    /** What may stand for a parameter of a URL pattern. */
    export type PathParameter = string | number;
    export type PathParameters = {
        readonly [name: string]: PathParameter;
    };
    /**
     * Return the path of that pattern which has just these parameters, percent-encoded.
     *
     * Throws TypeError where no pattern has just these, and where one is neither text nor a number; RangeError where one
     * would not stand there as itself, for it is empty or a step to another path.
     */
    export function pathOf(patterns: readonly string[], parameters?: PathParameters): string;
}
declare module "wsrt/types" {
    /** The types that users and generated code see. */
    import type { ErrorListener } from "wsrt/errors";
    import type { Environment, SocketClass } from "wsrt/environment";
    /** The names of a map from event names to the data of the events. */
    export type Name<Events> = keyof Events & string;
    /** Where nothing was generated: any event, any data. */
    export type AnyEvents = Record<string, any>;
    /** What follows the name of an event: its data may be left out where no field is required. */
    export type Rest<Data, Options> = {} extends Data ? [data?: Data | undefined, options?: Options] : [data: Data, options?: Options];
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
    export type ReasonKind = "client" | "server" | "network" | "timeout" | "dead" | "offline" | "page" | "token" | "unauthorized" | "invalid";
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
}
