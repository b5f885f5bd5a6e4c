"""
Presence in any of Django's caches that all processes share.

A cache has no atomic read-modify-write, so no value has two writers. Each node owns paged documents (see
``documents.py``): one for each of its rooms, one with the details of its connections to each namespace, and an index of
its rooms. The node alone writes them, and readers merge the documents of all nodes with a valid lease.

To be found, a node claims one of a fixed number of slots with ``add()``, which is atomic. Then it replaces a random
value, the generation; readers scan the slots only when the generation has changed, or after a few seconds.

What the cache loses comes back: with each heartbeat, a node checks that its values still exist and writes the missing
ones.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import random
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from django.core.cache import caches

from ...stores.options import require_number, require_seconds, require_text
from ..base import (
    EVERYONE,
    Beat,
    Change,
    ConnectionRecord,
    Count,
    Join,
    LeaseLost,
    Leave,
    MemberRecord,
    NodeFacts,
    NodeRecord,
    Page,
    PresenceStore,
    RoomId,
    RoomRecord,
    Snapshot,
    StoreUnavailable,
)
from .documents import WHOLE
from .executor import Access, CacheExecutor
from .keys import Keys
from .reader import DocumentSet, Lease, Reader, Scan
from .writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

LIFE = 4
"""The time to live of values, in leases. Values are written again after half of it."""

CLAIM_SECONDS = 15
"""Seconds after which another reaper continues the work of one that has died."""

MAX_EXPIRED = 16
"""Expired nodes that one heartbeat reports."""

WRITE_BATCH = 200
"""Values written by one function in a thread."""

CHECK_BATCH = 1000
"""Values checked by one function in a thread."""

MOST_SLOTS = 65_536
"""The largest value of the option SLOTS, because readers that look for nodes may have to read each slot."""

REAP_BATCH = 64
"""Rooms reaped by one function in a thread."""


class CachePresence(PresenceStore):
    """
    Presence in one of Django's caches that all processes share: in Redis, memcached or the database.

    Results are usually correct at once. After a crash, or when the cache has lost values, they are correct within one
    lease. Changes have no versions, so nodes that show a room to clients compare snapshots of it.

    The clocks of all machines must agree within a tenth of a lease, because the ends of leases are stored as times.
    ``LocMemCache`` belongs to one process and ``DummyCache`` stores nothing. ``LocMemCache``, ``DatabaseCache`` and
    ``FileBasedCache`` drop values above ``MAX_ENTRIES`` (300 by default): set it to ten times the number of
    connections.

    Values are about 8 kB in size. However, the data of one user is never split, nor are the details of one user's
    connections to a node: each must fit the cache's limit (memcached: 1 MB). Counting a room that is on several nodes
    reads the ids of all its users. This works for some ten thousand connections; use RedisPresence for more.

    Args:
        location: The cache's alias in ``CACHES``; None for "default".
        lease: The lease of a node, in seconds.
        prefix: The prefix of all keys: 1 to 100 printable ASCII characters, without spaces.
        slots: The largest number of nodes at a time, at most 65,536. It must be the same in all processes.
        timeout: The number of seconds that the cache may take to answer.
    """

    is_versioned: ClassVar[bool] = False

    def __init__(
        self,
        location: str | None = None,
        *,
        lease: float = 30.0,
        prefix: str = "wsrt",
        slots: int = 256,
        timeout: float = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(location, lease=lease, **options)
        alias = "default" if location is None else location
        if alias not in [*caches]:
            # The value isn't repeated: it may be a URL with a password, put there by mistake.
            raise ValueError(f"LOCATION must be an alias in CACHES, which has {', '.join(map(repr, caches))}")
        caches[alias]  # raises if its backend can't be used
        require_text("PREFIX", prefix)
        # Valid in a memcached key, and short enough for the rest of the key.
        if not re.fullmatch("[!-~]{1,100}", prefix):
            raise ValueError(f"PREFIX must be 1 to 100 printable ASCII characters without spaces, not {prefix!r}")
        require_number("SLOTS", slots, f"an integer from 1 to {MOST_SLOTS}", least=1, most=MOST_SLOTS, whole=True)
        require_seconds("TIMEOUT", timeout)
        self._keys = Keys(prefix, slots)
        self._executor = CacheExecutor(alias, timeout)
        # Caches take whole seconds, and some round down.
        self._life = math.ceil(LIFE * self.lease) + 1
        # The nodes that write through this instance: one, and its former ids until these are reaped.
        self._writers: dict[str, Writer] = {}
        # The last scan of the slots.
        self._scan: Scan | None = None

    # Leases.

    async def begin(self, node: NodeFacts) -> Beat:
        return await self._renew(self._writers.setdefault(node.id, Writer(self._keys, node.id)), node)

    async def beat(self, node: NodeFacts) -> Beat:
        try:
            writer = self._writer(node.id)
            beat = await self._renew(writer, node)
            if beat.is_alive:
                await self._repair(writer)
        except LeaseLost:
            return Beat(is_alive=False)
        return beat

    async def nodes(self) -> list[NodeRecord]:
        now = time.time()
        leases = await self._read(Reader.leases)
        return [NodeRecord(lease.node, lease.ends - now, lease.facts) for lease in leases]

    def _writer(self, node: str) -> Writer:
        """Return the writer of a node. Raises LeaseLost if its lease has ended."""
        writer = self._writers.get(node)
        if writer is None or writer.ends <= time.time():
            self._writers.pop(node, None)
            raise LeaseLost(f"the lease of node {node} has ended")
        return writer

    async def _renew(self, writer: Writer, node: NodeFacts) -> Beat:
        # A lock and a queue of its own: long writes must not delay the lease. After a StoreUnavailable, the lease may
        # still be renewed by the thread; ``ends`` is earlier then, which is safe.
        async with writer.lease_lock:
            renewed = await self._executor.run(lambda access: self._renew_in_thread(access, node), writer.lease_queue)
            if renewed is None:
                self._writers.pop(node.id, None)
                return Beat(is_alive=False)
            writer.ends, beat = renewed
        return beat

    def _renew_in_thread(self, access: Access, node: NodeFacts) -> tuple[float, Beat] | None:
        """
        Claim a slot if the node has none, and write its lease.

        Return the lease's end and the answer to the heartbeat; None if the node was reaped.
        """
        if access.get([self._keys.dead(node.id)]):
            return None
        slots = access.get(self._keys.slots)
        mine = next((slot for slot, holder in slots.items() if holder == node.id), None)
        is_claimed = mine is None
        if mine is None:
            # The node has no slot yet. Or the cache lost the slot, and possibly another node has claimed it since.
            mine = self._claim_slot(access, node.id, slots)
        lease = Lease(node.id, time.time() + self.lease, node.facts)
        access.set({self._keys.lease(node.id): lease.text(), mine: node.id}, self._life)
        if is_claimed:
            access.set({self._keys.generation: secrets.token_hex(8)}, self._life)
        leases = access.get(self._keys.lease(holder) for holder in {*slots.values()} - {node.id})
        now = time.time()
        ends = {other.node: other.ends - now for other in map(Lease.parse, leases.values())}
        expired = [other for other, seconds in ends.items() if seconds <= 0]
        next_expiry = min((seconds for seconds in ends.values() if seconds > 0), default=None)
        return lease.ends, Beat(True, tuple(expired[:MAX_EXPIRED]), next_expiry)

    def _claim_slot(self, access: Access, node: str, taken: Collection[str]) -> str:
        free = [slot for slot in self._keys.slots if slot not in taken]
        # In random order, so that nodes that start at the same time try different ones.
        random.shuffle(free)
        for slot in free:
            if access.add(slot, node, self._life):
                return slot
        raise StoreUnavailable(
            f"no free slot for this node, {len(taken)} of {len(self._keys.slots)} are taken: raise "
            "WSRT['PRESENCE']['OPTIONS']['SLOTS'] in all processes"
        )

    # Writing.

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        writer = self._writer(node)
        async with writer.write_lock:
            # Waiting for the lock may have taken longer than the lease: check it again.
            self._writer(node)
            for operation in operations:
                writer.unannounced += writer.apply(operation)
            writer.encode_touched()
            # Includes the values of earlier calls that failed here. The caller repeats their operations, which then
            # change nothing, so their changes are kept in ``unannounced`` and returned by the call that succeeds.
            await self._write(writer, writer.dirty)
            changes, writer.unannounced = writer.unannounced, []
        return changes

    async def _write(self, writer: Writer, keys: Iterable[str]) -> None:
        """
        Write values and delete obsolete ones, in batches. After an error, the rest stays marked as dirty or obsolete.

        Raises:
            LeaseLost: The node was reaped.
            StoreUnavailable: The cache failed or didn't answer in time.
        """
        # Heads after their pages, so that a reader who sees a new head finds its pages.
        todo = sorted(keys, key=lambda key: "/" not in key)
        while todo or writer.obsolete:
            batch, todo = todo[:WRITE_BATCH], todo[WRITE_BATCH:]
            values = {key: writer.values[key] for key in batch}
            obsolete = [] if todo else list(writer.obsolete)
            now = time.time()
            # The caller holds the write lock, so nothing changes during this await. After a StoreUnavailable, the
            # thread may still be writing; the queue makes the next write wait for it.
            if not await self._executor.run(self._write_values(writer.id, values, obsolete), writer.write_queue):
                self._writers.pop(writer.id, None)
                raise LeaseLost(f"the connections of node {writer.id} were removed, because its lease had ended")
            writer.written |= dict.fromkeys(values, now)
            writer.dirty -= values.keys()
            writer.obsolete -= set(obsolete)

    def _write_values(self, node: str, values: dict[str, str], obsolete: list[str]) -> Callable[[Access], bool]:
        def write(access: Access) -> bool:
            """Write unless the node was reaped. Return whether it wrote."""
            if access.get([self._keys.dead(node)]):
                return False
            access.set(values, self._life)
            access.delete(obsolete)
            return True

        return write

    async def _repair(self, writer: Writer) -> None:
        """Write values again that the cache has lost or will drop soon. Takes at most a quarter of the lease."""
        until = time.monotonic() + self.lease / 4
        async with writer.write_lock:
            keys = [*writer.values]
            # Continue where the last heartbeat ran out of time.
            keys = keys[writer.check_from :] + keys[: writer.check_from]
            seen = 0
            while seen < len(keys) and time.monotonic() < until:
                part = keys[seen : seen + CHECK_BATCH]
                found = await self._executor.run(functools.partial(Access.get, keys=part), writer.write_queue)
                old = time.time() - self._life / 2
                lost = [key for key in part if found.get(key) != writer.values[key]]
                lost += [key for key in part if writer.written.get(key, 0) < old]
                await self._write(writer, set(lost))
                seen += len(part)
            writer.check_from = (writer.check_from + seen) % max(1, len(keys))

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        writer = self._writers.get(node)
        if writer is not None:
            # Wait until the writes that are under way have ended. Calls that wait for a lock find no writer afterwards.
            async with writer.lease_lock, writer.write_lock:
                self._writers.pop(node, None)
        queue = writer.write_queue if writer is not None else None
        claimant = secrets.token_hex(8)
        room_ids = await self._executor.run(lambda access: self._begin_reaping(access, node, claimant), queue)
        if room_ids is None:
            return
        done: list[str] = []
        while room_ids:
            batch, room_ids = room_ids[:REAP_BATCH], room_ids[REAP_BATCH:]
            read = functools.partial(self._reap_batch, node=node, claimant=claimant, done=done, room_ids=batch)
            documents = await self._executor.run(read)
            if documents is None:
                return
            changes = [
                Change(*room_id, "left", user, 0, None, 0)
                for room_id in batch
                for user in documents.users_of(self._keys.room(node, room_id))
            ]
            if changes:
                yield changes
            # Delete the documents only now, with the next batch. If the caller dies before announcing the changes, the
            # next reaper finds the documents and announces them again.
            done = documents.keys()
        await self._executor.run(lambda access: self._end_reaping(access, node, done))

    def _begin_reaping(self, access: Access, node: str, claimant: str) -> list[RoomId] | None:
        """Mark a node as dead and end its lease. Return its rooms; None if another reaper is handling the node."""
        if not access.add(self._keys.claim(node), claimant, CLAIM_SECONDS):
            return None
        access.set({self._keys.dead(node): claimant}, self._life)
        lease = self._keys.lease(node)
        for text in access.get([lease]).values():
            access.set({lease: dataclasses.replace(Lease.parse(text), ends=0).text()}, self._life)
        index = self._keys.index(node)
        rooms = DocumentSet.read(access, {index: WHOLE}).entries.get(index, {})
        return [(namespace, room) for namespace, room in map(json.loads, rooms)]

    def _reap_batch(
        self, access: Access, *, node: str, claimant: str, done: list[str], room_ids: list[RoomId]
    ) -> DocumentSet | None:
        """
        Delete the values in ``done`` and read the documents of rooms.

        Return None if another reaper has taken over.
        """
        claim = self._keys.claim(node)
        if access.get([claim]).get(claim) != claimant:
            return None
        access.set({claim: claimant}, CLAIM_SECONDS)
        access.delete(done)
        names = [self._keys.room(node, room_id) for room_id in room_ids]
        names += [self._keys.details(node, namespace) for namespace, room in room_ids if room == EVERYONE]
        return DocumentSet.read(access, dict.fromkeys(names, WHOLE))

    def _end_reaping(self, access: Access, node: str, done: list[str]) -> None:
        index = self._keys.index(node)
        slots = access.get(self._keys.slots)
        access.delete([*done, *DocumentSet.read(access, {index: WHOLE}).keys()])
        access.delete(
            [
                self._keys.lease(node),
                *(slot for slot, holder in slots.items() if holder == node),
                self._keys.claim(node),
            ]
        )

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        return await self._read(Reader.held, node, (namespace, room))

    async def versions(self, rooms: Sequence[RoomId]) -> list[int]:
        return [0] * len(rooms)

    # Reading.

    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        return await self._read(Reader.snapshot, (namespace, room), limit, max_bytes)

    async def counts(self, rooms: Sequence[RoomId]) -> list[Count]:
        return await self._read(Reader.counts, rooms) if rooms else []

    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        return await self._read(Reader.members, (namespace, room), cursor, limit, search)

    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        return await self._read(Reader.user_connections, (namespace, room), users) if users else []

    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        return await self._read(Reader.rooms, namespace, cursor, limit, search)

    async def connections(
        self,
        namespace: str,
        room: str = EVERYONE,
        *,
        user_id: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
    ) -> Page[ConnectionRecord]:
        return await self._read(Reader.connections, (namespace, room), user_id, cursor, limit)

    async def namespaces(self) -> list[str]:
        return await self._read(Reader.namespaces)

    async def close(self) -> None:
        self._executor.close()

    async def _read(self, read: Callable[Concatenate[Reader, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of a Reader in a thread. Raises StoreUnavailable, BadCursor."""

        def work(access: Access) -> T:
            reader = Reader(access, self._keys, self._scan)
            try:
                return read(reader, *args, **kwargs)
            finally:
                self._scan = reader.scan

        return await self._executor.run(work)
