"""The queries of presence in Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence

from ...stores.batches import batches
from ...stores.names import as_bytes
from ...stores.redis.link import BULK, FIELDS, RedisLink, tuples
from ...stores.redis.partitions import Partitions, by_part
from ...stores.redis.target import RedisTarget
from ..base import (
    EVERYONE,
    BadCursor,
    ConnectionRecord,
    Count,
    MemberRecord,
    NodeRecord,
    Page,
    RoomId,
    RoomRecord,
    Snapshot,
)
from ..paging import position_in
from .keys import Keys, RoomKeys
from .scripts import FIND, NODES, ROOMS, SNAPSHOT

PAGE = 500
"""The maximum number of rooms that one command lists, and of connections that it searches for a user."""

CURSORS = 2**64
"""Cursors of HSCAN are below this number."""

SCANS = 100
"""The maximum number of commands for one page. A search that has found few items by then continues on the next page."""


class RedisReader(RedisLink):
    """
    The queries of RedisPresence.

    Args:
        target: The location of Redis.
        timeout: The number of seconds that a round trip may take.
        partitions: The partitions over which rooms are spread.
    """

    def __init__(self, target: RedisTarget, timeout: float, partitions: Partitions) -> None:
        super().__init__(target, timeout)
        self._partitions = partitions.count
        self._keys = Keys(partitions)

    async def expired(self) -> tuple[str, ...]:
        expired, _ = await self._run(NODES, [self._keys.leases, self._keys.facts])
        return tuple(expired)

    async def nodes(self) -> list[NodeRecord]:
        _, found = await self._run(NODES, [self._keys.leases, self._keys.facts])
        return [NodeRecord(node, ms / 1000, json.loads(facts)) for node, ms, facts in tuples(found, 3)]

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        numbers: set[int] = set()
        async for page in self._scan(self._keys.room((namespace, room)).numbers(node)):
            numbers.update(map(int, page))
        return numbers

    async def versions(self, rooms: Sequence[RoomId]) -> list[int]:
        versions = [0] * len(rooms)
        numbered = list(enumerate(map(self._keys.room, rooms)))
        parts = by_part(numbered, lambda item: item[1].part)
        bulks = [bulk for part in parts.values() for bulk in batches(part, BULK)]
        asked = [("HMGET", self._keys.versions(bulk[0][1].part), *(room.field for _, room in bulk)) for bulk in bulks]
        for batch, found in zip(bulks, await self._execute_all(asked), strict=True):
            for (number, _), version in zip(batch, found, strict=True):
                versions[number] = int(version or 0)
        return versions

    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        here = self._keys.room((namespace, room))
        keys = [here.counts, self._keys.versions(here.part)]
        version, counts, *found = await self._run(SNAPSHOT, keys, [here.field, limit])
        members = None
        if found:
            members = await self._members(here, dict(zip(found[0][::2], found[0][1::2], strict=True)), max_bytes)
        return Snapshot(int(version or 0), _count(counts), members)

    async def _members(
        self, room: RoomKeys, connections: dict[str, str], max_bytes: int | None
    ) -> tuple[MemberRecord, ...] | None:
        """
        Return the members of a room with their data, or None if they take more than ``max_bytes``.

        Args:
            room: The room.
            connections: The numbers of connections by member, as the room's hash in Redis has them.
            max_bytes: The limit for the sum of the members' ``size``. None for no limit.
        """
        if max_bytes is None:
            return tuple(await self._with_data(room, connections))
        members: list[MemberRecord] = []
        size = 0
        # In batches, so that the data of a room that exceeds the limit isn't read to the end.
        for part in batches(list(connections.items()), FIELDS):
            found = list(await self._with_data(room, dict(part)))
            size += sum(member.size for member in found)
            if size > max_bytes:
                return None
            members += found
        return tuple(members)

    async def counts(self, rooms: Sequence[RoomId]) -> list[Count]:
        asked = [("HMGET", self._keys.room(room_id).counts, "n", "g", "c") for room_id in rooms]
        return list(map(_count, await self._execute_all(asked)))

    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        here, wanted = self._keys.room((namespace, room)), search.casefold()
        members: list[MemberRecord] = []
        position = 0 if cursor is None else position_in(cursor, CURSORS)
        for _ in range(SCANS):
            count = BULK if search else min(limit - len(members), BULK)
            position, found = await self._execute("HSCAN", here.counts, position, "COUNT", count)
            if search:
                found = {field: value for field, value in found.items() if wanted in field[1:].casefold()}
            members += await self._with_data(here, found)
            if not position or len(members) >= limit:
                break
        return Page(tuple(members), str(position) if position else None)

    async def _with_data(self, room: RoomKeys, connections: dict[str, str]) -> Iterator[MemberRecord]:
        """Read the data of some members of a room, and return them with this data and their numbers of connections."""
        users = [field[1:] for field in connections if len(field) > 1]
        data = await self._fields(room.data, users)
        return _members(connections, dict(zip(users, data, strict=True)))

    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        found = await self._fields(self._keys.room((namespace, room)).counts, [f"u{user}" for user in users])
        return [int(connections or 0) for connections in found]

    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        wanted = search.casefold()
        rooms: list[str] = []
        for _ in range(SCANS):
            count = PAGE if search else min(limit - len(rooms), PAGE)
            page, cursor = await self._list(namespace, cursor, count)
            for users, room in page:
                if wanted in room.casefold():
                    rooms.append(room)
                    if len(rooms) == limit:
                        cursor = f"{users}:{room}" if cursor or (users, room) != page[-1] else None
                        break
            if cursor is None or len(rooms) >= limit:
                break
        counts = await self.counts([(namespace, room) for room in rooms])
        records = (RoomRecord(namespace, room, count) for room, count in zip(rooms, counts, strict=True))
        # Rooms that have become empty since the list was read are left out.
        return Page(tuple(record for record in records if record.count.connections), cursor)

    async def _list(self, namespace: str, cursor: str | None, limit: int) -> tuple[list[tuple[int, str]], str | None]:
        """Return (number of members, name) of rooms, the largest first, and the cursor of the next ones."""
        position = [] if cursor is None else _last_room_in(cursor)
        pages = await asyncio.gather(
            *(
                self._run(ROOMS, [self._keys.list(part, namespace)], [limit, *position])
                for part in range(self._partitions)
            )
        )
        found = [(int(users), room) for page in pages for room, users in tuples(page, 2)]
        found.sort(key=lambda pair: (pair[0], as_bytes(pair[1])), reverse=True)
        if len(found) < limit:
            return found, None
        users, room = found[limit - 1]
        return found[:limit], f"{users}:{room}"

    async def connections(
        self,
        namespace: str,
        room: str = EVERYONE,
        *,
        user_id: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
    ) -> Page[ConnectionRecord]:
        first, _, at = (":0" if cursor is None else cursor).rpartition(":")
        position_there = position_in(at, CURSORS)
        if user_id is not None and not sum(await self.user_connections(namespace, room, [user_id])):
            return Page((), None)
        here, everyone = self._keys.room((namespace, room)), self._keys.room((namespace, EVERYONE))
        nodes = sorted(record.id for record in await self.nodes() if record.id >= first)
        sizes = await self._execute_all([("HLEN", here.numbers(node)) for node in nodes])
        nodes = [node for node, size in zip(nodes, sizes, strict=True) if size]
        position = position_there if nodes and nodes[0] == first else 0
        records: list[ConnectionRecord] = []
        for _ in range(SCANS):
            if not nodes or len(records) >= limit:
                break
            node, count = nodes[0], PAGE if user_id is not None else min(limit - len(records), BULK)
            position, users = await self._page_of_node(here.numbers(node), position, count, user_id)
            details = await self._fields(everyone.details(node), list(users))
            for (number, user), detail in zip(users.items(), details, strict=True):
                records.append(ConnectionRecord(f"{node}-{number}", namespace, user or None, node, detail))
            if not position:
                nodes.pop(0)
        return Page(tuple(records), f"{nodes[0]}:{position}" if nodes else None)

    async def _page_of_node(
        self, key: str, position: int, count: int, user_id: str | None
    ) -> tuple[int, dict[str, str]]:
        """Return the cursor of the next page (0 after the last one), and users by the numbers of their connections."""
        if user_id is None:
            position, users = await self._execute("HSCAN", key, position, "COUNT", count)
            return position, users
        found, numbers = await self._run(FIND, [key], [position, count, user_id])
        return int(found), dict.fromkeys(numbers, user_id)

    async def namespaces(self) -> list[str]:
        found: set[str] = set()
        for part in range(self._partitions):
            # In pages: there may be as many namespaces as an application has tenants.
            async for page in self._scan(self._keys.namespaces(part)):
                found.update(page)
        return sorted(found)


def _last_room_in(cursor: str) -> list[str]:
    """Return the size and the name of the last room of a page, as in its cursor. Raises BadCursor."""
    users, colon, room = cursor.partition(":")
    position_in(users, CURSORS)
    if not colon:
        raise BadCursor(f"{cursor!r} is not a valid cursor")
    return [users, room]


def _count(found: Sequence[str | None]) -> Count:
    return Count(*(int(value or 0) for value in found))


def _members(connections: dict[str, str], data: dict[str, str | None]) -> Iterator[MemberRecord]:
    """Return members, given their numbers of connections as in the room's hash in Redis, and their data by user."""
    for field, value in connections.items():
        if len(field) > 1:
            yield MemberRecord(field[1:], int(value), data.get(field[1:]))
        elif field == "g" and int(value):
            yield MemberRecord(None, int(value), None)
