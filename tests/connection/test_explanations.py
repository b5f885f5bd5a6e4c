"""The log lines that explain refusals and closes in development."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied

from wsrt import Event, TypedEventConsumer, on
from wsrt.connection.explanations import LINES, MAX_ERRORS, MAX_NAMES
from wsrt.metrics import MAX_QUOTED, counters
from wsrt.testing import connect


class Order(Event, name="explanations.order"):
    table: int
    drink: str
    size: str
    sugar: int


class Bell(Event, name="explanations.bell", rate="1/m"):
    pass


class Paid(Event, name="explanations.paid"):
    table: int


class Shop(TypedEventConsumer):
    namespace = "explanations"
    out_events = (Paid,)
    max_violations = 1000
    rate = None

    @on
    async def order(self, event: Order) -> None:
        if event.table == 13:
            raise PermissionDenied("Not this table")

    async def _paid(self, event: Paid) -> None: ...


class Door(TypedEventConsumer):
    namespace = "explanations"

    @on
    async def bell(self, event: Bell) -> None: ...


ORDER = {"table": 1, "drink": "tea", "size": "small", "sugar": 0}


@pytest.fixture(autouse=True)
def _debug(settings: Any) -> None:
    settings.DEBUG = True


async def log_of(caplog: pytest.LogCaptureFixture, *frames: str, consumer: Any = Shop) -> list[str]:
    """Send frames as a client that speaks ``wsrt.v1``; return the lines on the consumer."""
    caplog.clear()
    async with connect(consumer, subprotocols=["wsrt.v1"]) as client:
        for frame in frames:
            await client.send_text(frame)
        await client.settle()
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith(consumer.__name__)]
    # Other tests of this process have counted, too.
    return [re.sub(r" \(\d+ times since this was last logged\)$", "", line) for line in lines]


def frame(event: str, data: Any = None, **more: Any) -> str:
    return json.dumps({"event": event, "data": data or {}, **more})


async def test_rate_of_an_event(caplog: pytest.LogCaptureFixture) -> None:
    """A frame over the rate of its event is explained as such."""
    bell = frame("explanations.bell")
    (line,) = await log_of(caplog, bell, bell, consumer=Door)
    assert line == "Door refused 'explanations.bell': the client sends it more often than the event's rate allows"


async def test_many_errors(caplog: pytest.LogCaptureFixture) -> None:
    """A line shows the first fields, and how many more there are."""
    (line,) = await log_of(caplog, frame("explanations.order", {"table": "x"}))
    assert line.startswith("Shop refused 'explanations.order': table: Input should be a valid integer")
    assert line.count("Field required") == MAX_ERRORS - 1
    assert " and 1 more" in line
    assert "closes" not in line


async def test_sent_only(caplog: pytest.LogCaptureFixture) -> None:
    """An event that the consumer only sends is named as such."""
    (line,) = await log_of(caplog, frame("explanations.paid", {"table": 1}))
    assert "the consumer only sends this event. It receives 'explanations.order'" in line


async def test_many_names(caplog: pytest.LogCaptureFixture) -> None:
    """Of many known events a line names the first, and says how many more there are."""

    def event(number: int) -> type[Event]:
        class Made(Event, name=f"explanations.{number:03}"): ...

        return Made

    made = [event(number) for number in range(MAX_NAMES + 5)]

    class Many(TypedEventConsumer):
        namespace = "explanations.many"

        @on(*made)
        async def take(self, event: Event) -> None: ...

    (line,) = await log_of(caplog, frame("unknown"), consumer=Many)
    assert f"'explanations.{MAX_NAMES - 1:03}' and 5 more" in line
    assert f"'explanations.{MAX_NAMES:03}'" not in line


@pytest.mark.parametrize("text", ["x" * 5000, "\0" * 5000, "%s" * 2500, "ü" * 5000])
async def test_quotes_are_bounded(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A line quotes little of what the client sent."""
    for sent in (text, frame(text)):
        (line,) = await log_of(caplog, sent)
        assert len(line) < MAX_QUOTED + 200
        counters.forget_logged()


async def test_values_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The data of a known event isn't quoted: it may hold secrets."""
    (line,) = await log_of(caplog, frame("explanations.order", {**ORDER, "table": "hunter2", "hunter2": 1}))
    assert "hunter2" not in line


async def test_flood(caplog: pytest.LogCaptureFixture) -> None:
    """A flood of wrong frames writes a few lines, and every frame counts."""
    before = counters["frames_refused"]
    assert len(await log_of(caplog, *[frame("unknown")] * 50)) == LINES
    assert counters["frames_refused"] == before + 50


async def test_rates(caplog: pytest.LogCaptureFixture) -> None:
    """A frame over the rate is logged, and counts as a refused frame and as a limit that was reached."""

    class Slow(Shop):
        rate = "1/s"
        rate_burst = 1

    before = counters.snapshot()
    lines = await log_of(caplog, frame("explanations.order", ORDER), frame("explanations.order", ORDER), consumer=Slow)
    assert any("the client sends more than RATE and RATE_BYTES allow" in line for line in lines)
    for name in ("frames_refused", "rates_exceeded"):
        assert counters[name] == before.get(name, 0) + 1


async def test_refusal(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal of a handler is logged with its handler, event, code and message."""
    (line,) = await log_of(caplog, frame("explanations.order", {**ORDER, "table": 13}, ref=1))
    assert line == "Shop.order refused 'explanations.order': 'forbidden', 'Not this table'"


async def test_normal_ends(caplog: pytest.LogCaptureFixture) -> None:
    """What is right, and a close of the application's own, needs no explanation."""
    assert await log_of(caplog, frame("explanations.order", ORDER)) == []

    class Short(TypedEventConsumer):
        namespace = "explanations.short"

        async def on_connect(self) -> None:
            await self.close(4750, "Enough")

    assert await log_of(caplog, consumer=Short) == []


async def test_too_large(caplog: pytest.LogCaptureFixture) -> None:
    """A close that no frame explains is logged with its cause."""
    (line,) = await log_of(caplog, "x" * 70_000)
    assert line == (
        "Shop closed a connection with 1009 Message too large: a frame is larger than `max_payload` bytes, or has more "
        "than `max_values` values"
    )


async def test_production(caplog: pytest.LogCaptureFixture, settings: Any) -> None:
    """Without DEBUG nothing is logged, and everything is counted."""
    settings.DEBUG = False
    before = counters.snapshot()
    refused = frame("explanations.order", {**ORDER, "table": 13})
    assert await log_of(caplog, frame("unknown"), refused) == []
    assert await log_of(caplog, "x" * 70_000) == []
    for name in ("frames_refused", "requests_refused", "connections_closed"):
        assert counters[name] == before.get(name, 0) + 1
