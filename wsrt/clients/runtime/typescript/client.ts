/** The client: typed events over a connection that is kept alive. */

import { Supervisor } from "./supervisor.js";
import { byteLength, environment, logError, type Environment, type Timer } from "./environment.js";
import {
  ConnectionError,
  PayloadTooLargeError,
  QueueExpiredError,
  RequestError,
  TimeoutError,
  type ErrorListener,
  type FieldError,
} from "./errors.js";
import { encode, fields, positionOf, type Frame } from "./frame.js";
import type { History } from "./history.js";
import { Listeners } from "./listeners.js";
import { RoomPresence } from "./presence.js";
import { Queue, type Item } from "./queue.js";
import { Requests } from "./requests.js";
import { Rooms } from "./rooms.js";
import { Subscriptions } from "./subscriptions.js";
import type {
  Address,
  AnyEvents,
  ClientOptions,
  Context,
  Membership,
  Name,
  Position,
  Presence,
  Recovery,
  RequestOptions,
  Rest,
  SendOptions,
  SendResult,
  State,
  Status,
  Subscription,
  Timings,
} from "./types.js";

const TIMINGS: Timings = {
  minMs: 200,
  baseMs: 500,
  capMs: 20_000,
  jumpMs: 500,
  laterMs: 5_000,
  spreadMs: 5_000,
  stableMs: 10_000,
  renewMs: 60_000,
  connectTimeoutMs: 5_000,
  helloTimeoutMs: 15_000,
  deadAfterMs: null,
  idleMs: 25_000,
  probeMs: 3_000,
  closeTimeoutMs: 2_000,
  hiddenAfterMs: 300_000,
  requestTimeoutMs: 10_000,
  bufferBytes: 1_048_576,
};

const QUEUE = { items: 100, bytes: 65_536, ageMs: 30_000 };

/** How often a congested socket is polled, because it has no event for when it has room. */
const FLUSH_MS = 50;

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
export class Client<
  Receives extends object = AnyEvents,
  Sends extends object = AnyEvents,
  Replies extends object = AnyEvents,
  MemberData = unknown,
  Subscribable extends string = string,
> {
  /** For the compiler only, never set: hooks and stores infer the types of a subclass from it. */
  declare protected readonly types?: { readonly receives: Receives; readonly member: MemberData };

  readonly #environment: Environment;
  readonly #timings: Timings;
  readonly #supervisor: Supervisor;
  readonly #requests: Requests;
  readonly #queue: Queue;
  readonly #rooms: Rooms;
  readonly #history: History | undefined;
  readonly #presence = new RoomPresence<MemberData>();
  readonly #subscriptions: Subscriptions;
  readonly #report: ErrorListener;

  // A Map, because an event may have any name, including __proto__.
  readonly #eventListeners = new Map<string, Listeners<[data: any, context: Context]>>();
  readonly #anyEventListeners: Listeners<[event: string, data: unknown, context: Context]>;
  readonly #stateListeners: Listeners<[status: Status]>;
  readonly #roomListeners: Listeners<[room: string, membership: Membership | null]>;
  readonly #recoveryListeners: Listeners<[room: string, recovery: Recovery]>;
  readonly #forgottenListeners: Listeners<[room: string, position: Position]>;
  readonly #presenceListeners: Listeners<[room: string, presence: Presence<MemberData> | null]>;
  #timer: Timer | null = null;
  // Incremented by close(): listeners that haven't been called yet for an earlier event are then skipped.
  #generation = 0;
  // Notifications about lost rooms. Sent after the change of the state, so that their listeners see the new state.
  #pendingLosses: (() => void)[] = [];

  /**
   * Create a client. It connects when connect() is called.
   *
   * @param url The URL of the consumer, a path on the page's host, or a function that returns one of them.
   * @param options Credentials, limits and handlers. See ClientOptions.
   */
  constructor(url: Address, options: ClientOptions = {}) {
    this.#environment = environment({
      ...(options.WebSocket && { WebSocket: options.WebSocket }),
      ...options.environment,
    });
    this.#timings = { ...TIMINGS, ...options.timings };
    const onError = options.onError ?? logError;
    this.#report = (error, where) => {
      try {
        onError(error, where);
      } catch (failure) {
        logError(failure, "onError");
      }
    };
    this.#history = options.history;
    this.#rooms = new Rooms(!!options.history);
    this.#requests = new Requests(this.#environment);
    this.#queue = new Queue({ ...QUEUE, ...options.queue });
    this.#subscriptions = new Subscriptions(
      (event, room) => this.#askFor(event, room),
      this.#timings,
      this.#environment,
      this.#report,
    );
    const generation = () => this.#generation;
    this.#anyEventListeners = new Listeners("a listener of any event", this.#report, generation);
    this.#stateListeners = new Listeners("a listener of the state", this.#report, () => this.status);
    this.#roomListeners = new Listeners("a listener of rooms", this.#report, generation);
    this.#recoveryListeners = new Listeners("a listener of recoveries", this.#report, generation);
    this.#forgottenListeners = new Listeners("a listener of forgotten events", this.#report, generation);
    this.#presenceListeners = new Listeners("a listener of presence", this.#report, generation);
    this.#supervisor = new Supervisor(
      url,
      options,
      this.#timings,
      this.#environment,
      {
        positions: () =>
          this.#rooms.claims(this.#supervisor.maxPayload, (room) => this.#subscriptions.isWanted(room)),
        opened: () => {
          this.#subscriptions.opened();
          this.#flush();
        },
        received: (frame) => this.#received(frame),
        lost: () => this.#lost(),
        closed: (error) => this.#closed(error),
        request: async (event, data) => (await this.#ask(event, data, {})).data,
        changed: (status) => this.#changed(status),
      },
      this.#report,
    );
  }

  // The connection.

  /**
   * Connect and stay connected. While waiting for a retry, retry immediately.
   *
   * Resolves when the connection is open. Rejects with ConnectionError or UnauthorizedError when the client is closed,
   * by close() or because the server rejects it permanently.
   */
  connect(): Promise<void> {
    return this.#supervisor.connect();
  }

  /** Close the client. Queued events are dropped and pending requests rejected. connect() opens it again. */
  close(): void {
    this.#supervisor.close();
  }

  /** The state of the connection. */
  get state(): State {
    return this.#supervisor.status.state;
  }

  /** The state of the connection, the reason for it, and the scheduled retry. */
  get status(): Status {
    return this.#supervisor.status;
  }

  /** Whether the server's events differ from those this client was generated from. If so, reload the page. */
  get outdated(): boolean {
    return this.#supervisor.status.outdated;
  }

  /**
   * Call a listener when `status` changes. Return a function that removes the listener, like all methods named `on...`.
   */
  onState(listener: (status: Status) => unknown): () => void {
    return this.#stateListeners.add(listener);
  }

  // Receiving.

  /** Call a listener for each event with a name. Errors that it throws or rejects with are passed to `onError`. */
  on<K extends Name<Receives>>(event: K, listener: (data: Receives[K], context: Context) => unknown): () => void {
    let listeners = this.#eventListeners.get(event);
    if (!listeners) {
      listeners = new Listeners(`a listener of ${event}`, this.#report, () => this.#generation);
      this.#eventListeners.set(event, listeners);
    }
    return listeners.add(listener);
  }

  /** Call a listener for every event, including events unknown to this client. */
  onAny(listener: (event: string, data: unknown, context: Context) => unknown): () => void {
    return this.#anyEventListeners.add(listener);
  }

  // Sending.

  /**
   * Send an event without waiting for an answer. Use request() to know whether the server handled it.
   *
   * Throws QueueFullError if the event can't be queued, and PayloadTooLargeError if it is larger than the server
   * accepts.
   */
  send<K extends Name<Sends>>(event: K, ...rest: Rest<Sends[K], SendOptions>): SendResult {
    const [data, options = {}] = rest as [unknown, SendOptions?];
    const text = this.#encode(event, data, null);
    if (this.#isWritable()) {
      this.#supervisor.write(text);
      return "sent";
    }
    if (!this.#mayQueue(options)) return "dropped";
    this.#enqueue({ event, text, ref: null, key: options.volatile ?? null, outlivesConnection: !!options.queue });
    return "queued";
  }

  /**
   * Send an event and return the data of the server's answer, or undefined if the server answers `wsrt.ok`.
   *
   * Rejects with RequestError if the server refused the request, and with TimeoutError, ConnectionError,
   * QueueFullError, QueueExpiredError or PayloadTooLargeError. After a timeout or a lost connection, the server may
   * have processed the request all the same.
   */
  request<K extends Name<Sends> & Name<Replies>>(
    event: K,
    ...rest: Rest<Sends[K], RequestOptions>
  ): Promise<Replies[K]> {
    const [data, options = {}] = rest as [unknown, RequestOptions?];
    return this.#ask(event, data, options).then((answer) =>
      answer.event === "wsrt.ok" ? undefined : answer.data,
    ) as Promise<Replies[K]>;
  }

  #ask(event: string, data: unknown, options: RequestOptions): Promise<Frame> {
    const ref = this.#requests.newRef();
    try {
      const text = this.#encode(event, data, ref);
      const isWritable = this.#isWritable();
      if (!isWritable && !this.#mayQueue(options)) {
        throw new ConnectionError(`${event} was not sent: there is no connection`);
      }
      if (!isWritable) this.#enqueue({ event, text, ref, key: null, outlivesConnection: !!options.queue });
      const answer = this.#requests.add(ref, options.timeout ?? this.#timings.requestTimeoutMs, () => {
        this.#queue.removeRequest(ref);
        return new TimeoutError(`${event} was not answered in time`);
      });
      if (isWritable) this.#write(text, ref);
      return answer;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  // Rooms.

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
  subscribe(room: Subscribable, listener?: (subscription: Subscription) => unknown): Subscription {
    return this.#subscriptions.add(room, listener);
  }

  /** The rooms that this client is in, with their positions. */
  get rooms(): ReadonlyMap<string, Membership> {
    return this.#rooms.view;
  }

  /**
   * Call a listener when the client joins a room, with null when it leaves one, and with `joined: false` when the
   * connection is lost.
   */
  onRoom(listener: (room: string, membership: Membership | null) => unknown): () => void {
    return this.#roomListeners.add(listener);
  }

  /**
   * Start from a position in a room, such as that of a page which the server has rendered: publications after it are
   * received, and those up to it are duplicates. Call it before connect(): positions are sent in the first frame.
   */
  setPosition(room: string, position: Position): void {
    if (!position || !positionOf(position)) {
      throw new TypeError(`setPosition() takes { epoch: string, offset: integer }, not ${JSON.stringify(position)}`);
    }
    this.#rooms.set(room, position);
  }

  /**
   * Call a listener after a reconnect, with whether the client has received the events that it missed in a room: after
   * the missed events, or immediately if events are missing. Load the data of the room again then. It is also called
   * when the history of a room is lost while the client is connected.
   */
  onRecovered(listener: (room: string, recovery: Recovery) => unknown): () => void {
    return this.#recoveryListeners.add(listener);
  }

  /**
   * Call a listener when the server has deleted an event from the history of a room. It gets the position that the event
   * was delivered with. If the page still shows the event, remove it there: the client doesn't keep events.
   */
  onForgotten(listener: (room: string, position: Position) => unknown): () => void {
    return this.#forgottenListeners.add(listener);
  }

  /** The members of this client's rooms, if the consumer has `presence`. */
  get presence(): ReadonlyMap<string, Presence<MemberData>> {
    return this.#presence.view;
  }

  /**
   * Call a listener when the members of a room change, and with null when the room is left or the connection is lost.
   */
  onPresence(listener: (room: string, presence: Presence<MemberData> | null) => unknown): () => void {
    return this.#presenceListeners.add(listener);
  }

  // Private: receiving.

  #received(frame: Frame): void {
    const { event, ref, room } = frame;
    if (event === "wsrt.error") {
      const { code, message, errors } = fields(frame.data);
      const list = Array.isArray(errors) ? (errors as FieldError[]) : [];
      const error = new RequestError(String(code), String(message), list);
      if (ref === null) this.#report(error, "the server refused an event");
      else this.#requests.fail(String(ref), error);
    } else if (ref !== null) {
      this.#requests.answer(String(ref), frame);
    } else if (event.startsWith("wsrt.")) {
      this.#receivedReserved(frame, fields(frame.data));
    } else {
      this.#receivedInOrder(room, frame);
    }
  }

  /** Handle a frame of a room, unless it has to wait for missed events of the room. */
  #receivedInOrder(room: string | null, frame: Frame): void {
    if (room !== null && this.#rooms.held(room)) {
      if (this.#rooms.hold(room, frame)) return;
      this.#fetched(room);
    }
    this.#deliver(frame);
  }

  #deliver(frame: Frame): void {
    const { event, data, room, epoch, offset } = frame;
    if (event === "wsrt.forgotten") {
      const { room, ...position } = fields(data);
      const forgotten = positionOf(position);
      if (forgotten) this.#forgottenListeners.notify(room as string, forgotten);
      return;
    }
    const generation = this.#generation;
    const position = room !== null && positionOf(frame);
    if (position) this.#recovered(this.#rooms.ended(room, position), room);
    if (generation !== this.#generation) return;
    if (!position || this.#rooms.advance(room, position.epoch, position.offset)) {
      const context: Context = { room, epoch, offset };
      this.#eventListeners.get(event)?.notify(data, context);
      if (generation === this.#generation) this.#anyEventListeners.notify(event, data, context);
    }
    if (position && generation === this.#generation) this.#recovered(this.#rooms.ended(room), room);
  }

  #recovered(recovery: Recovery | null, room: string): void {
    if (recovery) this.#recoveryListeners.notify(room, recovery);
  }

  /** Fetch the missed events of a room, in which publications wait for them. */
  async #fetch(room: string, history: History): Promise<void> {
    const held = this.#rooms.held(room);
    const isCurrent = () => this.#rooms.held(room) === held;
    let reason: string | null | undefined;
    try {
      reason = await history({
        room,
        ...this.#rooms.gap(room),
        environment: this.#environment,
        timeoutMs: this.#timings.requestTimeoutMs,
        deliver: (event, data, position) => {
          if (isCurrent()) this.#deliver({ event, data, ref: null, room, ...position });
          return isCurrent();
        },
      });
    } catch (error) {
      this.#report(error, `fetching the missed events of ${room}`);
    }
    if (isCurrent()) this.#fetched(room, reason);
  }

  /** Record the end of fetching, and deliver what has waited for it. */
  #fetched(room: string, reason?: string | null): void {
    const held = this.#rooms.held(room)!;
    const generation = this.#generation;
    this.#recovered(this.#rooms.fetched(room, reason), room);
    for (const frame of held) if (generation === this.#generation) this.#deliver(frame);
  }

  #receivedReserved(frame: Frame, data: Record<string, unknown>): void {
    const { event } = frame;
    const { room } = data;
    if (typeof room !== "string") return;
    const generation = this.#generation;
    if (event === "wsrt.joined") {
      this.#subscriptions.joined(room);
      this.#roomListeners.notify(room, this.#rooms.joined(room, data));
      if (generation !== this.#generation) return;
      this.#recovered(this.#rooms.ended(room), room);
      if (this.#history && this.#rooms.held(room)) void this.#fetch(room, this.#history);
    } else if (event === "wsrt.forgotten") {
      this.#receivedInOrder(room, frame);
    } else if (event === "wsrt.left") {
      this.#rooms.left(room);
      this.#presence.left(room);
      this.#subscriptions.left(room);
      this.#roomListeners.notify(room, null);
      if (generation === this.#generation) this.#presenceListeners.notify(room, null);
    } else if (event === "wsrt.presence") {
      const presence = this.#presence.apply(room, data);
      if (presence) this.#presenceListeners.notify(room, presence);
    }
  }

  #lost(): void {
    for (const [room, membership] of this.#rooms.lost()) {
      this.#pendingLosses.push(() => this.#roomListeners.notify(room, membership));
    }
    for (const room of this.#presence.lost()) {
      this.#pendingLosses.push(() => this.#presenceListeners.notify(room, null));
    }
    this.#subscriptions.lost();
    this.#requests.failSent(() => new ConnectionError("the connection was lost before the answer arrived"));
    for (const item of this.#queue.removeConnectionBound()) {
      this.#drop(item, new ConnectionError(`${item.event} was not sent: the connection was lost`));
    }
    this.#scheduleFlush();
  }

  #changed(status: Status): void {
    this.#stateListeners.notify(status);
    for (const notify of this.#pendingLosses.splice(0)) notify();
  }

  #closed(error: Error): void {
    this.#generation += 1;
    for (const { ref } of this.#queue.clear()) if (ref !== null) this.#requests.fail(ref, error);
    this.#subscriptions.closed(error);
    this.#scheduleFlush();
  }

  // Private: sending.

  #encode(event: string, data: unknown, ref: string | null): string {
    const text = encode(event, data, ref);
    this.#checkSize(event, text);
    return text;
  }

  #checkSize(event: string, text: string): void {
    const { maxPayload } = this.#supervisor;
    // A UTF-16 code unit has at most three bytes in UTF-8, so most texts needn't be counted.
    if (text.length * 3 > maxPayload && byteLength(text) > maxPayload) {
      throw new PayloadTooLargeError(`${event} is larger than ${maxPayload} bytes, the server's limit`);
    }
  }

  /** Request a room. Written ahead of the queue: events in it may be answered by publications to the room. */
  async #askFor(event: string, room: string): Promise<unknown> {
    const ref = this.#requests.newRef();
    const text = this.#encode(event, { room }, ref);
    const answer = this.#requests.add(
      ref,
      this.#timings.requestTimeoutMs,
      () => new TimeoutError(`${event} was not answered in time`),
    );
    this.#write(text, ref);
    return answer;
  }

  #isWritable(): boolean {
    return this.#supervisor.isOpen && this.#queue.length === 0 && this.#hasRoom();
  }

  /** Whether an event may be queued: for the open connection or, with `queue`, for the next one. */
  #mayQueue({ queue }: { queue?: boolean }): boolean {
    return this.#supervisor.isOpen || (!!queue && this.state !== "closed");
  }

  #hasRoom(): boolean {
    return this.#supervisor.buffered <= this.#timings.bufferBytes;
  }

  #write(text: string, ref: string | null): void {
    if (ref !== null) this.#requests.noteSent(ref);
    this.#supervisor.write(text);
  }

  #enqueue(item: Item): void {
    this.#expire();
    this.#queue.put(item, this.#environment.now());
    this.#scheduleFlush();
  }

  /** Write queued events while the socket has room. */
  #flush(): void {
    this.#expire();
    while (this.#supervisor.isOpen && this.#hasRoom()) {
      const item = this.#queue.take();
      if (!item) break;
      try {
        this.#checkSize(item.event, item.text);
        this.#write(item.text, item.ref);
      } catch (error) {
        this.#drop(item, error as Error);
      }
    }
    this.#scheduleFlush();
  }

  #expire(): void {
    for (const item of this.#queue.removeExpired(this.#environment.now())) {
      this.#drop(item, new QueueExpiredError(`${item.event} waited too long for a connection`));
    }
  }

  #drop({ event, ref }: Item, error: Error): void {
    if (ref === null) this.#report(error, `sending ${event}`);
    else this.#requests.fail(ref, error);
  }

  /** Schedule the next flush: when the socket may have room, or when the oldest item expires. */
  #scheduleFlush(): void {
    if (this.#timer !== null) this.#environment.clearTimeout(this.#timer);
    const { due } = this.#queue;
    if (due === null) {
      this.#timer = null;
      return;
    }
    const leftMs = Math.max(0, due - this.#environment.now());
    const waitMs = this.#supervisor.isOpen ? Math.min(FLUSH_MS, leftMs) : leftMs;
    this.#timer = this.#environment.setTimeout(() => this.#flush(), waitMs);
  }
}
