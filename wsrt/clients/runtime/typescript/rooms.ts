/** The rooms of a client, and its positions in them. */

import type { Membership } from "./types.js";

export class Rooms {
  // A Map, because a room may have any name, including __proto__.
  readonly #rooms = new Map<string, Membership>();

  get view(): ReadonlyMap<string, Membership> {
    return this.#rooms;
  }

  /** Return the positions by room, as wsrt.resume sends them. */
  positions(): Record<string, [string, number]> {
    const positions: [string, [string, number]][] = [];
    for (const [room, { epoch, offset }] of this.#rooms) {
      if (epoch !== null && offset !== null) positions.push([room, [epoch, offset]]);
    }
    return Object.fromEntries(positions);
  }

  joined(room: string, data: Record<string, unknown>): Membership {
    const known = this.#rooms.get(room);
    const recovered = typeof data["recovered"] === "boolean" ? data["recovered"] : null;
    // The server replays the missed publications, and each of them advances the position.
    const keeps = recovered === true && known?.epoch !== undefined && known.epoch !== null;
    const membership: Membership = {
      joined: true,
      epoch: keeps ? known.epoch : textOf(data["epoch"]),
      offset: keeps ? known.offset : numberOf(data["offset"]),
      recovered,
      reason: textOf(data["reason"]),
    };
    this.#rooms.set(room, membership);
    return membership;
  }

  left(room: string): void {
    this.#rooms.delete(room);
  }

  /** Mark all rooms as not joined, because the connection was lost. Keep the positions. Return the changed rooms. */
  lost(): [string, Membership][] {
    const joined = [...this.#rooms].filter(([, membership]) => membership.joined);
    // The result of the last replay no longer applies: a room that isn't joined must not be reloaded.
    const gone = { joined: false, recovered: null, reason: null };
    const changed = joined.map(([room, membership]): [string, Membership] => [room, { ...membership, ...gone }]);
    for (const [room, membership] of changed) this.#rooms.set(room, membership);
    return changed;
  }

  /** Record the position of a publication. Return false for a duplicate. */
  advance(room: string, epoch: string, offset: number): boolean {
    const known = this.#rooms.get(room);
    // The room was left, so there is no position to keep.
    if (!known) return true;
    if (known.epoch === epoch && known.offset !== null && offset <= known.offset) return false;
    this.#rooms.set(room, { ...known, epoch, offset });
    return true;
  }
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}
