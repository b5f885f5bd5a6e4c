"""The inbox: what a connection received and its handlers have not yet taken."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """
    A bounded queue that never refuses: it tells when it is over its limits, and the reader decides.

    The reader must never wait for room (a server that is not read stops reading pongs), so a full inbox is a policy
    of the consumer: it gives the handlers a turn while ``crowded``, and closes when that leaves it ``overfull``.

    Args:
        frames: how many items fit.
        size: how many bytes fit; a single item is always accepted.
    """

    __slots__ = ("_items", "_size", "_uncounted", "frames", "size")

    def __init__(self, frames: int, size: int) -> None:
        self.frames = frames
        self.size = size
        self._items: collections.deque[tuple[T, int | None]] = collections.deque()
        self._size = 0
        # Items that are not the client's: it does not pay for them.
        self._uncounted = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, size: int | None) -> None:
        """Append an item of ``size`` bytes; None for one that does not count for the limits."""
        self._items.append((item, size))
        if size is None:
            self._uncounted += 1
        else:
            self._size += size

    def get(self) -> T:
        """Take the oldest item. The inbox must not be empty."""
        item, size = self._items.popleft()
        if size is None:
            self._uncounted -= 1
        else:
            self._size -= size
        return item

    def sift(self, keep: Callable[[T], bool]) -> None:
        """Take out the items that ``keep`` refuses; it is asked oldest first."""
        items, self._items = self._items, collections.deque()
        self._size = self._uncounted = 0
        for item, size in items:
            if keep(item):
                self.put(item, size)

    def clear(self) -> int:
        """Drop everything; return how many items that were."""
        dropped = len(self._items)
        self._items.clear()
        self._size = self._uncounted = 0
        return dropped

    @property
    def uncounted(self) -> int:
        """How many items wait that do not count for the limits."""
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
