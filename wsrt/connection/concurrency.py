"""The handlers of one connection that run alongside the ordered ones: those with ``@on(concurrent=...)``."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ..delivery.tasks import start_task
from .db import database_care

logger = logging.getLogger("wsrt")


class ConcurrentRuns:
    """
    The runs of concurrent handlers, each in a task of its own.

    The dispatcher starts them, in the order in which their frames arrived, and waits while a handler has as many runs
    as allowed. So no queue is needed here: further frames wait in the inbox, which is bounded.

    Args:
        loop: The event loop of the node.
        context: The context of the connection. Each run has a copy of it: two runs that set and reset the same context
            variable don't disturb each other.
        owner: The name of the consumer, for the log.
        on_failed: Called when a run was cancelled or raised. It must close the connection.
    """

    __slots__ = ("_context", "_loop", "_on_failed", "_owner", "_runs")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        *,
        owner: str,
        on_failed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._context = context
        self._owner = owner
        self._on_failed = on_failed
        # The running tasks, with the name of their handler.
        self._runs: dict[asyncio.Task[None], str] = {}

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """The tasks of the runs that have not ended."""
        return tuple(self._runs)

    async def wait_for_place(self, handler: str, limit: int) -> None:
        """
        Wait until a handler has fewer runs than its limit.

        Args:
            handler: The name of the handler.
            limit: The maximum number of runs at the same time.
        """
        while len(running := [task for task, name in self._runs.items() if name == handler]) >= limit:
            # Runs remove themselves before this is woken. The connection may have been closed in the meantime.
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    async def start(self, handler: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """
        Start a run of a handler. Returns when it has been called, before any other work of the dispatcher.

        Args:
            handler: The name of the handler.
            work: Calls the handler, and deals with every Exception.
        """
        await database_care.before_handler()
        task = start_task(self._loop, _run(work), context=self._context.copy())
        self._runs[task] = handler
        task.add_done_callback(self._on_done)
        # The first step of the task runs now. Otherwise an ordered handler behind it could run before it.
        await asyncio.sleep(0)

    async def wait(self) -> None:
        """Wait until no run is left."""
        while self._runs:
            await asyncio.wait(self._runs)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._runs[task]
        if not task.cancelled():
            error = task.exception()
            if error is None:
                return
            logger.error("a concurrent handler of %s failed", self._owner, exc_info=error)
        # It raised KeyboardInterrupt or there is an error in wsrt, or it was cancelled: by the end of the connection,
        # after which closing does nothing, or by other code. Its request would never be answered.
        self._on_failed()


async def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    finally:
        database_care.after_handler()
