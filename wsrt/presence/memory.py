"""Presence in the memory of one process."""

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
    RoomId,
    RoomRecord,
    Snapshot,
)
from .paging import page_of

CHUNK = 500
"""Connections removed in one chunk of a reaping."""

MAX_EXPIRED = 16
"""Expired nodes that one heartbeat reports."""


@dataclasses.dataclass(slots=True)
class _Room:
    """
    The members of a room.

    Attributes:
        version: The version of the room.
        nodes: The user of each connection, by node and by number of the connection; None for a guest.
        users: The number of connections of each user; under the key None, that of the guests.
        data: The data of each user who has any, as JSON.
        connections: The number of all connections.
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


_EMPTY = _Room(0)
"""Stands for every room without connections. Never modified."""


class _State:
    """The presence of the process, shared by the stores of all its event loops, which may run in several threads."""

    def __init__(self) -> None:
        # Bound here, so that a test that patches time.monotonic later neither ends leases nor keeps them from ending.
        self.now = time.monotonic
        # Held while anything below is read or written: for microseconds, except for long lists.
        self.lock = threading.Lock()
        # The rooms by namespace and name. Empty rooms are removed.
        self.rooms: dict[str, dict[str, _Room]] = {}
        # The lease of each node: its end in monotonic seconds, and the node's facts.
        self.leases: dict[str, tuple[float, dict[str, Any]]] = {}
        # The rooms in which each node has connections.
        self.room_ids: dict[str, set[RoomId]] = {}
        # The details of connections, by node, namespace and number of the connection.
        self.details: dict[tuple[str, str, int], str] = {}
        # The highest version of any room, also of removed ones. A room that is created again starts above it, so that
        # no version is used twice.
        self.version = 0

    def room(self, room_id: RoomId) -> _Room:
        namespace, name = room_id
        return self.rooms.get(namespace, {}).get(name, _EMPTY)

    # Leases.

    def is_alive(self, node: str) -> bool:
        lease = self.leases.get(node)
        return lease is not None and lease[0] > self.now()

    def expired(self, now: float) -> tuple[str, ...]:
        dead = (node for node, (end, _) in self.leases.items() if end <= now)
        return tuple(itertools.islice(dead, MAX_EXPIRED))

    def renew(self, node: NodeFacts, lease: float) -> Beat:
        now = self.now()
        self.leases[node.id] = now + lease, node.facts
        ends = (end - now for other, (end, _) in self.leases.items() if end > now and other != node.id)
        return Beat(True, self.expired(now), min(ends, default=None))

    # Writing.

    def join(self, node: str, join: Join) -> Iterator[Change]:
        room_id, number, user = (join.namespace, join.room), join.connection, join.user_id
        room = self.rooms.get(join.namespace, {}).get(join.room)
        if room is None:
            room = self.rooms.setdefault(join.namespace, {})[join.room] = _Room(self.version)
        self.room_ids.setdefault(node, set()).add(room_id)
        self._note_details(node, join)
        members = room.nodes.setdefault(node, {})
        is_new = number not in members
        before, members[number] = members.get(number), user
        data = UNSET if user is None else join.data
        if not is_new and before == user:
            if self._set_data(room, user, data):
                yield self._change(room_id, room, "changed", user)
            return
        room.connections += 1
        room.users[user] = room.users.get(user, 0) + 1
        has_new_data = self._set_data(room, user, data)
        if room.users[user] == 1:
            yield self._change(room_id, room, "joined", user)
        elif has_new_data or user is None:
            yield self._change(room_id, room, "changed", user)
        if not is_new:
            # The connection has changed its user.
            yield from self._remove(room_id, room, before)

    def leave(self, node: str, room_id: RoomId, number: int) -> Iterator[Change]:
        room = self.room(room_id)
        members = room.nodes.get(node, {})
        if number not in members:
            return
        user = members.pop(number)
        if not members:
            del room.nodes[node]
            self.room_ids[node].discard(room_id)
        if room_id[1] == EVERYONE:
            self.details.pop((node, room_id[0], number), None)
        yield from self._remove(room_id, room, user)

    def remove_node(self, node: str, most: int) -> tuple[list[Change], bool]:
        """
        Remove up to ``most`` connections of a node.

        Return the changes, and whether there may be more connections.
        """
        changes: list[Change] = []
        room_ids = self.room_ids.get(node, set())
        while room_ids and most > 0:
            room_id = room_ids.pop()
            numbers = list(itertools.islice(self.room(room_id).nodes.get(node, {}), most))
            room_ids.add(room_id)  # leave() removes it with the last connection
            for number in numbers:
                changes += self.leave(node, room_id, number)
            most -= max(1, len(numbers))
        if not room_ids:
            self.room_ids.pop(node, None)
        return changes, bool(room_ids)

    def _remove(self, room_id: RoomId, room: _Room, user: str | None) -> Iterator[Change]:
        room.connections -= 1
        room.users[user] -= 1
        if room.users[user]:
            if user is None:
                yield self._change(room_id, room, "changed", user)
            return
        room.data.pop(user, None)
        change = self._change(room_id, room, "left", user)
        del room.users[user]
        if not room.connections:
            namespace, name = room_id
            del self.rooms[namespace][name]
            if not self.rooms[namespace]:
                del self.rooms[namespace]
        yield change

    def _set_data(self, room: _Room, user: str | None, data: MemberData) -> bool:
        """Store the data of a user. Return whether it has changed."""
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
        self, room_id: RoomId, room: _Room, kind: Literal["joined", "left", "changed"], user: str | None
    ) -> Change:
        room.version += 1
        self.version = max(self.version, room.version)
        return Change(*room_id, kind, user, room.users[user], room.data.get(user), room.version)


_state = _State()


class MemoryPresence(PresenceStore):
    """
    The default store: exact and fast, for the event loops of one process. Other processes don't see its content.

    Args:
        location: Ignored.
        lease: The lease of a node, in seconds.
    """

    is_shared: ClassVar[bool] = False

    def __init__(self, location: str | None = None, *, lease: float = 30.0, **options: Any) -> None:
        super().__init__(location, lease=lease, **options)
        self._state = _state

    # For nodes.

    async def begin(self, node: NodeFacts) -> Beat:
        with self._state.lock:
            return self._state.renew(node, self.lease)

    async def beat(self, node: NodeFacts) -> Beat:
        with self._state.lock:
            if not self._state.is_alive(node.id):
                return Beat(is_alive=False)
            return self._state.renew(node, self.lease)

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        changes: list[Change] = []
        with self._state.lock:
            if not self._state.is_alive(node):
                raise LeaseLost(f"the lease of node {node} has ended")
            for operation in operations:
                if isinstance(operation, Join):
                    changes += self._state.join(node, operation)
                else:
                    room_id = operation.namespace, operation.room
                    changes += self._state.leave(node, room_id, operation.connection)
        return changes

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        with self._state.lock:
            # End the lease permanently, so that the node can't write any more. It stays listed as expired until all its
            # connections are removed: if this reaper is cancelled, another one finds it.
            _, facts = self._state.leases.pop(node, (0, {}))
            if node in self._state.room_ids:
                self._state.leases[node] = 0, facts
        is_more = True
        while is_more:
            with self._state.lock:
                changes, is_more = self._state.remove_node(node, CHUNK)
                if not is_more:
                    self._state.leases.pop(node, None)
            if changes:
                yield changes
            if is_more:
                # Let other tasks of the loop run between two chunks. The task may be cancelled here.
                await asyncio.sleep(0)

    async def expired(self) -> tuple[str, ...]:
        with self._state.lock:
            return self._state.expired(self._state.now())

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        with self._state.lock:
            return set(self._state.room((namespace, room)).nodes.get(node, ()))

    async def versions(self, rooms: Sequence[RoomId]) -> list[int]:
        with self._state.lock:
            return [self._state.room(room_id).version for room_id in rooms]

    # For readers.

    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        with self._state.lock:
            found = self._state.room((namespace, room))
            members = tuple(found.members()) if len(found.users) <= limit else None
            version, count = found.version, found.count
        if members is not None and max_bytes is not None and sum(member.size for member in members) > max_bytes:
            members = None
        return Snapshot(version, count, members)

    async def counts(self, rooms: Sequence[RoomId]) -> list[Count]:
        with self._state.lock:
            return [self._state.room(room_id).count for room_id in rooms]

    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        with self._state.lock:
            members: Iterable[MemberRecord] = list(self._state.room((namespace, room)).members())
        if search:
            wanted = search.casefold()
            members = (member for member in members if member.user_id and wanted in member.user_id.casefold())
        return page_of(members, lambda member: [member.user_id or ""], [str], cursor, limit)

    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        with self._state.lock:
            found = self._state.room((namespace, room)).users
            return [found.get(user, 0) for user in users]

    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        wanted = search.casefold()
        with self._state.lock:
            records = [
                RoomRecord(namespace, name, room.count)
                for name, room in self._state.rooms.get(namespace, {}).items()
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
        with self._state.lock:
            found = self._state.room((namespace, room))
            is_there = user_id is None or user_id in found.users
            keys = [
                (node, number, user)
                for node, members in (found.nodes.items() if is_there else ())
                if self._state.is_alive(node)
                for number, user in members.items()
                if user_id is None or user == user_id
            ]
            page = page_of(keys, lambda key: [key[0], key[1]], [str, int], cursor, limit)
            records = (
                ConnectionRecord(
                    f"{node}-{number}", namespace, user, node, self._state.details.get((node, namespace, number))
                )
                for node, number, user in page.items
            )
            return Page(tuple(records), page.next)

    async def namespaces(self) -> list[str]:
        with self._state.lock:
            return sorted(self._state.rooms)

    async def nodes(self) -> list[NodeRecord]:
        now = self._state.now()
        with self._state.lock:
            return [
                NodeRecord(node, end - now, facts) for node, (end, facts) in self._state.leases.items() if end > now
            ]

    async def close(self) -> None:
        """Do nothing: the store holds no resources."""


def _forget() -> None:
    """
    Clear presence in a forked child, which has no connections.

    The lock is replaced too, because a thread of the parent may have held it at the time of the fork.
    """
    global _state
    _state = _State()


after_fork_in_child(_forget)
