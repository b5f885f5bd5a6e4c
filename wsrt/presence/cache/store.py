"""
Presence in any cache of Django that processes share.

A cache has neither sets nor scripts, so nothing in it is read, changed and written by two. Each node owns documents: who is
in each of its rooms, what operators see of each namespace, and an index. It alone writes them, and readers merge those
of all nodes whose lease holds. Nodes are found by numbered slots, which they claim with ``add``; who has claimed one
puts a new word under one key, so that readers look through all slots only then.

What the cache loses comes back: with each heartbeat a node looks whether all of it is still there.
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
    RoomRecord,
    Snapshot,
    StoreUnavailable,
)
from ..options import require_number, require_seconds, require_text
from .documents import WHOLE
from .executor import Access, CacheExecutor
from .keys import Keys, Place
from .reader import Lease, PagedDocuments, Reader, Scan
from .writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

LIFE = 4
"""Leases for which what a node writes stays in the cache; it is written again after half of that."""

CLAIM_SECONDS = 15
"""After which another reaper goes on with the work of one who has died."""

TOLD = 16
"""Dead nodes that are named at a time."""

WRITE = 200
"""PagedDocuments that are written in one hop."""

LOOK = 1000
"""PagedDocuments that are looked at in one hop."""

MOST_SLOTS = 65_536
"""Whoever looks for nodes may have to look into each of them."""

ROOMS = 64
"""Rooms that are taken out in one hop."""


class CachePresence(PresenceStore):
    """
    Presence in a cache that all processes share: in Redis, memcached, the database.

    What is read is right at once, as a rule, and within one lease of any crash or loss in the cache. Changes have no
    versions: whoever shows a room compares snapshots.

    Leases end by the clocks of the machines: keep these within a tenth of a lease of each other. ``LocMemCache`` is of
    one process, and ``DummyCache`` keeps nothing. ``LocMemCache``, ``DatabaseCache`` and ``FileBasedCache`` throw
    entries away above ``MAX_ENTRIES``, which is 300 unless set: set it to ten times the number of connections.

    PagedDocuments have about 8 kB, but what members see of one user is never cut, nor what operators see of one user's
    connections to a node: each must fit what the cache takes (memcached: 1 MB). Whoever counts a room that is on
    several nodes reads the names of all users in it. That does for some ten thousand connections; take RedisPresence
    for more.

    Args:
        location: the alias in ``CACHES``; None for "default".
        lease: seconds.
        prefix: of all keys; 1 to 100 printable characters of ASCII, without spaces.
        slots: how many nodes there can be at a time, at most 65,536; the same for all nodes and readers.
        timeout: seconds that the cache may take to answer.
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
            # It is not repeated: somebody may have put a URL there, with a password in it.
            raise ValueError(f"LOCATION is an alias of CACHES, which has {', '.join(map(repr, caches))}")
        caches[alias]  # raises where its backend cannot be used
        require_text("PREFIX", prefix)
        # What memcached takes as a key, with what comes after it.
        if not re.fullmatch("[!-~]{1,100}", prefix):
            raise ValueError(f"PREFIX is 1 to 100 printable characters of ASCII without spaces, not {prefix!r}")
        require_number("SLOTS", slots, f"an integer from 1 to {MOST_SLOTS}", least=1, most=MOST_SLOTS, whole=True)
        require_seconds("TIMEOUT", timeout)
        self._keys = Keys(prefix, slots)
        self._executor = CacheExecutor(alias, timeout)
        # Caches take whole seconds, and some cut off what is begun.
        self._life = math.ceil(LIFE * self.lease) + 1
        # The nodes that write through this instance: one, and its former ids until they are reaped.
        self._writers: dict[str, Writer] = {}
        # What was found in the slots last.
        self._scan: Scan | None = None

    # Leases.

    async def begin(self, node: NodeFacts) -> Beat:
        return await self._renew(self._writers.setdefault(node.id, Writer(self._keys, node.id)), node)

    async def beat(self, node: NodeFacts) -> Beat:
        try:
            writer = self._writer(node.id)
            beat = await self._renew(writer, node)
            if beat.is_alive:
                await self._mend(writer)
        except LeaseLost:
            return Beat(is_alive=False)
        return beat

    async def nodes(self) -> list[NodeRecord]:
        now = time.time()
        leases = await self._read(Reader.leases)
        return [NodeRecord(lease.node, lease.ends - now, lease.facts) for lease in leases]

    def _writer(self, node: str) -> Writer:
        """Return what writes for a node. Raises LeaseLost if its lease has ended."""
        writer = self._writers.get(node)
        if writer is None or writer.ends <= time.time():
            self._writers.pop(node, None)
            raise LeaseLost(f"the lease of node {node} has ended")
        return writer

    async def _renew(self, writer: Writer, node: NodeFacts) -> Beat:
        async with writer.leasing:
            renewed = await self._executor.run(lambda access: self._renew_in_thread(access, node), writer.lease_queue)
            if renewed is None:
                self._writers.pop(node.id, None)
                return Beat(is_alive=False)
            writer.ends, beat = renewed
        return beat

    def _renew_in_thread(self, access: Access, node: NodeFacts) -> tuple[float, Beat] | None:
        if access.get([self._keys.dead(node.id)]):
            return None
        slots = access.get(self._keys.slots)
        mine = next((slot for slot, holder in slots.items() if holder == node.id), None)
        is_claimed = mine is None
        if mine is None:
            # Also if the cache lost it, or somebody else has it now.
            mine = self._claim_slot(access, node.id, slots)
        lease = Lease(node.id, time.time() + self.lease, node.facts)
        access.set({self._keys.lease(node.id): lease.text(), mine: node.id}, self._life)
        if is_claimed:
            access.set({self._keys.word: secrets.token_hex(8)}, self._life)
        leases = access.get(self._keys.lease(holder) for holder in {*slots.values()} - {node.id})
        now = time.time()
        ends = {other.node: other.ends - now for other in map(Lease.parse, leases.values())}
        expired = [other for other, seconds in ends.items() if seconds <= 0]
        next_expiry = min((seconds for seconds in ends.values() if seconds > 0), default=None)
        return lease.ends, Beat(True, tuple(expired[:TOLD]), next_expiry)

    def _claim_slot(self, access: Access, node: str, taken: Collection[str]) -> str:
        free = [slot for slot in self._keys.slots if slot not in taken]
        # Any of them: nodes that begin at once want different ones.
        random.shuffle(free)
        for slot in free:
            if access.add(slot, node, self._life):
                return slot
        raise StoreUnavailable(
            f"no slot could be claimed, {len(taken)} of {len(self._keys.slots)} are taken: raise "
            "WSRT['PRESENCE']['OPTIONS']['SLOTS'], in all processes alike"
        )

    # Writing.

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        writer = self._writer(node)
        async with writer.writing:
            self._writer(node)  # it may have been fenced meanwhile
            for operation in operations:
                writer.untold += writer.carry_out(operation)
            writer.make_documents()
            # Of calls before, too, which failed: it does not matter to what is written that they are said again.
            await self._write(writer, writer.unwritten)
            changes, writer.untold = writer.untold, []
        return changes

    async def _write(self, writer: Writer, keys: Iterable[str]) -> None:
        """Write documents, and delete what is unwanted; as far as it comes. Raises LeaseLost, StoreUnavailable."""
        # Heads after their pages, so that readers who see the head find them.
        todo = sorted(keys, key=lambda key: "/" not in key)
        while todo or writer.unwanted:
            batch, todo = todo[:WRITE], todo[WRITE:]
            documents = {key: writer.documents[key] for key in batch}
            unwanted = [] if todo else list(writer.unwanted)
            now = time.time()
            if not await self._executor.run(self._writing(writer.id, documents, unwanted), writer.queue):
                self._writers.pop(writer.id, None)
                raise LeaseLost(f"node {writer.id} was taken out")
            writer.written |= dict.fromkeys(documents, now)
            writer.unwritten -= documents.keys()
            writer.unwanted -= set(unwanted)

    def _writing(self, node: str, documents: dict[str, str], unwanted: list[str]) -> Callable[[Access], bool]:
        def write(access: Access) -> bool:
            """Return whether the node may write."""
            if access.get([self._keys.dead(node)]):
                return False
            access.set(documents, self._life)
            access.delete(unwanted)
            return True

        return write

    async def _mend(self, writer: Writer) -> None:
        """Write again what the cache has lost, and what would expire before long; for a part of the lease at most."""
        until = time.monotonic() + self.lease / 4
        async with writer.writing:
            keys = [*writer.documents]
            # Where the last time ended.
            keys = keys[writer.looked_at :] + keys[: writer.looked_at]
            seen = 0
            while seen < len(keys) and time.monotonic() < until:
                part = keys[seen : seen + LOOK]
                found = await self._executor.run(functools.partial(Access.get, keys=part), writer.queue)
                old = time.time() - self._life / 2
                lost = [key for key in part if found.get(key) != writer.documents[key]]
                lost += [key for key in part if writer.written.get(key, 0) < old]
                await self._write(writer, set(lost))
                seen += len(part)
            writer.looked_at = (writer.looked_at + seen) % max(1, len(keys))

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        writer = self._writers.get(node)
        if writer is not None:
            # What it is writing comes to an end first.
            async with writer.leasing, writer.writing:
                self._writers.pop(node, None)
        queue = writer.queue if writer is not None else None
        claimant = secrets.token_hex(8)
        places = await self._executor.run(lambda access: self._begin_reaping(access, node, claimant), queue)
        if places is None:
            return
        done: list[str] = []
        while places:
            batch, places = places[:ROOMS], places[ROOMS:]
            read = functools.partial(self._go_on_reaping, node=node, claimant=claimant, done=done, places=batch)
            documents = await self._executor.run(read)
            if documents is None:
                return
            changes = [
                Change(*place, "left", user, 0, None, 0)
                for place in batch
                for user in documents.users_of(self._keys.room(node, place))
            ]
            if changes:
                yield changes
            # Deleted only now: if nobody is told, another reaper tells it.
            done = documents.keys()
        await self._executor.run(lambda access: self._end_reaping(access, node, done))

    def _begin_reaping(self, access: Access, node: str, claimant: str) -> list[Place] | None:
        """Fence a node, and show it to nobody any more; return its rooms, None if somebody else reaps it."""
        if not access.add(self._keys.claim(node), claimant, CLAIM_SECONDS):
            return None
        access.set({self._keys.dead(node): claimant}, self._life)
        lease = self._keys.lease(node)
        for text in access.get([lease]).values():
            access.set({lease: dataclasses.replace(Lease.parse(text), ends=0).text()}, self._life)
        index = self._keys.index(node)
        rooms = PagedDocuments.read(access, {index: WHOLE}).entries.get(index, {})
        return [(namespace, room) for namespace, room in map(json.loads, rooms)]

    def _go_on_reaping(
        self, access: Access, *, node: str, claimant: str, done: list[str], places: list[Place]
    ) -> PagedDocuments | None:
        """Delete what is done, and return what is to be done next; None if somebody else does it."""
        claim = self._keys.claim(node)
        if access.get([claim]).get(claim) != claimant:
            return None
        access.set({claim: claimant}, CLAIM_SECONDS)
        access.delete(done)
        names = [self._keys.room(node, place) for place in places]
        names += [self._keys.details(node, namespace) for namespace, room in places if room == EVERYONE]
        return PagedDocuments.read(access, dict.fromkeys(names, WHOLE))

    def _end_reaping(self, access: Access, node: str, done: list[str]) -> None:
        index = self._keys.index(node)
        slots = access.get(self._keys.slots)
        access.delete([*done, *PagedDocuments.read(access, {index: WHOLE}).keys()])
        access.delete(
            [
                self._keys.lease(node),
                *(slot for slot, holder in slots.items() if holder == node),
                self._keys.claim(node),
            ]
        )

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        return await self._read(Reader.held, node, (namespace, room))

    async def versions(self, rooms: Sequence[Place]) -> list[int]:
        return [0] * len(rooms)

    # Reading.

    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        return await self._read(Reader.snapshot, (namespace, room), limit, max_bytes)

    async def counts(self, rooms: Sequence[Place]) -> list[Count]:
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
        """Call a method of a reader in a thread."""

        def work(access: Access) -> T:
            reader = Reader(access, self._keys, self._scan)
            try:
                return read(reader, *args, **kwargs)
            finally:
                self._scan = reader.scan

        return await self._executor.run(work)
