"""The places of users and addresses in Redis. One script decides about each of them for all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from ...stores.batches import batches
from ...stores.redis.link import RedisLink, tuples
from ...stores.redis.partitions import by_part
from ..base import Claim, Decision, LeaseLost, Leave
from .keys import Keys, RoomKeys
from .node import NodeState
from .scripts import PLACES, together

OPERATIONS = 64
"""The maximum number of operations in one call of the script."""


class RedisPlaces(RedisLink):
    """
    Gives and frees places: the units of the connection limits per user and per client address.

    See wsrt.presence.places. A place is stored like a connection in a room: the room is added to the node's index
    first, and the script writes only while the partition lists the node as a live writer. So the node that cleans up
    after a dead one also finds all its places.
    """

    _keys: Keys

    async def _decide(
        self, node: str, known: NodeState, operations: Sequence[tuple[RoomKeys, Claim | Leave]]
    ) -> list[Decision]:
        """Apply claims and leaves, in order within each partition. Raises LeaseLost, StoreUnavailable."""
        parts = by_part(operations, lambda item: item[0].part)
        return await together(self._decide_part(node, known, part) for part in parts.values())

    async def _decide_part(
        self, node: str, known: NodeState, operations: Sequence[tuple[RoomKeys, Claim | Leave]]
    ) -> list[Decision]:
        decisions: list[Decision] = []
        # One batch after the other: after a failed call, later operations must not be applied before it is repeated.
        for batch in batches(operations, OPERATIONS):
            rooms: dict[str, RoomKeys] = {}
            numbers: dict[str, int] = {}
            arguments: list[Any] = []
            for room, op in batch:
                rooms[room.field] = room
                number = numbers.setdefault(room.field, len(rooms))
                arguments += _arguments(op, number)
            # If this raises StoreUnavailable, the batch may or may not be applied. Repeating it is harmless.
            reply = await self._run(PLACES, self._keys_of(node, rooms.values()), [node, *arguments])
            if reply is None:
                raise LeaseLost(f"the connections of node {node} were removed, because its lease had ended")
            held, found = reply
            known.note_connections(dict(zip(rooms, held, strict=True)), asyncio.get_running_loop().time())
            for index, is_given, replaced in tuples(found, 3):
                op = batch[index][1]
                decisions.append(Decision(op.namespace, op.room, op.connection, bool(is_given), tuple(replaced)))
        return decisions

    def _keys_of(self, node: str, rooms: Iterable[RoomKeys]) -> list[str]:
        """Return the keys of the script for rooms of one partition."""
        keys: list[str] = []
        for room in rooms:
            keys = keys or [self._keys.writers(room.part)]
            keys += (room.counts, room.data, room.numbers(node))
        return keys


def _arguments(op: Claim | Leave, room: int) -> tuple[Any, ...]:
    if isinstance(op, Leave):
        return "leave", room, op.connection
    if op.limit is None:
        return "keep", room, op.connection
    return "claim", room, op.connection, op.limit, "replace" if op.replaces else "refuse"
