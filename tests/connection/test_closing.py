"""The end of a connection: its code and origin, the last deliveries, and the clean-up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.recorder import Go, Number, Recorder, Text
from wsrt import (
    Closed,
    close_codes,
)
from wsrt import addresses as to
from wsrt.cluster.node import current_node
from wsrt.testing import connect


async def test_close_is_idempotent() -> None:
    """The first close wins (S33)."""
    async with connect(Recorder) as client:
        await client.consumer.close(4500, "first")
        await client.consumer.close(4501, "second")
        await client.assert_closed(close_codes.Close(4500, "first"))


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 2999, 5000])
async def test_impossible_code(code: int) -> None:
    """A code that no close frame can carry raises at the call, and the connection stays (S34)."""
    async with connect(Recorder) as client:
        with pytest.raises(ValueError, match="close code"):
            await client.consumer.close(code)
        await client.assert_silent()


@pytest.mark.parametrize("reason", ["é" * 62, "😀" * 31, "a" * 200, "ab" + "€" * 60])
async def test_long_reason(reason: str) -> None:
    """A reason is cut at 123 bytes between code points (S35)."""
    async with connect(Recorder) as client:
        await client.consumer.close(4500, reason)
        await client.assert_closed(4500)
        sent = client._closed[1]
        assert reason.startswith(sent)
        assert 120 <= len(sent.encode()) <= 123


async def test_close_drains() -> None:
    """send, publish, then close: all is delivered before the close (S37)."""

    async def goodbye(consumer: Any) -> None:
        for value in range(100):
            await consumer.send(Number(value=value))
        await consumer.broadcast(Text(text="bye"))
        await consumer.close()

    async with connect(Recorder) as client:
        client.consumer.todo = goodbye
        await client.send(Go())
        assert [(await client.receive(Number)).value for _ in range(100)] == list(range(100))
        assert (await client.receive(Text)).text == "bye"
        await client.assert_closed(close_codes.NORMAL)


@pytest.mark.parametrize(
    ("code", "by"), [(1000, "client"), (1001, "client"), (1006, "network"), (1005, "network"), (1012, "server")]
)
async def test_how_it_ended(code: int, by: str) -> None:
    """on_disconnect learns code and origin of the peer's close (S38, S39, S44)."""
    async with connect(Recorder) as client:
        await client.disconnect(code)
        closed, _, _ = client.consumer.seen[-1]
        assert (closed.code, closed.by) == (code, by)


async def test_how_we_ended_it() -> None:
    """on_disconnect learns our own code and reason (S39)."""
    async with connect(Recorder) as client:
        await client.consumer.close(4500, "done")
        await client.disconnect()
        assert client.consumer.seen[-1][0] == Closed(4500, "done", "server")


async def test_wait_for_close() -> None:
    """Any number of tasks wait for the close; after it, it returns at once (S40, S42)."""
    async with connect(Recorder) as client:
        waiting = [asyncio.create_task(client.consumer.wait_for_close()) for _ in range(2)]
        await asyncio.sleep(0)
        await client.consumer.close(4500, "done")
        await client.disconnect()
        assert {await task for task in waiting} == {await client.consumer.wait_for_close()}


async def test_on_disconnect_order() -> None:
    """At the end it has left hub and rooms, its timers are gone, and the hook still reads what it was (S36, S41)."""
    seen: list[Any] = []

    class Watching(Recorder):
        async def on_disconnect(self, closed: Closed) -> None:
            hub = current_node().hub
            seen.append((self.rooms, self.user_id, hub.select("unit", to.Room("lobby")), len(current_node().wheel)))
            await self.leave("lobby")

    async with connect(Watching, subprotocols=["wsrt.v1"]) as client:
        await client.consumer.join("lobby")
        await client.consumer.set_user_id(7)
    assert seen == [(("lobby",), "7", [], 0)]


async def test_cancelled_by_the_server() -> None:
    """A server that cancels the application gets a close frame, and the hook runs once (S36)."""
    async with connect(Recorder) as client:
        await client.consumer.join("lobby")
        client._task.cancel()
        await client.assert_closed(close_codes.SERVER_SHUTTING_DOWN)
        with pytest.raises(asyncio.CancelledError):
            await client._task
        await client.consumer.wait_for_close()
        await client.settle()
        while not client.consumer.seen:
            await asyncio.sleep(0)
        client._task = None
    assert len(client.consumer.seen) == 1
    assert not current_node().hub.subscribers
