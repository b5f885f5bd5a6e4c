"""Concurrent handlers: they start in the order of their frames, and the frames behind them don't wait for their end."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.recorder import Number, Recorder, Text
from wsrt import Closed, DeclarationError, Event, close_codes, on
from wsrt.connection import dispatcher, drain
from wsrt.metrics import counters
from wsrt.testing import Client, RequestRefused, connect

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Look(Event, name="look"):
    number: int = 0


class Peek(Event, name="peek"):
    number: int = 0


class Step(Event, name="step"):
    number: int = 0


class Gates(Recorder):
    """Each handler waits until the test lets it end."""

    namespace = "unit-concurrency"
    rate = None
    running: dict[int, asyncio.Future[None]]

    async def on_connect(self) -> None:
        self.running = {}

    async def on_disconnect(self, closed: Closed) -> None:
        self.seen.append(closed)

    async def pass_gate(self, number: int) -> Number:
        self.seen.append(number)
        self.running[number] = asyncio.get_running_loop().create_future()
        try:
            await self.running[number]
        finally:
            del self.running[number]
        return Number(value=number)

    @on(concurrent=3)
    async def look(self, event: Look) -> Number:
        return await self.pass_gate(event.number)

    @on(Peek, concurrent=1)
    async def peek(self, event: Peek) -> Number:
        return await self.pass_gate(event.number)

    @on
    async def step(self, event: Step) -> Number:
        return await self.pass_gate(event.number)


def answers(client: Client) -> list[int]:
    """Return the refs of the answers so far, each of which has the value that belongs to it."""
    for frame in client._frames:
        assert frame["event"] == "number"
        assert frame["ref"] == frame["data"]["value"]
    return [frame["ref"] for frame in client._frames]


@pytest.fixture(autouse=True)
def short_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that are still running when their client leaves are soon cancelled."""
    monkeypatch.setattr(dispatcher, "FINISH_SECONDS", 0.05)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_next_to_each_other() -> None:
    """Runs of a handler are next to each other and to ordered handlers. Each request gets its own answer."""
    async with connect(Gates) as client:
        running = client.consumer.running
        for number in range(3):
            await client.send(Look(number=number), ref=number)
        await client.send(Step(number=3), ref=3)
        await turns()
        assert list(running) == [0, 1, 2, 3]
        for number in (3, 1, 0, 2):
            running[number].set_result(None)
            await turns()
        assert answers(client) == [3, 1, 0, 2]


async def test_bounded() -> None:
    """While a handler has as many runs as it may, its next frame waits, and all frames behind that one."""
    async with connect(Gates) as client:
        running = client.consumer.running
        for number in range(4):
            await client.send(Look(number=number), ref=number)
        await client.send(Peek(number=4), ref=4)
        await turns()
        assert list(running) == [0, 1, 2]
        running[1].set_result(None)
        await turns()
        assert list(running) == [0, 2, 3, 4]
        for gate in list(running.values()):
            gate.set_result(None)


async def test_back_pressure() -> None:
    """A client that sends more than its handlers take is closed with 4429, and memory stays bounded."""

    class Narrow(Gates):
        inbox_frames = 10

    before = counters["frames_unhandled"]
    async with connect(Narrow) as client:
        for _ in range(30):
            await client.send(Look())
        await client.assert_closed(close_codes.RATE_LIMIT_EXCEEDED)
        assert len(client.consumer._connection.runs.tasks) == 3
        assert len(client.consumer._connection.dispatcher.inbox) <= 11
        for gate in list(client.consumer.running.values()):
            gate.set_result(None)
    # The frame that waited for a place is dropped like those behind it.
    assert client.consumer.seen[:-1] == [0, 0, 0]
    assert counters["frames_unhandled"] >= before + 11


KINDS: dict[str, tuple[type[Event], int | None]] = {"look": (Look, 3), "peek": (Peek, 1), "step": (Step, None)}

BURSTS = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6)
ACTIONS = st.lists(st.one_of(BURSTS, st.integers(0, 3)), max_size=25)
"""Send frames of these kinds at once, or let the n-th of the running handlers end."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_order(actions: list[list[str] | int]) -> None:
    """Whatever is sent, and in which order handlers end: what runs is what a model of the order says (S13)."""
    asyncio.run(_follow(actions))


async def _follow(actions: list[list[str] | int]) -> None:
    waiting: list[tuple[str, int]] = []
    running: list[tuple[str, int]] = []
    started: list[int] = []
    ended: list[int] = []

    def advance() -> None:
        """Start what may start: everything in order, and nothing behind an ordered handler or a full one."""
        while waiting:
            kind, number = waiting[0]
            kinds = [other for other, _ in running]
            limit = KINDS[kind][1]
            if "step" in kinds or (limit is not None and kinds.count(kind) >= limit):
                return
            running.append(waiting.pop(0))
            started.append(number)

    async with connect(Gates) as client:
        numbers = itertools.count()
        for action in actions:
            if isinstance(action, list):
                for kind in action:
                    waiting.append((kind, number := next(numbers)))
                    event: Any = KINDS[kind][0]
                    await client.send(event(number=number), ref=number)
            elif action < len(running):
                _, done = running.pop(action)
                ended.append(done)
                client.consumer.running[done].set_result(None)
            advance()
            await turns()
            assert client.consumer.seen == started
            assert set(client.consumer.running) == {number for _, number in running}
            assert answers(client) == ended


async def test_refusals_and_violations() -> None:
    """Refusals answer their own request, and a frame without ref gets nothing; invalid frames are answered in order."""

    class Refusing(Gates):
        @on(concurrent=2)
        async def look(self, event: Look) -> Number:
            await asyncio.sleep(0)
            raise PermissionDenied("not you")

    async with connect(Refusing, subprotocols=["wsrt.v1"]) as client:
        with pytest.raises(RequestRefused, match="forbidden: not you"):
            await client.request(Look())
        await client.send(Look())
        await client.assert_silent()
        await client.send_text('{"event": "look", "ref": 1, "data": {"number": "x"}}')
        await client.send(Look(), ref=2)
        assert [(await client.receive_json())["data"]["code"] for _ in range(2)] == ["invalid_data", "forbidden"]


async def test_error(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged, answers the request and closes the connection, as that of an ordered handler."""

    class Failing(Gates):
        @on(concurrent=2)
        async def look(self, event: Look) -> Number:
            await asyncio.sleep(0)
            raise ZeroDivisionError

    before = counters["handlers_failed"]
    async with connect(Failing) as client:
        await client.send(Look(), ref="r")
        assert (await client.receive_json())["data"]["code"] == "internal"
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert counters["handlers_failed"] == before + 1
    assert "Failing.look failed" in caplog.text


async def test_run_that_other_code_cancels() -> None:
    """A run that was cancelled while the connection is open closes it: its request would never be answered."""
    async with connect(Gates) as client:
        await client.send(Look(), ref=0)
        await turns()
        client.consumer._connection.runs.tasks[0].cancel()
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)


async def test_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the end, runs and waiting frames have the time of handlers, and are then cancelled and counted."""
    monkeypatch.setattr(dispatcher, "FINISH_SECONDS", 0.3)
    before = counters["handlers_cancelled"], counters["frames_unhandled"]
    async with connect(Gates) as client:
        consumer = client.consumer
        for number in range(6):
            await client.send(Look(number=number))
        await turns()
        leaving = asyncio.create_task(client.disconnect())
        await turns()
        consumer.running[0].set_result(None)  # frees a place for a frame that was received before
        await turns()
        assert list(consumer.running) == [1, 2, 3]
        await leaving
    # Three runs, and the ordered work, which waited for a place for the fifth frame.
    assert (counters["handlers_cancelled"], counters["frames_unhandled"]) == (before[0] + 4, before[1] + 1)
    assert not consumer.running
    assert consumer.seen[:4] == [0, 1, 2, 3]
    assert isinstance(consumer.seen[4], Closed)


async def test_drain() -> None:
    """A drain waits for runs, and their answers arrive. It doesn't wait longer than for ordered handlers."""
    async with connect(Gates) as client, connect(Gates) as endless:
        for one in (client, endless):
            await one.send(Look(number=1), ref=1)
        await turns()
        draining = asyncio.create_task(drain.drain(2))
        await turns()
        client.consumer.running[1].set_result(None)
        await client.assert_closed(close_codes.SERVER_SHUTTING_DOWN)
        assert answers(client) == [1]
        assert endless._closed is None
        await endless.assert_closed(close_codes.SERVER_SHUTTING_DOWN)
        assert answers(endless) == []
        endless.consumer.running[1].set_result(None)
        await draining


async def test_contexts() -> None:
    """A run sees what on_connect has set. What it sets reaches neither other runs nor ordered handlers."""

    class Setting(Gates):
        async def on_connect(self) -> None:
            variable.set("on_connect")

        @on(concurrent=2)
        async def look(self, event: Look) -> Text:
            before = variable.get()
            token = variable.set(str(event.number))
            await asyncio.sleep(0)
            during = variable.get()
            variable.reset(token)
            return Text(text=f"{before} {during}")

        @on
        async def step(self, event: Step) -> Text:  # type: ignore[override]
            return Text(text=variable.get())

    async with connect(Setting) as client:
        await client.send(Look(number=1))
        await client.send(Look(number=2))
        await client.send(Step())
        texts = {(await client.receive(Text)).text for _ in range(3)}
        assert texts == {"on_connect 1", "on_connect 2", "on_connect"}


async def test_def_handlers() -> None:
    """A def handler runs next to itself, in several threads of the pool."""

    class Threads(Gates):
        barrier = threading.Barrier(2, timeout=30)

        @on(concurrent=2)
        def look(self, event: Look) -> Number:  # type: ignore[override]
            self.barrier.wait()  # until the other run is here
            self.sync.send(Text(text="sent"))
            return Number(value=event.number)

    async with connect(Threads) as client:
        for number in (1, 2):
            await client.send(Look(number=number), ref=number)
        frames = [await client.receive_json() for _ in range(4)]
        assert sorted(frame.get("ref", 0) for frame in frames) == [0, 0, 1, 2]


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "4", [4]])
def test_wrong_number(wrong: Any) -> None:
    """Anything but a positive integer is refused at the decorator, in both forms."""
    for form in ((), (Look,)):
        with pytest.raises(DeclarationError, match=r"@on\(concurrent=\.\.\.\) takes the number of runs"):
            on(*form, concurrent=wrong)


def test_on_something_else() -> None:
    """``@on(concurrent=...)`` marks methods, as ``@on`` does."""
    with pytest.raises(DeclarationError, match="@on marks a method"):
        on(concurrent=2)(Look)
