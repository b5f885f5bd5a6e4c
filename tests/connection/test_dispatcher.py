"""The dispatcher: frames wait in a bounded inbox, and are handled in order, one at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.recorder import Gate, Go, Number, Recorder, do, enter_gate
from wsrt import (
    close_codes,
    on,
)
from wsrt.testing import RequestRefused, connect


async def test_handled_in_order_one_at_a_time() -> None:
    """Frames are handled strictly in their order, one at a time (S13)."""
    running: list[int] = []

    class Slow(Recorder):
        @on
        async def number(self, event: Number) -> None:
            running.append(event.value)
            assert len(running) == 1
            await asyncio.sleep(0)
            running.remove(event.value)
            self.seen.append(event.value)

    async with connect(Slow) as client:
        for value in range(50):
            await client.send(Number(value=value))
        await client.settle()
        assert client.consumer.seen == list(range(50))


async def test_frames_wait_for_on_connect() -> None:
    """Frames that come during set-up wait in the inbox, in order, each handled once (S23, S24, S25, S26, S28)."""
    Gate.gate = asyncio.Event()
    client, entering = await enter_gate(Gate)
    for value in range(200):
        await client.send(Number(value=value))
        if value == 150:
            Gate.gate.set()
    await entering
    await client.settle()
    assert client.consumer.seen == ["connected", *range(200)]
    await client.disconnect()


async def test_frames_before_leaving() -> None:
    """What a client sent before it left is handled (S22)."""
    async with connect(Recorder) as client:
        client.consumer.todo = lambda consumer: asyncio.sleep(0.01)
        await client.send(Go())
        await client.send(Number(value=7))
        await client.disconnect()
        assert client.consumer.seen[0] == 7


async def test_bounded_inbox() -> None:
    """A client that sends faster than its handlers work is closed 4429, and memory stays bounded (S3, S20)."""

    class Narrow(Recorder):
        inbox_frames = 10
        rate = None

        @on
        async def number(self, event: Number) -> None:
            await asyncio.sleep(60)

    async with connect(Narrow) as client:
        for _ in range(30):
            await client.send(Number())
        await client.assert_closed(close_codes.RATE_LIMIT_EXCEEDED)
        assert len(client.consumer._connection.dispatcher.inbox) <= 11
        client.consumer._connection.dispatcher._task.cancel()


async def test_fast_handlers_are_not_overrun() -> None:
    """A burst beyond the inbox isn't a violation while the handlers keep up (S20)."""

    class Narrow(Recorder):
        inbox_frames = 10
        rate = None

    async with connect(Narrow) as client:
        for value in range(300):
            await client.send(Number(value=value))
        await client.settle()
        assert client.consumer.seen == list(range(300))


async def test_heartbeat_beside_a_slow_handler() -> None:
    """Frames are read, and pings answered, while a handler runs (S21)."""
    blocked = asyncio.Event()

    async with connect(Recorder, subprotocols=["wsrt.v1"]) as client:
        client.consumer.todo = lambda consumer: blocked.wait()
        await client.send(Go())
        await client.send_text('{"event":"wsrt.ping"}')
        while not any(frame["event"] == "wsrt.pong" for frame in client.reserved):
            await asyncio.sleep(0)
        blocked.set()


async def test_handler_error(caplog: pytest.LogCaptureFixture) -> None:
    """A handler's error is logged with its traceback, closes 1011, and a request gets ``internal`` (S18)."""

    async def fail(consumer: Any) -> None:
        raise ZeroDivisionError("by nought")

    async with connect(Recorder) as client:
        with pytest.raises(RequestRefused, match="internal"):
            await do(client, fail)
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    record = next(record for record in caplog.records if record.exc_info)
    assert "Recorder.go" in record.getMessage()
    assert "by nought" in str(record.exc_info)


async def test_nothing_runs_after_close() -> None:
    """Frames behind the one whose handler closed are not handled (S18)."""

    async def leave(consumer: Any) -> None:
        await consumer.close()

    async with connect(Recorder) as client:
        client.consumer.todo = leave
        await client.send(Go())
        await client.send(Number(value=1))
        await client.assert_closed(1000)
        await client.disconnect()
        assert 1 not in client.consumer.seen
