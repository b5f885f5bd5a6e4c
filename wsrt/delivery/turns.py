"""Turns: how the connections of one loop share it, where their work never waits for anything by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TURN_SECONDS = 0.005
"""How long the tasks of one loop may work between two of its turns before they have to let others run."""


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
        """Do a long piece of work: one in each turn of the loop, in the order in which they were asked for."""
        async with self._alone:
            try:
                return work()
            finally:
                await asyncio.sleep(0)

    def _begin_turn(self) -> None:
        self._spent = 0.0
