"""Presence of one process, in its memory."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, ClassVar

from .paging import page_of
from .store import (
    EVERYONE,
    Beat,
    Change,
    ConnectionRecord,
    Count,
    Fenced,
    Join,
    Leave,
    MemberRecord,
    NodeFacts,
    NodeRecord,
    Page,
    PresenceStore,
    RoomRecord,
    Snapshot,
)

CHUNK = 500
"""Members that are taken out at a time."""


@dataclasses.dataclass(slots=True)
class _Room:
    """Who is in a room: by node and number, and counted by user."""

    version: int = 0
    nodes: dict[str, dict[int, str | None]] = dataclasses.field(default_factory=dict)
    users: dict[str | None, int] = dataclasses.field(default_factory=dict)
    data: dict[str | None, str] = dataclasses.field(default_factory=dict)

    @property
    def count(self) -> Count:
        guests = self.users.get(None, 0)
        return Count(len(self.users) - bool(guests), guests, sum(map(len, self.nodes.values())))


class _World:
    """All that the process knows: what loops of several threads share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rooms: dict[tuple[str, str], _Room] = {}
        # By node: when the lease ends, in s of the monotonic clock, and its facts.
        self.leases: dict[str, tuple[float, dict[str, Any]]] = {}
        self.places: dict[str, set[tuple[str, str]]] = {}
        self.details: dict[tuple[str, str, int], str] = {}
        # Never lower than any version before it, also of rooms that were empty meanwhile.
        self.version = 0


_world = _World()


class MemoryPresence(PresenceStore):
    """
    The default: exact, at no cost, for the loops of one process. Other processes see nothing of it.

    Args:
        location: ignored.
    """

    is_shared: ClassVar[bool] = False

    def __init__(self, location: str | None = None, *, lease: float = 30.0, **options: Any) -> None:
        super().__init__(location, lease=lease, **options)
        self._world = _world

    # For nodes.

    async def begin(self, node: NodeFacts) -> Beat:
        with self._world.lock:
            self._world.leases[node.id] = time.monotonic() + self.lease, node.facts
            return self._others(node.id)

    async def beat(self, node: NodeFacts) -> Beat:
        with self._world.lock:
            if not self._is_alive(node.id):
                return Beat(is_alive=False)
            self._world.leases[node.id] = time.monotonic() + self.lease, node.facts
            return self._others(node.id)

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        changes: list[Change] = []
        with self._world.lock:
            if not self._is_alive(node):
                raise Fenced(node)
            for operation in operations:
                if isinstance(operation, Join):
                    changes += self._join(node, operation)
                else:
                    changes += self._leave(node, operation.namespace, operation.room, operation.connection)
        return changes

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        with self._world.lock:
            self._world.leases.pop(node, None)
        while True:
            changes: list[Change] = []
            with self._world.lock:
                places = self._world.places.get(node)
                if not places:
                    self._world.places.pop(node, None)
                    return
                namespace, room = next(iter(places))
                members = self._world.rooms[namespace, room].nodes[node]
                for number in list(members)[:CHUNK]:
                    changes += self._leave(node, namespace, room, number)
            yield changes

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        with self._world.lock:
            found = self._world.rooms.get((namespace, room))
            return set(found.nodes.get(node, ())) if found is not None else set()

    async def versions(self, rooms: Sequence[tuple[str, str]]) -> list[int]:
        with self._world.lock:
            return [self._room(*place).version for place in rooms]

    # For readers.

    async def snapshot(self, namespace: str, room: str, limit: int) -> Snapshot:
        with self._world.lock:
            found = self._room(namespace, room)
            listed = tuple(self._members(found)) if len(found.users) <= limit else None
            return Snapshot(found.version, found.count, listed)

    async def counts(self, rooms: Sequence[tuple[str, str]]) -> list[Count]:
        with self._world.lock:
            return [self._room(*place).count for place in rooms]

    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        with self._world.lock:
            members = [
                member
                for member in self._members(self._room(namespace, room))
                if search.lower() in (member.user_id or "").lower() and (not search or member.user_id is not None)
            ]
        return page_of(members, lambda member: [member.user_id or ""], cursor, limit)

    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        with self._world.lock:
            found = self._room(namespace, room)
            return [found.users.get(user, 0) for user in users]

    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        with self._world.lock:
            records = [
                RoomRecord(space, name, room.count)
                for (space, name), room in self._world.rooms.items()
                if space == namespace and name != EVERYONE and search.lower() in name.lower()
            ]
        return page_of(records, lambda record: [-record.count.users - record.count.guests, record.room], cursor, limit)

    async def connections(
        self,
        namespace: str,
        room: str = EVERYONE,
        *,
        user_id: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
    ) -> Page[ConnectionRecord]:
        with self._world.lock:
            records = [
                ConnectionRecord(
                    f"{node}-{number}", namespace, user, node, self._world.details.get((node, namespace, number))
                )
                for node, members in self._room(namespace, room).nodes.items()
                if self._is_alive(node)
                for number, user in members.items()
                if user_id is None or user == user_id
            ]
        return page_of(records, lambda record: [record.node, int(record.id.rpartition("-")[2])], cursor, limit)

    async def namespaces(self) -> list[str]:
        with self._world.lock:
            return sorted({namespace for namespace, _ in self._world.rooms})

    async def nodes(self) -> list[NodeRecord]:
        now = time.monotonic()
        with self._world.lock:
            return [
                NodeRecord(node, end - now, facts) for node, (end, facts) in self._world.leases.items() if end > now
            ]

    async def close(self) -> None:
        """Nothing is held."""

    # Private. The lock is held.

    def _is_alive(self, node: str) -> bool:
        lease = self._world.leases.get(node)
        return lease is not None and lease[0] > time.monotonic()

    def _others(self, me: str) -> Beat:
        now = time.monotonic()
        ends = {node: end for node, (end, _) in self._world.leases.items() if node != me}
        expired = [node for node, end in ends.items() if end <= now]
        return Beat(True, tuple(expired[:16]), min((end - now for end in ends.values() if end > now), default=None))

    def _room(self, namespace: str, room: str) -> _Room:
        return self._world.rooms.get((namespace, room)) or _Room()

    def _members(self, room: _Room) -> Iterable[MemberRecord]:
        return (MemberRecord(user, number, room.data.get(user)) for user, number in room.users.items())

    def _join(self, node: str, join: Join) -> Iterable[Change]:
        place = join.namespace, join.room
        room = self._world.rooms.get(place)
        known = {} if room is None else room.nodes.get(node, {})
        if join.connection in known and known[join.connection] != join.user_id:
            yield from self._leave(node, *place, join.connection)
        room = self._world.rooms.setdefault(place, _Room())
        self._world.places.setdefault(node, set()).add(place)
        if join.details is not None:
            self._world.details[node, join.namespace, join.connection] = join.details
        members = room.nodes.setdefault(node, {})
        user = join.user_id
        is_new = join.connection not in members
        was_there = user in room.users
        members[join.connection] = user
        room.users[user] = room.users.get(user, 0) + is_new
        data = None if user is None else join.data
        has_other_data = user is not None and room.data.get(user) != data
        if data is None:
            room.data.pop(user, None)
        else:
            room.data[user] = data
        if not was_there:
            yield self._changed(place, room, "joined", user)
        elif has_other_data or (user is None and is_new):
            yield self._changed(place, room, "changed", user)

    def _leave(self, node: str, namespace: str, name: str, number: int) -> Iterable[Change]:
        place = namespace, name
        room = self._world.rooms.get(place)
        if room is None or number not in room.nodes.get(node, ()):
            return
        user = room.nodes[node].pop(number)
        if not room.nodes[node]:
            del room.nodes[node]
            self._world.places[node].discard(place)
        if name == EVERYONE:
            self._world.details.pop((node, namespace, number), None)
        room.users[user] -= 1
        if not room.users[user]:
            change = self._changed(place, room, "left", user)
            del room.users[user]
            room.data.pop(user, None)
            if not room.users:
                del self._world.rooms[place]
            yield change
        elif user is None:
            yield self._changed(place, room, "changed", user)

    def _changed(self, place: tuple[str, str], room: _Room, kind: Any, user: str | None) -> Change:
        room.version = room.version + 1 if room.version else self._world.version + 1
        self._world.version = max(self._world.version, room.version)
        return Change(*place, kind, user, room.users[user], room.data.get(user), room.version)
