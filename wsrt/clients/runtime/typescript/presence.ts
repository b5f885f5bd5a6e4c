/** Who is in which room, from wsrt.presence: snapshots, differences, counts. */

import { ProtocolError } from "./errors.js";
import { fields } from "./frame.js";
import type { Member, Presence } from "./types.js";

export class Attendance<Data> {
  // Maps: names of rooms and ids of users are anything, __proto__ too.
  readonly #rooms = new Map<string, Presence<Data>>();

  get view(): ReadonlyMap<string, Presence<Data>> {
    return this.#rooms;
  }

  /** Take in a frame; return what is known now, or null where it tells nothing. Throws ProtocolError. */
  take(room: string, data: Record<string, unknown>): Presence<Data> | null {
    const presence = this.#next(room, data);
    if (presence) this.#rooms.set(room, presence);
    return presence;
  }

  left(room: string): void {
    this.#rooms.delete(room);
  }

  /** The connection is gone, and with it all that was known; return of which rooms. */
  lost(): string[] {
    const rooms = [...this.#rooms.keys()];
    this.#rooms.clear();
    return rooms;
  }

  #next(room: string, data: Record<string, unknown>): Presence<Data> | null {
    const { version } = data;
    if (typeof version !== "number") throw new ProtocolError(`the presence in ${room} has no version`);
    if (typeof data["count"] === "number") return { version, members: null, count: data["count"] };
    // A difference to what we have not: the list follows.
    const before = data["members"] ? new Map<string | null, Member<Data>>() : this.#rooms.get(room)?.members;
    if (!before) return null;
    const members = new Map(before);
    for (const member of listOf<Data>(data["left"])) members.delete(member.user_id);
    for (const key of ["members", "joined", "changed"]) {
      for (const member of listOf<Data>(data[key])) members.set(member.user_id, member);
    }
    let guests = members.get(null)?.connections ?? 0;
    if (members.has(null)) guests -= 1;
    return { version, members, count: members.size + guests };
  }
}

/** All of a list or nothing: half of a difference would be a presence that never was. */
function listOf<Data>(value: unknown): Member<Data>[] {
  const list = value ?? [];
  if (Array.isArray(list) && list.every(isMember)) return list;
  throw new ProtocolError("the server sent members that are none");
}

function isMember(value: unknown): boolean {
  const { user_id: user, connections } = fields(value);
  return (user === null || typeof user === "string") && typeof connections === "number";
}
