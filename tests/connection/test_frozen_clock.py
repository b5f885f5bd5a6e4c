"""The testing kit under a frozen clock, which a test may move."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time

from wsrt import Event, TypedEventConsumer, apublish_to_room, on
from wsrt.testing import client as kit
from wsrt.testing import connect


class Today(Event, name="today"):
    date: datetime.date


class Ask(Event, name="ask"):
    pass


class AskThread(Event, name="ask-thread"):
    pass


class Calendar(TypedEventConsumer):
    namespace = "frozen-clock"
    out_events = (Today,)

    async def on_connect(self) -> None:
        await self.join("all")

    @on
    async def ask(self, event: Ask) -> Today:
        return Today(date=datetime.date.today())

    @on
    def ask_thread(self, event: AskThread) -> Today:
        return Today(date=datetime.date.today())


class SlowSetUp(Calendar):
    namespace = "frozen-clock-slow"

    def authorize(self) -> bool:  # type: ignore[override]
        time.sleep(0.05)  # longer than a few turns of the loop
        return True


@pytest.fixture
def clock() -> Iterator[Any]:
    with freeze_time("2020-02-29", ignore=["_pytest.timing"]) as frozen:
        yield frozen


async def test_frozen_clock(clock: Any) -> None:
    """Connecting, requests, publications, silence and the end need no clock that goes on."""
    async with connect(Calendar) as client:
        assert await client.request(Ask()) == Today(date=datetime.date(2020, 2, 29))
        assert await client.request(AskThread()) == Today(date=datetime.date(2020, 2, 29))
        await apublish_to_room("all", Today(date=datetime.date(2020, 1, 1)), namespace="frozen-clock")
        assert (await client.receive(Today)).date.month == 1
        await client.assert_silent()


async def test_clock_that_is_moved(clock: Any) -> None:
    """A test may move the clock by days while a client is connected."""
    async with connect(Calendar, subprotocols=["wsrt.v1"]) as client:
        clock.move_to("2020-03-31")
        assert await client.request(Ask()) == Today(date=datetime.date(2020, 3, 31))
        await client.settle()
        clock.tick(datetime.timedelta(days=1))
        assert await client.request(Ask()) == Today(date=datetime.date(2020, 4, 1))


async def test_set_up_in_a_thread(clock: Any) -> None:
    """A set-up that takes a while in a thread is waited for."""
    async with connect(SlowSetUp) as client:
        assert client.consumer._connection.is_visible


async def test_wait_that_ends(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that never comes fails the test in real time."""
    monkeypatch.setattr(kit, "SECONDS", 0.02)
    async with connect(Calendar) as client:
        with pytest.raises(AssertionError, match=r"waited 0\.02 s for a frame"):
            await client.receive(Today)


async def test_consumer_that_does_not_end(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that outlives its client fails the test in real time, and is cancelled."""
    monkeypatch.setattr(kit, "CLEAN_UP_SECONDS", 0.02)
    ended = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = connect(application)
    with pytest.raises(AssertionError, match=r"waited 0\.02 s for the consumer to clean up"):
        async with client:
            pass
    await ended.wait()
