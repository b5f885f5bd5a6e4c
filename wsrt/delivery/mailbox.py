"""The mailbox: what other threads hand to a loop."""

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
"""Resolved when an item was taken, or dropped because the loop has ended."""

FRAMES = 1_000
"""Items that may wait before those who put more wait too."""

BYTES = 4_194_304


class Mailbox(Generic[T]):
    """
    An ordered queue into an event loop, from any thread.

    The loop takes one item after the other and gets turns in between, so that a burst (the publications of one commit)
    isn't taken for clients that read slowly. It is bounded by those who put: over the limits they have to wait.

    Args:
        loop: The loop in which items are taken.
        take: Called with each item. What it raises is counted.
        checkpoint: Awaited after each item; gives the loop turns where they are due.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[T], None], checkpoint: Callable[[], Awaitable[None]]
    ) -> None:
        self._loop = loop
        self._take = take
        self._checkpoint = checkpoint
        # Guards what follows, but for the task, which belongs to the loop.
        self._lock = threading.Lock()
        self._items: collections.deque[tuple[T, int, Taken]] = collections.deque()
        self._size = 0
        # Whether the loop was told.
        self._is_awake = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, size: int = 0) -> Taken:
        """Append an item of ``size`` bytes. Call ``must_wait`` afterwards."""
        taken: Taken = concurrent.futures.Future()
        # From now on it can't be cancelled by a caller that gives up.
        taken.set_running_or_notify_cancel()
        with self._lock:
            self._items.append((item, size, taken))
            self._size += size
            wakes, self._is_awake = not self._is_awake, True
        if wakes:
            try:
                self._loop.call_soon_threadsafe(self._begin)
            except RuntimeError:
                # A loop that was closed has no connections.
                self._drop()
        return taken

    @property
    def must_wait(self) -> bool:
        """Whether so much waits that whoever puts items should wait until theirs is taken."""
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
                    counters.count(
                        "deliveries_failed", "something from another thread could not be delivered: %r", error
                    )
                finally:
                    taken.set_result(None)
                await self._checkpoint()
        except asyncio.CancelledError:
            # The loop ends.
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
