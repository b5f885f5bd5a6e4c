/** The client: typed events over a connection that comes back by itself. */

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
import { encode, fields, type Frame } from "./frame.js";
import { Listeners } from "./listeners.js";
import { Attendance } from "./presence.js";
import { Queue, type Item } from "./queue.js";
import { Requests } from "./requests.js";
import { Rooms } from "./rooms.js";
import type {
  Address,
  AnyEvents,
  ClientOptions,
  Context,
  Membership,
  Name,
  Presence,
  RequestOptions,
  Rest,
  SendOptions,
  SendResult,
  State,
  Status,
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

/** How often a congested socket is looked at: it does not tell when it has room. */
const FLUSH_MS = 50;

/**
 * A client of one consumer.
 *
 * @typeParam Receives data of the events that it receives, by name
 * @typeParam Sends data of the events that it sends, by name
 * @typeParam Replies data of the answers, by the name of the request
 * @typeParam Shown what members of a room show of themselves
 */
export class Client<
  Receives extends object = AnyEvents,
  Sends extends object = AnyEvents,
  Replies extends object = AnyEvents,
  Shown = unknown,
> {
  /** For the compiler alone, and never there: of a subclass it tells the types, which hooks and stores ask for. */
  declare protected readonly types?: { readonly receives: Receives; readonly shown: Shown };

  readonly #environment: Environment;
  readonly #timings: Timings;
  readonly #supervisor: Supervisor;
  readonly #requests: Requests;
  readonly #queue: Queue;
  readonly #rooms = new Rooms();
  readonly #attendance = new Attendance<Shown>();
  readonly #report: ErrorListener;

  // A map: names of events are anything, __proto__ too.
  readonly #events = new Map<string, Listeners<[data: any, context: Context]>>();
  readonly #anyEvent: Listeners<[event: string, data: unknown, context: Context]>;
  readonly #states: Listeners<[status: Status]>;
  readonly #memberships: Listeners<[room: string, membership: Membership | null]>;
  readonly #presences: Listeners<[room: string, presence: Presence<Shown> | null]>;
  #timer: Timer | null = null;
  // Counts the ends: what a connection received is told to nobody once it was closed.
  #era = 0;
  // Told after the state, so that what a listener then does is done to that.
  #losses: (() => void)[] = [];

  /** It connects when connect() is called. */
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
    this.#requests = new Requests(this.#environment);
    this.#queue = new Queue({ ...QUEUE, ...options.queue });
    const era = () => this.#era;
    this.#anyEvent = new Listeners("a listener of any event", this.#report, era);
    this.#states = new Listeners("a listener of the state", this.#report, () => this.status);
    this.#memberships = new Listeners("a listener of rooms", this.#report, era);
    this.#presences = new Listeners("a listener of presence", this.#report, era);
    this.#supervisor = new Supervisor(
      url,
      options,
      this.#timings,
      this.#environment,
      {
        claims: () => this.#rooms.claims(),
        opened: () => this.#flush(),
        received: (frame) => this.#received(frame),
        lost: () => this.#lost(),
        closed: (error) => this.#closed(error),
        changed: (status) => this.#changed(status),
      },
      this.#report,
    );
  }

  // The connection.

  /**
   * Connect, and stay connected. While waiting for a retry, retry at once.
   *
   * Resolves when it is open; rejects with ConnectionError or UnauthorizedError when it is closed for good.
   */
  connect(): Promise<void> {
    return this.#supervisor.connect();
  }

  /** End the connection. What waits is dropped, requests are rejected; nothing waits until connect() begins anew. */
  close(): void {
    this.#supervisor.close();
  }

  get state(): State {
    return this.#supervisor.status.state;
  }

  /** The state, why it is so, when it is tried again. */
  get status(): Status {
    return this.#supervisor.status;
  }

  /** Whether the server's events are others than those that this client was generated from: reload the page. */
  get outdated(): boolean {
    return this.#supervisor.status.outdated;
  }

  /** Be told of every change of `status`. Returns the function that ends it, as all that begin with `on` do. */
  onState(listener: (status: Status) => unknown): () => void {
    return this.#states.add(listener);
  }

  // Events in.

  /** Be told of an event. What the listener throws, or rejects with, goes to `onError`. */
  on<K extends Name<Receives>>(event: K, listener: (data: Receives[K], context: Context) => unknown): () => void {
    let listeners = this.#events.get(event);
    if (!listeners) {
      listeners = new Listeners(`a listener of ${event}`, this.#report, () => this.#era);
      this.#events.set(event, listeners);
    }
    return listeners.add(listener);
  }

  /** Be told of all events, those too that are younger than this client. */
  onAny(listener: (event: string, data: unknown, context: Context) => unknown): () => void {
    return this.#anyEvent.add(listener);
  }

  // Events out.

  /**
   * Send an event; nothing says whether it was handled.
   *
   * Throws QueueFullError where it is to wait and cannot, and PayloadTooLargeError.
   */
  send<K extends Name<Sends>>(event: K, ...rest: Rest<Sends[K], SendOptions>): SendResult {
    const [data, options = {}] = rest as [unknown, SendOptions?];
    const text = this.#encode(event, data, null);
    if (this.#isWritable()) {
      this.#supervisor.write(text);
      return "sent";
    }
    if (!this.#mayWait(options)) return "dropped";
    this.#enqueue({ event, text, ref: null, key: options.volatile ?? null, isPatient: !!options.queue });
    return "queued";
  }

  /**
   * Send an event, and return the data of its answer: undefined where the server has nothing to say.
   *
   * Rejects with RequestError where the server refused, TimeoutError, ConnectionError, QueueFullError,
   * QueueExpiredError or PayloadTooLargeError. After a time-out, and where the connection was lost, it may have been
   * carried out nonetheless.
   */
  request<K extends Name<Sends> & Name<Replies>>(
    event: K,
    ...rest: Rest<Sends[K], RequestOptions>
  ): Promise<Replies[K]> {
    const [data, options = {}] = rest as [unknown, RequestOptions?];
    const ref = this.#requests.newRef();
    try {
      const text = this.#encode(event, data, ref);
      const isWritable = this.#isWritable();
      if (!isWritable && !this.#mayWait(options)) {
        throw new ConnectionError(`${event} was not sent: there is no connection`);
      }
      if (!isWritable) this.#enqueue({ event, text, ref, key: null, isPatient: !!options.queue });
      const answer = this.#requests.add(ref, options.timeout ?? this.#timings.requestTimeoutMs, () => {
        this.#queue.forget(ref);
        return new TimeoutError(`${event} was not answered in time`);
      });
      if (isWritable) this.#write(text, ref);
      return answer as Promise<Replies[K]>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  // Rooms.

  /** The rooms that the server has put this client into, with their positions. */
  get rooms(): ReadonlyMap<string, Membership> {
    return this.#rooms.view;
  }

  /**
   * Be told of rooms that were joined or, with null, left; and, with `joined: false`, of those that the loss of the
   * connection leaves for now. `recovered: false` says: load the room's state anew.
   */
  onRoom(listener: (room: string, membership: Membership | null) => unknown): () => void {
    return this.#memberships.add(listener);
  }

  /** Who is in the rooms of this client, where the consumer shows it. */
  get presence(): ReadonlyMap<string, Presence<Shown>> {
    return this.#attendance.view;
  }

  /** Be told who is in a room, whenever that changes; null after it was left, and when the connection is lost. */
  onPresence(listener: (room: string, presence: Presence<Shown> | null) => unknown): () => void {
    return this.#presences.add(listener);
  }

  // Private: in.

  #received(frame: Frame): void {
    const { event, ref, room } = frame;
    if (event === "wsrt.error") {
      const { code, message, errors } = fields(frame.data);
      const list = Array.isArray(errors) ? (errors as FieldError[]) : [];
      const error = new RequestError(String(code), String(message), list);
      if (ref === null) this.#report(error, "the server did not take an event");
      else this.#requests.fail(String(ref), error);
    } else if (ref !== null) {
      this.#requests.answer(String(ref), event === "wsrt.ok" ? undefined : frame.data);
    } else if (event.startsWith("wsrt.")) {
      this.#receivedReserved(event, fields(frame.data));
    } else {
      const { epoch, offset } = frame;
      const isKept = room !== null && epoch !== null && offset !== null;
      if (isKept && !this.#rooms.advance(room, epoch, offset)) return; // a duplicate
      const context: Context = { room, offset };
      const era = this.#era;
      this.#events.get(event)?.tell(frame.data, context);
      if (era === this.#era) this.#anyEvent.tell(event, frame.data, context);
    }
  }

  #receivedReserved(event: string, data: Record<string, unknown>): void {
    const { room } = data;
    if (typeof room !== "string") return;
    if (event === "wsrt.joined") {
      this.#memberships.tell(room, this.#rooms.joined(room, data));
    } else if (event === "wsrt.left") {
      const era = this.#era;
      this.#rooms.left(room);
      this.#attendance.left(room);
      this.#memberships.tell(room, null);
      if (era === this.#era) this.#presences.tell(room, null);
    } else if (event === "wsrt.presence") {
      const presence = this.#attendance.take(room, data);
      if (presence) this.#presences.tell(room, presence);
    }
  }

  #lost(): void {
    for (const [room, membership] of this.#rooms.lost()) {
      this.#losses.push(() => this.#memberships.tell(room, membership));
    }
    for (const room of this.#attendance.lost()) this.#losses.push(() => this.#presences.tell(room, null));
    this.#requests.failWritten(() => new ConnectionError("the connection was lost before an answer came"));
    for (const item of this.#queue.lost()) {
      this.#drop(item, new ConnectionError(`${item.event} was not sent: the connection was lost`));
    }
    this.#keepTime();
  }

  #changed(status: Status): void {
    this.#states.tell(status);
    for (const tell of this.#losses.splice(0)) tell();
  }

  #closed(error: Error): void {
    this.#era += 1;
    for (const { ref } of this.#queue.clear()) if (ref !== null) this.#requests.fail(ref, error);
    this.#keepTime();
  }

  // Private: out.

  #encode(event: string, data: unknown, ref: string | null): string {
    const text = encode(event, data, ref);
    this.#checkSize(event, text);
    return text;
  }

  #checkSize(event: string, text: string): void {
    const { maxPayload } = this.#supervisor;
    // A character has at most three bytes: most texts need not be counted.
    if (text.length * 3 > maxPayload && byteLength(text) > maxPayload) {
      throw new PayloadTooLargeError(`${event} is larger than the ${maxPayload} bytes that the server takes`);
    }
  }

  #isWritable(): boolean {
    return this.#supervisor.isOpen && this.#queue.length === 0 && this.#hasRoom();
  }

  /** Whether an event may be queued: for a connection that is or will be, where `queue` says so. */
  #mayWait({ queue }: { queue?: boolean }): boolean {
    return this.#supervisor.isOpen || (!!queue && this.state !== "closed");
  }

  #hasRoom(): boolean {
    return this.#supervisor.buffered <= this.#timings.bufferBytes;
  }

  #write(text: string, ref: string | null): void {
    if (ref !== null) this.#requests.written(ref);
    this.#supervisor.write(text);
  }

  #enqueue(item: Item): void {
    this.#expire();
    this.#queue.put(item, this.#environment.now());
    this.#keepTime();
  }

  /** Write what waits, as far as the socket has room. */
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
    this.#keepTime();
  }

  #expire(): void {
    for (const item of this.#queue.expire(this.#environment.now())) {
      this.#drop(item, new QueueExpiredError(`${item.event} waited for a connection for too long`));
    }
  }

  #drop({ event, ref }: Item, error: Error): void {
    if (ref === null) this.#report(error, `sending ${event}`);
    else this.#requests.fail(ref, error);
  }

  /** Come back to what waits: when there may be room, or when the oldest item is too old. */
  #keepTime(): void {
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
