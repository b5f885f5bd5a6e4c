"""What the pump does when the server or the loop does not behave, on an ASGI server that a test plays itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.layer import FakeLayer, installed
from tests.support.waiting import aeventually
from wsrt import Closed, Event, TypedEventConsumer, close_codes, on, pump, worker
from wsrt.delivery.ledger import ledger
from wsrt.node import current_node
from wsrt.testing import connect


class Text(Event, name="text"):
    text: str = ""


class Go(Event, name="go"):
    pass


class Quiet(TypedEventConsumer):
    namespace = "pump"
    out_events = (Text,)
    closed: Closed | None = None

    async def on_disconnect(self, closed: Closed) -> None:
        self.closed = closed

    @on
    async def go(self, event: Go) -> None:
        await self.send(Text(text="hi"))


class Server:
    """An ASGI server of one connection, whose send can fail and whose receive can stay silent."""

    def __init__(self, consumer: type[Quiet] = Quiet, **scope: Any) -> None:
        self.consumer = consumer()
        self.sent: list[dict[str, Any]] = []
        self.refuses: set[str] = set()
        self.inbound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._scope = {"type": "websocket", "headers": [], "query_string": b"", **scope}

    async def run(self) -> None:
        await self.consumer(self._scope, self.inbound.get, self._send)

    async def start(self) -> asyncio.Task[None]:
        """Connect, and wait for the end of the set-up."""
        self.receives({"type": "websocket.connect"})
        task = asyncio.create_task(self.run())
        await aeventually(lambda: self.sent and self.consumer._pump.is_visible, "the set-up")
        return task

    def receives(self, message: dict[str, Any]) -> None:
        self.inbound.put_nowait(message)

    def frame(self, text: str) -> None:
        self.receives({"type": "websocket.receive", "text": text})

    async def _send(self, message: Any) -> None:
        if message["type"] in self.refuses:
            raise RuntimeError("the server refuses it")
        self.sent.append(message)


async def test_not_connected() -> None:
    """An application that is called for anything but a connection ends at once."""
    server = Server()
    server.receives({"type": "websocket.disconnect"})
    await server.run()
    assert server.sent == []


async def test_send_that_the_server_refuses() -> None:
    """A send that raises while the peer is there closes 1011, and the hook learns of it (S32, S44)."""
    server = Server()
    task = await server.start()
    server.refuses.add("websocket.send")
    server.frame('{"event":"go"}')
    await aeventually(lambda: server.sent[-1]["type"] == "websocket.close")
    assert (server.sent[-1]["code"], server.sent[-1]["reason"]) == (1011, "Outbound publish failed")
    server.receives({"type": "websocket.disconnect", "code": 1011})
    await task
    assert server.consumer.closed == Closed(1011, "Outbound publish failed", "server")


async def test_peer_that_is_gone_when_the_server_sends() -> None:
    """A send that raises because the peer is gone ends the connection as the network's doing."""
    server = Server()
    task = await server.start()
    server.refuses.update({"websocket.send", "websocket.close"})
    server.frame('{"event":"go"}')
    await aeventually(lambda: not server.consumer._pump.session.is_open)
    server.receives({"type": "websocket.disconnect", "code": 1006})
    await task
    assert server.consumer.closed == Closed(1006, "", "network")


async def test_close_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that does not answer our close is not waited for longer than the handshake's time (S38, S49)."""
    monkeypatch.setattr(pump, "HANDSHAKE_SECONDS", 0.05)
    server = Server()
    task = await server.start()
    server.frame("nonsense")
    await task
    assert server.consumer.closed == Closed(1007, "Invalid message payload", "server")


async def test_frames_after_our_close() -> None:
    """Frames that come after our close are not handled."""
    server = Server()
    task = await server.start()
    server.frame("nonsense")
    server.frame('{"event":"go"}')
    await aeventually(lambda: server.sent[-1]["type"] == "websocket.close")
    server.receives({"type": "websocket.disconnect", "code": 1007})
    await task
    assert [message["type"] for message in server.sent] == ["websocket.accept", "websocket.close"]


async def test_heartbeat() -> None:
    """A client that answers pings stays; one that falls silent is closed 1001 (S45-S49)."""

    class Beating(Quiet):
        heartbeat = 0.2
        heartbeat_timeout = 0.2

    before = ledger["heartbeat_timeouts"]
    async with connect(Beating, subprotocols=["wsrt.v1"]) as client:
        await aeventually(lambda: [frame["event"] for frame in client.reserved].count("wsrt.ping") >= 2)
        client._received = lambda frame: None
        await client.assert_closed(close_codes.HEARTBEAT_TIMEOUT)
    assert ledger["heartbeat_timeouts"] == before + 1
    assert not len(current_node().wheel)


async def test_tick_of_a_closed_connection() -> None:
    """A tick that comes while the connection closes does nothing."""
    async with connect(Quiet, subprotocols=["wsrt.v1"]) as client:
        await client.consumer.close()
        assert client.consumer._pump._tick(1e9) is None


async def test_endless_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that does not end is cancelled some time after its client left, and what waited is counted (S21)."""
    monkeypatch.setattr(worker, "FINISH_SECONDS", 0.05)

    class Endless(Quiet):
        @on
        async def go(self, event: Go) -> None:
            await asyncio.Event().wait()

    before = ledger["handlers_cancelled"], ledger["frames_unhandled"]
    async with connect(Endless) as client:
        for _ in range(3):
            await client.send(Go())
    assert (ledger["handlers_cancelled"], ledger["frames_unhandled"]) == (before[0] + 1, before[1] + 2)


async def test_defect_of_ours(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An error in the worker itself is logged and closes, so that frames do not wait for ever."""
    async with connect(Quiet) as client:
        client.consumer._pump.submit(lambda: _raise(ZeroDivisionError()))
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert "the work of Quiet failed" in caplog.text


async def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("method", ["join", "set_user_id"])
async def test_closed_while_the_layer_is_asked(method: str) -> None:
    """A connection that ends while the layer joins a group for it leaves that group again (S10)."""
    with installed(FakeLayer()) as layer:
        async with connect(Quiet) as client:
            layer.gate.clear()
            asking = asyncio.create_task(getattr(client.consumer, method)("a"))
            await aeventually(lambda: any(call == "group_add" and "pump.a" in group for call, group in layer.calls))
            leaving = asyncio.create_task(client.disconnect())
            await aeventually(lambda: not current_node().hub.connections)
            layer.gate.set()
            await asking
            await leaving
        await aeventually(lambda: not any(layer.members(group) for group in layer.groups if ".pump." in group))


async def test_joining_twice_at_a_time() -> None:
    """Two joins of one room at a time hold its group once, and one leave gives it back."""
    with installed(FakeLayer()) as layer:
        async with connect(Quiet) as client:
            await asyncio.gather(client.consumer.join("a"), client.consumer.join("a"))
            await client.consumer.leave("a")
            await aeventually(lambda: not layer.members("wsrt.room.pump.a"))
            await client.consumer.set_user_id("u")
            await client.consumer.set_user_id("u")
            assert client.consumer.user_id == "u"


async def test_member_by_default() -> None:
    """A consumer shows nothing of a member unless it says so."""
    assert await Quiet().member("a") is None
