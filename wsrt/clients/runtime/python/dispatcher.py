"""DISP"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from .listeners import Report

GRACE = 1.0
"""Seconds that a running handler gets when the client is closed."""


class Dispatcher:
    """
    Calls handlers in the order of what happened, in a task of its own: the socket is read while a handler waits.

    Args:
        limit: how much may wait for handlers; ``until_room()`` tells whoever reads the socket.
        on_lost: called when that task has ended by itself, as when somebody cancels it: no handler is called any more.
    """

    def __init__(self, limit: int, report: Report, on_lost: Callable[[], None]) -> None:
        self._limit = limit
        self._report = report
        self._on_lost = on_lost
        # Calls, and whether they outlive clear().
        self._waiting: collections.deque[tuple[Callable[[], Awaitable[None]], bool]] = collections.deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        # How many want the socket to be read, whatever waits.
        self._unlimited = 0
        self._generation = 0
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to call handlers."""
        self._is_ending = False
        self._start_task()

    def generation(self) -> int:
        """Return how often ``clear()`` was called."""
        return self._generation

    @property
    def is_current(self) -> bool:
        """Whether the caller is a handler."""
        return self._task is not None and not self._task.done() and asyncio.current_task() is self._task

    @property
    def has_room(self) -> bool:
        """Whether no handler is behind, or somebody is in a hurry."""
        return self._has_room.is_set()

    def post(self, call: Callable[[], Awaitable[None]], *, keep: bool = False) -> None:
        """Let something be told; with ``keep`` also after ``clear()``."""
        self._waiting.append((call, keep))
        self._changed.set()
        self._update_room()

    async def wait_for_room(self) -> None:
        """Wait while too much waits for handlers, and nobody is in a hurry."""
        await self._has_room.wait()

    @contextlib.contextmanager
    def unlimited(self) -> Iterator[None]:
        """Within, there is room for whatever comes: what the caller waits for may be behind it."""
        self._unlimited += 1
        self._update_room()
        try:
            yield
        finally:
            self._unlimited -= 1
            self._update_room()

    def discard(self) -> None:
        """Forget what was not told yet, but for what is to be kept."""
        self._generation += 1
        self._waiting = collections.deque(entry for entry in self._waiting if entry[1])
        self._update_room()

    async def end(self, grace: float | None) -> None:
        """
        Tell what there is to tell, and end; after ``grace`` seconds by force.

        What still waits behind a handler that was ended by force is told then, within GRACE.
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
        # Anew: events belong to the loop in which they were waited for.
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
