"""The task that calls handlers, so that the socket is read while a handler waits."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from .listeners import Report

GRACE = 1.0
"""Seconds that a running handler gets to finish when the client is closed."""


class Dispatcher:
    """
    Calls handlers in the order in which events happened, in a task of its own.

    Args:
        limit: The number of calls that may be waiting before ``wait_for_room()`` blocks the reader of the socket.
        report: Receives the errors that calls raise.
        on_lost: Called when the task ended unexpectedly, such as when a handler cancelled it. No handler is called
            from then on.
    """

    def __init__(self, limit: int, report: Report, on_lost: Callable[[], None]) -> None:
        self._limit = limit
        self._report = report
        self._on_lost = on_lost
        # The calls to make, and whether discard() keeps them.
        self._waiting: collections.deque[tuple[Callable[[], Awaitable[None]], bool]] = collections.deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        # The number of callers within unlimited().
        self._unlimited = 0
        self._generation = 0
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start calling handlers."""
        self._is_ending = False
        self._start_task()

    def generation(self) -> int:
        """Return the number of calls to ``discard()``."""
        return self._generation

    @property
    def is_current(self) -> bool:
        """Whether the caller is a handler."""
        return self._task is not None and not self._task.done() and asyncio.current_task() is self._task

    @property
    def has_room(self) -> bool:
        """Whether the socket may be read."""
        return self._has_room.is_set()

    def post(self, call: Callable[[], Awaitable[None]], *, keep: bool = False) -> None:
        """Schedule a call. With ``keep``, ``discard()`` doesn't remove it."""
        self._waiting.append((call, keep))
        self._changed.set()
        self._update_room()

    async def wait_for_room(self) -> None:
        """Wait until there is room for more calls."""
        await self._has_room.wait()

    @contextlib.contextmanager
    def unlimited(self) -> Iterator[None]:
        """Suspend the limit within the context: the caller may be waiting for a frame that wasn't read yet."""
        self._unlimited += 1
        self._update_room()
        try:
            yield
        finally:
            self._unlimited -= 1
            self._update_room()

    def discard(self) -> None:
        """Remove the waiting calls, except those to be kept."""
        self._generation += 1
        self._waiting = collections.deque(entry for entry in self._waiting if entry[1])
        self._update_room()

    async def end(self, grace: float | None) -> None:
        """
        Make the waiting calls and end the task.

        Args:
            grace: Seconds after which the task is cancelled. The calls behind a cancelled handler are then made within
                GRACE. None waits without a limit.
        """
        self._is_ending = True
        self._changed.set()
        for seconds in (grace, GRACE):
            task = self._task
            if task is None or task.done():
                if not self._waiting:
                    return
                task = self._start_task()
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _start_task(self) -> asyncio.Task[None]:
        # An asyncio.Event belongs to the loop in which it was awaited. The client may have been moved to another loop.
        self._changed, self._has_room = asyncio.Event(), asyncio.Event()
        self._update_room()
        self._task = asyncio.create_task(self._run(), name="wsrt-client-handlers")
        self._task.add_done_callback(self._on_done)
        return self._task

    def _update_room(self) -> None:
        if len(self._waiting) < self._limit or self._unlimited:
            self._has_room.set()
        else:
            self._has_room.clear()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task is self._task and not self._is_ending:
            self._on_lost()

    async def _run(self) -> None:
        # An eager task factory takes the first step within create_task(), before self._task is set, by which is_current
        # recognises a handler.
        await asyncio.sleep(0)
        while True:
            while self._waiting:
                call, _ = self._waiting.popleft()
                self._update_room()
                try:
                    await call()
                except Exception as error:
                    self._report(error)
            if self._is_ending:
                return
            self._changed.clear()
            await self._changed.wait()
