"""The inbox: the frames that a connection has received and its handlers have not processed yet."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """
    A queue that reports when it is over its limits, but never refuses an item. The reader decides what to do.

    The reader must never wait for space: a server that isn't read from stops reading pongs. Instead, the reader gives
    the handlers a turn while the inbox is ``crowded``, and closes the connection if it is still ``overfull`` after
    that.

    Args:
        frames: The maximum number of items.
        size: The maximum size in bytes. A single item may be larger.
    """

    __slots__ = ("_items", "_size", "_uncounted", "frames", "size")

    def __init__(self, frames: int, size: int) -> None:
        self.frames = frames
        self.size = size
        self._items: collections.deque[tuple[T, int | None]] = collections.deque()
        self._size = 0
        # The number of items that don't count towards the limits, because they don't come from the client.
        self._uncounted = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, size: int | None) -> None:
        """Append an item of ``size`` bytes, or None if it doesn't count towards the limits."""
        self._items.append((item, size))
        if size is None:
            self._uncounted += 1
        else:
            self._size += size

    def get(self) -> T:
        """Remove and return the oldest item. The inbox must not be empty."""
        item, size = self._items.popleft()
        if size is None:
            self._uncounted -= 1
        else:
            self._size -= size
        return item

    def sift(self, keep: Callable[[T], bool]) -> None:
        """Remove the items for which ``keep`` returns False. It is called with each item, oldest first."""
        items, self._items = self._items, collections.deque()
        self._size = self._uncounted = 0
        for item, size in items:
            if keep(item):
                self.put(item, size)

    def clear(self) -> int:
        """Remove all items, and return their number."""
        dropped = len(self._items)
        self._items.clear()
        self._size = self._uncounted = 0
        return dropped

    @property
    def uncounted(self) -> int:
        """The number of items that don't count towards the limits."""
        return self._uncounted

    @property
    def crowded(self) -> bool:
        """Whether it is more than half full."""
        return 2 * self._counted > self.frames or 2 * self._size > self.size

    @property
    def overfull(self) -> bool:
        """Whether it is over a limit."""
        return self._counted > self.frames or (self._size > self.size and self._counted > 1)

    @property
    def _counted(self) -> int:
        return len(self._items) - self._uncounted
