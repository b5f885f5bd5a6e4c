"""Draining the connections of a process, in one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from wsrt import Event, TypedEventConsumer, close_codes, on
from wsrt.asgi import with_runtime
from wsrt.cluster.node import current_node
from wsrt.connection import drain
from wsrt.connection.drain import close_at_exit
from wsrt.delivery import lingering
from wsrt.delivery.transport import TRANSPORT, Transport
from wsrt.metrics import counters
from wsrt.testing import connect
from wsrt.types import Message


class Work(Event, name="work"):
    seconds: float = 0.0


class Worker(TypedEventConsumer):
    namespace = "drain"
    disconnected = 0

    async def on_disconnect(self, closed: object) -> None:
        type(self).disconnected += 1

    @on
    async def work(self, event: Work) -> None:
        await asyncio.sleep(event.seconds)


@pytest.fixture(autouse=True)
def not_aborted() -> Iterator[None]:
    yield
    drain._aborted.clear()


async def test_everybody_is_told() -> None:
    """All are closed 1001; those that speak wsrt.v1 are told when to come back, last of all (S37)."""
    async with connect(Worker) as plain, connect(Worker, subprotocols=["wsrt.v1"]) as extended:
        ending = asyncio.create_task(drain.drain(5))
        for client in (plain, extended):
            await client.assert_closed(close_codes.SERVER_SHUTTING_DOWN)
        await ending
        await drain.drain(5)  # the second call waits for the first
        assert [frame["event"] for frame in extended.reserved][-1] == "wsrt.closing"
        assert 0 <= extended.reserved[-1]["data"]["retry_after_ms"] <= 1000


async def test_sockets_that_linger() -> None:
    """A peer that doesn't take the end of its connection is aborted in time: a process exits within DRAIN_SECONDS."""
    aborted = asyncio.Event()

    class Stuck(Transport):
        def abort(self) -> bool:
            aborted.set()
            return True

    current_node().lingering.add(Stuck(None))  # type: ignore[arg-type]
    await drain.drain(0.1)
    async with asyncio.timeout(lingering.LINGER_SECONDS - 2):
        await aborted.wait()


async def test_handler_that_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that does not end in its share of the time is not waited for."""
    async with connect(Worker) as client:
        await client.send(Work(seconds=60))
        await asyncio.sleep(0.01)  # let it start
        await drain.drain(0.5)
        await client.assert_closed(close_codes.SERVER_SHUTTING_DOWN)
        client.consumer._connection.dispatcher._task.cancel()
    assert "1 connections still open" in caplog.text


async def test_abort_drain() -> None:
    """A drain that is hurried ends at once."""
    async with connect(Worker) as client:
        await client.send(Work(seconds=60))
        await asyncio.sleep(0.01)  # let it start
        drain.abort_drain()
        async with asyncio.timeout(2):
            await drain.drain(60)
        client.consumer._connection.dispatcher._task.cancel()


async def test_newcomer() -> None:
    """A connection that was accepted before the drain began is closed as soon as it is set up."""
    current_node().is_draining = True
    async with connect(Worker) as client:
        await client.assert_closed(close_codes.SERVER_SHUTTING_DOWN)


async def test_nobody_there() -> None:
    """Without connections a drain ends at once, and refuses who comes."""
    await drain.drain(60)
    assert drain.is_draining()
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    application = with_runtime(Worker.as_asgi())
    await application({"type": "websocket", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[1]["code"] == 1013


def test_exit_from_another_thread() -> None:
    """Where loops run in other threads, the exit of the process sends close frames and runs no hook."""
    ready = threading.Event()
    closed: list[int] = []
    before = Worker.disconnected

    async def serve() -> None:
        async with connect(Worker) as client:
            ready.set()
            await client.assert_closed(close_codes.SERVER_SHUTTING_DOWN)
            closed.append(1001)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    close_at_exit()
    thread.join(10)
    assert closed == [1001]
    assert Worker.disconnected == before


async def test_unknown_server(caplog: pytest.LogCaptureFixture) -> None:
    """A server that is not known is served as plain ASGI, which is counted and logged."""
    before = counters["transports_unknown"]
    async with connect(with_runtime(Worker.as_asgi())) as client:
        assert await client.request(Work()) is None
    assert counters["transports_unknown"] == before + 1
    assert "the server isn't recognised" in caplog.text


async def test_ping_that_fails() -> None:
    """A protocol ping that the server cannot send is counted: it has lost the peer, and will say so."""

    class Pinging(Transport):
        can_ping = True

        def ping(self) -> None:
            raise OSError("gone")

    class Beating(Worker):
        heartbeat = 0.1
        heartbeat_timeout = 0.2

    before = counters["pings_failed"]
    transport = Pinging(None)  # type: ignore[arg-type]
    async with connect(Beating, scope={"extensions": {TRANSPORT: transport}}) as client:
        await client.assert_closed(close_codes.HEARTBEAT_TIMEOUT)
    assert counters["pings_failed"] == before + 1
