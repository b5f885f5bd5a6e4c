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
from .db import database_care

FINISH_SECONDS = 5.0
"""How long handlers may go on for a connection that is gone."""

CANCEL_SECONDS = 1.0

logger = logging.getLogger("wsrt")

Work = Callable[[], Coroutine[Any, Any, None]]


class Dispatcher:
    """
    Set-up, handlers and commands of one connection, in order.

    All of them share one context: what on_connect sets, handlers see (H7).

    Args:
        inbox: of the connection.
        turns: of the loop.
        handle: called with each frame.
        on_failed: called when a task ended that should not have; must close.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox[RawFrame | Work],
        turns: Turns,
        handle: Callable[[RawFrame], Coroutine[Any, Any, None]],
        *,
        owner: str,
        on_failed: Callable[[], None],
    ) -> None:
        self.inbox = inbox
        self._loop = loop
        self._turns = turns
        self._handle = handle
        self._owner = owner
        self._on_failed = on_failed
        self._context = contextvars.copy_context()
        # None while there is nothing to do.
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being worked on, and nothing waits."""
        return self._task is None and not self.inbox

    def put(self, item: RawFrame | Work, size: int | None) -> None:
        """Have a frame handled, or something else done, when its turn comes."""
        self.inbox.put(item, size)
        self.start()

    def start(self, first: Work | None = None) -> None:
        """See that what waits is worked on, after ``first``."""
        if self._task is None:
            self._task = self.spawn(self._run(first))
            self._task.add_done_callback(self._ended)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside, in the connection's context."""
        return start_task(self._loop, work, context=self._context)

    def drop(self) -> None:
        """Forget what waits."""
        counters.count("frames_unhandled", times=self.inbox.clear())

    async def finish(self) -> None:
        """Wait for what is under way and what waits; after FINISH_SECONDS cancel it."""
        task = self._task
        if task is None:
            return
        await asyncio.wait([task], timeout=FINISH_SECONDS)
        if not task.done():
            counters.count(
                "handlers_cancelled", "a handler still ran %s s after its connection ended: cancelled", FINISH_SECONDS
            )
            self.drop()
            task.cancel()
            # A def handler cannot be stopped; it is left to itself.
            await asyncio.wait([task], timeout=CANCEL_SECONDS)

    async def _run(self, first: Work | None) -> None:
        if first is not None:
            await database_care.run(first)
        while self.inbox:
            item = self.inbox.get()
            begun = time.perf_counter()
            work = functools.partial(self._handle, item) if isinstance(item, RawFrame) else item
            await database_care.run(work)
            await self._turns.spend(time.perf_counter() - begun)
        # Nothing was awaited since the inbox was seen empty: whatever comes now starts the next task.
        self._task = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled():
            error = task.exception()
            if error is None:
                return
            logger.error("the work of %s failed", self._owner, exc_info=error)
        # Cancelled by somebody else, or a defect of ours: frames would wait for ever.
        self._on_failed()
