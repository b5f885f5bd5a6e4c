"""The state of a node that writes through this process: its lease, and the rooms in its index."""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Iterable


class NodeState:
    """
    The state of a node, as known to the store that writes for it.

    A node's index in Redis names the rooms in which it may have connections. A room is added before the node joins it,
    and removed by a heartbeat when the node has had no connections in it for a while. Each addition has a random mark,
    and a removal applies only to an entry with the same mark. So a removal that arrives late doesn't remove a newer
    entry.
    """

    def __init__(self) -> None:
        # Keeps calls of apply() in order.
        self.lock = asyncio.Lock()
        # The earliest time at which its lease may end, in the loop's time.
        self.ends = math.inf
        # The rooms in its index, with their marks.
        self.rooms: dict[str, str] = {}
        # Rooms in the index without connections, with the time since when; the oldest first.
        self._idle: collections.OrderedDict[str, float] = collections.OrderedDict()
        # Rooms that are being removed from the index, with their marks. Until Redis has confirmed it, they may or may
        # not be there. If the node joins one of them, the room is added again with another mark.
        self._leaving: dict[str, str] = {}

    def missing(self, rooms: Iterable[str]) -> list[str]:
        """
        Return the rooms that have to be added to the index before the node joins them, and mark the others as used.
        """
        missing = []
        for room in rooms:
            self._idle.pop(room, None)
            if room not in self.rooms:
                missing.append(room)
        return missing

    def note_connections(self, held: dict[str, int], now: float) -> None:
        """Record the number of the node's connections in each of these rooms, after operations in them."""
        for room, connections in held.items():
            if connections:
                self._idle.pop(room, None)
            elif room in self.rooms:
                self._idle.setdefault(room, now)

    def pop_idle(self, before: float, most: int) -> dict[str, str]:
        """
        Return rooms to remove from the node's index in Redis, with the marks of their entries.

        An entry that was added later has another mark, and isn't removed.

        Includes rooms whose removal hasn't been confirmed yet.

        Args:
            before: Only rooms that have been without connections since before this time.
            most: The largest number of rooms to return.
        """
        while self._idle and len(self._leaving) < most:
            room, since = self._idle.popitem(last=False)
            if since >= before:
                self._idle[room] = since
                self._idle.move_to_end(room, last=False)
                break
            self._leaving[room] = self.rooms.pop(room)
        return dict(self._leaving)

    def confirm_removed(self, left: dict[str, str]) -> None:
        """Note that Redis has removed rooms with these marks from the index."""
        for room, mark in left.items():
            if self._leaving.get(room) == mark:
                del self._leaving[room]
