"""
Presence in Redis: exact counts, and changes under contiguous versions, from any number of nodes.

A room lies in one slot, and one script writes it: who is there, the counts, the version. A node has a lease; before it
is in a room it puts the room down in its index, which lies with the leases, and it may write to a partition while it
stands among the writers there. Whoever reaps a node first ends its lease, which closes the index, then takes it out of
the writers: what the index names is all there is, and nothing is added to it, however late a write of a dead node
arrives.

Times are those of Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from ..base import EVERYONE, UNSET, Beat, Change, Join, LeaseLost, Leave, NodeFacts, PresenceStore, StoreUnavailable
from ..helpers import batches
from ..options import require_number, require_seconds, require_text
from .keys import Place, RoomKeys, place_of
from .link import APPLY, BEAT, BULK, CLAIM, INDEX, PURGE, SCRIPTS, by_part, tuples
from .node import KnownNode
from .reader import RedisReader
from .target import RedisTarget

__all__ = ["SCRIPTS", "RedisPresence"]

# No command may keep Redis busy for more than some 2 ms, whatever the names and data: it does nothing else meanwhile.

OPERATIONS = 32
"""Operations a call."""

ROOMS = 25
"""Rooms that a call of a purge may come to."""

LISTED = 250
"""Rooms that a call puts into an index, or takes out of it."""

MOST_CHUNK = 250
"""Members that a call may take out, if the option says so: they take up to 4 ms."""

MOST_PARTITIONS = 1024
"""Readers that list rooms ask each of them."""

IDLE_SECONDS = 60.0
"""How long a room that a node has left stays in its index: far longer than a join may come late."""


chain = itertools.chain.from_iterable


class RedisPresence(RedisReader, PresenceStore):
    """
    Presence in one Redis (6.2 or newer), Valkey, a cluster of either, or the master that Sentinels name.

    Its memory must not be evicted (``maxmemory-policy noeviction``): a store that loses a part counts wrongly until the
    nodes write it again.

    Args:
        location: a URL: ``redis://``, ``rediss://`` or ``unix://``; of any node of a cluster. With ``sentinels``, the
            name of the service stands for host and port: ``redis://mymaster/0``.
        lease: seconds.
        prefix: of all keys; without braces.
        cluster: whether Redis is one.
        sentinels: pairs of host and port, of the Sentinels that know the master; None for none.
        sentinel_kwargs: arguments of redis-py for the connections to Sentinels, such as ``password`` and ``ssl``.
        partitions: over how many slots rooms are spread, at most 1024; 16 in a cluster, else 1. Nodes with different
            ones do not see each other.
        timeout: seconds that Redis may take to answer, connecting and all.
        chunk: most members that one call takes out, of a node that is reaped; at most 250.
        pace: such calls a second.
        claim: seconds after which another reaper goes on with the work of one who has died; None: half a lease.
    """

    def __init__(
        self,
        location: str | None = None,
        *,
        lease: float = 30.0,
        prefix: str = "wsrt",
        cluster: bool = False,
        sentinels: Sequence[tuple[str, int]] | None = None,
        sentinel_kwargs: dict[str, Any] | None = None,
        partitions: int | None = None,
        timeout: float = 5.0,
        chunk: int = 100,
        pace: float = 200.0,
        claim: float | None = None,
        **options: Any,
    ) -> None:
        require_text("PREFIX", prefix)
        if set(prefix) & set("{}"):
            raise ValueError(f"PREFIX has no braces, which say in which slot a key is; {prefix!r} has")
        if partitions is None:
            partitions = 16 if cluster else 1
        most = MOST_PARTITIONS
        require_number("PARTITIONS", partitions, f"an integer from 1 to {most}", least=1, most=most, whole=True)
        require_seconds("TIMEOUT", timeout)
        # More in a call would keep Redis from all else too long.
        require_number("CHUNK", chunk, f"an integer from 1 to {MOST_CHUNK}", least=1, most=MOST_CHUNK, whole=True)
        require_number("PACE", pace, "a number of calls a second, from 0.1", least=0.1)
        if claim is not None:
            require_seconds("CLAIM", claim)
        target = RedisTarget(
            location, cluster=cluster, sentinels=sentinels, sentinel_kwargs=sentinel_kwargs, timeout=timeout
        )
        RedisReader.__init__(self, target, timeout, prefix=prefix, partitions=partitions)
        PresenceStore.__init__(self, target.location, lease=lease, **options)
        self._chunk = chunk
        self._pace = pace
        self._claim_ms = round(1000 * (self.lease / 2 if claim is None else claim))
        # The nodes that write through this instance: one, and its former ids until they are reaped.
        self._nodes: dict[str, KnownNode] = {}

    # Leases.

    async def begin(self, node: NodeFacts) -> Beat:
        beat = await self._renew(node, "begin")
        if beat.is_alive:
            # After the lease: whoever dies in between is reaped.
            await self._ask_all([("SADD", self._keys.writers(part), node.id) for part in range(self._partitions)])
        return beat

    async def beat(self, node: NodeFacts) -> Beat:
        return await self._renew(node, "renew")

    async def _renew(self, node: NodeFacts, how: str) -> Beat:
        known = self._known(node.id)
        loop = asyncio.get_running_loop()
        before = loop.time() - IDLE_SECONDS
        while True:
            now, left = loop.time(), known.take_idle(before, LISTED)
            reply = await self._run(
                BEAT,
                [self._keys.leases, self._keys.facts, self._keys.index(node.id)],
                [
                    node.id,
                    round(self.lease * 1000),
                    json.dumps(node.facts),
                    how,
                    len(known.rooms),
                    *chain(left.items()),
                ],
            )
            if reply is None:
                self._nodes.pop(node.id, None)
                return Beat(is_alive=False)
            known.forget(left)
            is_missing, next_end, expired = reply
            # As of before the call: the lease ends here no later than there.
            known.ends = now + self.lease
            if is_missing:
                # Redis failed over, and lost the last that it had taken.
                try:
                    await self._put_down(node.id, known, list(known.rooms))
                except LeaseLost:
                    return Beat(is_alive=False)
            if len(left) < LISTED:
                return Beat(True, tuple(expired), next_end / 1000 if next_end >= 0 else None)
            # Clients that come and go leave more rooms in a heartbeat's time than a call takes out.
            how = "renew"

    def _known(self, node: str) -> KnownNode:
        return self._nodes.setdefault(node, KnownNode())

    # Writing.

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        known = self._known(node)
        try:
            async with known.lock:
                return await self._apply(node, known, operations)
        except LeaseLost:
            self._nodes.pop(node, None)
            raise

    async def _apply(self, node: str, known: KnownNode, operations: Sequence[Join | Leave]) -> list[Change]:
        if asyncio.get_running_loop().time() >= known.ends:
            raise LeaseLost(f"the lease of node {node} has ended")
        rooms = [self._keys.room((op.namespace, op.room)) for op in operations]
        entered = (room.field for room, op in zip(rooms, operations, strict=True) if isinstance(op, Join))
        await self._put_down(node, known, known.missing(entered))
        numbered = list(zip(itertools.count(), rooms, operations))
        parts = by_part(numbered, lambda item: item[1].part)
        told = await asyncio.gather(
            *(self._write(node, known, part) for part in parts.values()), return_exceptions=True
        )
        errors = [outcome for outcome in told if isinstance(outcome, BaseException)]
        if errors:
            raise next((error for error in errors if isinstance(error, LeaseLost)), errors[0])
        changes = [change for outcome in told if not isinstance(outcome, BaseException) for change in outcome]
        return [change for _, change in sorted(changes, key=lambda pair: pair[0])]

    async def _write(
        self, node: str, known: KnownNode, operations: list[tuple[int, RoomKeys, Join | Leave]]
    ) -> list[tuple[int, Change]]:
        """Carry out operations of one partition, each with its number; return the changes with theirs."""
        changes: list[tuple[int, Change]] = []
        # One after the other: what comes after a call that failed is not carried out before that is said again.
        for batch in batches(operations, OPERATIONS):
            rooms: dict[str, RoomKeys] = {}
            numbers: dict[str, int] = {}
            arguments: list[Any] = []
            for _, room, op in batch:
                rooms[room.field] = room
                number = numbers.setdefault(room.field, len(rooms))
                if isinstance(op, Join):
                    how, said = ("enter", ()) if op.data is UNSET else ("join", (op.data or "",))
                    arguments += (how, number, op.connection, op.user_id or "", op.details or "", *said)
                else:
                    arguments += ("leave", number, op.connection)
            reply = await self._run(APPLY, *self._room_call(node, list(rooms.values()), arguments))
            if reply is None:
                raise LeaseLost(f"node {node} may not write any more")
            held, found = reply
            known.saw(dict(zip(rooms, held, strict=True)), asyncio.get_running_loop().time())
            for of, version, told in tuples(found, 3):
                number, room, op = batch[of]
                changes += [(number, change) for change in _changes(room.place, version, told, op)]
        return changes

    async def _put_down(self, node: str, known: KnownNode, rooms: list[str]) -> None:
        """Put rooms into the index, before the node is in them."""
        for batch in batches(rooms, LISTED):
            mark = secrets.token_hex(6)
            keys = [self._keys.leases, self._keys.index(node)]
            if not await self._run(INDEX, keys, [node, mark, *batch]):
                raise LeaseLost(f"the lease of node {node} has ended")
            known.rooms.update(dict.fromkeys(batch, mark))

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        claimant = secrets.token_hex(8)
        if not await self._claim(node, claimant):
            return
        self._nodes.pop(node, None)
        await self._ask_all([("SREM", self._keys.writers(part), node) for part in range(self._partitions)])
        try:
            cursor = None
            while cursor != 0:
                cursor, index = await self._ask("HSCAN", self._keys.index(node), cursor or 0, "COUNT", BULK)
                rooms = [self._keys.room(place_of(field)) for field in index]
                for todo in by_part(rooms, lambda room: room.part).values():
                    position = "0"
                    while todo:
                        done, position, spent, changes = await self._purge(node, todo[:ROOMS], position)
                        if changes:
                            yield changes
                        await asyncio.sleep(spent / self._chunk / self._pace)
                        if not await self._claim(node, claimant, todo[:done]):
                            return
                        del todo[:done]
        except (GeneratorExit, asyncio.CancelledError):
            if self._known_client is not None:
                with contextlib.suppress(StoreUnavailable):
                    await self._claim(node, claimant, ms=1)
            raise
        # The lease goes last: until then, another reaper would do this again.
        await self._ask_all(
            [
                ("HDEL", self._keys.facts, node),
                ("UNLINK", self._keys.index(node)),
                ("ZREM", self._keys.leases, node),
                ("DEL", self._keys.claim(node)),
            ]
        )

    async def _purge(self, node: str, rooms: Sequence[RoomKeys], position: str) -> tuple[int, str, int, list[Change]]:
        """
        Take a dead node out of rooms of one partition, as far as one call may go.

        Returns how many rooms are done, the position in the next one, how much of a chunk that was, and the changes.
        """
        call = self._room_call(node, rooms, [self._chunk, position])
        done, position, spent, found = await self._run(PURGE, *call)
        told = (_changes(rooms[of].place, version, changes) for of, version, changes in tuples(found, 3))
        return done, position, spent, list(itertools.chain.from_iterable(told))

    async def _claim(self, node: str, claimant: str, done: Iterable[RoomKeys] = (), *, ms: int | None = None) -> bool:
        """Be the one who reaps a node; rooms that are done leave its index. Return False if somebody else is."""
        keys = [self._keys.claim(node), self._keys.leases, self._keys.index(node)]
        fields = [room.field for room in done]
        return bool(await self._run(CLAIM, keys, [node, claimant, ms or self._claim_ms, *fields]))

    # What to ask.

    def _room_call(self, node: str, rooms: Sequence[RoomKeys], arguments: Sequence[Any]) -> tuple[list[str], list[Any]]:
        """Return keys and arguments of a script that writes rooms of one partition."""
        part = rooms[0].part
        keys = [self._keys.writers(part), self._keys.versions(part), self._keys.namespaces(part)]
        head: list[Any] = [node, len(rooms)]
        for room in rooms:
            namespace, name = room.place
            listed = self._keys.list(part, namespace)
            keys += (room.counts, room.data, listed, room.numbers(node), room.details(node))
            head += (room.field, namespace, "" if name == EVERYONE else name)
        return keys, [*head, *arguments]


def _changes(place: Place, version: int, told: Sequence[Any], op: Join | Leave | None = None) -> Iterator[Change]:
    """Return what a script tells of a room: kind, user and connections of each change, the first with this version."""
    for kind, user, connections in tuples(told, 3):
        # What is told of the user who joins is what the join says: where that is nothing, there was nothing before.
        said = op.data if isinstance(op, Join) and user and user == op.user_id else None
        yield Change(*place, kind, user or None, connections, None if said is UNSET else said, version)
        version += 1
