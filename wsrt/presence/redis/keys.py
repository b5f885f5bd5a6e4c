"""
The names of keys in Redis: which room is in which slot, and what is where.

No two rooms, nodes or namespaces ever meet in one key, whatever is in their names.
"""

from __future__ import annotations

import binascii
import functools
import itertools
import zlib

from ..helpers import as_bytes

SLOTS = 16384
"""Of a cluster."""

Place = tuple[str, str]
"""Namespace and room."""


class Keys:
    """
    The names of keys. What may be of any length comes last or after its length, so that no two names meet.

    A partition is in one slot, everything of nodes in another. Stores with different numbers of partitions share
    nothing.
    """

    def __init__(self, prefix: str, partitions: int) -> None:
        self._parts = [f"{prefix}{{{tag}}}" for tag in _tags(partitions)]
        self._nodes = f"{prefix}{{{partitions}.nodes}}"
        self.leases = f"{self._nodes}:leases"
        self.facts = f"{self._nodes}:facts"

    def index(self, node: str) -> str:
        """The rooms in which a node has connections."""
        return f"{self._nodes}:index:{node}"

    def claim(self, node: str) -> str:
        """Who reaps a node."""
        return f"{self._nodes}:claim:{node}"

    def room(self, place: Place) -> RoomKeys:
        field = field_of(place)
        part = zlib.crc32(as_bytes(field)) % len(self._parts)
        return RoomKeys(place, field, part, self._parts[part])

    # Of a partition; see lua/room.lua.

    def writers(self, part: int) -> str:
        return f"{self._parts[part]}:writers"

    def versions(self, part: int) -> str:
        return f"{self._parts[part]}:versions"

    def namespaces(self, part: int) -> str:
        return f"{self._parts[part]}:namespaces"

    def list(self, part: int, namespace: str) -> str:
        return f"{self._parts[part]}:list:{namespace}"


class RoomKeys:
    """A room, where it is, and the names of its keys."""

    __slots__ = ("_base", "field", "part", "place")

    def __init__(self, place: Place, field: str, part: int, base: str) -> None:
        self.place = place
        # The word for it in what lists rooms.
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
    """Return a hash tag for each partition, so that they are spread evenly over the slots of a cluster."""
    tags: dict[int, str] = {}
    for number in itertools.count():
        tag = f"{partitions}.{number}"
        tags.setdefault(binascii.crc_hqx(tag.encode(), 0) % SLOTS * partitions // SLOTS, tag)
        if len(tags) == partitions:
            break
    return tuple(tags[part] for part in sorted(tags))


def field_of(place: Place) -> str:
    """Return the word for a room in what lists rooms."""
    namespace, room = place
    return f"{len(namespace)}.{namespace}{room}"


def place_of(field: str) -> Place:
    length, _, names = field.partition(".")
    return names[: int(length)], names[int(length) :]
