"""The timer wheel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from wsrt.delivery.timer_wheel import TimerWheel
from wsrt.metrics import counters
from wsrt.protocol.heartbeat import Beat, Heartbeat


class Loop:
    """An event loop whose clock the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        self.timers.append((self.now + delay, callback))
        return callback

    def stand_still(self, seconds: float) -> None:
        """Let time pass without running anything, as a stopped process does."""
        self.now += seconds

    def run(self, seconds: float) -> None:
        """Let time pass, and run each timer when it is due, or now if that was missed."""
        end = self.now + seconds
        while self.timers and min(self.timers)[0] <= end:
            self.timers.sort(key=lambda timer: timer[0])
            due, callback = self.timers.pop(0)
            self.now = max(self.now, due)
            callback()
        self.now = max(self.now, end)


def standing_wheel() -> tuple[Any, TimerWheel]:
    loop: Any = Loop()
    return loop, TimerWheel(loop, resolution=0.1)


def test_its_clock_leaves_standstills_out() -> None:
    """While the process stands still the wheel's clock does too, and it never runs backwards."""
    loop, wheel = standing_wheel()
    wheel.add(lambda now: None, wheel.time() + 1000)
    start = wheel.time()
    loop.run(5)
    assert wheel.time() == pytest.approx(start + 5, abs=0.11)
    before = wheel.time()
    loop.stand_still(60)
    # Read before the wheel has turned: by what was received first.
    assert before <= wheel.time() <= before + 0.21
    loop.run(0.1)
    loop.stand_still(3600)
    loop.run(5)
    assert before + 5 <= wheel.time() <= before + 5 + 0.6


def test_its_clock_runs_while_nothing_is_timed() -> None:
    """Time that passes without an entry isn't a suspension."""
    loop, wheel = standing_wheel()
    start = wheel.time()
    loop.stand_still(60)
    assert wheel.time() == start + 60
    wheel.add(lambda now: None, wheel.time() + 0.5)
    loop.run(1)
    loop.stand_still(60)
    assert wheel.time() == start + 121


def test_entries_keep_what_was_left_of_their_time() -> None:
    """An entry whose time passed while the process stood still is called as much later."""
    loop, wheel = standing_wheel()
    calls: list[float] = []

    def tick(now: float) -> None:
        calls.append(loop.now)

    wheel.add(tick, wheel.time() + 10)
    loop.run(4)
    loop.stand_still(100)
    loop.run(5.5)
    assert calls == []
    loop.run(1)
    assert len(calls) == 1


@pytest.mark.parametrize("stops", [1, 5])
def test_a_standstill_is_no_silence_of_the_peer(stops: int) -> None:
    """However long and often the process stands still, a peer has the whole time-out to answer (S49)."""
    loop, wheel = standing_wheel()
    heartbeat = Heartbeat(20, 10, now=wheel.time())
    beats: list[Beat] = []

    def tick(now: float) -> float:
        beats.append(heartbeat.tick(now))
        return heartbeat.due

    wheel.add(tick, heartbeat.due)
    loop.run(20.2)
    assert beats == [Beat.PING]
    for _ in range(stops):
        loop.run(1)
        loop.stand_still(60)
    loop.run(9 - stops)
    assert Beat.TIMEOUT not in beats
    loop.run(2)
    assert beats[-1] is Beat.TIMEOUT


def test_entry_that_raises() -> None:
    """A tick that raises is counted and not called again; the others are called."""
    loop, wheel = standing_wheel()
    calls: list[str] = []

    def broken(now: float) -> float:
        raise OSError("gone")

    def other(now: float) -> None:
        calls.append("other")

    before = counters["timers_failed"]
    wheel.add(broken, wheel.time())
    wheel.add(other, wheel.time())
    loop.run(1)
    assert calls == ["other"]
    assert counters["timers_failed"] == before + 1
    assert len(wheel) == 0


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
    """An entry has one time. A discarded one isn't called, and an empty wheel doesn't turn."""
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
