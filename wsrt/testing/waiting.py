"""Waiting for a condition in tests, for a bounded time that doesn't depend on Python's clocks."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

SECONDS = 10.0
"""How long a test waits for something that should happen immediately, in seconds."""

TURNS = 20
"""Turns of the event loop within which most conditions become true."""

PAUSES = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Seconds between the checks that follow; the last value is repeated."""


async def until(condition: Callable[[], bool], what: str, *, seconds: float) -> None:
    """
    Wait until ``condition()`` is true.

    This uses neither the loop's timers nor Python's clocks, because a test may have frozen them (with freezegun).

    Args:
        condition: The condition, checked in the event loop.
        what: The description of the condition, used in the error message.
        seconds: The longest wait, in seconds of real time.

    Raises:
        AssertionError: The condition didn't become true in time.
    """
    if await soon(condition):
        return
    with _Pauses(seconds) as pauses:
        while not await soon(condition):
            if pauses.are_over:
                raise AssertionError(f"waited {seconds:g} s for {what}")
            await pauses.next()


async def soon(condition: Callable[[], bool]) -> bool:
    """Return whether ``condition()`` becomes true within the next turns of the event loop."""
    for _ in range(TURNS):
        if condition():
            return True
        await asyncio.sleep(0)
    return False


class _Pauses:
    """Pauses measured by a thread. A thread's waits don't depend on the clocks that a test can freeze."""

    def __init__(self, seconds: float) -> None:
        self.are_over = False
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._is_past = asyncio.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wsrt-testing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    async def next(self) -> None:
        """Wait until the current pause ends."""
        self._is_past.clear()
        await self._is_past.wait()

    def _run(self) -> None:
        left = self._seconds
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            if self._stop.wait(pause):
                return
            left -= pause
            self._loop.call_soon_threadsafe(self._pass, left <= 0)
            if left <= 0:
                return

    def _pass(self, are_over: bool) -> None:
        self.are_over = are_over
        self._is_past.set()
