"""
The keys of presence in Redis.

Different rooms, nodes and namespaces never share a key, whatever characters their names contain.
"""

from __future__ import annotations

from ...realms import RoomId
from ...stores.names import field_of
from ...stores.redis.partitions import Partitions


class Keys:
    """
    The keys of one store.

    In a key, an arbitrary name comes last or after its length, so keys of different names differ. The keys of a
    partition share one hash slot, and the keys of nodes share another. Stores with different numbers of partitions have
    no common keys.

    Args:
        partitions: The partitions of rooms.
    """

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self._parts = partitions.bases
        self._nodes = f"{partitions.prefix}{{{partitions.count}.nodes}}"
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
        part = self._partitions.number_of(field)
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
