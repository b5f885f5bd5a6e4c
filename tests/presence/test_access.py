"""The access of readers to the store, and the time that they wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.waiting import aeventually
from wsrt import presence
from wsrt.metrics import counters
from wsrt.presence import access, memory
from wsrt.presence.backends import store_of_loop
from wsrt.presence.base import Change, Join, NodeFacts, StoreUnavailable
from wsrt.presence.memory import MemoryPresence


class Slow(MemoryPresence):
    """A store of several processes, in which somebody died; taking them out goes on when the test says so."""

    is_shared = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gate = asyncio.Event()
        self.reaps = 0
        self.error: Exception | None = None
        self.was_cancelled = False

    async def expired(self) -> tuple[str, ...]:
        return ("dead",) if "dead" in self._state.leases else ()

    async def reap(self, node: str) -> AsyncIterator[list[Change]]:
        self.reaps += 1
        if self.error is not None:
            raise self.error
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        async for changes in super().reap(node):
            yield changes


@pytest.fixture
async def store(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(memory, "_state", memory._State())
    monkeypatch.setattr(access, "READER_SECONDS", 0.1)
    settings.WSRT = {"PRESENCE": {"BACKEND": f"{__name__}.Slow"}}
    store = store_of_loop()
    assert isinstance(store, Slow)
    await store.begin(NodeFacts("dead", {}))
    await store.apply("dead", [Join("n", "r", 1, "ghost")])
    return store


async def count() -> int:
    async with asyncio.timeout(20):
        return await presence.acount("r", namespace="n")


async def test_dead_node_that_takes_long(store: Slow) -> None:
    """A reader does not wait until a large dead node is taken out; one task does that, for all readers."""
    assert [await count(), *await asyncio.gather(*(count() for _ in range(5)))] == [1] * 6
    assert store.reaps == 1
    store.gate.set()
    await aeventually(_is(0))
    assert store.reaps == 1


async def test_dead_node_that_takes_a_moment(store: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken out within a second is not seen by the first reader."""
    monkeypatch.setattr(access, "READER_SECONDS", 20.0)
    reading = asyncio.create_task(count())
    await aeventually(lambda: store.reaps)
    store.gate.set()
    assert await reading == 0


async def test_reader_that_is_cancelled(store: Slow) -> None:
    """A reader that gives up leaves the task to the others."""
    reading = asyncio.create_task(count())
    await aeventually(lambda: store.reaps)
    reading.cancel()
    await asyncio.wait([reading])
    store.gate.set()
    await aeventually(_is(0))
    assert (store.reaps, store.was_cancelled) == (1, False)


@pytest.mark.parametrize("error", [StoreUnavailable("down"), RuntimeError("a bug of the store")])
async def test_dead_node_that_cannot_be_taken_out(store: Slow, error: Exception) -> None:
    """Where a dead node can't be taken out, readers are answered, it is counted, and the next reader tries again."""
    before = counters["presence_unavailable"] + counters["presence_failed"]
    store.error = error
    assert [await count(), await count()] == [1, 1]
    assert counters["presence_unavailable"] + counters["presence_failed"] == before + 2
    store.error = None
    store.gate.set()
    assert await count() == 0


def _is(number: int) -> Callable[[], Any]:
    async def is_number() -> bool:
        return await count() == number

    return is_number
