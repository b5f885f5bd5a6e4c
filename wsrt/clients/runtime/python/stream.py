"""Streams of events, for ``async for``."""

from __future__ import annotations

import asyncio
import collections
from typing import Generic, TypeVar

T = TypeVar("T")


class Stream(Generic[T]):
    """
    An asynchronous iterator over events. It continues across reconnects and ends when the client is closed.

    It buffers the latest ``limit`` events for a slow reader. Older ones are dropped and counted in ``dropped``.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._items: collections.deque[T] = collections.deque()
        self._limit = limit
        self._changed = asyncio.Event()
        self._is_closed = False
        self.dropped = 0

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._is_closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()

    def put(self, item: T) -> None:
        """Append an event."""
        if self._is_closed:
            return
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """End the stream after the buffered events."""
        self._is_closed = True
        self._changed.set()
