"""Calls that must be awaited."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction

from wsrt.delivery.calls import LINES, Call, must_be_awaited, report_calls, reported
from wsrt.metrics import counters


@pytest.fixture(autouse=True)
def _reporting() -> Iterator[None]:
    report_calls(True)
    yield
    report_calls(False)


@must_be_awaited
async def double(number: int) -> int:
    """Return twice the number, later."""
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError("negative")
    return 2 * number


async def test_awaited() -> None:
    """An awaited call returns and raises what its function does."""
    assert await double(2) == 4
    with pytest.raises(ValueError, match="negative"):
        await double(-1)


async def test_driven_by_tasks() -> None:
    """A call is a coroutine for everything that takes one."""
    call = double(1)
    assert isinstance(call, Call)
    assert asyncio.iscoroutine(call)
    assert await asyncio.create_task(call) == 2
    assert await asyncio.gather(double(1), double(2)) == [2, 4]
    assert await asyncio.wait_for(double(3), 10) == 6
    async with asyncio.TaskGroup() as group:
        task = group.create_task(double(4))
    assert task.result() == 8
    assert "double" in repr(task)


async def test_cancelled_task() -> None:
    """A task that is cancelled before its first step has taken the call over, so it isn't reported."""
    task = asyncio.ensure_future(double(1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    running = asyncio.ensure_future(double(1))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_from_sync_code() -> None:
    """``asyncio.run`` and asgiref run a call, and nothing warns."""
    assert asyncio.run(double(1)) == 2
    assert async_to_sync(double)(2) == 4
    assert iscoroutinefunction(double)


def test_closed() -> None:
    """A call that is closed on purpose isn't reported."""
    double(1).close()


def test_never_awaited(caplog: pytest.LogCaptureFixture) -> None:
    """The line that calls is logged, as often as the window allows, and Python's own warning has the same text."""
    line = test_never_awaited.__code__.co_firstlineno + 5
    with pytest.warns(RuntimeWarning) as warned:
        for number in range(LINES + 5):
            double(number)
    text = "double() was never awaited, so it did nothing: write `await double(...)`"
    assert {str(each.message) for each in warned} == {text}
    assert {(each.filename, each.lineno) for each in warned} == {(__file__, line)}
    assert caplog.records[0].getMessage().startswith(f"{__file__}:{line}: {text}")
    assert len(caplog.records) == LINES
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert counters["calls_never_awaited"] >= LINES + 5


def test_line_of_the_call() -> None:
    """A call that is dropped elsewhere is reported with the line that made it."""

    def make() -> Coroutine[Any, Any, int]:
        return double(1)

    made = make()
    with pytest.warns(RuntimeWarning) as warned:
        del made
    assert warned[0].lineno == make.__code__.co_firstlineno + 1


def test_not_reporting(caplog: pytest.LogCaptureFixture) -> None:
    """Without DEBUG a call is the plain coroutine, which costs nothing and has Python's warning only."""
    report_calls(False)
    coroutine = double.__wrapped__(1)  # type: ignore[attr-defined]
    assert reported(coroutine, "double") is coroutine
    coroutine.close()
    made = double(1)
    assert type(made) is types.CoroutineType
    with pytest.warns(RuntimeWarning, match="'double' was never awaited"):
        del made
    assert caplog.records == []
