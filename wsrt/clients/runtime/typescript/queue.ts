/** What waits to be sent: in the order of the calls, and bounded. */

import { byteLength } from "./environment.js";
import { QueueFullError } from "./errors.js";
import type { QueueLimits } from "./types.js";

export interface Item {
  readonly event: string;
  readonly text: string;
  /** Of a request; else null. */
  readonly ref: string | null;
  /** Only the latest of a key waits. */
  readonly key: string | null;
  /** Whether it may wait for a connection; else for room in this one alone. */
  readonly isPatient: boolean;
}

interface Waiting extends Item {
  readonly bytes: number;
  readonly since: number;
}

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

  /** When the oldest item gets too old; null where nothing waits. */
  get due(): number | null {
    return this.#items[0] ? this.#items[0].since + this.#limits.ageMs : null;
  }

  /** Add an item, in the place of one with the same event and key. Throws QueueFullError. */
  put(item: Item, now: number): void {
    const { items, bytes } = this.#limits;
    const entry: Waiting = { ...item, bytes: byteLength(item.text), since: now };
    const place =
      item.key === null ? -1 : this.#items.findIndex((other) => other.key === item.key && other.event === item.event);
    const replaced = this.#items[place];
    const count = this.#items.length + (replaced ? 0 : 1);
    const total = this.#bytes + entry.bytes - (replaced?.bytes ?? 0);
    if (count > items || total > bytes) {
      throw new QueueFullError(`${item.event} cannot wait: the queue has its ${items} events, or ${bytes} bytes`);
    }
    // It keeps the place and the age of what it replaces, so that `due` stays that of the first.
    if (replaced) this.#items[place] = { ...entry, since: replaced.since };
    else this.#items.push(entry);
    this.#bytes = total;
  }

  /** Take the first item; undefined where nothing waits. */
  take(): Item | undefined {
    const item = this.#items.shift();
    if (item) this.#bytes -= item.bytes;
    return item;
  }

  /** Take out what is too old. */
  expire(now: number): Item[] {
    return this.#remove((item) => now - item.since >= this.#limits.ageMs);
  }

  /** Take out what waited for room in a connection that is lost. */
  lost(): Item[] {
    return this.#remove((item) => !item.isPatient);
  }

  /** Forget a request. */
  forget(ref: string): void {
    this.#remove((item) => item.ref === ref);
  }

  clear(): Item[] {
    return this.#remove(() => true);
  }

  #remove(isGone: (item: Waiting) => boolean): Item[] {
    const gone = this.#items.filter(isGone);
    if (gone.length) {
      this.#items = this.#items.filter((item) => !gone.includes(item));
      for (const item of gone) this.#bytes -= item.bytes;
    }
    return gone;
  }
}
