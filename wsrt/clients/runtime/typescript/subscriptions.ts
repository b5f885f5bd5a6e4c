/** The rooms that a client has asked for, with the number of components that use each. */

import type { Environment, Timer } from "./environment.js";
import { ConnectionError, RequestError, TimeoutError, type ErrorListener } from "./errors.js";
import { Listeners } from "./listeners.js";
import type { Subscription, SubscriptionState, Timings } from "./types.js";

/** How many requests are under way at once, so that many rooms don't exceed the server's rate. */
const WINDOW = 4;

/** The answers after which a request is repeated later. */
const TEMPORARY = ["rate_limited", "unavailable"];

/** A subscription of one part of the page to a room. */
class Use implements Subscription {
  readonly #room: Room;
  readonly #end: () => void;
  readonly listeners: Listeners<[subscription: Subscription]>;
  readonly #rejects = new Set<(error: Error) => void>();
  /** Whether an error reaches the caller by `ready`. */
  isAwaited = false;
  isEnded = false;

  constructor(room: Room, report: ErrorListener, end: (use: Use) => void) {
    this.#room = room;
    this.#end = () => end(this);
    this.listeners = new Listeners(`a listener of the subscription to ${room.name}`, report, () => this.state);
  }

  get room(): string {
    return this.#room.name;
  }

  get state(): SubscriptionState {
    return this.isEnded ? "ended" : this.#room.state;
  }

  get error(): Error | null {
    return this.isEnded ? null : this.#room.error;
  }

  get ready(): Promise<void> {
    this.isAwaited = true;
    return new Promise((resolve, reject) => {
      const settle = () => {
        const { state } = this;
        if (state === "waiting") return false;
        if (state === "subscribed") resolve();
        else reject(this.error ?? new ConnectionError(`the subscription to ${this.room} has ended`));
        return true;
      };
      if (settle()) return;
      const stop = this.listeners.add(() => {
        if (!settle()) return;
        stop();
        this.#rejects.delete(reject);
      });
      this.#rejects.add(reject);
    });
  }

  /** Reject what waits in `ready`, because the client was closed. */
  closed(error: Error): void {
    for (const reject of this.#rejects) reject(error);
    this.#rejects.clear();
  }

  unsubscribe(): void {
    this.#end();
  }
}

/** A room, with what is wanted and what the server has confirmed on the current connection. */
interface Room {
  readonly name: string;
  readonly uses: Set<Use>;
  state: Exclude<SubscriptionState, "ended">;
  error: Error | null;
  /** Whether the server holds the subscription, as far as is known. */
  isHeld: boolean;
  /** Whether a request for this room is under way. */
  isAsking: boolean;
  /** Whether wsrt.left has arrived since the request was sent. */
  isLeft: boolean;
}

export class Subscriptions {
  // A Map, because a room may have any name, including __proto__.
  readonly #rooms = new Map<string, Room>();
  readonly #request: (event: string, room: string) => Promise<unknown>;
  readonly #timings: Timings;
  readonly #environment: Environment;
  readonly #report: ErrorListener;
  // The number of the connection. Results of requests on older connections are ignored.
  #connection = 0;
  #isOpen = false;
  #asking = 0;
  #window = WINDOW;
  #failures = 0;
  #timer: Timer | null = null;

  constructor(
    request: (event: string, room: string) => Promise<unknown>,
    timings: Timings,
    environment: Environment,
    report: ErrorListener,
  ) {
    this.#request = request;
    this.#timings = timings;
    this.#environment = environment;
    this.#report = report;
  }

  /** Add a subscription. The first one for a room, and one after a refusal or removal, sends a request. */
  add(name: string, listener?: (subscription: Subscription) => unknown): Subscription {
    let room = this.#rooms.get(name);
    if (!room) {
      const nothing = { isHeld: false, isAsking: false, isLeft: false };
      room = { name, uses: new Set(), state: "waiting", error: null, ...nothing };
      this.#rooms.set(name, room);
    }
    const use = new Use(room, this.#report, (ended) => this.#remove(room, ended));
    if (listener) use.listeners.add(listener);
    room.uses.add(use);
    if (room.state === "refused" || room.state === "removed") this.#set(room, "waiting");
    this.#sendRequests();
    return use;
  }

  /** Ask for all rooms, because a connection was opened. */
  opened(): void {
    this.#isOpen = true;
    this.#sendRequests();
  }

  /** Forget what the server has confirmed, because the connection was lost. */
  lost(): void {
    this.#connection += 1;
    this.#isOpen = false;
    this.#asking = this.#failures = 0;
    this.#window = WINDOW;
    this.#stopTimer();
    for (const room of [...this.#rooms.values()]) {
      room.isHeld = room.isAsking = room.isLeft = false;
      if (room.uses.size === 0) this.#rooms.delete(room.name);
      else this.#set(room, "waiting");
    }
  }

  /** Reject what waits, because the client was closed. Its rooms are asked for again if it connects again. */
  closed(error: Error): void {
    for (const room of this.#rooms.values()) for (const use of room.uses) use.closed(error);
  }

  /** Return whether there are subscriptions to a room. */
  isWanted(name: string): boolean {
    return !!this.#rooms.get(name)?.uses.size;
  }

  joined(name: string): void {
    const room = this.#rooms.get(name);
    if (room) room.isLeft = false;
  }

  /** Record that the connection has left a room: because the last use ended, or because the server removed it. */
  left(name: string): void {
    const room = this.#rooms.get(name);
    if (!room) return;
    room.isLeft = true;
    if (room.isAsking) return;
    room.isHeld = false;
    if (room.uses.size > 0 && room.state === "subscribed") this.#set(room, "removed");
  }

  #remove(room: Room, use: Use): void {
    if (!room.uses.delete(use)) return;
    use.isEnded = true;
    use.listeners.notify(use);
    this.#sendRequests();
  }

  /** Send the requests that are needed, at most one at a time for each room. */
  #sendRequests(): void {
    for (const room of [...this.#rooms.values()]) {
      if (room.isAsking) continue;
      const isWanted = room.uses.size > 0;
      if (!isWanted && !room.isHeld) this.#rooms.delete(room.name);
      else if (!isWanted && this.#maySend()) this.#ask(room, "wsrt.unsubscribe");
      else if (isWanted && room.state === "waiting" && this.#maySend()) this.#ask(room, "wsrt.subscribe");
    }
  }

  #maySend(): boolean {
    return this.#isOpen && this.#timer === null && this.#asking < this.#window;
  }

  #ask(room: Room, event: "wsrt.subscribe" | "wsrt.unsubscribe"): void {
    const connection = this.#connection;
    room.isAsking = true;
    room.isLeft = false;
    // For a use that begins before the answer. There is none now, or the state is the same.
    room.state = "waiting";
    this.#asking += 1;
    const isCurrent = () => {
      if (connection !== this.#connection) return false;
      room.isAsking = false;
      this.#asking -= 1;
      return true;
    };
    this.#request(event, room.name).then(
      () => isCurrent() && this.#confirmed(room, event === "wsrt.subscribe"),
      (error: unknown) => isCurrent() && this.#failed(room, error),
    );
  }

  #confirmed(room: Room, isSubscribed: boolean): void {
    this.#failures = 0;
    // The server may have removed the client between its join and its answer.
    room.isHeld = isSubscribed && !room.isLeft;
    if (isSubscribed && room.uses.size > 0) this.#set(room, room.isHeld ? "subscribed" : "removed");
    this.#sendRequests();
  }

  #failed(room: Room, error: unknown): void {
    if (!isTemporary(error)) {
      room.isHeld = false;
      if (room.uses.size > 0) {
        if (![...room.uses].some((use) => use.isAwaited || use.listeners.size > 0)) {
          this.#report(error, `subscribing to ${room.name}`);
        }
        this.#set(room, "refused", error as Error);
      }
      this.#sendRequests();
      return;
    }
    // Over the rate, or no answer in time: wait, and then ask for one room after the other.
    this.#window = 1;
    this.#failures += 1;
    if (this.#timer !== null) return;
    const { minMs, baseMs, capMs } = this.#timings;
    const delayMs = minMs + this.#environment.random() * Math.min(capMs, baseMs * 2 ** (this.#failures - 1));
    this.#timer = this.#environment.setTimeout(() => {
      this.#timer = null;
      this.#sendRequests();
    }, delayMs);
  }

  #set(room: Room, state: Room["state"], error: Error | null = null): void {
    if (room.state === state && room.error === error) return;
    room.state = state;
    room.error = error;
    for (const use of [...room.uses]) if (room.uses.has(use)) use.listeners.notify(use);
  }

  #stopTimer(): void {
    if (this.#timer !== null) this.#environment.clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function isTemporary(error: unknown): boolean {
  if (error instanceof RequestError) return TEMPORARY.includes(error.code);
  return error instanceof TimeoutError || error instanceof ConnectionError;
}
