"""
The keys of presence in Redis, and the partitions of rooms.

Different rooms, nodes and namespaces never share a key, whatever characters their names contain.
"""

from __future__ import annotations

import binascii
import functools
import itertools
import zlib

from ..base import RoomId, as_bytes

SLOTS = 16384
"""The hash slots of a Redis Cluster."""


class Keys:
    """
    The keys of one store.

    In a key, an arbitrary name comes last or after its length, so keys of different names differ. The keys of a
    partition share one hash slot, and the keys of nodes share another. Stores with different numbers of partitions have
    no common keys.

    Args:
        prefix: The prefix of all keys.
        partitions: The number of partitions.
    """

    def __init__(self, prefix: str, partitions: int) -> None:
        self._parts = [f"{prefix}{{{tag}}}" for tag in _tags(partitions)]
        self._nodes = f"{prefix}{{{partitions}.nodes}}"
        self.leases = f"{self._nodes}:leases"
        self.facts = f"{self._nodes}:facts"

    def index(self, node: str) -> str:
        """Return the key of a node's index: the rooms in which it has connections."""
        return f"{self._nodes}:index:{node}"

    def claim(self, node: str) -> str:
        """Return the key of the claim on reaping a node. Its value identifies the reaper."""
        return f"{self._nodes}:claim:{node}"

    def room(self, room_id: RoomId) -> RoomKeys:
        field = field_of(room_id)
        part = zlib.crc32(as_bytes(field)) % len(self._parts)
        return RoomKeys(room_id, field, part, self._parts[part])

    # Keys of a partition; lua/room.lua describes them.

    def writers(self, part: int) -> str:
        return f"{self._parts[part]}:writers"

    def versions(self, part: int) -> str:
        return f"{self._parts[part]}:versions"

    def namespaces(self, part: int) -> str:
        return f"{self._parts[part]}:namespaces"

    def list(self, part: int, namespace: str) -> str:
        return f"{self._parts[part]}:list:{namespace}"


class RoomKeys:
    """
    A room, its partition, and its keys.

    Attributes:
        room_id: The namespace and the name of the room.
        field: The room's name in hashes and lists of rooms.
        part: The number of its partition.
    """

    __slots__ = ("_base", "field", "part", "room_id")

    def __init__(self, room_id: RoomId, field: str, part: int, base: str) -> None:
        self.room_id = room_id
        self.field = field
        self.part = part
        self._base = base

    @property
    def counts(self) -> str:
        return f"{self._base}:c:{self.field}"

    @property
    def data(self) -> str:
        return f"{self._base}:d:{self.field}"

    def numbers(self, node: str) -> str:
        return f"{self._base}:n:{len(node)}.{node}{self.field}"

    def details(self, node: str) -> str:
        return f"{self._base}:x:{len(node)}.{node}{self.field}"


@functools.cache
def _tags(partitions: int) -> tuple[str, ...]:
    """Return a hash tag for each partition, chosen so that the partitions are spread evenly over a cluster's slots."""
    tags: dict[int, str] = {}
    for number in itertools.count():
        tag = f"{partitions}.{number}"
        tags.setdefault(binascii.crc_hqx(tag.encode(), 0) % SLOTS * partitions // SLOTS, tag)
        if len(tags) == partitions:
            break
    return tuple(tags[part] for part in sorted(tags))


def field_of(room_id: RoomId) -> str:
    """Return the name of a room as the hashes and lists of rooms in Redis store it."""
    namespace, room = room_id
    return f"{len(namespace)}.{namespace}{room}"


def room_id_of(field: str) -> RoomId:
    """Return the namespace and the name of a room. Reverses field_of()."""
    length, _, names = field.partition(".")
    return names[: int(length)], names[int(length) :]
