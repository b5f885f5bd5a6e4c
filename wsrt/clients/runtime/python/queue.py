"""The queue of frames that wait for a connection."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable

from .errors import QueueExpired, QueueFull
from .frame import size_of
from .options import Limits


class Item:
    """
    A frame in the queue.

    Attributes:
        text: The frame.
        size: The length of the frame, in bytes.
        on_lost: Called with an error if the frame will never be sent.
        ref: The reference of the request, or None if the frame isn't a request.
        key: The event and its key, if the latest frame replaces older ones. None otherwise.
        expiry: The timer that removes the item when it has waited too long.
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
    """Frames in the order of the calls, limited in number, bytes and age."""

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
        Add a frame, or replace the frame with the same key. A replacement keeps the position and age of the old frame.

        Raises:
            QueueFull: The frame would exceed the limits.
        """
        item = Item(text, on_lost, ref, key)
        limits = self._limits
        old = next((other for other in self._items if key is not None and other.key == key), None)
        is_full = old is None and len(self._items) >= limits.queue_items
        if is_full or self._bytes + item.size - (0 if old is None else old.size) > limits.queue_bytes:
            raise QueueFull(
                f"no space for {item.size} bytes: {len(self._items)} frames with {self._bytes} bytes are waiting for "
                f"a connection, and the limits are {limits.queue_items} frames and {limits.queue_bytes} bytes"
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
        """Remove and return the next item. Return None if the queue is empty."""
        if not self._items:
            return None
        item = self._items[0]
        self.discard(item)
        return item

    def discard(self, item: Item) -> None:
        """Remove an item, if it is still in the queue."""
        if item in self._items:
            self._items.remove(item)
            self._bytes -= item.size
        if item.expiry is not None:
            item.expiry.cancel()

    def clear(self, error: Exception) -> None:
        """Remove all items and report each as lost."""
        while (item := self.take()) is not None:
            item.on_lost(error)

    def _expire(self, item: Item) -> None:
        self.discard(item)
        item.on_lost(QueueExpired(f"waited {self._limits.queue_age:g} s for a connection"))
