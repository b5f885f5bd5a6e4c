"""The mailbox: a queue through which other threads pass items to an event loop."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ..metrics import counters
from .tasks import start_task

T = TypeVar("T")

Taken = concurrent.futures.Future[None]
"""A future that is resolved when the item was taken, or was dropped because the loop has ended."""

FRAMES = 1_000
"""The number of waiting items beyond which callers of put() have to wait."""

BYTES = 4_194_304
"""The same limit in bytes."""


class Mailbox(Generic[T]):
    """
    An ordered queue into an event loop, from any thread.

    Items are taken one at a time, and the loop runs its other tasks in between. Otherwise a burst, such as the
    publications of one commit, would overflow the outboxes of clients that do read. The mailbox is bounded by
    back-pressure: over the limits, callers of put() have to wait.

    Args:
        loop: The loop in which items are taken.
        take: Called with each item in the loop. Exceptions are counted and logged.
        checkpoint: Awaited after each item, so that other tasks can run.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[T], None], checkpoint: Callable[[], Awaitable[None]]
    ) -> None:
        self._loop = loop
        self._take = take
        self._checkpoint = checkpoint
        # Guards the attributes below, except the task, which is only used in the loop.
        self._lock = threading.Lock()
        self._items: collections.deque[tuple[T, int, Taken]] = collections.deque()
        self._size = 0
        # Whether the loop was woken, so that a task takes the items.
        self._is_awake = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, size: int = 0) -> Taken:
        """
        Append an item of ``size`` bytes, and return a future that is resolved when the item has been taken.

        The caller should wait for it if ``must_wait`` is True afterwards.
        """
        taken: Taken = concurrent.futures.Future()
        # A running future can't be cancelled, so a caller that gives up can't withdraw the item.
        taken.set_running_or_notify_cancel()
        with self._lock:
            self._items.append((item, size, taken))
            self._size += size
            wakes, self._is_awake = not self._is_awake, True
        if wakes:
            try:
                self._loop.call_soon_threadsafe(self._begin)
            except RuntimeError:
                # The loop is closed, so it has no connections.
                self._drop()
        return taken

    @property
    def must_wait(self) -> bool:
        """Whether the mailbox is over its limits, so callers of put() should wait until their item is taken."""
        return len(self._items) > FRAMES or self._size > BYTES

    def _begin(self) -> None:
        self._task = start_task(self._loop, self._run())

    async def _run(self) -> None:
        try:
            while (entry := self._next()) is not None:
                item, taken = entry
                try:
                    self._take(item)
                except Exception as error:
                    counters.count("deliveries_failed", "failed to deliver an item from another thread: %r", error)
                finally:
                    taken.set_result(None)
                await self._checkpoint()
        except asyncio.CancelledError:
            # The loop is shutting down. Resolve the futures of waiting items, for which threads may be waiting.
            self._drop()
            raise

    def _next(self) -> tuple[T, Taken] | None:
        with self._lock:
            if not self._items:
                self._is_awake = False
                return None
            item, size, taken = self._items.popleft()
            self._size -= size
            return item, taken

    def _drop(self) -> None:
        with self._lock:
            items, self._items = self._items, collections.deque()
            self._size, self._is_awake = 0, False
        for _, _, taken in items:
            taken.set_result(None)
