"""The life of a connection, in one process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404
from django.utils.translation import gettext_lazy
from pydantic import Field

from wsrt import (
    BackplaneUnavailable,
    Closed,
    Event,
    Refused,
    RootEvent,
    TooManyRooms,
    TypedEventConsumer,
    UndeclaredEvent,
    WrongContext,
    addresses,
    adisconnect,
    apublish_to_room,
    apublish_to_user,
    close_codes,
    on,
)
from wsrt import addresses as to
from wsrt.cluster.node import current_node
from wsrt.metrics import counters
from wsrt.testing import RequestRefused, connect


class Number(Event, name="number"):
    value: int = 0


class Text(Event, name="text"):
    text: str = Field(max_length=100)
    note: str | None = None


class Tags(RootEvent[list[str]], name="tags"):
    pass


class Go(Event, name="go"):
    pass


class Undeclared(Event, name="undeclared"):
    pass


class Base(TypedEventConsumer):
    """Records what happens; a test gives it what is to be done."""

    namespace = "unit"
    out_events = (Number, Text, Tags)

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.seen: list[Any] = []
        self.todo: Callable[[Any], Any] | None = None

    async def on_disconnect(self, closed: Closed) -> None:
        self.seen.append((closed, self.rooms, self.user_id))

    @on
    async def number(self, event: Number) -> None:
        self.seen.append(event.value)

    @on
    async def go(self, event: Go) -> Number | Text | Tags | None:
        return await self.todo(self) if self.todo else None


async def do(client: Any, todo: Callable[[Any], Any]) -> Any:
    """Have the consumer's handler do something; return what it answers."""
    client.consumer.todo = todo
    return await client.request(Go())


# Frames


async def test_envelope() -> None:
    """A frame is {event, data}; other keys are ignored (S5)."""
    async with connect(Base) as client:
        await client.send_text('{"event":"number","data":{"value":3,"extra":1},"id":9,"v":1}')
        await client.settle()
        assert client.consumer.seen == [3]


async def test_empty_event_name() -> None:
    """The empty name is an event like any other, and in no catalog (S5)."""
    async with connect(Base) as client:
        await client.send_text('{"event":"","data":{}}')
        await client.assert_closed(close_codes.UNKNOWN_EVENT)


async def test_missing_data() -> None:
    """Missing data stands for {}, if the event needs none (S6)."""
    async with connect(Base) as client:
        await client.send_text('{"event":"number"}')
        await client.settle()
        assert client.consumer.seen == [0]


async def test_outgoing_data_is_the_dump() -> None:
    """What is sent is the model's own dump, with its defaults and without unknown keys (S7)."""
    async with connect(Base) as client:
        await do(client, lambda consumer: consumer.send(Text.model_validate({"text": "a", "other": 1})))
        assert await client.receive_json() == {"event": "text", "data": {"text": "a", "note": None}}


async def test_binary_frame() -> None:
    """A binary frame is UTF-8 text; what is not UTF-8 is closed 1007, never altered (S8)."""
    async with connect(Base) as client:
        await client.send_bytes(b'{"event":"number","data":{"value":4}}')
        await client.settle()
        assert client.consumer.seen == [4]
        await client.send_bytes(b'{"event":"number","note":"\xff"}')
        await client.assert_closed(close_codes.INVALID_MESSAGE_PAYLOAD)


@pytest.mark.parametrize("name", ["constructor", "toString", "__proto__", "__class__", "number.value"])
async def test_inherited_names(name: str) -> None:
    """Names that objects have by themselves are unknown events (S11)."""
    async with connect(Base) as client:
        await client.send_text(json.dumps({"event": name, "data": {}}))
        await client.assert_closed(close_codes.UNKNOWN_EVENT)


async def test_handled_in_order_one_at_a_time() -> None:
    """Frames are handled strictly in their order, one at a time (S13)."""
    running: list[int] = []

    class Slow(Base):
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


@pytest.mark.parametrize("content", ["a", "é", "😀"])
async def test_max_payload(content: str) -> None:
    """Exactly max_payload bytes of UTF-8 pass, one more closes 1009, before the frame is parsed (S14, S15)."""
    text = json.dumps({"event": "text", "pad": content * 5}, ensure_ascii=False)
    size = len(text.encode())

    class Fits(Base):
        max_payload = size

    class TooSmall(Base):
        max_payload = size - 1

    async with connect(Fits) as client:
        await client.send_text(text)
        await client.assert_closed(close_codes.UNKNOWN_EVENT)
    async with connect(TooSmall) as client:
        await client.send_text(text)
        await client.assert_closed(close_codes.MESSAGE_TOO_LARGE)


async def test_any_frame_is_life() -> None:
    """Every frame is noted as life, a refused one and one before set-up is done too (S14, S16, S47)."""
    async with connect(Base, subprotocols=["wsrt.v1"]) as client:
        heartbeat = client.consumer._connection.session.heartbeat
        heartbeat.last_received = 0
        await client.send_text("nonsense")
        await client.settle()
        assert heartbeat.last_received > 0


async def test_unknown_before_invalid() -> None:
    """An unknown event is told as such whatever its data is (S17)."""
    async with connect(Base) as client:
        await client.send_text('{"event":"nope","data":7}')
        await client.assert_closed(close_codes.UNKNOWN_EVENT)
    async with connect(Base) as client:
        await client.send_text('{"event":"number","data":{"value":"x"}}')
        await client.assert_closed(close_codes.INVALID_EVENT_DATA)


async def test_violation_is_reported() -> None:
    """A wsrt.v1 client learns which field is wrong, and stays (S17)."""
    async with connect(Base, subprotocols=["wsrt.v1"]) as client:
        await client.send_text('{"event":"number","data":{"value":"secret"}}')
        await client.settle()
        data = client.reserved[-1]["data"]
        assert (data["code"], data["errors"][0]["loc"]) == ("invalid_data", ["value"])
        assert "secret" not in json.dumps(client.reserved)
        await client.assert_silent()


@pytest.mark.parametrize("mode", ["close", "report"])
async def test_on_violation(mode: str) -> None:
    """``on_violation`` decides for both kinds of clients."""

    class Strict(Base):
        on_violation = mode  # type: ignore[assignment]

    async with connect(Strict, subprotocols=["wsrt.v1"] if mode == "close" else []) as client:
        await client.send_text("{")
        if mode == "close":
            await client.assert_closed(close_codes.INVALID_MESSAGE_PAYLOAD)
        else:
            await client.settle()
            assert client.reserved[-1]["data"]["code"] == "invalid_frame"


async def test_request_is_never_a_violation() -> None:
    """A request that is invalid is answered in both modes, and the socket stays."""
    async with connect(Base) as client:
        for text, code in [
            ('{"event":"nope","ref":"1"}', "unknown_event"),
            ('{"event":"number","data":{"value":[]},"ref":1}', "invalid_data"),
        ]:
            for _ in range(9):
                await client.send_text(text)
                answer = await client.receive_json()
                assert (answer["event"], answer["data"]["code"]) == ("wsrt.error", code)
                assert "ref" in answer


async def test_handler_error(caplog: pytest.LogCaptureFixture) -> None:
    """A handler's error is logged with its traceback, closes 1011, and a request gets ``internal`` (S18)."""

    async def fail(consumer: Any) -> None:
        raise ZeroDivisionError("by nought")

    async with connect(Base) as client:
        with pytest.raises(RequestRefused, match="internal"):
            await do(client, fail)
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    record = next(record for record in caplog.records if record.exc_info)
    assert "Base.go" in record.getMessage()
    assert "by nought" in str(record.exc_info)


async def test_nothing_runs_after_close() -> None:
    """Frames behind the one whose handler closed are not handled (S18)."""

    async def leave(consumer: Any) -> None:
        await consumer.close()

    async with connect(Base) as client:
        client.consumer.todo = leave
        await client.send(Go())
        await client.send(Number(value=1))
        await client.assert_closed(1000)
        await client.disconnect()
        assert 1 not in client.consumer.seen


async def test_handlers_are_fixed() -> None:
    """Handlers are found when the class is made; none can be added to a living connection (S19)."""
    assert set(Base.handlers) == {Number, Go}
    with pytest.raises(TypeError):
        Base.handlers[Text] = None  # type: ignore[index]


async def test_bounded_inbox() -> None:
    """A client that sends faster than its handlers work is closed 4429, and memory stays bounded (S3, S20)."""

    class Narrow(Base):
        inbox_frames = 10
        rate = None

        @on
        async def number(self, event: Number) -> None:
            await asyncio.sleep(60)

    async with connect(Narrow) as client:
        for _ in range(30):
            await client.send(Number())
        await client.assert_closed(close_codes.RATE_LIMIT_EXCEEDED)
        assert len(client.consumer._connection._dispatcher.inbox) <= 11
        client.consumer._connection._dispatcher._task.cancel()


async def test_fast_handlers_are_not_overrun() -> None:
    """A burst beyond the inbox is no violation while the handlers keep up (S20)."""

    class Narrow(Base):
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

    async with connect(Base, subprotocols=["wsrt.v1"]) as client:
        client.consumer.todo = lambda consumer: blocked.wait()
        await client.send(Go())
        await client.send_text('{"event":"wsrt.ping"}')
        while not any(frame["event"] == "wsrt.pong" for frame in client.reserved):
            await asyncio.sleep(0)
        blocked.set()


async def test_frames_before_leaving() -> None:
    """What a client sent before it left is handled (S22)."""
    async with connect(Base) as client:
        client.consumer.todo = lambda consumer: asyncio.sleep(0.01)
        await client.send(Go())
        await client.send(Number(value=7))
        await client.disconnect()
        assert client.consumer.seen[0] == 7


class Gate(Base):
    """Waits in on_connect until the test opens the gate."""

    gate: asyncio.Event
    rate = None

    async def on_connect(self) -> None:
        await self.join("lobby")
        await self.send(Text(text="snapshot"))
        await self.gate.wait()
        self.seen.append("connected")


async def enter_gate(application: Any) -> tuple[Any, asyncio.Task[Any]]:
    client = connect(application)
    entering = asyncio.create_task(client.__aenter__())
    while not client._frames:
        await asyncio.sleep(0)
    return client, entering


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


async def test_request_is_answered_once() -> None:
    """A request is answered exactly once: by ``wsrt.ok``, by the returned event, or by an error (S27)."""

    async def reply(consumer: Any) -> Number:
        return Number(value=5)

    async def nothing(consumer: Any) -> None:
        pass

    async with connect(Base) as client:
        assert await do(client, reply) == Number(value=5)
        assert await do(client, nothing) is None
        await client.assert_silent()


async def test_reply_without_ref() -> None:
    """Without a ref a returned event goes back as an ordinary one, and None as nothing."""

    async def reply(consumer: Any) -> Number:
        return Number(value=5)

    async with connect(Base) as client:
        client.consumer.todo = reply
        await client.send(Go())
        assert await client.receive_json() == {"event": "number", "data": {"value": 5}}
        client.consumer.todo = None
        await client.send(Go())
        await client.assert_silent()


@pytest.mark.parametrize(
    ("error", "code", "errors"),
    [
        (PermissionDenied("Members only"), "forbidden", []),
        (Http404("No Secret matches"), "not_found", []),
        (Refused("teapot", "Short and stout"), "teapot", []),
        (BackplaneUnavailable("down"), "unavailable", []),
        (
            ValidationError({"title": ValidationError("Too dull", code="dull")}),
            "invalid_data",
            [{"loc": ["title"], "msg": "Too dull", "type": "dull"}],
        ),
        (ValidationError("No"), "invalid_data", [{"loc": [], "msg": "No", "type": "value_error"}]),
        (Refused("teapot", gettext_lazy("Short")), "teapot", []),  # type: ignore[arg-type]
        (Refused("teapot", None), "teapot", []),  # type: ignore[arg-type]
        (
            ValidationError("no %(such)s parameter", params={"other": 1}),
            "invalid_data",
            [{"loc": [], "msg": "no %(such)s parameter", "type": "value_error"}],
        ),
    ],
)
async def test_refusals(error: Exception, code: str, errors: list[Any]) -> None:
    """A handler that says no is answered; the socket stays; without a ref nothing is sent, and it is counted."""

    async def refuse(consumer: Any) -> None:
        raise error

    async with connect(Base) as client:
        with pytest.raises(RequestRefused) as refused:
            await do(client, refuse)
        assert (refused.value.code, refused.value.errors) == (code, errors)
        assert "Secret" not in refused.value.message
        before = counters["refusals_unanswered"]
        await client.send(Go())
        await client.assert_silent()
        assert counters["refusals_unanswered"] == before + 1


async def test_wrong_reply(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that returns what is no declared event is a bug."""
    for wrong in ({"value": 1}, Undeclared()):

        async def reply(consumer: Any, wrong: Any = wrong) -> Any:
            return wrong

        async with connect(Base) as client:
            client.consumer.todo = reply
            await client.send(Go())
            await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)


# Sending


async def test_send_validates_first() -> None:
    """A wrong event raises, also on a closed connection; a right one is then dropped (S29)."""
    async with connect(Base) as client:
        await client.disconnect()
        await client.consumer.send(Number())
        with pytest.raises(UndeclaredEvent, match="out_events"):
            await client.consumer.send(Undeclared())
        with pytest.raises(TypeError):
            await client.consumer.send({"event": "number"})


async def test_burst_of_own_sends() -> None:
    """1,500 sends in a row reach a client that reads (S30, S31, S32)."""

    async def burst(consumer: Any) -> None:
        for value in range(1500):
            await consumer.send(Number(value=value))

    async with connect(Base) as client:
        client.consumer.todo = burst
        await client.send(Go())
        assert [(await client.receive(Number)).value for _ in range(1500)] == list(range(1500))


async def test_direct_sends_keep_order_in_one_process() -> None:
    """A direct send does not overtake a publication of the same handler (D6)."""

    async def mixed(consumer: Any) -> None:
        await consumer.publish_to_room("lobby", Number(value=1))
        await consumer.send(Number(value=2))
        await consumer.broadcast(Number(value=3))

    async with connect(Base) as client:
        await client.consumer.join("lobby")
        client.consumer.todo = mixed
        await client.send(Go())
        assert [(await client.receive(Number)).value for _ in range(3)] == [1, 2, 3]


async def test_frame_names_its_room() -> None:
    """The room stands beside event and data where there is exactly one."""
    async with connect(Base) as client:
        await client.consumer.join("lobby")
        await apublish_to_room("lobby", Number(), namespace="unit")
        assert (await client.receive_json())["room"] == "lobby"
        await client.consumer.publish_to_audience(to.Room("lobby") | to.Everyone(), Number())
        assert "room" not in await client.receive_json()


async def test_publish_to_others() -> None:
    """Everybody in the room but the sender (A1)."""
    async with connect(Base) as one, connect(Base) as two:
        for client in (one, two):
            await client.consumer.join("lobby")
        await one.consumer.publish_to_others("lobby", Number(value=1))
        assert (await two.receive(Number)).value == 1
        await one.assert_silent()


# Closing


async def test_close_is_idempotent() -> None:
    """The first close wins (S33)."""
    async with connect(Base) as client:
        await client.consumer.close(4500, "first")
        await client.consumer.close(4501, "second")
        await client.assert_closed(close_codes.Close(4500, "first"))


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 2999, 5000])
async def test_impossible_code(code: int) -> None:
    """A code that no close frame can carry raises at the call, and the connection stays (S34)."""
    async with connect(Base) as client:
        with pytest.raises(ValueError, match="close code"):
            await client.consumer.close(code)
        await client.assert_silent()


@pytest.mark.parametrize("reason", ["é" * 62, "😀" * 31, "a" * 200, "ab" + "€" * 60])
async def test_long_reason(reason: str) -> None:
    """A reason is cut at 123 bytes between code points (S35)."""
    async with connect(Base) as client:
        await client.consumer.close(4500, reason)
        await client.assert_closed(4500)
        sent = client._closed[1]
        assert reason.startswith(sent)
        assert 120 <= len(sent.encode()) <= 123


async def test_on_disconnect_order() -> None:
    """At the end it has left hub and rooms, its timers are gone, and the hook still reads what it was (S36, S41)."""
    seen: list[Any] = []

    class Watching(Base):
        async def on_disconnect(self, closed: Closed) -> None:
            hub = current_node().hub
            seen.append((self.rooms, self.user_id, hub.select("unit", to.Room("lobby")), len(current_node().wheel)))
            await self.leave("lobby")

    async with connect(Watching, subprotocols=["wsrt.v1"]) as client:
        await client.consumer.join("lobby")
        await client.consumer.set_user_id(7)
    assert seen == [(("lobby",), "7", [], 0)]


async def test_close_drains() -> None:
    """send, publish, then close: all is delivered before the close (S37)."""

    async def goodbye(consumer: Any) -> None:
        for value in range(100):
            await consumer.send(Number(value=value))
        await consumer.broadcast(Text(text="bye"))
        await consumer.close()

    async with connect(Base) as client:
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
    async with connect(Base) as client:
        await client.disconnect(code)
        closed, _, _ = client.consumer.seen[-1]
        assert (closed.code, closed.by) == (code, by)


async def test_how_we_ended_it() -> None:
    """on_disconnect learns our own code and reason (S39)."""
    async with connect(Base) as client:
        await client.consumer.close(4500, "done")
        await client.disconnect()
        assert client.consumer.seen[-1][0] == Closed(4500, "done", "server")


async def test_wait_for_close() -> None:
    """Any number of tasks wait for the close; after it, it returns at once (S40, S42)."""
    async with connect(Base) as client:
        waiting = [asyncio.create_task(client.consumer.wait_for_close()) for _ in range(2)]
        await asyncio.sleep(0)
        await client.consumer.close(4500, "done")
        await client.disconnect()
        assert {await task for task in waiting} == {await client.consumer.wait_for_close()}


async def test_failing_on_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that fails is logged, and the connection is gone all the same (S39, S43)."""

    class Failing(Base):
        async def on_disconnect(self, closed: Closed) -> None:
            raise ZeroDivisionError

    async with connect(Failing) as client:
        await client.consumer.join("lobby")
    assert "on_disconnect of Failing failed" in caplog.text
    assert not current_node().hub.subscribers
    assert client.consumer._connection.ended.done()


async def test_endless_on_disconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that does not end is cancelled."""
    monkeypatch.setattr("wsrt.connection.lifecycle.DISCONNECT_SECONDS", 0.01)

    class Endless(Base):
        async def on_disconnect(self, closed: Closed) -> None:
            await asyncio.sleep(3600)

    before = counters["disconnect_hooks_cancelled"]
    async with connect(Endless):
        pass
    assert counters["disconnect_hooks_cancelled"] == before + 1


async def test_socket_gone_at_once() -> None:
    """A peer that is gone before set-up is done leaves nothing, and was never connected (S10, S12)."""
    release = asyncio.Event()

    class Slow(Base):
        async def authorize(self) -> bool:
            await release.wait()
            return True

    client = connect(Slow)
    entering = asyncio.create_task(client.__aenter__())
    while not client.accepted:
        await asyncio.sleep(0)
    await client.send(Number(value=1))
    leaving = asyncio.create_task(client.disconnect(1006))
    await asyncio.sleep(0.01)
    release.set()
    await leaving
    await entering
    assert not current_node().hub.subscribers
    assert client.consumer.seen == []


async def test_server_send_fails_at_accept() -> None:
    """A server that raises for a peer that is gone ends the connection in silence (S12)."""

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        raise OSError("gone")

    await Base()({"type": "websocket", "headers": []}, receive, send)
    assert not current_node().hub.subscribers


async def test_cancelled_by_the_server() -> None:
    """A server that cancels the application gets a close frame, and the hook runs once (S36)."""
    async with connect(Base) as client:
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


# Set-up


@pytest.mark.parametrize(
    ("error", "close"),
    [
        (Http404, close_codes.NOT_FOUND),
        (Refused("not_found"), close_codes.NOT_FOUND),
        (Refused("rate_limited"), close_codes.RATE_LIMIT_EXCEEDED),
        (Refused("own"), close_codes.FORBIDDEN),
        (ValidationError("no"), close_codes.FORBIDDEN),
        (BackplaneUnavailable("down"), close_codes.CONNECTION_SETUP_FAILED),
        (RuntimeError, close_codes.CONNECTION_SETUP_FAILED),
        (TimeoutError, close_codes.CONNECTION_SETUP_FAILED),
        (PermissionDenied, close_codes.UNAUTHENTICATED),
    ],
)
async def test_set_up_refused(error: Any, close: close_codes.Close) -> None:
    """Every failure of on_connect has its row; the hook that is owed runs (H4)."""

    class Refusing(Base):
        async def on_connect(self) -> None:
            raise error

    async with connect(Refusing) as client:
        assert client.accepted
        await client.assert_closed(close)
        await client.disconnect()
        assert len(client.consumer.seen) == 1


async def test_guard_is_awaited() -> None:
    """A guard that refuses after an await refuses; nobody saw the connection meanwhile (H1, H2, H3)."""
    seen: list[int] = []

    class Guarded(Base):
        async def authorize(self) -> bool:
            await asyncio.sleep(0)
            seen.append(len(current_node().hub.subscribers))
            raise PermissionDenied

        async def on_connect(self) -> None:
            raise AssertionError("never")

    async with connect(Guarded) as client:
        await client.send(Number(value=1))
        await client.assert_closed(close_codes.UNAUTHENTICATED)
        await client.disconnect()
        assert client.consumer.seen == []
    assert seen == [0]


async def test_set_up_timeout() -> None:
    """Set-up that is not done in time closes 4408."""

    class Slow(Base):
        setup_timeout = 0.01

        async def authorize(self) -> bool:
            await asyncio.sleep(60)
            return True

    async with connect(Slow) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_TIMEOUT)


@pytest.mark.parametrize("hook", ["authorize", "on_connect"])
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_set_up_that_can_not_be_cancelled(hook: str, kind: str) -> None:
    """The close comes in time though a hook swallows its cancellation, or blocks a thread."""
    released, swallowed = threading.Event(), asyncio.Event()

    async def stubborn(consumer: Any) -> bool:
        while not released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                swallowed.set()
        return True

    def blocking(consumer: Any) -> bool:
        return released.wait(20)

    class Late(Base):
        setup_timeout = 0.05

    setattr(Late, hook, stubborn if kind == "async def" else blocking)
    before = counters["setup_timeouts"]
    try:
        async with connect(Late) as client:
            await client.send(Number(value=1))
            await client.assert_closed(close_codes.CONNECTION_SETUP_TIMEOUT)
            if kind == "async def":
                await swallowed.wait()
            released.set()
        assert len(client.consumer.seen) == (0 if hook == "authorize" else 1)
    finally:
        released.set()
    assert counters["setup_timeouts"] == before + 1


async def test_stays_open_after_on_connect() -> None:
    """on_connect returning does not close the connection (H5)."""
    async with connect(Base) as client:
        await client.assert_silent()


async def test_facts() -> None:
    """What the handshake said is there, and what is not is told (H6)."""
    async with connect(Base, "/?q=1&q=2", kwargs={"slug": "a"}) as client:
        consumer = client.consumer
        assert consumer.kwargs == {"slug": "a"}
        assert consumer.query.getlist("q") == ["1", "2"]
        assert consumer.user.is_anonymous
        assert consumer.user_id is None
        assert consumer.node_id == current_node().id
        assert consumer.id.startswith(consumer.node_id)
        with pytest.raises(AttributeError, match="@on_layer"):
            _ = consumer.channel_name


async def test_context_is_shared() -> None:
    """What on_connect sets in its context, handlers and on_disconnect see (H7)."""
    locale: contextvars.ContextVar[str] = contextvars.ContextVar("locale")

    class Local(Base):
        async def on_connect(self) -> None:
            locale.set("fi")

        @on
        async def number(self, event: Number) -> None:
            self.seen.append(locale.get())

        async def on_disconnect(self, closed: Closed) -> None:
            self.seen.append(locale.get())

    async with connect(Local) as client:
        await client.send(Number())
        await client.settle()
    assert client.consumer.seen == ["fi", "fi"]
    assert locale.get(None) is None


# Rooms and users


async def test_defaults() -> None:
    """Ids are unique, the namespace is "default", limits come from the settings (S9)."""

    class Plain(TypedEventConsumer):
        pass

    assert (Plain.namespace, Plain.heartbeat, Plain.max_payload) == ("default", 25, 65536)
    async with connect(Plain) as one, connect(Plain) as two:
        assert one.consumer.id != two.consumer.id


async def test_join_and_leave() -> None:
    """join and leave are reported in ``rooms``; joining twice is joining once (S50, R3)."""
    async with connect(Base, subprotocols=["wsrt.v1"]) as client:
        for _ in range(2):
            await client.consumer.join("b")
        await client.consumer.join("a")
        assert client.consumer.rooms == ("b", "a")
        await client.consumer.leave("b")
        await client.consumer.leave("never")
        assert client.consumer.rooms == ("a",)
        said = [(frame["event"], frame["data"].get("room")) for frame in client.reserved[1:]]
        assert said == [("wsrt.joined", "b"), ("wsrt.joined", "a"), ("wsrt.left", "b")]


async def test_mutations_after_the_end() -> None:
    """After the end join, leave and set_user_id do nothing, and leave nothing behind (S50, R6)."""
    async with connect(Base) as client:
        consumer = client.consumer
        await client.disconnect()
        await consumer.join("lobby")
        await consumer.leave("lobby")
        await consumer.set_user_id(7)
        hub = current_node().hub
        assert not hub._rooms
        assert not hub._users


async def test_one_user_at_a_time() -> None:
    """A second user id takes the place of the first; 7 and "7" are one user (S51)."""
    async with connect(Base) as client:
        await client.consumer.set_user_id(6)
        await client.consumer.set_user_id("7")
        await apublish_to_user(6, Number(value=6), namespace="unit")
        await apublish_to_user(7, Number(value=7), namespace="unit")
        assert (await client.receive(Number)).value == 7
        await client.consumer.clear_user_id()
        await apublish_to_user(7, Number(value=8), namespace="unit")
        await client.assert_silent()


async def test_user_of_the_scope() -> None:
    """An authenticated user is bound by itself."""

    class User:
        pk = UUID(int=5)
        is_authenticated = True

    async with connect(Base, user=User()) as client:
        assert client.consumer.user_id == str(UUID(int=5))


async def test_publications_wait_for_on_connect() -> None:
    """From join on, publications wait and leave after what on_connect sent itself (S52)."""
    Gate.gate = asyncio.Event()
    client, entering = await enter_gate(Gate)
    for value in range(3):
        await apublish_to_room("lobby", Number(value=value), namespace="unit")
    await client.consumer.send(Text(text="more"))
    Gate.gate.set()
    await entering
    assert [(await client.receive(Text)).text for _ in range(2)] == ["snapshot", "more"]
    assert [(await client.receive(Number)).value for _ in range(3)] == [0, 1, 2]
    await client.disconnect()


async def test_namespaces_do_not_cross() -> None:
    """Rooms and users of one namespace do not reach another (S53, A2)."""

    class Elsewhere(Base):
        namespace = "elsewhere"

    async with connect(Base) as here, connect(Elsewhere) as there:
        for client in (here, there):
            await client.consumer.join("lobby")
            await client.consumer.set_user_id(1)
        await here.consumer.publish_to_room("lobby", Number())
        await here.consumer.publish_to_user(1, Number())
        await here.consumer.broadcast(Number())
        for _ in range(3):
            await here.receive(Number)
        await there.assert_silent()


async def test_authorize_room() -> None:
    """A room that refuses raises PermissionDenied, and is not joined."""

    class Picky(Base):
        async def authorize_room(self, room: str) -> bool:
            return room == "open"

    async with connect(Picky) as client:
        await client.consumer.join("open")
        with pytest.raises(PermissionDenied):
            await client.consumer.join("shut")
        assert client.consumer.rooms == ("open",)


async def test_room_limit() -> None:
    """A connection joins max_rooms rooms at most, and names must be names (R7)."""

    class Two(Base):
        max_rooms = 2

    async with connect(Two) as client:
        await client.consumer.join("a")
        await client.consumer.join("b")
        await client.consumer.join("b")
        with pytest.raises(TooManyRooms):
            await client.consumer.join("c")
        for wrong in ("", "wsrt.x"):
            with pytest.raises(ValueError, match="room name"):
                await client.consumer.join(wrong)
        with pytest.raises(TypeError):
            await client.consumer.join(5)


async def test_room_limit_at_once() -> None:
    """Joins that are under way count for the limit, each room once; one that fails makes room for another."""

    class Asking(Base):
        max_rooms = 5

        async def authorize_room(self, room: str) -> bool:
            await asyncio.sleep(0)
            return room != "shut"

    async with connect(Asking) as client:
        with pytest.raises(PermissionDenied):
            await client.consumer.join("shut")
        rooms = ["a", "a", *map(str, range(500))]
        results = await asyncio.gather(*map(client.consumer.join, rooms), return_exceptions=True)
        assert len(client.consumer.rooms) == 5
        assert results[:6] == [None] * 6
        assert all(isinstance(result, TooManyRooms) for result in results[6:])
        await client.consumer.leave("a")
        await client.consumer.join("b")


@pytest.mark.parametrize("name", ["", "wsrt.x", "x" * 256, "\ud800"])
async def test_room_name_of_a_client(name: str) -> None:
    """A string of a client that can't be the name of a room refuses its request, whatever it was meant for."""
    async with connect(Base) as client:
        for use in (
            lambda consumer: consumer.join(name),
            lambda consumer: consumer.publish_to_room(name, Number(value=1)),
            lambda consumer: consumer.publish_to_others(name, Number(value=1)),
        ):
            with pytest.raises(RequestRefused, match="invalid_data"):
                await do(client, use)


async def test_disconnect_many() -> None:
    """One disconnect closes all, whatever goes wrong with one of them (R8, D9)."""

    class Failing(Base):
        async def on_disconnect(self, closed: Closed) -> None:
            raise ZeroDivisionError

    async with connect(Failing) as one, connect(Base) as two:
        await adisconnect(addresses.Everyone(), namespace="unit")
        await one.assert_closed(close_codes.DISCONNECTED)
        await two.assert_closed(close_codes.DISCONNECTED)


async def test_nothing_is_left() -> None:
    """Connections that came and went leave no task and no connection."""

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Base) for thing in gc.get_objects())

    async with connect(Base):
        pass
    before, tasks = alive(), len(asyncio.all_tasks())
    for _ in range(250):
        async with connect(Base, subprotocols=["wsrt.v1"]) as client:
            await client.consumer.join("lobby")
            await client.send(Number())
    del client
    await asyncio.sleep(0)
    hub = current_node().hub
    assert not (hub.subscribers or hub._rooms or hub._users or hub._everyone)
    assert len(asyncio.all_tasks()) <= tasks
    assert alive() <= before


# Threads


class Threaded(TypedEventConsumer):
    """A consumer of def methods."""

    namespace = "threaded"
    out_events = (Number,)

    def authorize(self) -> bool:  # type: ignore[override]
        return True

    @on
    def number(self, event: Number) -> Number:
        return Number(value=event.value + 1)

    @on
    def go(self, event: Go) -> None:
        try:
            self.join("lobby")
        except WrongContext as error:
            raise Refused("context", str(error)) from error


async def test_def_handlers() -> None:
    """def handlers run in a thread; the async methods called there raise and name what to call."""
    async with connect(Threaded) as client:
        assert await client.request(Number(value=1)) == Number(value=2)
        with pytest.raises(RequestRefused, match=r"self\.sync\.join"):
            await client.request(Go())
        with pytest.raises(WrongContext, match="on_disconnect"):
            await asyncio.to_thread(client.consumer.wait_for_close)


async def test_unknown_attribute() -> None:
    """as_asgi() takes attributes of the class only, and says so when the route is made."""
    with pytest.raises(TypeError, match="max_payloads"):
        Base.as_asgi(max_payloads=1)
    async with connect(Base.as_asgi(max_payload=5)) as client:
        await client.send(Number())
        await client.assert_closed(close_codes.MESSAGE_TOO_LARGE)


@pytest.mark.parametrize("name", ["namespace", "out_events", "channel_layer_alias", "catalog"])
async def test_attribute_of_the_class(name: str) -> None:
    """What the class statement settles cannot be given to as_asgi()."""
    with pytest.raises(TypeError, match=f"{name}.*is fixed for the class: set it in a subclass"):
        Base.as_asgi(**{name: "other"})


async def test_http_scope() -> None:
    """A route of the wrong kind is told."""
    with pytest.raises(ValueError, match="websocket"):
        await Base()({"type": "http"}, None, None)  # type: ignore[arg-type]


async def test_own_subprotocol() -> None:
    """wsrt.v1 goes first, then the consumer's own; an unknown offer chooses none."""

    class Own(Base):
        subprotocols = ("mine",)

    for offer, chosen in [(["mine"], "mine"), (["mine", "wsrt.v1"], "wsrt.v1"), (["other"], None)]:
        async with connect(Own, subprotocols=offer) as client:
            assert client.subprotocol == chosen


async def test_origin_is_refused_before_accept(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A foreign page is refused before accept, and the log names the setting (H3)."""
    async with connect(Base, headers={"host": "testserver", "origin": "https://evil.example"}) as client:
        assert not client.accepted
    assert "CSRF_TRUSTED_ORIGINS" in caplog.text

    class Open(Base):
        check_origin = False

    async with connect(Open, headers={"origin": "https://evil.example"}) as client:
        assert client.accepted


async def test_rate() -> None:
    """Over the rate a plain client is closed 4429; a wsrt.v1 client is told first."""

    class Slow(Base):
        rate = "1/h"
        rate_burst = 2
        max_violations = 2

    async with connect(Slow) as client:
        for _ in range(3):
            await client.send(Number(), ref="r")
        await client.assert_closed(close_codes.RATE_LIMIT_EXCEEDED)
    async with connect(Slow, subprotocols=["wsrt.v1"]) as client:
        for _ in range(2):
            await client.send(Number())
        await client.send(Number(), ref="r")
        answer = await client.receive_json()
        assert (answer["ref"], answer["data"]["code"]) == ("r", "rate_limited")
        await client.send_text("{" * 70000)
        await client.send(Number())
        await client.assert_closed(close_codes.RATE_LIMIT_EXCEEDED)
