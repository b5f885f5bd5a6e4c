"""Presence of one process, in its memory."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

from ..cluster.forks import after_fork_in_child
from .base import (
    EVERYONE,
    UNSET,
    Beat,
    Change,
    ConnectionRecord,
    Count,
    Join,
    LeaseLost,
    Leave,
    MemberData,
    MemberRecord,
    NodeFacts,
    NodeRecord,
    Page,
    PresenceStore,
    RoomRecord,
    Snapshot,
)
from .paging import page_of

Place = tuple[str, str]
"""Namespace and room."""

CHUNK = 500
"""Connections that are taken out at a time."""

TOLD = 16
"""Dead nodes that are named at a time."""


@dataclasses.dataclass(slots=True)
class _Room:
    """
    Who is in a room.

    Attributes:
        nodes: by node and number of the connection, the user.
        users: how many connections each has.
        data: of users of whom something is said.
    """

    version: int
    nodes: dict[str, dict[int, str | None]] = dataclasses.field(default_factory=dict)
    users: dict[str | None, int] = dataclasses.field(default_factory=dict)
    data: dict[str | None, str] = dataclasses.field(default_factory=dict)
    connections: int = 0

    @property
    def count(self) -> Count:
        guests = self.users.get(None, 0)
        return Count(len(self.users) - bool(guests), guests, self.connections)

    def members(self) -> Iterator[MemberRecord]:
        for user, connections in self.users.items():
            yield MemberRecord(user, connections, self.data.get(user))


_NOBODY = _Room(0)
"""Every room that is not there; never changed."""


class _World:
    """All that the process knows: what the loops of its threads share."""

    def __init__(self) -> None:
        # Not looked up in its module: a clock that a test freezes there would end leases, or never end them.
        self.now = time.monotonic
        # Held while anything else is read or written, for microseconds but for long lists.
        self.lock = threading.Lock()
        # By namespace and name; the empty ones are not there.
        self.rooms: dict[str, dict[str, _Room]] = {}
        # By node: when the lease ends, in s of the monotonic clock, and what it said of itself.
        self.leases: dict[str, tuple[float, dict[str, Any]]] = {}
        # By node: where it has connections.
        self.places: dict[str, set[Place]] = {}
        # By node, namespace and number of the connection.
        self.details: dict[tuple[str, str, int], str] = {}
        # The highest of all rooms, also of those that are gone: one that begins anew uses none again.
        self.version = 0

    def room(self, place: Place) -> _Room:
        namespace, name = place
        return self.rooms.get(namespace, {}).get(name, _NOBODY)

    # Leases.

    def is_alive(self, node: str) -> bool:
        lease = self.leases.get(node)
        return lease is not None and lease[0] > self.now()

    def expired(self, now: float) -> tuple[str, ...]:
        dead = (node for node, (end, _) in self.leases.items() if end <= now)
        return tuple(itertools.islice(dead, TOLD))

    def renew(self, node: NodeFacts, lease: float) -> Beat:
        now = self.now()
        self.leases[node.id] = now + lease, node.facts
        ends = (end - now for other, (end, _) in self.leases.items() if end > now and other != node.id)
        return Beat(True, self.expired(now), min(ends, default=None))

    # Writing.

    def join(self, node: str, join: Join) -> Iterator[Change]:
        place, number, user = (join.namespace, join.room), join.connection, join.user_id
        room = self.rooms.get(join.namespace, {}).get(join.room)
        if room is None:
            room = self.rooms.setdefault(join.namespace, {})[join.room] = _Room(self.version)
        self.places.setdefault(node, set()).add(place)
        self._note_details(node, join)
        members = room.nodes.setdefault(node, {})
        is_new = number not in members
        before, members[number] = members.get(number), user
        data = UNSET if user is None else join.data
        if not is_new and before == user:
            if self._say(room, user, data):
                yield self._change(place, room, "changed", user)
            return
        room.connections += 1
        room.users[user] = room.users.get(user, 0) + 1
        is_said = self._say(room, user, data)
        if room.users[user] == 1:
            yield self._change(place, room, "joined", user)
        elif is_said or user is None:
            yield self._change(place, room, "changed", user)
        if not is_new:
            # The connection belonged to somebody else until now.
            yield from self._less(place, room, before)

    def leave(self, node: str, place: Place, number: int) -> Iterator[Change]:
        room = self.room(place)
        members = room.nodes.get(node, {})
        if number not in members:
            return
        user = members.pop(number)
        if not members:
            del room.nodes[node]
            self.places[node].discard(place)
        if place[1] == EVERYONE:
            self.details.pop((node, place[0], number), None)
        yield from self._less(place, room, user)

    def remove_node(self, node: str, most: int) -> tuple[list[Change], bool]:
        """Take connections of a node out; return what that changed, and whether there may be more."""
        changes: list[Change] = []
        places = self.places.get(node, set())
        while places and most > 0:
            place = places.pop()
            numbers = list(itertools.islice(self.room(place).nodes.get(node, {}), most))
            places.add(place)  # the last leave takes it out
            for number in numbers:
                changes += self.leave(node, place, number)
            most -= max(1, len(numbers))
        if not places:
            self.places.pop(node, None)
        return changes, bool(places)

    def _less(self, place: Place, room: _Room, user: str | None) -> Iterator[Change]:
        room.connections -= 1
        room.users[user] -= 1
        if room.users[user]:
            if user is None:
                yield self._change(place, room, "changed", user)
            return
        room.data.pop(user, None)
        change = self._change(place, room, "left", user)
        del room.users[user]
        if not room.connections:
            namespace, name = place
            del self.rooms[namespace][name]
            if not self.rooms[namespace]:
                del self.rooms[namespace]
        yield change

    def _say(self, room: _Room, user: str | None, data: MemberData) -> bool:
        """Note the last word about a user; return whether it is another one."""
        if data is UNSET or room.data.get(user) == data:
            return False
        if data is None:
            del room.data[user]
        else:
            room.data[user] = data
        return True

    def _note_details(self, node: str, join: Join) -> None:
        if join.room == EVERYONE:
            key = node, join.namespace, join.connection
            if join.details is None:
                self.details.pop(key, None)
            else:
                self.details[key] = join.details

    def _change(
        self, place: Place, room: _Room, kind: Literal["joined", "left", "changed"], user: str | None
    ) -> Change:
        room.version += 1
        self.version = max(self.version, room.version)
        return Change(*place, kind, user, room.users[user], room.data.get(user), room.version)


_world = _World()


class MemoryPresence(PresenceStore):
    """
    The default: exact, and at no cost, for the loops of one process. Other processes see nothing of it.

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
            return self._world.renew(node, self.lease)

    async def beat(self, node: NodeFacts) -> Beat:
        with self._world.lock:
            if not self._world.is_alive(node.id):
                return Beat(is_alive=False)
            return self._world.renew(node, self.lease)

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        changes: list[Change] = []
        with self._world.lock:
            if not self._world.is_alive(node):
                raise LeaseLost(f"the lease of node {node} has ended")
            for operation in operations:
                if isinstance(operation, Join):
                    changes += self._world.join(node, operation)
                else:
                    place = operation.namespace, operation.room
                    changes += self._world.leave(node, place, operation.connection)
        return changes

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        with self._world.lock:
            # For good, so that nothing comes in any more; what is there is found by its places.
            _, facts = self._world.leases.pop(node, (0, {}))
            if node in self._world.places:
                self._world.leases[node] = 0, facts
        is_more = True
        while is_more:
            with self._world.lock:
                changes, is_more = self._world.remove_node(node, CHUNK)
                if not is_more:
                    self._world.leases.pop(node, None)
            if changes:
                yield changes
            if is_more:
                # Others of this loop have their turn between two chunks.
                await asyncio.sleep(0)

    async def expired(self) -> tuple[str, ...]:
        with self._world.lock:
            return self._world.expired(self._world.now())

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        with self._world.lock:
            return set(self._world.room((namespace, room)).nodes.get(node, ()))

    async def versions(self, rooms: Sequence[Place]) -> list[int]:
        with self._world.lock:
            return [self._world.room(place).version for place in rooms]

    # For readers.

    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        with self._world.lock:
            found = self._world.room((namespace, room))
            members = tuple(found.members()) if len(found.users) <= limit else None
            version, count = found.version, found.count
        if members is not None and max_bytes is not None and sum(member.size for member in members) > max_bytes:
            members = None
        return Snapshot(version, count, members)

    async def counts(self, rooms: Sequence[Place]) -> list[Count]:
        with self._world.lock:
            return [self._world.room(place).count for place in rooms]

    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        with self._world.lock:
            members: Iterable[MemberRecord] = list(self._world.room((namespace, room)).members())
        if search:
            wanted = search.casefold()
            members = (member for member in members if member.user_id and wanted in member.user_id.casefold())
        return page_of(members, lambda member: [member.user_id or ""], [str], cursor, limit)

    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        with self._world.lock:
            found = self._world.room((namespace, room)).users
            return [found.get(user, 0) for user in users]

    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        wanted = search.casefold()
        with self._world.lock:
            records = [
                RoomRecord(namespace, name, room.count)
                for name, room in self._world.rooms.get(namespace, {}).items()
                if name != EVERYONE and wanted in name.casefold()
            ]
        return page_of(
            records,
            lambda record: [-record.count.users - record.count.guests, record.room],
            [int, str],
            cursor,
            limit,
        )

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
            found = self._world.room((namespace, room))
            is_there = user_id is None or user_id in found.users
            keys = [
                (node, number, user)
                for node, members in (found.nodes.items() if is_there else ())
                if self._world.is_alive(node)
                for number, user in members.items()
                if user_id is None or user == user_id
            ]
            page = page_of(keys, lambda key: [key[0], key[1]], [str, int], cursor, limit)
            records = (
                ConnectionRecord(
                    f"{node}-{number}", namespace, user, node, self._world.details.get((node, namespace, number))
                )
                for node, number, user in page.items
            )
            return Page(tuple(records), page.next)

    async def namespaces(self) -> list[str]:
        with self._world.lock:
            return sorted(self._world.rooms)

    async def nodes(self) -> list[NodeRecord]:
        now = self._world.now()
        with self._world.lock:
            return [
                NodeRecord(node, end - now, facts) for node, (end, facts) in self._world.leases.items() if end > now
            ]

    async def close(self) -> None:
        """Nothing is held."""


def _forget() -> None:
    """A forked child holds no connections, and nobody in it will give the lock back."""
    global _world
    _world = _World()


after_fork_in_child(_forget)
