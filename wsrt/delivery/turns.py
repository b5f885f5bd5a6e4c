"""Turns: how the connections of one loop share it, where their work never waits for anything by itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

TURN_SECONDS = 0.005
"""How long the tasks of one loop may work between two of its turns before they have to let others run."""

TURNS_BETWEEN = 6
"""As many as it takes to read a frame of another client, handle it and write the answer."""


class Turns:
    """
    The turns of one event loop.

    A server that holds frames already gives them out without suspending its reader, so that a burst of one client
    would be one standstill for all others.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Seconds of work since the last turn of the loop.
        self._spent = 0.0
        self._alone = asyncio.Lock()

    async def spend(self, seconds: float) -> None:
        """Account for work that was done; lets others run if that was enough for one turn."""
        if not self._spent:
            # Runs in the next turn, whoever works until then.
            self._loop.call_soon(self._begin_turn)
        self._spent += seconds
        if self._spent >= TURN_SECONDS:
            await asyncio.sleep(0)

    async def alone(self, work: Callable[[], T]) -> T:
        """
        Do a long piece of work: one at a time, in the order in which they were asked for.

        Between two the loop has TURNS_BETWEEN turns, which cost next to nothing where it has nothing else to do.
        """
        async with self._alone:
            try:
                with collection_paused():
                    return work()
            finally:
                for _ in range(TURNS_BETWEEN):
                    await asyncio.sleep(0)

    def _begin_turn(self) -> None:
        self._spent = 0.0


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """
    Keep the garbage collector from running.

    Decoding a frame may allocate some ten thousand objects that are freed at once. By their number the collector would
    think that there is garbage, and look through every object of the process, which takes a tenth of a second.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
