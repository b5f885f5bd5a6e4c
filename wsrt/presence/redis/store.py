"""
Presence in Redis: exact counts, and changes with contiguous versions, for any number of nodes.

All keys of a room are in one hash slot, and one script changes them together: the connections, the counts and the
version.

Each node holds a lease. Before joining a room, a node records the room in its index, which is stored next to the leases
and accepts entries only while the lease is valid. A node may write to a partition while it is in the partition's set of
writers. A reaper first ends the lease, which closes the index, and then removes the node from the sets of writers.
After that the index names all rooms in which the node can have connections, and a late write of the dead node is
rejected.

All times are those of the Redis server.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from ...stores.batches import batches
from ...stores.names import room_id_of
from ...stores.options import require_number, require_seconds
from ...stores.redis.link import BULK, tuples
from ...stores.redis.partitions import Partitions, by_part
from ...stores.redis.target import RedisTarget
from ..base import (
    EVERYONE,
    UNSET,
    Beat,
    Change,
    Claim,
    Decision,
    Join,
    LeaseLost,
    Leave,
    NodeFacts,
    PresenceStore,
    RoomId,
    StoreUnavailable,
)
from .keys import RoomKeys
from .node import NodeState
from .places import RedisPlaces
from .reader import RedisReader
from .scripts import APPLY, BEAT, CLAIM, INDEX, PURGE, SCRIPTS, together

__all__ = ["SCRIPTS", "RedisPresence"]

# While Redis executes a command it does nothing else. The numbers below keep every command under about 2 ms, whatever
# the names and data are.

OPERATIONS = 32
"""The maximum number of operations in one call of the script."""

ROOMS = 25
"""The maximum number of rooms in one call that purges a node."""

LISTED = 250
"""The maximum number of rooms that one call adds to an index or removes from it."""

MOST_CHUNK = 250
"""The largest value of the option CHUNK. A call of this size takes up to 4 ms."""

IDLE_SECONDS = 60.0
"""Seconds for which a room that a node has left stays in its index, far longer than a join may be delayed."""


chain = itertools.chain.from_iterable


class RedisPresence(RedisReader, RedisPlaces, PresenceStore):
    """
    Presence in a Redis server (6.2 or newer), Valkey, a cluster of either, or the master that Sentinels report.

    Redis must not evict keys (``maxmemory-policy noeviction``). If it loses a part of the data, counts are wrong until
    the nodes write their connections again.

    Args:
        location: A ``redis://``, ``rediss://`` or ``unix://`` URL; in a cluster, that of any of its nodes. With
            ``sentinels``, it contains the name of the service instead of host and port: ``redis://mymaster/0``. None
            for ``redis://localhost:6379/0``.
        lease: The lease of a node, in seconds.
        prefix: The prefix of all keys, without braces.
        cluster: Whether Redis is a cluster.
        sentinels: The (host, port) of each Sentinel that monitors the master. None for no Sentinels.
        sentinel_kwargs: redis-py's arguments for the connections to Sentinels, such as ``password`` and ``ssl``.
        partitions: The number of hash slots over which rooms are spread, at most 1024. By default 16 in a cluster, else
            1. Nodes with different numbers don't see each other.
        timeout: The number of seconds that a round trip to Redis may take, including connecting.
        chunk: The maximum number of members that one call removes when a dead node is reaped. It can't exceed 250.
        pace: The maximum number of such calls per second.
        claim: The number of seconds after which another reaper continues the work of one that has died. By default half
            a lease.
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
        spread = Partitions(prefix, partitions, cluster=cluster)
        require_seconds("TIMEOUT", timeout)
        # Larger calls would block Redis for too long.
        require_number("CHUNK", chunk, f"an integer from 1 to {MOST_CHUNK}", least=1, most=MOST_CHUNK, whole=True)
        require_number("PACE", pace, "a number of calls a second, from 0.1", least=0.1)
        if claim is not None:
            require_seconds("CLAIM", claim)
        target = RedisTarget(
            location, cluster=cluster, sentinels=sentinels, sentinel_kwargs=sentinel_kwargs, timeout=timeout
        )
        RedisReader.__init__(self, target, timeout, spread)
        PresenceStore.__init__(self, target.location, lease=lease, **options)
        self._chunk = chunk
        self._pace = pace
        self._claim_ms = round(1000 * (self.lease / 2 if claim is None else claim))
        # The nodes that write through this instance: one, and its former ids until these are reaped.
        self._nodes: dict[str, NodeState] = {}

    gives_places: ClassVar[bool] = True

    # Leases.

    async def begin(self, node: NodeFacts) -> Beat:
        beat = await self._renew(node, "begin")
        if beat.is_alive:
            # After the lease has begun, so that a node that dies here is reaped. If this raises StoreUnavailable, the
            # node calls begin() again with the same id.
            await self._execute_all([("SADD", self._keys.writers(part), node.id) for part in range(self._partitions)])
        return beat

    async def beat(self, node: NodeFacts) -> Beat:
        return await self._renew(node, "renew")

    async def _renew(self, node: NodeFacts, how: str) -> Beat:
        known = self._known(node.id)
        loop = asyncio.get_running_loop()
        before = loop.time() - IDLE_SECONDS
        while True:
            now, left = loop.time(), known.pop_idle(before, LISTED)
            # If this raises StoreUnavailable, the rooms in ``left`` may or may not be removed. The next call repeats
            # them.
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
            known.confirm_removed(left)
            is_missing, next_end, expired = reply
            # Counted from before the call, so that the lease ends here no later than in Redis.
            known.ends = now + self.lease
            if is_missing:
                # Redis has fewer rooms in the index than we added: a failover has lost acknowledged writes.
                try:
                    await self._index_rooms(node.id, known, list(known.rooms))
                except LeaseLost:
                    return Beat(is_alive=False)
            if len(left) < LISTED:
                return Beat(True, tuple(expired), next_end / 1000 if next_end >= 0 else None)
            # There are more idle rooms than one call removes: continue.
            how = "renew"

    def _known(self, node: str) -> NodeState:
        return self._nodes.setdefault(node, NodeState())

    # Writing.

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        async with self._writing(node) as known:
            return await self._apply(node, known, operations)

    async def decide(self, node: str, operations: Sequence[Claim | Leave]) -> list[Decision]:
        async with self._writing(node) as known:
            numbered = [(self._keys.room((op.namespace, op.room)), op) for op in operations]
            claimed = (room.field for room, op in numbered if isinstance(op, Claim))
            await self._index_rooms(node, known, known.missing(claimed))
            return await self._decide(node, known, numbered)

    @contextlib.asynccontextmanager
    async def _writing(self, node: str) -> AsyncIterator[NodeState]:
        """Let one caller at a time write for a node, while its lease is valid. Forget the node if the lease is lost."""
        known = self._known(node)
        try:
            # While waiting for the lock, the lease may end and the node may be reaped. The script checks that.
            async with known.lock:
                if asyncio.get_running_loop().time() >= known.ends:
                    raise LeaseLost(f"the lease of node {node} has ended")
                yield known
        except LeaseLost:
            self._nodes.pop(node, None)
            raise

    async def _apply(self, node: str, known: NodeState, operations: Sequence[Join | Leave]) -> list[Change]:
        rooms = [self._keys.room((op.namespace, op.room)) for op in operations]
        entered = (room.field for room, op in zip(rooms, operations, strict=True) if isinstance(op, Join))
        await self._index_rooms(node, known, known.missing(entered))
        numbered = list(zip(itertools.count(), rooms, operations))
        parts = by_part(numbered, lambda item: item[1].part)
        changes = await together(self._write(node, known, part) for part in parts.values())
        return [change for _, change in sorted(changes, key=lambda pair: pair[0])]

    async def _write(
        self, node: str, known: NodeState, operations: list[tuple[int, RoomKeys, Join | Leave]]
    ) -> list[tuple[int, Change]]:
        """Apply operations of one partition. Operations and changes are paired with the number of the operation."""
        changes: list[tuple[int, Change]] = []
        # One batch after the other: after a failed call, later operations must not be applied before it is repeated.
        for batch in batches(operations, OPERATIONS):
            rooms: dict[str, RoomKeys] = {}
            numbers: dict[str, int] = {}
            arguments: list[Any] = []
            for _, room, op in batch:
                rooms[room.field] = room
                number = numbers.setdefault(room.field, len(rooms))
                if isinstance(op, Join):
                    how, data = ("enter", ()) if op.data is UNSET else ("join", (op.data or "",))
                    arguments += (how, number, op.connection, op.user_id or "", op.details or "", *data)
                else:
                    arguments += ("leave", number, op.connection)
            # If this raises StoreUnavailable, the batch may or may not be applied. Repeating it is harmless.
            reply = await self._run(APPLY, *self._room_call(node, list(rooms.values()), arguments))
            if reply is None:
                raise LeaseLost(f"the connections of node {node} were removed, because its lease had ended")
            held, found = reply
            known.note_connections(dict(zip(rooms, held, strict=True)), asyncio.get_running_loop().time())
            for index, version, changed in tuples(found, 3):
                number, room, op = batch[index]
                changes += [(number, change) for change in _changes(room.room_id, version, changed, op)]
        return changes

    async def _index_rooms(self, node: str, known: NodeState, rooms: list[str]) -> None:
        """Add rooms to the node's index, before it joins them. Raises LeaseLost."""
        for batch in batches(rooms, LISTED):
            mark = secrets.token_hex(6)
            keys = [self._keys.leases, self._keys.index(node)]
            # If this raises StoreUnavailable, the index may have the rooms with a mark that isn't noted here. The next
            # attempt replaces the mark.
            if not await self._run(INDEX, keys, [node, mark, *batch]):
                raise LeaseLost(f"the lease of node {node} has ended")
            known.rooms.update(dict.fromkeys(batch, mark))

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        claimant = secrets.token_hex(8)
        if not await self._claim(node, claimant):
            return  # another reaper is at work
        self._nodes.pop(node, None)
        await self._execute_all([("SREM", self._keys.writers(part), node) for part in range(self._partitions)])
        try:
            cursor = None
            while cursor != 0:
                cursor, index = await self._execute("HSCAN", self._keys.index(node), cursor or 0, "COUNT", BULK)
                rooms = [self._keys.room(room_id_of(field)) for field in index]
                for todo in by_part(rooms, lambda room: room.part).values():
                    position = "0"
                    while todo:
                        done, position, spent, changes = await self._purge(node, todo[:ROOMS], position)
                        if changes:
                            yield changes
                        # Spread the work over time. The claim is renewed after each call; if this one took longer than
                        # the claim is valid, another reaper may have taken over.
                        await asyncio.sleep(spent / self._chunk / self._pace)
                        if not await self._claim(node, claimant, todo[:done]):
                            return
                        del todo[:done]
        except (GeneratorExit, asyncio.CancelledError):
            # The caller stops, such as at shutdown. Let the claim end at once, so that another reaper can continue.
            if self._opened_client is not None:
                with contextlib.suppress(StoreUnavailable):
                    await self._claim(node, claimant, ms=1)
            raise
        # The lease is removed after the index: if this reaper dies in between, another one finds the node again.
        await self._execute_all(
            [
                ("HDEL", self._keys.facts, node),
                ("UNLINK", self._keys.index(node)),
                ("ZREM", self._keys.leases, node),
                ("DEL", self._keys.claim(node)),
            ]
        )

    async def _purge(self, node: str, rooms: Sequence[RoomKeys], position: str) -> tuple[int, str, int, list[Change]]:
        """
        Remove a dead node's connections from rooms of one partition, up to one chunk.

        Returns:
            Four values: how many of the rooms are finished; the position in the next room, at which the next call has
            to continue; how many members were examined; and the changes.
        """
        call = self._room_call(node, rooms, [self._chunk, position])
        done, position, spent, found = await self._run(PURGE, *call)
        changes = (_changes(rooms[index].room_id, version, changed) for index, version, changed in tuples(found, 3))
        return done, position, spent, list(chain(changes))

    async def _claim(self, node: str, claimant: str, done: Iterable[RoomKeys] = (), *, ms: int | None = None) -> bool:
        """
        Claim the reaping of a node, or renew the claim, and fence the node.

        Args:
            node: The node's id.
            claimant: The random id of this reaper.
            done: Rooms that are finished, to remove from the node's index.
            ms: The validity of the claim in milliseconds. None for the option CLAIM.

        Returns:
            False if another reaper has the claim.
        """
        keys = [self._keys.claim(node), self._keys.leases, self._keys.index(node)]
        fields = [room.field for room in done]
        return bool(await self._run(CLAIM, keys, [node, claimant, ms or self._claim_ms, *fields]))

    # Arguments of scripts.

    def _room_call(self, node: str, rooms: Sequence[RoomKeys], arguments: Sequence[Any]) -> tuple[list[str], list[Any]]:
        """Return the keys and arguments of a script that writes rooms of one partition; see lua/room.lua."""
        part = rooms[0].part
        keys = [self._keys.writers(part), self._keys.versions(part), self._keys.namespaces(part)]
        head: list[Any] = [node, len(rooms)]
        for room in rooms:
            namespace, name = room.room_id
            listed = self._keys.list(part, namespace)
            keys += (room.counts, room.data, listed, room.numbers(node), room.details(node))
            head += (room.field, namespace, "" if name == EVERYONE else name)
        return keys, [*head, *arguments]


def _changes(room_id: RoomId, version: int, changed: Sequence[Any], op: Join | Leave | None = None) -> Iterator[Change]:
    """
    Return the changes of a room that a script has returned.

    Args:
        room_id: The room.
        version: The version of the first change.
        changed: Kind, user and connections of each change, as one flat list.
        op: The operation that caused them. None for a purge.
    """
    for kind, user, connections in tuples(changed, 3):
        # The script doesn't return data. After a join, the user's data is that of the join. A join without data causes
        # a change only if it is the user's first connection, and then there is no data yet.
        data = op.data if isinstance(op, Join) and user and user == op.user_id else None
        yield Change(*room_id, kind, user or None, connections, None if data is UNSET else data, version)
        version += 1
