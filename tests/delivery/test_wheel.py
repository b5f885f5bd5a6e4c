"""The timer wheel."""

from __future__ import annotations

import asyncio

from wsrt.delivery.wheel import TimerWheel


async def test_calls_about_then() -> None:
    """An entry is called at its time or up to a resolution later, and again when it asks for it."""
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop, resolution=0.01)
    calls: list[float] = []
    done = asyncio.Event()

    def tick(now: float) -> float | None:
        calls.append(now)
        if len(calls) == 3:
            done.set()
            return None
        return now + 0.02

    start = loop.time()
    wheel.add(tick, start + 0.02)
    async with asyncio.timeout(5):
        await done.wait()
    assert calls[0] >= start + 0.02
    assert calls[1] >= calls[0] + 0.02
    assert len(wheel) == 0
    assert wheel._handle is None


async def test_last_word_counts() -> None:
    """An entry has one time; discarded it is not called, and nothing turns for nobody."""
    wheel = TimerWheel(asyncio.get_running_loop(), resolution=0.01)
    calls: list[str] = []

    def never(now: float) -> None:
        calls.append("never")

    done = asyncio.Event()

    def last(now: float) -> None:
        done.set()

    wheel.add(never, 0)
    wheel.add(never, asyncio.get_running_loop().time() + 0.02)
    assert len(wheel) == 1
    wheel.discard(never)
    wheel.discard(never)
    wheel.add(last, asyncio.get_running_loop().time() + 0.05)
    async with asyncio.timeout(5):
        await done.wait()
    assert calls == []


async def test_entry_that_discards_its_neighbour() -> None:
    """A tick may remove another one that is due at the same time."""
    wheel = TimerWheel(asyncio.get_running_loop(), resolution=0.01)
    done = asyncio.Event()
    ticks = []

    def make() -> None:
        def tick(now: float) -> None:
            for other in ticks:
                wheel.discard(other)
            done.set()

        ticks.append(tick)
        wheel.add(tick, 0)

    make()
    make()
    async with asyncio.timeout(5):
        await done.wait()
    assert len(wheel) == 0
