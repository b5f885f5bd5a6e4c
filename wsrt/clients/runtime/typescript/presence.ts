/** The members of rooms, as received in wsrt.presence: snapshots, differences and counts. */

import { ProtocolError } from "./errors.js";
import { fields } from "./frame.js";
import type { Member, Presence } from "./types.js";

export class RoomPresence<Data> {
  // Maps, because a room may have any name and a user any id, including __proto__.
  readonly #rooms = new Map<string, Presence<Data>>();

  get view(): ReadonlyMap<string, Presence<Data>> {
    return this.#rooms;
  }

  /** Apply the data of a wsrt.presence. Return the members, or null if nothing changed. Throws ProtocolError. */
  apply(room: string, data: Record<string, unknown>): Presence<Data> | null {
    const presence = this.#next(room, data);
    if (presence) this.#rooms.set(room, presence);
    return presence;
  }

  left(room: string): void {
    this.#rooms.delete(room);
  }

  /** Forget the members of all rooms, because the connection was lost. Return the names of the rooms. */
  lost(): string[] {
    const rooms = [...this.#rooms.keys()];
    this.#rooms.clear();
    return rooms;
  }

  #next(room: string, data: Record<string, unknown>): Presence<Data> | null {
    const { version } = data;
    if (typeof version !== "number") throw new ProtocolError(`the presence in ${room} has no version`);
    if (typeof data["count"] === "number") return { version, members: null, count: data["count"] };
    // A difference, but the snapshot that it is based on hasn't arrived: ignore it.
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

/** Return a list of members. Throws if one is invalid: applying half of a difference would give a wrong result. */
function listOf<Data>(value: unknown): Member<Data>[] {
  const list = value ?? [];
  if (Array.isArray(list) && list.every(isMember)) return list;
  throw new ProtocolError("the server sent invalid members");
}

function isMember(value: unknown): boolean {
  const { user_id: user, connections } = fields(value);
  return (user === null || typeof user === "string") && typeof connections === "number";
}
