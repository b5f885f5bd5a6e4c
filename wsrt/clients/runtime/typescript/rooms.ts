/** The rooms of a client, and its positions in them. */

import { byteLength } from "./environment.js";
import { isCount, positionOf, type Frame } from "./frame.js";
import type { Membership, Position, Recovery } from "./types.js";

/** The most positions that wsrt.resume may have. */
const MAX_CLAIMS = 1000;

/** The largest wsrt.resume, in bytes, before the first hello: the server's default limit. */
const MAX_PAYLOAD = 65_536;

/** How many frames of a room may wait while missed events are fetched. */
const MAX_HELD = 1000;

/** The reasons for which the missed events may still be in the history. */
const FETCHABLE = ["too_many", "late"];

/** What was announced by wsrt.joined and hasn't arrived yet. */
interface Replay {
  /** The room's position afterwards. Null if the server keeps no history. */
  readonly end: Position | null;
  /** The result for listeners afterwards. Null if there is none. */
  recovery: Recovery | null;
  /** How many values are still to come, and after them, how many missed publications. */
  values: number;
  missed: number;
  /** The frames that wait while missed events are fetched. Null if the server sends them. */
  held: Frame[] | null;
  /** How many events were fetched. */
  fetched: number;
}

const NEW: Membership = {
  joined: false,
  epoch: null,
  offset: null,
  recovered: null,
  reason: null,
  count: 0,
  recovering: false,
  valuesMissing: false,
};

export class Rooms {
  // Maps, because a room may have any name, including __proto__.
  readonly #rooms = new Map<string, Membership>();
  readonly #replays = new Map<string, Replay>();
  readonly #canFetch: boolean;

  /** @param canFetch Whether missed events that the server doesn't send can be fetched. */
  constructor(canFetch: boolean) {
    this.#canFetch = canFetch;
  }

  get view(): ReadonlyMap<string, Membership> {
    return this.#rooms;
  }

  /**
   * Return the positions by room, as wsrt.resume sends them: those that fit, of the rooms that are wanted and of those
   * that were joined last.
   *
   * @param maxPayload The size of the largest frame that the server accepts, in bytes.
   * @param isWanted Returns whether the client has subscribed to a room.
   */
  claims(maxPayload: number, isWanted: (room: string) => boolean): Record<string, [string, number]> {
    const claims: [string, [string, number]][] = [];
    const newestFirst = [...this.#rooms].reverse();
    let left = Math.min(maxPayload, MAX_PAYLOAD) - '{"event":"wsrt.resume","data":{}}'.length;
    for (const [room, { epoch, offset }] of newestFirst.sort(([one], [other]) => +isWanted(other) - +isWanted(one))) {
      if (epoch === null || offset === null) continue;
      left -= byteLength(JSON.stringify({ [room]: [epoch, offset] }));
      if (left < 0 || claims.length === MAX_CLAIMS) break;
      claims.push([room, [epoch, offset]]);
    }
    return Object.fromEntries(claims);
  }

  /** Set a position that the application knows. */
  set(room: string, { epoch, offset }: Position): void {
    const known = this.#rooms.get(room) ?? NEW;
    // In a joined room, the later publications have arrived already.
    if (known.joined && known.epoch === epoch && known.offset !== null && offset < known.offset) return;
    this.#rooms.set(room, { ...known, epoch, offset });
  }

  joined(room: string, data: Record<string, unknown>): Membership {
    const known = this.#rooms.get(room) ?? NEW;
    const from = positionOf(known);
    const end = positionOf(data);
    let recovered = typeof data["recovered"] === "boolean" ? data["recovered"] : null;
    let reason = textOf(data["reason"]);
    if (recovered === null && !known.joined && from && end) {
      // The server was not asked for this position: it was set after the first frame, or there were too many. One that
      // is ahead of the room's may be of publications that the history has lost.
      recovered = from.epoch === end.epoch && from.offset === end.offset;
      if (!recovered) reason = "late";
    }
    const count = isCount(data["count"]) ? data["count"] : 0;
    const recovery = recovered === null ? null : { recovered, count: recovered ? count : 0, reason };
    const replay: Replay = {
      end,
      recovery,
      values: isCount(data["values"]) ? data["values"] : 0,
      missed: recovery?.count ?? 0,
      held: null,
      fetched: 0,
    };
    const isBehind = from !== null && end?.epoch === from.epoch && from.offset <= end.offset;
    if (this.#canFetch && recovered === false && FETCHABLE.includes(reason!) && isBehind) {
      replay.held = [];
    }
    const recovering = replay.missed > 0 || replay.held !== null;
    // Until all of it has arrived the old position is kept: if the connection is lost on the way, it is claimed again.
    const isComplete = !recovering && replay.values === 0;
    const position = isComplete ? laterOf(recovered ? from : null, end ?? from) : from;
    const membership: Membership = {
      joined: true,
      epoch: position?.epoch ?? null,
      offset: position?.offset ?? null,
      recovered: replay.held ? null : recovered,
      reason: replay.held ? null : reason,
      count: recovery?.count ?? 0,
      recovering,
      valuesMissing: data["values_missing"] === true,
    };
    // Deleted before, so that the rooms are in the order in which they were joined.
    this.#rooms.delete(room);
    this.#rooms.set(room, membership);
    this.#replays.set(room, replay);
    return membership;
  }

  left(room: string): void {
    this.#rooms.delete(room);
    this.#replays.delete(room);
  }

  /** Mark all rooms as not joined, because the connection was lost. Keep the positions. Return the changed rooms. */
  lost(): [string, Membership][] {
    this.#replays.clear();
    const joined = [...this.#rooms].filter(([, membership]) => membership.joined);
    const changed = joined.map(([room, { epoch, offset }]): [string, Membership] => [room, { ...NEW, epoch, offset }]);
    for (const [room, membership] of changed) this.#rooms.set(room, membership);
    return changed;
  }

  /** Record the position of a publication. Return false for a duplicate. */
  advance(room: string, epoch: string, offset: number): boolean {
    const known = this.#rooms.get(room);
    // The room was left, so there is no position to keep.
    if (!known) return true;
    const replay = this.#replays.get(room);
    if (replay && !replay.held) {
      if (replay.values > 0) {
        // The last values of a room are older than its position, and sent to every client that joins.
        replay.values -= 1;
        return true;
      }
    }
    const isNew = known.epoch !== epoch || known.offset === null || offset > known.offset;
    if (replay) {
      if (isNew) replay.missed -= 1;
      // The last one of the replay, although some were withheld, or were duplicates.
      if (epoch === replay.end?.epoch && offset >= replay.end.offset) replay.missed = 0;
      replay.fetched += +isNew;
    }
    if (!isNew) return false;
    this.#rooms.set(room, { ...known, epoch, offset });
    return true;
  }

  /**
   * End the replay of a room if all of it has arrived. Return the result for listeners; null if there is none.
   *
   * @param next The publication that arrives next. One after the end of the replay ends it, too: the server may have
   *   withheld some.
   */
  ended(room: string, next?: Position): Recovery | null {
    const replay = this.#replays.get(room);
    if (!replay || replay.held) return null;
    const { end, values, missed, recovery } = replay;
    const isBeyond = next && next.epoch === end?.epoch && next.offset > end.offset;
    if ((values === 0 && missed <= 0) || isBeyond) return this.#end(room, replay);
    if (recovery?.recovered) return null;
    // Only values are to come: nothing has to wait for them.
    replay.recovery = null;
    return recovery;
  }

  /** Keep a frame until the missed events of its room have been fetched. Return false if it doesn't wait. */
  hold(room: string, frame: Frame): boolean {
    const held = this.held(room);
    return !!held && held.length < MAX_HELD && held.push(frame) > 0;
  }

  /** Return the frames that wait until missed events of a room have been fetched. Null if none are being fetched. */
  held(room: string): Frame[] | null {
    return this.#replays.get(room)?.held ?? null;
  }

  /** Return the gap in a room that is to be filled by fetching: the positions between which events were missed. */
  gap(room: string): { since: Position; until: Position } {
    return { since: positionOf(this.#rooms.get(room)!)!, until: this.#replays.get(room)!.end! };
  }

  /**
   * End fetching missed events. Return the result for listeners.
   *
   * @param reason Why some of them are missing. Null if none are. Undefined for the reason in wsrt.joined.
   */
  fetched(room: string, reason: string | null | undefined): Recovery {
    const replay = this.#replays.get(room)!;
    if (reason === undefined) reason = replay.recovery!.reason;
    replay.recovery = { recovered: reason === null, count: replay.fetched, reason };
    return this.#end(room, replay)!;
  }

  #end(room: string, { end, recovery, held }: Replay): Recovery | null {
    this.#replays.delete(room);
    const known = this.#rooms.get(room);
    if (known) {
      const position = positionOf(known);
      this.#rooms.set(room, {
        ...known,
        ...laterOf(held || recovery?.recovered ? position : null, end ?? position),
        ...recovery,
        recovering: false,
      });
    }
    return recovery;
  }
}

function laterOf(one: Position | null, other: Position | null): Position | null {
  return one && one.epoch === other?.epoch && one.offset > other.offset ? one : other;
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
