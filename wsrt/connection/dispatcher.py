"""The dispatcher, which runs the work of one connection in order, in a task that exists only while there is work."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..delivery.inbox import Inbox
from ..delivery.tasks import start_task
from ..delivery.turns import Turns
from ..metrics import counters
from ..protocol.session import RawFrame
from .concurrency import ConcurrentRuns
from .db import database_care

FINISH_SECONDS = 5.0
"""How long handlers may go on running after their connection has ended."""

CANCEL_SECONDS = 1.0
"""How long a cancelled handler may take to end."""

logger = logging.getLogger("wsrt")

Work = Callable[[], Coroutine[Any, Any, None]]
"""Work other than a frame: the set-up, a control command, a layer message or a hook of presence."""

Submit = Callable[[Work], bool]
"""Runs work in its turn among the handlers of a connection; returns whether it will run."""


class Dispatcher:
    """
    Runs the set-up, the handlers and the commands of one connection, one at a time, in the order of the inbox.

    All of them run in the same context: context variables that ``on_connect`` sets are visible to handlers. Concurrent
    handlers are only started in this order.

    Args:
        loop: The event loop of the node.
        inbox: The inbox of the connection.
        turns: Shares the event loop with other connections, see Turns.
        handle: Called with each frame.
        runs: The runs of concurrent handlers, which ``handle`` starts.
        context: The context in which all of it runs.
        owner: The name of the consumer, for the log.
        on_failed: Called when the task was cancelled or raised. It must close the connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox[RawFrame | Work],
        turns: Turns,
        handle: Callable[[RawFrame], Coroutine[Any, Any, None]],
        runs: ConcurrentRuns,
        context: contextvars.Context,
        *,
        owner: str,
        on_failed: Callable[[], None],
    ) -> None:
        self.inbox = inbox
        self._loop = loop
        self._turns = turns
        self._handle = handle
        self._runs = runs
        self._context = context
        self._owner = owner
        self._on_failed = on_failed
        # The task that is working. None while there is no work.
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no work is running or waiting."""
        return self._task is None and not self.inbox and not self._runs.tasks

    def put(self, item: RawFrame | Work, size: int | None) -> None:
        """
        Add a frame, or other work, to the inbox.

        Args:
            item: The frame or the work.
            size: The size of the frame in bytes. None for work, which doesn't count against the limits of the inbox.
        """
        self.inbox.put(item, size)
        self.start()

    def start(self, first: Work | None = None) -> None:
        """Start the task if none is running. It runs ``first``, then everything in the inbox."""
        if self._task is None:
            self._task = self.spawn(self._run(first))
            self._task.add_done_callback(self._on_task_done)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in a task of its own, in the context of the connection."""
        return start_task(self._loop, work, context=self._context)

    def drop(self) -> None:
        """Drop everything in the inbox. The work that is running goes on."""
        counters.count("frames_unhandled", times=self.inbox.clear())

    async def finish(self) -> None:
        """Wait for the running work and for the inbox. After FINISH_SECONDS drop the inbox and cancel the work."""
        deadline = self._loop.time() + FINISH_SECONDS
        # Frames that wait in the inbox may start further runs.
        while (tasks := self._working()) and (seconds := deadline - self._loop.time()) > 0:
            # wait() doesn't raise what the tasks raise; _on_task_done() has already logged it.
            await asyncio.wait(tasks, timeout=seconds)
        if tasks:
            counters.count(
                "handlers_cancelled",
                "a handler was still running %s s after its connection had ended: cancelled",
                FINISH_SECONDS,
                times=len(tasks),
            )
            self.drop()
            for task in tasks:
                task.cancel()
            # A coroutine may swallow the cancellation, and a thread can't be stopped. Don't wait for it any longer.
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

    def _working(self) -> tuple[asyncio.Task[None], ...]:
        """Return the tasks that are working: that of the ordered work, and the runs of concurrent handlers."""
        return self._runs.tasks if self._task is None else (self._task, *self._runs.tasks)

    async def _run(self, first: Work | None) -> None:
        # Work may raise: a frame handler deals with every Exception itself, so what arrives here is a cancellation, an
        # error in wsrt, or KeyboardInterrupt. It ends this task, see _on_task_done().
        if first is not None:
            await database_care.run(first)
        while self.inbox:
            item = self.inbox.get()
            started = time.perf_counter()
            work = functools.partial(self._handle, item) if isinstance(item, RawFrame) else item
            await database_care.run(work)
            # Handlers that never wait would otherwise keep the loop from all other connections. In the meantime items
            # may have been added, or dropped by a close.
            await self._turns.spend(time.perf_counter() - started)
        # Nothing has been awaited since the inbox was found empty, so no item is missed: the next one starts a new
        # task.
        self._task = None

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled():
            error = task.exception()
            if error is None:
                return
            logger.error(
                "the task that handles the frames of a connection to %s failed, so the connection is closed",
                self._owner,
                exc_info=error,
            )
        # The task raised, or it was cancelled: by finish(), after which closing does nothing, or by other code, for
        # example a handler that cancels all tasks. No frame would be handled any more.
        self._on_failed()
