"""The tasks that a consumer starts with ``create_task``, which end with its connection."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..delivery.tasks import start_task
from ..exceptions import TooManyTasks, WrongContext
from ..metrics import counters
from .db import database_care
from .refusals import Translate, refusal_of

END_SECONDS = 5.0
"""How long cancelled tasks may take to end, in seconds. Running handlers have the same time."""

T = TypeVar("T")

logger = logging.getLogger("wsrt")


class ConnectionTasks:
    """
    The tasks that a consumer has started for one connection.

    They run alongside the handlers. When the connection ends, they are cancelled and waited for: their ``finally``
    blocks run before ``on_disconnect``, and before a drain lets the process end.

    Args:
        loop: The event loop of the node.
        context: The context of the connection. Each task runs in a copy of it.
        limit: The maximum number of tasks that run at the same time.
        owner: The name of the consumer, for the log.
        is_open: Whether the connection is still open.
        refusal_for: The consumer's ``refusal_for``.
    """

    __slots__ = ("_context", "_deadline", "_is_open", "_limit", "_loop", "_owner", "_refusal_for", "_tasks")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        *,
        limit: int,
        owner: str,
        is_open: Callable[[], bool],
        refusal_for: Translate,
    ) -> None:
        self._loop = loop
        self._context = context
        self._limit = limit
        self._owner = owner
        self._is_open = is_open
        self._refusal_for = refusal_for
        # The event loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[Any]] = set()
        # The time until which cancelled tasks are waited for. None until the connection has ended.
        self._deadline: float | None = None

    def create(self, coroutine: Coroutine[Any, Any, T], name: str | None) -> asyncio.Task[T]:
        """
        Return a task that runs a coroutine. If the connection is closed, the task is cancelled before its first step.

        Args:
            coroutine: The coroutine. It is closed if this raises.
            name: The name of the task, for the log. None for that of the coroutine.

        Raises:
            TypeError: The argument isn't a coroutine.
            TooManyTasks: As many tasks as allowed are running.
            WrongContext: The event loop of the connection isn't running in this thread.
        """
        given: object = coroutine
        if not isinstance(given, Coroutine):
            hint = f"call it, {given.__name__}(...)" if hasattr(given, "__name__") else "call an async def"
            raise TypeError(f"self.create_task() takes a coroutine, not {given!r}: {hint}")
        try:
            self._check()
        except Exception:
            # Otherwise Python would warn that it was never awaited, as if that were the mistake.
            coroutine.close()
            raise
        name = name or getattr(coroutine, "__qualname__", None)
        task = start_task(self._loop, _run(coroutine), context=self._context.copy(), name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._on_done(task, coroutine))
        if not self._is_open():
            task.cancel()
        return task

    def cancel(self) -> None:
        """Cancel the tasks, because the connection has ended."""
        self._deadline = self._loop.time() + END_SECONDS
        for task in self._tasks:
            task.cancel()

    async def finish(self) -> None:
        """Wait for the tasks that cancel() has cancelled, until END_SECONDS after it."""
        if not self._tasks or self._deadline is None:
            return
        # wait() doesn't raise what the tasks raise; _on_done() logs it.
        _, running = await asyncio.wait(self._tasks, timeout=max(0.0, self._deadline - self._loop.time()))
        if running:
            # They swallow the cancellation, or take long to clean up.
            counters.count(
                "tasks_abandoned",
                "tasks of a connection to %s were still running %s s after they had been cancelled: %s",
                self._owner,
                END_SECONDS,
                ", ".join(sorted(task.get_name() for task in running)),
                times=len(running),
            )

    def _check(self) -> None:
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if not is_here:
            raise WrongContext(
                "the connection's event loop isn't running in this thread, so self.create_task() can't start a task: "
                "make the method an async def"
            )
        if len(self._tasks) >= self._limit:
            counters.count("tasks_over_limit")
            raise TooManyTasks(self._limit)

    def _on_done(self, task: asyncio.Task[Any], coroutine: Coroutine[Any, Any, Any]) -> None:
        self._tasks.discard(task)
        # It has not been started if the task was cancelled before its first step. Otherwise this does nothing.
        coroutine.close()
        # exception() also marks the exception as retrieved. asyncio would log it again.
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        refusal = refusal_of(error, self._refusal_for) if isinstance(error, Exception) else None
        if refusal is not None:
            # No request waits for an answer. It isn't a bug either, such as a room that the client may not join.
            counters.count(
                "tasks_refused", "the task %s of %s ended with a refusal: %r", task.get_name(), self._owner, error
            )
            return
        counters.count("tasks_failed")
        logger.error("the task %s of %s failed", task.get_name(), self._owner, exc_info=error)


async def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return await database_care.run(lambda: coroutine)
    except Exception:
        # The exception may be due to a broken database connection.
        database_care.mark()
        raise
