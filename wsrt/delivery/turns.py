"""The sharing of an event loop between connections whose work doesn't suspend by itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")

TURN_SECONDS = 0.005
"""How long the connections of one loop may work within one turn before they have to yield, in seconds."""

TURNS_BETWEEN = 6
"""The number of turns that it takes to read a frame of another client, handle it and write the answer."""


class Turns:
    """
    Gives all connections of one event loop their turns.

    A server that has buffered frames returns them from ``receive`` without suspending. Without forced turns, a burst of
    one client would stop all other connections until it is handled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # The seconds of work in the present turn of the loop.
        self._spent = 0.0
        self._alone = asyncio.Lock()

    async def spend(self, seconds: float) -> None:
        """Record ``seconds`` of work. Yields to the loop if the connections have used up the present turn."""
        if not self._spent:
            # Runs when the next turn starts, whichever connections work until then.
            self._loop.call_soon(self._begin_turn)
        self._spent += seconds
        if self._spent >= TURN_SECONDS:
            await asyncio.sleep(0)

    async def alone(self, work: Generator[None, None, T]) -> T:
        """
        Run long work in steps, and return its result.

        Calls wait for each other: one piece of work runs at a time, in the order of the calls. After each step, the
        loop gets TURNS_BETWEEN turns. They cost little if it has nothing else to do.

        Args:
            work: A generator that yields after each step and returns the result.
        """
        async with self._alone:
            while True:
                try:
                    with collection_paused():
                        next(work)
                except StopIteration as end:
                    result: T = end.value
                    return result
                finally:
                    # Still under the lock: otherwise the next waiting work would start in the next turn.
                    for _ in range(TURNS_BETWEEN):
                        await asyncio.sleep(0)

    def _begin_turn(self) -> None:
        self._spent = 0.0


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """
    Prevent the garbage collector from running.

    Decoding a frame may allocate ten thousand objects, which are freed soon. Their number would trigger a collection,
    which visits all objects of the process and takes a tenth of a second.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
