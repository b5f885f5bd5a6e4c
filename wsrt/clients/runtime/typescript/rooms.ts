/** The rooms that the server has put a client into, and how far it has read in each. */

import type { Membership } from "./types.js";

export class Rooms {
  // Maps: names of rooms are anything, __proto__ too.
  readonly #rooms = new Map<string, Membership>();

  get view(): ReadonlyMap<string, Membership> {
    return this.#rooms;
  }

  /** The data of wsrt.resume. */
  claims(): Record<string, [string, number]> {
    const claims: [string, [string, number]][] = [];
    for (const [room, { epoch, offset }] of this.#rooms) {
      if (epoch !== null && offset !== null) claims.push([room, [epoch, offset]]);
    }
    return Object.fromEntries(claims);
  }

  joined(room: string, data: Record<string, unknown>): Membership {
    const known = this.#rooms.get(room);
    const recovered = typeof data["recovered"] === "boolean" ? data["recovered"] : null;
    // What was recovered follows, and moves the position as it arrives.
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

  /** The connection is gone: the positions stay, the server joins anew. Return what changed. */
  lost(): [string, Membership][] {
    const joined = [...this.#rooms].filter(([, membership]) => membership.joined);
    // What came of the last claim is past: nobody shall load a room that is not joined.
    const gone = { joined: false, recovered: null, reason: null };
    const changed = joined.map(([room, membership]): [string, Membership] => [room, { ...membership, ...gone }]);
    for (const [room, membership] of changed) this.#rooms.set(room, membership);
    return changed;
  }

  /** Move the position; return false for a publication that was had before. */
  advance(room: string, epoch: string, offset: number): boolean {
    const known = this.#rooms.get(room);
    // A publication that overtook wsrt.left: nothing to keep a position for.
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
