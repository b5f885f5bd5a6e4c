/** The queue of events that wait to be sent. */

import { byteLength } from "./environment.js";
import { QueueFullError } from "./errors.js";
import type { QueueLimits } from "./types.js";

/** An event in the queue. */
export interface Item {
  readonly event: string;
  readonly text: string;
  /** The reference of the request. Null if the event isn't a request. */
  readonly ref: string | null;
  /** If set, the item replaces the one with the same event and key. */
  readonly key: string | null;
  /** Whether the item may wait for another connection, rather than only for room in the current one. */
  readonly outlivesConnection: boolean;
}

interface Waiting extends Item {
  readonly bytes: number;
  readonly since: number;
}

/** Events in the order of the calls, limited in number, bytes and age. */
export class Queue {
  readonly #limits: QueueLimits;
  #items: Waiting[] = [];
  #bytes = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#items.length;
  }

  /** The time at which the oldest item expires. Null if the queue is empty. */
  get due(): number | null {
    return this.#items[0] ? this.#items[0].since + this.#limits.ageMs : null;
  }

  /** Add an item, or replace the one with the same event and key. Throws QueueFullError. */
  put(item: Item, now: number): void {
    const { items, bytes } = this.#limits;
    const entry: Waiting = { ...item, bytes: byteLength(item.text), since: now };
    const index =
      item.key === null ? -1 : this.#items.findIndex((other) => other.key === item.key && other.event === item.event);
    const replaced = this.#items[index];
    const count = this.#items.length + (replaced ? 0 : 1);
    const total = this.#bytes + entry.bytes - (replaced?.bytes ?? 0);
    if (count > items || total > bytes) {
      throw new QueueFullError(`${item.event} can't be queued: the limits are ${items} events and ${bytes} bytes`);
    }
    // A replacement keeps the position and age of the old item, so the first item remains the oldest.
    if (replaced) this.#items[index] = { ...entry, since: replaced.since };
    else this.#items.push(entry);
    this.#bytes = total;
  }

  /** Remove and return the first item. Return undefined if the queue is empty. */
  take(): Item | undefined {
    const item = this.#items.shift();
    if (item) this.#bytes -= item.bytes;
    return item;
  }

  /** Remove and return the expired items. */
  removeExpired(now: number): Item[] {
    return this.#remove((item) => now - item.since >= this.#limits.ageMs);
  }

  /** Remove and return the items that waited for room in a connection that is lost. */
  removeConnectionBound(): Item[] {
    return this.#remove((item) => !item.outlivesConnection);
  }

  /** Remove a request. */
  removeRequest(ref: string): void {
    this.#remove((item) => item.ref === ref);
  }

  /** Remove and return all items. */
  clear(): Item[] {
    return this.#remove(() => true);
  }

  #remove(isRemoved: (item: Waiting) => boolean): Item[] {
    const removed = this.#items.filter(isRemoved);
    if (removed.length) {
      this.#items = this.#items.filter((item) => !removed.includes(item));
      for (const item of removed) this.#bytes -= item.bytes;
    }
    return removed;
  }
}
