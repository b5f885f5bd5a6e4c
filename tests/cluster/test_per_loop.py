"""The registry of values that belong to one event loop each."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from wsrt.cluster.per_loop import PerLoop


class Value:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()


async def test_one_value_for_a_loop() -> None:
    """The value is created when it is first asked for, and stays."""
    values = PerLoop(Value)
    assert values.find() is None
    value = values.get()
    assert (value.loop, values.get(), values.find()) == (asyncio.get_running_loop(), value, value)
    assert values.all() == [value]


def test_closed_loops() -> None:
    """The value of a closed loop isn't listed, and is dropped when the next one is created."""
    values = PerLoop(Value)

    async def get() -> Value:
        return values.get()

    first = asyncio.run(get())
    assert values.all() == []
    second = asyncio.run(get())
    assert first is not second
    assert len(values._values) == 1


def test_no_loop() -> None:
    """A value belongs to a running loop."""
    with pytest.raises(RuntimeError):
        PerLoop(Value).get()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
async def test_fork() -> None:
    """A forked child starts without the values of its parent."""
    values = PerLoop(Value)
    values.get()
    child = os.fork()
    if not child:
        os._exit(len(values._values))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
