"""Turns: work that never waits yields to other work."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Generator

from wsrt.delivery.turns import TURN_SECONDS, TURNS_BETWEEN, Turns


class Ticks:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._tick()

    def _tick(self) -> None:
        self.number += 1
        self._loop.call_soon(self._tick)


async def test_spend() -> None:
    """A little work is free; once it adds up, the worker gives the loop a turn, and counts from zero."""
    turns, ticks = Turns(asyncio.get_running_loop()), Ticks()
    begun = ticks.number
    await turns.spend(TURN_SECONDS / 2)
    assert ticks.number == begun
    await turns.spend(TURN_SECONDS / 2)
    assert ticks.number == begun + 1
    await turns.spend(TURN_SECONDS / 2)
    assert ticks.number == begun + 1


async def test_budget_is_shared() -> None:
    """Many that work a little each count together."""
    turns, ticks = Turns(asyncio.get_running_loop()), Ticks()
    done: list[int] = []

    async def work() -> None:
        for _ in range(4):
            await turns.spend(TURN_SECONDS / 2)
            done.append(ticks.number)

    await asyncio.gather(*(work() for _ in range(10)))
    # Alone each would be done in two turns.
    assert len(set(done)) >= 4


async def test_alone() -> None:
    """Long work is done one at a time, with turns after each step, in the order in which it was asked for."""
    turns, ticks = Turns(asyncio.get_running_loop()), Ticks()
    done: list[tuple[int, int]] = []

    def work(number: int) -> Generator[None, None, int]:
        done.append((number, ticks.number))
        yield
        done.append((number, ticks.number))
        return number

    assert await asyncio.gather(*(turns.alone(work(number)) for number in range(5))) == list(range(5))
    assert [number for number, _ in done] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    ticked = [tick for _, tick in done]
    assert all(later - earlier >= TURNS_BETWEEN for earlier, later in itertools.pairwise(ticked))


async def test_alone_after_a_failure() -> None:
    """Work that fails, or whose caller is cancelled between two steps, delays no other work."""
    turns = Turns(asyncio.get_running_loop())

    def work(divisor: int) -> Generator[None, None, float]:
        yield
        return 1 / divisor

    results = await asyncio.gather(turns.alone(work(0)), turns.alone(work(1)), return_exceptions=True)
    assert isinstance(results[0], ZeroDivisionError)
    assert results[1] == 1
    cancelled = asyncio.create_task(turns.alone(work(1)))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await turns.alone(work(1)) == 1
    assert cancelled.cancelled()


async def test_no_collection() -> None:
    """Long work that allocates much makes the garbage collector look through nothing."""
    turns = Turns(asyncio.get_running_loop())
    begun: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        begun.append(info["generation"])

    def work() -> Generator[None, None, None]:
        for _ in range(10):
            [[] for _ in range(10_000)]
            yield

    gc.callbacks.append(note)
    try:
        for _ in work():
            pass
        assert begun
        begun.clear()
        await turns.alone(work())
        assert begun == []
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(note)
