"""Connections whose server or event loop misbehaves, on an ASGI server that the test plays."""

from __future__ import annotations

import asyncio
import functools
import gc
from typing import Any, Self

import pytest
from django.core.exceptions import PermissionDenied
from pydantic import model_validator
from pydantic_core import PydanticCustomError

from tests.support.layer import FakeLayer, installed
from tests.support.recorder import Number, Recorder
from tests.support.waiting import aeventually
from wsrt import Closed, Event, TypedEventConsumer, abroadcast, broadcast, close_codes, on
from wsrt.cluster.node import current_node
from wsrt.connection import dispatcher, lifecycle
from wsrt.metrics import counters
from wsrt.testing import connect


class Text(Event, name="text"):
    text: str = ""


class Go(Event, name="go"):
    pass


class Quiet(TypedEventConsumer):
    namespace = "lifecycle"
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
        await aeventually(lambda: self.sent and self.consumer._connection.is_visible, "the set-up")
        return task

    def receives(self, message: dict[str, Any]) -> None:
        self.inbound.put_nowait(message)

    def frame(self, text: str) -> None:
        self.receives({"type": "websocket.receive", "text": text})

    async def _send(self, message: Any) -> None:
        if message["type"] in self.refuses:
            raise RuntimeError("the server refuses it")
        self.sent.append(message)


async def test_log_of_refused_origins(caplog: pytest.LogCaptureFixture) -> None:
    """Refused origins are counted; one a minute is logged, with a part of what its headers hold and what to add."""
    before = counters["origins_refused"]
    for _ in range(5):
        server = Server(headers=[(b"origin", b"https://" + b"\x80" * 8000), (b"host", b"\x81" * 8000)])
        server.receives({"type": "websocket.connect"})
        await server.run()
    server = Server(headers=[(b"origin", b"https://" + b"a" * 8000), (b"host", b"testserver")])
    server.receives({"type": "websocket.connect"})
    counters.forget_logged()
    await server.run()
    assert counters["origins_refused"] == before + 6
    assert len(caplog.records) == 2
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)
    assert "CSRF_TRUSTED_ORIGINS" in caplog.records[1].getMessage()


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
    await aeventually(lambda: not server.consumer._connection.session.is_open)
    server.receives({"type": "websocket.disconnect", "code": 1006})
    await task
    assert server.consumer.closed == Closed(1006, "", "network")


async def test_close_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that does not answer our close is not waited for longer than the handshake's time (S38, S49)."""
    monkeypatch.setattr(lifecycle, "HANDSHAKE_SECONDS", 0.05)
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

    before = counters["heartbeat_timeouts"]
    async with connect(Beating, subprotocols=["wsrt.v1"]) as client:
        await aeventually(lambda: [frame["event"] for frame in client.reserved].count("wsrt.ping") >= 2)
        client._received = lambda frame: None
        await client.assert_closed(close_codes.HEARTBEAT_TIMEOUT)
    assert counters["heartbeat_timeouts"] == before + 1
    assert not len(current_node().wheel)


async def test_tick_of_a_closed_connection() -> None:
    """A tick that comes while the connection closes does nothing."""
    async with connect(Quiet, subprotocols=["wsrt.v1"]) as client:
        await client.consumer.close()
        assert client.consumer._connection.heartbeat.tick(1e9) is None


async def test_endless_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that does not end is cancelled some time after its client left, and what waited is counted (S21)."""
    monkeypatch.setattr(dispatcher, "FINISH_SECONDS", 0.05)

    class Endless(Quiet):
        @on
        async def go(self, event: Go) -> None:
            await asyncio.Event().wait()

    before = counters["handlers_cancelled"], counters["frames_unhandled"]
    async with connect(Endless) as client:
        for _ in range(3):
            await client.send(Go())
    assert (counters["handlers_cancelled"], counters["frames_unhandled"]) == (before[0] + 1, before[1] + 2)


async def test_defect_of_ours(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An error in the worker itself is logged and closes, so that frames do not wait for ever."""
    async with connect(Quiet) as client:
        client.consumer._connection.submit(lambda: _raise(ZeroDivisionError()))
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert "the task that handles the frames of a connection to Quiet failed" in caplog.text


async def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("method", ["join", "set_user_id"])
async def test_closed_while_the_layer_is_asked(method: str) -> None:
    """A connection that ends while the layer joins a group for it leaves that group again (S10)."""
    with installed(FakeLayer()) as layer:
        async with connect(Quiet) as client:
            layer.gate.clear()
            asking = asyncio.create_task(getattr(client.consumer, method)("a"))
            await aeventually(
                lambda: any(call == "group_add" and "lifecycle.a" in group for call, group in layer.calls)
            )
            leaving = asyncio.create_task(client.disconnect())
            await aeventually(lambda: not current_node().hub.subscribers)
            layer.gate.set()
            await asking
            await leaving
        await aeventually(lambda: not any(layer.members(group) for group in layer.groups if ".lifecycle." in group))


async def test_joining_twice_at_a_time() -> None:
    """Two joins of one room at a time hold its group once, and one leave gives it back."""
    with installed(FakeLayer()) as layer:
        async with connect(Quiet) as client:
            await asyncio.gather(client.consumer.join("a"), client.consumer.join("a"))
            await client.consumer.leave("a")
            await aeventually(lambda: not layer.members("wsrt.room.lifecycle.a"))
            await client.consumer.set_user_id("u")
            await client.consumer.set_user_id("u")
            assert client.consumer.user_id == "u"


async def test_member_by_default() -> None:
    """A consumer shows nothing of a member unless it says so."""
    assert await Quiet().member("a") is None


# What went wrong once


class Broken(Event, name="broken"):
    """Its validator has bugs of its own."""

    value: str = ""

    @model_validator(mode="before")
    @classmethod
    def look(cls, data: Any) -> Any:
        if data == {"kind": "key"}:
            raise KeyError("kind")
        return data

    @model_validator(mode="after")
    def own_error(self) -> Self:
        if not self.value:
            raise PydanticCustomError("mine", "it is empty")
        return self


class Skipped(Event, name="skipped", overflow="drop"):
    pass


class Bugs(TypedEventConsumer):
    namespace = "lifecycle-bugs"
    out_events = (Text,)
    rate = None

    @on
    async def broken(self, event: Broken) -> None:
        pytest.fail("it is never valid")

    @on
    def go(self, event: Go) -> None:
        next(iter(()))


async def test_validator_with_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """A validator that raises anything but a ValueError is a bug, as in a handler: logged, answered, 1011 (S18)."""
    async with connect(Bugs) as client:
        await client.send_text('{"event":"broken","data":{"kind":"key"},"ref":"1"}')
        assert (await client.receive_json())["data"]["code"] == "internal"
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert "KeyError: 'kind'" in caplog.text


async def test_own_error_without_data() -> None:
    """A validator's own kind of error is told also where the data is missing."""
    async with connect(Bugs) as client:
        await client.send_text('{"event":"broken","ref":"1"}')
        answer = await client.receive_json()
        assert answer["data"]["errors"] == [{"loc": [], "msg": "it is empty", "type": "mine"}]


async def test_def_handler_that_raises_stop_iteration() -> None:
    """StopIteration out of a def handler is an error like any other, and not an answer that never comes."""
    async with connect(Bugs) as client:
        await client.send(Go(), ref="1")
        assert (await client.receive_json())["data"]["code"] == "internal"
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)


@pytest.mark.parametrize("hook", ["authorize", "authorize_room"])
@pytest.mark.parametrize("is_wrapped", [False, True])
async def test_hidden_coroutine(hook: str, is_wrapped: bool) -> None:
    """A def hook that returns a coroutine, or a decorator that hides one, is awaited: a coroutine isn't a yes (H2)."""

    async def no(self: Any, *args: Any) -> bool:
        return False

    def hidden(self: Any, *args: Any) -> Any:
        return no(self, *args)

    if is_wrapped:
        hidden = functools.wraps(no)(hidden)

    guarded: type[TypedEventConsumer] = type("Guarded", (Quiet,), {hook: hidden, "__module__": __name__})
    async with connect(guarded) as client:
        if hook == "authorize":
            await client.assert_closed(close_codes.UNAUTHENTICATED)
        else:
            with pytest.raises(PermissionDenied):
                await client.consumer.join("secret")


@pytest.mark.parametrize("refuses", [False, True])
async def test_joining_in_authorize(refuses: bool) -> None:
    """What joins in authorize and is refused, or leaves meanwhile, is in the hub no more (S10, H1)."""

    class Early(Quiet):
        async def authorize(self) -> bool:
            await self.join("early")
            await self.set_user_id("u")
            return not refuses

    async with connect(Early) as client:
        if refuses:
            await client.assert_closed(close_codes.UNAUTHENTICATED)
    hub = current_node().hub
    assert not (hub.subscribers or hub._rooms or hub._users)


async def test_answers_are_never_skipped() -> None:
    """A request is answered exactly once, also with an event that others may miss."""

    class Skipping(Quiet):
        out_events = (Skipped,)

        @on
        async def go(self, event: Go) -> Skipped:
            return Skipped()

    async with connect(Skipping) as client:
        gate = asyncio.Event()
        take = client._on_message

        async def slow(message: Any) -> None:
            await gate.wait()
            await take(message)

        client.consumer._connection.outbox._send = slow
        for ref in range(3):
            await client.send(Go(), ref=ref)
        await asyncio.sleep(0.01)  # let the answers pile up
        gate.set()
        assert [(await client.receive_json())["ref"] for _ in range(3)] == [0, 1, 2]


async def test_many_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are bounded, and the client does not pay for them: it is closed 1011 and comes back (D7)."""
    monkeypatch.setattr(lifecycle, "MAX_COMMANDS", 4)

    class Busy(Quiet):
        inbox_frames = 5
        max_rooms = 3

        @on
        async def go(self, event: Go) -> None:
            self.begun.set()
            await asyncio.Event().wait()

    async with connect(Busy) as client:
        client.consumer.begun = asyncio.Event()
        await client.send(Go())
        await client.consumer.begun.wait()
        for number in range(10):
            client.consumer._connection.command("add_to_room", {"room": str(number)})
        await client.send(Go())
        await asyncio.sleep(0.01)  # let the reader take it
        assert client.consumer._connection.session.is_open
        client.consumer._connection.command("add_to_room", {"room": "one more"})
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
        client.consumer._connection.dispatcher._task.cancel()


async def test_commands_for_every_room() -> None:
    """A connection can be put into as many rooms as it may be in, all at once, while a handler runs."""

    class Busy(Quiet):
        async def on_connect(self) -> None:
            self.begun, self.gate = asyncio.Event(), asyncio.Event()

        @on
        async def go(self, event: Go) -> None:
            self.begun.set()
            await self.gate.wait()

    async with connect(Busy) as client:
        await client.send(Go())
        await client.consumer.begun.wait()
        for number in range(client.consumer.max_rooms):
            client.consumer._connection.command("add_to_room", {"room": str(number)})
        client.consumer.gate.set()
        await aeventually(lambda: len(client.consumer.rooms) == client.consumer.max_rooms, "the rooms")


async def test_set_up_that_publishes_much() -> None:
    """on_connect that publishes more than the outbox holds, and then sends, ends: it waits for nothing of its own."""

    class Loud(Quiet):
        outbox_bytes = 2000

        async def on_connect(self) -> None:
            await self.join("a")
            for _ in range(2):
                await self.publish_to_room("a", Text(text="x" * 900))
            await self.send(Text(text="snapshot" * 150))

    async with connect(Loud) as client:
        texts = [(await client.receive(Text)).text[:8] for _ in range(3)]
        assert texts == ["snapshot", "x" * 8, "x" * 8]


async def test_publishing_then_closing_in_on_connect() -> None:
    """What on_connect publishes before it closes leaves before the close frame (S37)."""

    class Brief(Quiet):
        async def on_connect(self) -> None:
            await self.join("a")
            await self.publish_to_room("a", Text(text="bye"))
            await self.close(4800)

    async with connect(Brief) as client:
        assert (await client.receive(Text)).text == "bye"
        await client.assert_closed(4800)


async def test_time_out_in_a_middleware() -> None:
    """A middleware that limits the time of a send closes its own client, and cancels no other task."""
    gate = asyncio.Event()

    class Limited:
        def __init__(self, application: Any) -> None:
            self._application = application

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def limited(message: Any) -> None:
                async with asyncio.timeout(0.05):
                    if message.get("text", "").startswith('{"event":"text"') and scope["path"] == "/stuck":
                        await gate.wait()
                    await send(message)

            await self._application(scope, receive, limited)

    application = Limited(Quiet.as_asgi())
    async with connect(application, "/stuck") as stuck, connect(application, "/well") as well:
        publisher = asyncio.current_task()
        assert publisher is not None
        await abroadcast(Text(text="1"), namespace="lifecycle")
        assert (await well.receive(Text)).text == "1"
        await stuck.assert_closed(close_codes.BACKPRESSURE_OVERFLOW)
        # From a callback of the loop, where there is no current task.
        await asyncio.to_thread(broadcast, Text(text="2"), namespace="lifecycle", on_commit=False)
        assert (await well.receive(Text)).text == "2"
        assert not publisher.cancelling()


async def test_send_that_is_cancelled() -> None:
    """A send that raises CancelledError of its own ends its connection, and no delivery to others."""
    async with connect(Quiet) as one, connect(Quiet) as two:

        async def cancelled(message: Any) -> None:
            raise asyncio.CancelledError

        one.consumer._connection.outbox._send = cancelled
        await abroadcast(Text(text="hi"), namespace="lifecycle")
        assert (await two.receive(Text)).text == "hi"
        assert not one.consumer._connection.session.is_open


async def test_awaitable_that_is_no_coroutine() -> None:
    """A server whose send gives an awaitable of its own kind is served by tasks."""

    class Awaitable:
        def __init__(self, work: Any) -> None:
            self._future = asyncio.ensure_future(work)

        def __await__(self) -> Any:
            return iter(self._future)

    async with connect(Quiet) as client:
        take = client._on_message
        client.consumer._connection.outbox._send = lambda message: Awaitable(take(message))
        for number in range(3):
            await abroadcast(Text(text=str(number)), namespace="lifecycle")
        assert [(await client.receive(Text)).text for _ in range(3)] == ["0", "1", "2"]


async def test_nothing_is_left() -> None:
    """Connections that came and went leave no task and no connection."""

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Recorder) for thing in gc.get_objects())

    async with connect(Recorder):
        pass
    before, tasks = alive(), len(asyncio.all_tasks())
    for _ in range(250):
        async with connect(Recorder, subprotocols=["wsrt.v1"]) as client:
            await client.consumer.join("lobby")
            await client.send(Number())
    del client
    await asyncio.sleep(0)
    hub = current_node().hub
    assert not (hub.subscribers or hub._rooms or hub._users or hub._everyone)
    assert len(asyncio.all_tasks()) <= tasks
    assert alive() <= before
