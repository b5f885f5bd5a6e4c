"""
Presence in any cache of Django that processes share.

A cache has neither sets nor scripts, so no key is ever read, changed and written by two: each node owns documents that
it alone writes, and readers merge those of the nodes that are alive. A node is alive while it holds a numbered slot,
which it claims with ``add`` and renews; all else follows from that.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import hashlib
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from django.core.cache import caches
from django.db import close_old_connections
from pydantic_core import from_json, to_json

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
    StoreUnavailable,
)

T = TypeVar("T")

Place = tuple[str, str]

Entry = tuple[str | None, str | None, float, str | None]
"""Of a connection: user, data, when that was said (UNIX time in s), details."""

INLINE = 500
"""Connections of a room on a node that fit one document; more are spread over CHUNKS."""

CHUNKS = 64
"""Documents of a large room: below the 1 MB of memcached up to some 500,000 connections a node."""

INDEX_CHUNKS = 16
"""Documents that list the rooms of a node."""

KEPT = 20
"""Leases for which a document outlives its node, unless it is written again."""

THREADS = 4
"""For calls of the cache, which blocks."""


class _OwnRoom:
    """Who is in a room on one node, also by user."""

    __slots__ = ("entries", "is_large", "numbers")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.numbers: dict[str | None, set[int]] = {}
        # Whether it is in chunks.
        self.is_large = False

    def put(self, number: int, entry: Entry) -> None:
        self.pop(number)
        self.entries[number] = entry
        self.numbers.setdefault(entry[0], set()).add(number)

    def pop(self, number: int) -> None:
        entry = self.entries.pop(number, None)
        if entry is not None:
            numbers = self.numbers[entry[0]]
            numbers.discard(number)
            if not numbers:
                del self.numbers[entry[0]]

    def member(self, user: str | None) -> MemberRecord | None:
        """Return what is said of a user; of the guests only how many they are."""
        numbers = self.numbers.get(user)
        if numbers is None:
            return None
        said = (
            None if user is None else max((self.entries[number] for number in numbers), key=lambda entry: entry[2])[1]
        )
        return MemberRecord(user, len(numbers), said)


@dataclasses.dataclass(slots=True)
class _Own:
    """A node of this process: its slot, until when it holds, and who is where."""

    slot: int
    end: float
    facts: dict[str, Any]
    rooms: dict[Place, _OwnRoom] = dataclasses.field(default_factory=dict)
    # Rooms that were in chunks when they were emptied: their chunks are to be deleted.
    emptied: set[Place] = dataclasses.field(default_factory=set)
    written: float = 0.0


class CachePresence(PresenceStore):
    """
    Eventual: what is read is right within one lease. Counts and lists are exact while nodes neither die nor write.

    Leases are measured by the clocks of the machines: keep them within a second of each other.

    Args:
        location: the alias in ``CACHES``, "default" if None.
        prefix: of all keys.
        slots: how many nodes there can be at a time.
    """

    is_versioned: ClassVar[bool] = False

    def __init__(
        self,
        location: str | None = None,
        *,
        lease: float = 30.0,
        prefix: str = "wsrt",
        slots: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(location, lease=lease, **options)
        self._alias = location or "default"
        caches[self._alias]  # raises for an alias that is not there
        self._prefix = prefix
        self._slots = slots
        self._own: dict[str, _Own] = {}
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, "wsrt-presence")
        # Writes of one instance are made in their order.
        self._writing = asyncio.Lock()

    # For nodes.

    async def begin(self, node: NodeFacts) -> Beat:
        slot, end = await self._call(self._claim, node)
        self._own[node.id] = _Own(slot, end, node.facts)
        return Beat(is_alive=True)

    async def beat(self, node: NodeFacts) -> Beat:
        own = self._own.get(node.id)
        if own is None or own.end <= time.time():
            self._own.pop(node.id, None)
            return Beat(is_alive=False)
        own.facts = node.facts
        async with self._writing:
            if not await self._call(self._renew, node, own):
                # Evicted, or the cache was cleared: whatever stood beside it is gone too, for all we know.
                own.slot, own.end = await self._call(self._claim, node)
                own.written = 0.0
            if own.written < time.time() - self.lease * KEPT / 4:
                own.written = time.time()
                await self._write(node.id, own, dict.fromkeys(own.rooms))
        return Beat(is_alive=True)

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        async with self._writing:
            own = self._own.get(node)
            if own is None or own.end <= time.time():
                raise Fenced(node)
            changes: list[Change] = []
            touched: dict[Place, set[str]] = {}
            for operation in operations:
                place = operation.namespace, operation.room
                keys = touched.setdefault(place, set())
                changes += _carry_out(own, place, operation, keys)
            await self._write(node, own, touched)
        return changes

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        async with self._writing:
            own = self._own.pop(node, None)
            found = await self._call(self._take_out, node, own)
        changes = [
            Change(*place, "left", member.user_id, 0, member.data, 0)
            for place, entries in found.items()
            for member in _members(entries.values()).values()
        ]
        if changes:
            yield changes

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        entries = await self._call(self._read_rooms, [node], [(namespace, room)])
        return set(entries.get((node, (namespace, room)), ()))

    async def versions(self, rooms: Sequence[Place]) -> list[int]:
        return [0] * len(rooms)

    # For readers.

    async def snapshot(self, namespace: str, room: str, limit: int) -> Snapshot:
        entries = await self._entries(namespace, room)
        members = _members(entries)
        listed = tuple(members.values()) if len(members) <= limit else None
        return Snapshot(0, _count(entries), listed)

    async def counts(self, rooms: Sequence[Place]) -> list[Count]:
        found = await self._call(self._read_alive, rooms)
        return [
            _count([entry for (_, at), entries in found.items() if at == place for entry in entries.values()])
            for place in rooms
        ]

    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        members = _members(await self._entries(namespace, room)).values()
        wanted = (member for member in members if not search or search.lower() in (member.user_id or "").lower())
        return page_of(wanted, lambda member: [member.user_id is not None, member.user_id or ""], cursor, limit)

    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        found = await self._call(self._read_alive, [(namespace, room)], {_chunk_of(user) for user in users})
        here: dict[str | None, int] = {}
        for entries in found.values():
            for user, _, _, _ in entries.values():
                here[user] = here.get(user, 0) + 1
        return [here.get(user, 0) for user in users]

    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        index = await self._call(self._read_indexes)
        names = {room for space, room in index if space == namespace and room != EVERYONE}
        page = page_of((name for name in names if search.lower() in name.lower()), lambda name: [name], cursor, limit)
        counts = await self.counts([(namespace, name) for name in page.items])
        records = [RoomRecord(namespace, name, count) for name, count in zip(page.items, counts, strict=True)]
        # One that was emptied since the index was read is no room any more.
        return Page(tuple(record for record in records if record.count.connections), page.next)

    async def connections(
        self,
        namespace: str,
        room: str = EVERYONE,
        *,
        user_id: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
    ) -> Page[ConnectionRecord]:
        chunks = None if user_id is None else {_chunk_of(user_id)}
        found = await self._call(self._read_alive, [(namespace, room)], chunks)
        keys = [
            (node, number)
            for (node, _), entries in found.items()
            for number, entry in entries.items()
            if user_id is None or entry[0] == user_id
        ]
        page = page_of(keys, list, cursor, limit)
        everyone = found if room == EVERYONE else await self._call(self._read_alive, [(namespace, EVERYONE)], chunks)
        records = []
        for node, number in page.items:
            entry = found[node, (namespace, room)][number]
            known = everyone.get((node, (namespace, EVERYONE)), {}).get(number, entry)
            records.append(ConnectionRecord(f"{node}-{number}", namespace, entry[0], node, known[3]))
        return Page(tuple(records), page.next)

    async def namespaces(self) -> list[str]:
        return sorted({namespace for namespace, _ in await self._call(self._read_indexes)})

    async def nodes(self) -> list[NodeRecord]:
        now = time.time()
        alive: list[dict[str, Any]] = await self._call(self._read_slots)
        return [NodeRecord(found["node"], found["end"] - now, found["facts"]) for found in alive]

    async def close(self) -> None:
        self._threads.shutdown(wait=False)

    # Private: in a thread, where the cache may block.

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        def work() -> T:
            # The database cache has a connection for each thread, which may have died since it was used last.
            close_old_connections()
            try:
                return function(*args)
            finally:
                close_old_connections()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except StoreUnavailable:
            raise
        except Exception as error:
            raise StoreUnavailable(f"the cache {self._alias!r} failed: {type(error).__name__}: {error}") from error

    def _claim(self, node: NodeFacts) -> tuple[int, float]:
        for slot in range(self._slots):
            end = time.time() + self.lease
            if caches[self._alias].add(self._slot_key(slot), self._slot(node, end), self.lease):
                return slot, end
        raise StoreUnavailable(
            f"all {self._slots} slots of nodes are taken: raise WSRT['PRESENCE']['OPTIONS']['SLOTS'] in all processes"
        )

    def _renew(self, node: NodeFacts, own: _Own) -> bool:
        cache, key = caches[self._alias], self._slot_key(own.slot)
        found = cache.get(key)
        if found is None or from_json(found)["node"] != node.id:
            return False
        end = time.time() + self.lease
        cache.set(key, self._slot(node, end), self.lease)
        own.end = end
        return True

    def _slot(self, node: NodeFacts, end: float) -> bytes:
        return to_json({"node": node.id, "end": end, "facts": node.facts})

    async def _write(self, node: str, own: _Own, places: Mapping[Place, set[str] | None]) -> None:
        """
        Write the documents of some rooms.

        Args:
            places: with what was touched in them (see _shard_key): of a large room only those chunks; None for all.
        """
        documents: dict[str, bytes] = {}
        stale: list[str] = []
        for place, keys in places.items():
            head = self._room_key(node, place)
            room = own.rooms.get(place)
            was_large = room.is_large if room is not None else place in own.emptied
            own.emptied.discard(place)
            is_large = room is not None and len(room.entries) > (INLINE / 2 if was_large else INLINE)
            if room is None:
                stale.append(head)
            elif is_large:
                room.is_large = True
                documents[head] = to_json({"place": place, "chunks": CHUNKS})
                wanted = {_chunk_of(key) for key in keys} if was_large and keys is not None else set(range(CHUNKS))
                for chunk, found in _chunked(room.entries, wanted).items():
                    documents[f"{head}.{chunk}"] = to_json(found)
            else:
                room.is_large = False
                documents[head] = to_json({"place": place, "entries": room.entries})
            if was_large and not is_large:
                stale += [f"{head}.{chunk}" for chunk in range(CHUNKS)]
        for number in {_index_chunk(place) for place in places}:
            listed = [place for place in own.rooms if _index_chunk(place) == number]
            documents[self._index_key(node, number)] = to_json(listed)
        await self._call(self._put, documents, stale)

    def _put(self, documents: dict[str, bytes], stale: list[str]) -> None:
        cache = caches[self._alias]
        if stale:
            cache.delete_many(stale)
        failed = cache.set_many(documents, self.lease * KEPT)
        if failed:
            raise StoreUnavailable(f"the cache {self._alias!r} did not take {len(failed)} documents")

    def _take_out(self, node: str, own: _Own | None) -> dict[Place, dict[int, Entry]]:
        cache = caches[self._alias]
        for slot, found in self._read_slots_by_number().items():
            if found["node"] == node:
                cache.delete(self._slot_key(slot))
        indexes = [self._index_key(node, number) for number in range(INDEX_CHUNKS)]
        listed = cache.get_many(indexes)
        places: list[Place] = [(space, room) for value in listed.values() for space, room in from_json(value)]
        entries = {place: found for (_, place), found in self._read_rooms([node], places).items()}
        heads = [self._room_key(node, place) for place in places]
        large = [
            f"{self._room_key(node, place)}.{chunk}"
            for place, found in entries.items()
            if len(found) > INLINE / 2
            for chunk in range(CHUNKS)
        ]
        cache.delete_many([*indexes, *heads, *large])
        return entries

    def _read_slots_by_number(self) -> dict[int, dict[str, Any]]:
        keys = {self._slot_key(slot): slot for slot in range(self._slots)}
        found = {keys[key]: from_json(value) for key, value in caches[self._alias].get_many(list(keys)).items()}
        now = time.time()
        return {slot: value for slot, value in found.items() if value["end"] > now}

    def _read_slots(self) -> list[dict[str, Any]]:
        return list(self._read_slots_by_number().values())

    def _read_indexes(self) -> set[Place]:
        keys = [self._index_key(found["node"], n) for found in self._read_slots() for n in range(INDEX_CHUNKS)]
        values = caches[self._alias].get_many(keys).values()
        return {(space, room) for value in values for space, room in from_json(value)}

    def _read_alive(
        self, places: Sequence[Place], chunks: set[int] | None = None
    ) -> dict[tuple[str, Place], dict[int, Entry]]:
        return self._read_rooms([found["node"] for found in self._read_slots()], places, chunks)

    def _read_rooms(
        self, nodes: Sequence[str], places: Sequence[Place], chunks: set[int] | None = None
    ) -> dict[tuple[str, Place], dict[int, Entry]]:
        """Return the connections by node and place; with ``chunks``, perhaps only those of large rooms."""
        cache = caches[self._alias]
        keys = {self._room_key(node, place): (node, place) for node in nodes for place in places}
        found: dict[tuple[str, Place], dict[int, Entry]] = {}
        parts: dict[str, tuple[str, Place]] = {}
        for key, value in cache.get_many(list(keys)).items():
            document = from_json(value)
            if "entries" in document:
                found[keys[key]] = _entries(document["entries"])
            else:
                wanted = range(document["chunks"]) if chunks is None else chunks
                parts |= {f"{key}.{chunk}": keys[key] for chunk in wanted}
        if parts:
            for key, value in cache.get_many(list(parts)).items():
                found.setdefault(parts[key], {}).update(_entries(from_json(value)))
        return found

    async def _entries(self, namespace: str, room: str) -> list[Entry]:
        found = await self._call(self._read_alive, [(namespace, room)])
        return [entry for entries in found.values() for entry in entries.values()]

    # Keys: names are hashed, as memcached refuses spaces, control characters and more than 250 bytes.

    def _slot_key(self, slot: int) -> str:
        return f"{self._prefix}.presence.slot.{slot}"

    def _room_key(self, node: str, place: Place) -> str:
        return f"{self._prefix}.presence.{_hash(node)}.{_hash(place)}"

    def _index_key(self, node: str, number: int) -> str:
        return f"{self._prefix}.presence.{_hash(node)}.index.{number}"


def _hash(name: Any) -> str:
    return hashlib.blake2b(to_json(name), digest_size=16).hexdigest()


def _index_chunk(place: Place) -> int:
    return zlib.crc32(to_json(place)) % INDEX_CHUNKS


def _shard_key(user: str | None, number: int) -> str:
    """Return by what a connection is put into a chunk: its user, so that a user is found in one; guests are spread."""
    return f"\0{number}" if user is None else user


def _chunk_of(key: str) -> int:
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % CHUNKS


def _chunked(entries: dict[int, Entry], wanted: set[int]) -> dict[int, dict[int, Entry]]:
    chunks: dict[int, dict[int, Entry]] = {chunk: {} for chunk in wanted}
    for number, entry in entries.items():
        chunk = _chunk_of(_shard_key(entry[0], number))
        if chunk in chunks:
            chunks[chunk][number] = entry
    return chunks


def _entries(document: dict[str, list[Any]]) -> dict[int, Entry]:
    return {int(number): (entry[0], entry[1], entry[2], entry[3]) for number, entry in document.items()}


def _carry_out(own: _Own, place: Place, operation: Join | Leave, keys: set[str]) -> Iterator[Change]:
    """Do one operation; return what it changed on this node, and add to ``keys`` what it touched."""
    number = operation.connection
    room = own.rooms.get(place)
    if room is None:
        if isinstance(operation, Leave):
            return
        room = own.rooms[place] = _OwnRoom()
    known = room.entries.get(number)
    users = [known[0]] if known is not None else []
    if isinstance(operation, Join) and operation.user_id not in users:
        users.append(operation.user_id)
    keys.update(_shard_key(user, number) for user in users)
    before = [room.member(user) for user in users]
    if isinstance(operation, Leave):
        room.pop(number)
    else:
        data = None if operation.user_id is None else operation.data
        if known is None or (known[0], known[1], known[3]) != (operation.user_id, data, operation.details):
            room.put(number, (operation.user_id, data, time.time(), operation.details))
    for user, old in zip(users, before, strict=True):
        yield from _compare(place, user, old, room.member(user))
    if not room.entries:
        del own.rooms[place]
        if room.is_large:
            own.emptied.add(place)


def _compare(place: Place, user: str | None, old: MemberRecord | None, new: MemberRecord | None) -> Iterator[Change]:
    if new is None and old is not None:
        yield Change(*place, "left", user, 0, old.data, 0)
    elif old is None and new is not None:
        yield Change(*place, "joined", user, new.connections, new.data, 0)
    elif old is not None and new is not None and (old.data != new.data or (user is None and old != new)):
        yield Change(*place, "changed", user, new.connections, new.data, 0)


def _members(entries: Iterable[Entry]) -> dict[str | None, MemberRecord]:
    """Count connections by user; of data the latest word counts."""
    numbers: dict[str | None, int] = {}
    words: dict[str | None, tuple[float, str | None]] = {}
    for user, data, said, _ in entries:
        numbers[user] = numbers.get(user, 0) + 1
        if user not in words or said >= words[user][0]:
            words[user] = said, data
    return {user: MemberRecord(user, number, words[user][1]) for user, number in numbers.items()}


def _count(entries: Sequence[Entry]) -> Count:
    users = {entry[0] for entry in entries}
    guests = sum(entry[0] is None for entry in entries)
    return Count(len(users) - bool(guests), guests, len(entries))
