"""What a process knows of a node that it writes for: its lease, and the rooms in its index."""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Iterable


class KnownNode:
    """A node that writes through this process."""

    def __init__(self) -> None:
        # Operations are carried out in the order in which they were given.
        self.lock = asyncio.Lock()
        # When its lease ends at the earliest, in the loop's time.
        self.ends = math.inf
        # The rooms in its index, with the marks with which they were put there.
        self.rooms: dict[str, str] = {}
        # Those in which it has no connections any more, and since when; oldest first.
        self._idle: collections.OrderedDict[str, float] = collections.OrderedDict()
        # Rooms that are being taken out of the index, with their marks: until Redis has confirmed it, they may still
        # be there. Before the node is in one of them again, it is put down again, with another mark.
        self._leaving: dict[str, str] = {}

    def missing(self, rooms: Iterable[str]) -> list[str]:
        """Return which rooms are to be put down before the node is in them; none of the others is taken out now."""
        missing = []
        for room in rooms:
            self._idle.pop(room, None)
            if room not in self.rooms:
                missing.append(room)
        return missing

    def saw(self, held: dict[str, int], now: float) -> None:
        """Take in how many connections the node has in some rooms."""
        for room, connections in held.items():
            if connections:
                self._idle.pop(room, None)
            elif room in self.rooms:
                self._idle.setdefault(room, now)

    def take_idle(self, before: float, most: int) -> dict[str, str]:
        """Return up to ``most`` rooms that have been idle since a time, with their marks, to take them out."""
        while self._idle and len(self._leaving) < most:
            room, since = self._idle.popitem(last=False)
            if since >= before:
                self._idle[room] = since
                self._idle.move_to_end(room, last=False)
                break
            self._leaving[room] = self.rooms.pop(room)
        return dict(self._leaving)

    def forget(self, left: dict[str, str]) -> None:
        """Take in that rooms with these marks are not in the index any more."""
        for room, mark in left.items():
            if self._leaving.get(room) == mark:
                del self._leaving[room]
