"""
The keys of history in Redis.

Different rooms never share a key, whatever characters their names contain. All keys of a room are in one hash slot.
"""

from __future__ import annotations

from ...realms import RoomId
from ...stores.names import field_of
from ...stores.redis.partitions import Partitions


class Keys:
    """
    The keys of one store.

    Args:
        partitions: The partitions of rooms.
    """

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    def part_of(self, room_id: RoomId) -> int:
        """Return the number of a room's partition."""
        return self._partitions.number_of(field_of(room_id))

    def room(self, room_id: RoomId) -> RoomKeys:
        field = field_of(room_id)
        part = self._partitions.number_of(field)
        return RoomKeys(part, self._partitions.bases[part], field)


class RoomKeys:
    """
    The keys of a room. lua/room.lua describes them.

    In a key, an arbitrary name comes last or after its length, so keys of different names differ.

    Attributes:
        part: The number of its partition.
        entries: The key of the stream.
        all: The keys that all scripts get.
    """

    __slots__ = ("_base", "_field", "all", "entries", "part")

    def __init__(self, part: int, base: str, field: str) -> None:
        self.part = part
        self.entries = f"{base}:entries:{field}"
        self.all = (
            f"{base}:state:{field}",
            self.entries,
            f"{base}:values:{field}",
            f"{base}:order:{field}",
        )
        self._base = base
        self._field = field

    def identity(self, idempotency_key: str) -> str:
        """Return the key of an idempotency key."""
        return f"{self._base}:once:{len(self._field)}.{self._field}{idempotency_key}"
