"""Tasks of the library's own, below an eager task factory."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from tests.support.eager import eager_task_factory
from wsrt.delivery.tasks import start_task

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")


@pytest.fixture(params=[None, eager_task_factory], ids=["lazy", "eager"], autouse=True)
async def factory(request: pytest.FixtureRequest) -> None:
    asyncio.get_running_loop().set_task_factory(request.param)


async def test_begins_after_it_is_stored() -> None:
    """A task's first step runs after start_task() has returned, whatever the task factory."""
    steps: list[str] = []

    async def work() -> str:
        steps.append("work")
        return "done"

    task = start_task(asyncio.get_running_loop(), work())
    assert steps == []
    assert await task == "done"


async def test_context_that_is_entered() -> None:
    """A task may run in the context in which the caller runs."""
    context = contextvars.copy_context()

    async def inner() -> str:
        return name.get()

    async def outer() -> asyncio.Task[str]:
        name.set("outer")
        return start_task(asyncio.get_running_loop(), inner(), context=context)

    task = await start_task(asyncio.get_running_loop(), outer(), context=context)
    assert await task == "outer"


async def test_cancelled_before_it_began() -> None:
    """A task that is cancelled before its first step leaves nothing behind that was never awaited."""

    async def work() -> None:
        raise AssertionError("it was cancelled")

    task = start_task(asyncio.get_running_loop(), work())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
