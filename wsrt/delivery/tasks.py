"""Tasks of the library's own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], *, context: contextvars.Context | None = None
) -> asyncio.Task[T]:
    """
    Return a task that runs ``work``; its first step never runs before this function has returned.

    The loop's task factory isn't asked. An eager one (``asyncio.eager_task_factory``, Python 3.12) would run the first
    step, perhaps all of it, before the caller has stored the task that says that something is under way, and it can't
    enter a context that the caller already runs in. Tasks that handlers create still come from the factory.

    Args:
        context: What the task runs in; a copy of the caller's context by default.
    """
    return asyncio.Task(work, loop=loop, context=context)
