"""The creation of wsrt's own tasks, and the cancellation of the current one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    *,
    context: contextvars.Context | None = None,
    name: str | None = None,
) -> asyncio.Task[T]:
    """
    Return a task that runs ``work``. Its first step never runs before this function has returned.

    The loop's task factory isn't used. An eager factory (``asyncio.eager_task_factory``, Python 3.12) would run the
    first step, perhaps all of the work, before the caller has stored the task, and it can't enter a context in which
    the caller is already running. Tasks that handlers create still come from the factory.

    Args:
        loop: The running loop.
        work: The coroutine.
        context: The context of the task; by default a copy of the caller's context.
        name: The name of the task. None for a name such as "Task-7".
    """
    return asyncio.Task(work, loop=loop, context=context, name=name)


def is_being_cancelled() -> bool:
    """Return whether the cancellation of the current task was requested."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
