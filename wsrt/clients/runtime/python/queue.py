"""The outbox: what waits for a connection, within limits."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable

from .errors import QueueExpired, QueueFull
from .frame import size_of
from .options import Limits


class Item:
    """
    A frame that waits.

    Attributes:
        on_lost: called if it is never going to be sent.
        ref: of the request that it is, if it is one.
        key: event and key, where only the latest counts.
    """

    __slots__ = ("expiry", "key", "on_lost", "ref", "size", "text")

    def __init__(
        self, text: str, on_lost: Callable[[Exception], None], ref: str | None, key: tuple[str, str] | None
    ) -> None:
        self.text = text
        self.size = size_of(text)
        self.on_lost = on_lost
        self.ref = ref
        self.key = key
        self.expiry: asyncio.TimerHandle | None = None


class Queue:
    """Frames in the order of the calls, each for a limited time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._items: collections.deque[Item] = collections.deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(
        self,
        text: str,
        on_lost: Callable[[Exception], None],
        ref: str | None = None,
        key: tuple[str, str] | None = None,
    ) -> Item:
        """
        Let a frame wait; with a key, in the place of the one that has it: it keeps that one's age too.

        Raises:
            QueueFull: it would be one too many, or too many bytes.
        """
        item = Item(text, on_lost, ref, key)
        limits = self._limits
        old = next((other for other in self._items if key is not None and other.key == key), None)
        is_full = old is None and len(self._items) >= limits.queue_items
        if is_full or self._bytes + item.size - (0 if old is None else old.size) > limits.queue_bytes:
            raise QueueFull(
                f"{len(self._items)} frames with {self._bytes} bytes wait for a connection; "
                f"the limits are {limits.queue_items} and {limits.queue_bytes}"
            )
        if old is not None:
            self._bytes += item.size - old.size
            old.text, old.size = item.text, item.size
            return old
        item.expiry = asyncio.get_running_loop().call_later(limits.queue_age, self._expire, item)
        self._items.append(item)
        self._bytes += item.size
        return item

    def take(self) -> Item | None:
        """Take out the next one; None if there is none."""
        if not self._items:
            return None
        item = self._items[0]
        self.discard(item)
        return item

    def discard(self, item: Item) -> None:
        """Take one out, if it still waits."""
        if item in self._items:
            self._items.remove(item)
            self._bytes -= item.size
        if item.expiry is not None:
            item.expiry.cancel()

    def clear(self, error: Exception) -> None:
        """Give up all that waits."""
        while (item := self.take()) is not None:
            item.on_lost(error)

    def _expire(self, item: Item) -> None:
        self.discard(item)
        item.on_lost(QueueExpired(f"waited for a connection for {self._limits.queue_age:g} s"))
