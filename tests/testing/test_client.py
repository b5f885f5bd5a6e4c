"""The client of the testing kit, and the server that it plays."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser
from django.urls import path

from tests.testing.consumers import NAMESPACE, Other, Talker, Word
from wsrt import (
    Refused,
    TypedEventConsumer,
    close_codes,
    on,
)
from wsrt import testing as kit
from wsrt.testing import RequestRefused, connect

# The client


async def test_typed_round() -> None:
    """Events go out and come back as models, by their aliases on the wire."""
    async with connect(Talker) as client:
        await client.send(Word(text="a"))
        assert await client.receive_json() == {"event": "unit-testing.word", "data": {"Text": "a"}}
        await client.send(Word(text="b"))
        assert await client.receive(Word) == Word(text="b")


async def test_request() -> None:
    """A request returns the event that answers it, or None, whatever came before."""
    async with connect(Talker) as client:
        await client.send(Word(text="first"))
        assert await client.request(Word(text="second")) == Word(text="second")
        assert await client.request(Other()) is None
        assert [(await client.receive(Word)).text for _ in range(2)] == ["first", "heard"]


async def test_refused_request() -> None:
    """A refusal is raised with its code, message and errors, and fails a test that does not expect it."""

    async def refuse(consumer: Talker) -> None:
        raise Refused("teapot", "Short and stout")

    async with connect(Talker) as client:
        client.consumer.todo = refuse
        with pytest.raises(AssertionError, match="teapot: Short and stout") as refused:
            await client.request(Word())
        assert isinstance(refused.value, RequestRefused)
        assert (refused.value.code, refused.value.message, refused.value.errors) == ("teapot", "Short and stout", [])


async def test_invalid_request() -> None:
    """The errors of a refusal name the fields."""
    async with connect(Talker) as client:
        with pytest.raises(RequestRefused, match="invalid_data") as refused:
            await client.request(Word.model_construct(text="x" * 101))
        assert [error["loc"] for error in refused.value.errors] == [["Text"]]


async def test_closed_request() -> None:
    """A connection that closes instead of answering is an error that shows the close."""

    async def leave(consumer: Talker) -> None:
        consumer._connection.close(close_codes.Close(4500, "enough"), discard=True)

    async with connect(Talker) as client:
        client.consumer.todo = leave
        with pytest.raises(AssertionError, match=r"before the request was answered: \(4500, 'enough'\)"):
            await client.request(Word())


@pytest.mark.parametrize("ref", ["a", 7, 'quote " and \\', "é", ""])
async def test_ref(ref: str | int) -> None:
    """Any ref comes back as it was sent."""
    async with connect(Talker) as client:
        await client.send(Word(text="a"), ref=ref)
        assert (await client.receive_json())["ref"] == ref


async def test_wrong_event() -> None:
    """Another event than the expected one is an error that shows the frame."""
    async with connect(Talker) as client:
        await client.send(Word(text="surprise"))
        with pytest.raises(AssertionError, match=r"expected 'unit-testing\.other'.*surprise"):
            await client.receive(Other)


async def test_receive_after_the_end() -> None:
    """What was sent before a close is received; then there is an error that shows the close."""

    async def goodbye(consumer: Talker) -> None:
        await consumer.send(Word(text="bye"))
        await consumer.close(4500, "enough")

    async with connect(Talker) as client:
        client.consumer.todo = goodbye
        await client.send(Word())
        assert await client.receive(Word) == Word(text="bye")
        with pytest.raises(AssertionError, match=r"closed: \(4500, 'enough'\)"):
            await client.receive(Word)


async def test_nothing_to_receive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that never comes is an error that says what was waited for."""
    async with connect(Talker) as client:
        monkeypatch.setattr(kit.client, "SECONDS", 0.01)
        with pytest.raises(AssertionError, match=r"waited 0\.01 s for a frame"):
            await client.receive(Word)
        with pytest.raises(AssertionError, match="for the close"):
            await client.assert_closed(1000)


async def test_assert_silent() -> None:
    """Silence is asserted once all that is under way is done, of other connections too."""
    async with connect(Talker) as one, connect(Talker) as two:
        await one.assert_silent()
        await two.consumer.join("lobby")
        one.consumer.todo = lambda consumer: consumer.publish_to_room("lobby", Word(text="loud"))
        await one.send(Word())
        with pytest.raises(AssertionError, match=r"expected nothing, got .*loud"):
            await two.assert_silent()


async def test_assert_silent_when_closed() -> None:
    """A closed connection is not silent, but closed."""
    async with connect(Talker) as client:
        await client.consumer.close()
        with pytest.raises(AssertionError, match=r"closed: .*1000"):
            await client.assert_silent()


async def test_assert_closed() -> None:
    """A close is compared by its code, or with its reason too."""
    async with connect(Talker) as client:
        await client.consumer.close(4500, "enough")
        await client.assert_closed(4500)
        await client.assert_closed(close_codes.Close(4500, "enough"))
        with pytest.raises(AssertionError, match=r"expected 4501, closed with \(4500, 'enough'\)"):
            await client.assert_closed(4501)
        with pytest.raises(AssertionError, match=r"expected \(4500, 'more'\)"):
            await client.assert_closed(close_codes.Close(4500, "more"))


async def test_disconnect() -> None:
    """After it has left, the consumer has cleaned up and knows the code; leaving twice is once."""
    client = connect(Talker)
    await client.disconnect()
    async with client:
        consumer = client.consumer
        await client.disconnect(1001)
        await client.disconnect()
    assert (await consumer.wait_for_close()).code == 1001


async def test_scope() -> None:
    """The consumer sees the path, the user, the route and the headers that the client was given."""

    class User:
        pk = 7
        is_authenticated = True

    user = User()
    client = connect(
        Talker,
        "/chat/lobby/?token=a",
        user=user,
        kwargs={"slug": "lobby"},
        headers={"X-Test": "yes"},
        scope={"session": {"a": 1}},
    )
    async with client:
        consumer = client.consumer
        assert (consumer.scope["path"], consumer.query["token"], consumer.kwargs) == (
            "/chat/lobby/",
            "a",
            {"slug": "lobby"},
        )
        assert (consumer.user, consumer.user_id, consumer.scope["session"]) == (user, "7", {"a": 1})
        assert (b"x-test", b"yes") in consumer.scope["headers"]
    for anonymous in (connect(Talker), connect(Talker, scope={"user": None})):
        async with anonymous as client:
            assert isinstance(client.consumer.user, AnonymousUser)


async def test_reserved_events() -> None:
    """Reserved events are kept apart, and pings are answered."""
    async with connect(Talker, subprotocols=["wsrt.v1"]) as client:
        await client.consumer.join("lobby")
        await client.consumer._connection._send({"type": "websocket.send", "text": '{"event":"wsrt.ping","data":{}}'})
        await client.assert_silent()
        assert client.subprotocol == "wsrt.v1"
        assert [frame["event"] for frame in client.reserved] == ["wsrt.hello", "wsrt.joined", "wsrt.ping"]
        assert client._to_app.empty()


async def test_refused_set_up() -> None:
    """A connection that is refused is entered all the same, to be asserted."""

    class Private(Talker):
        async def authorize(self) -> bool:
            return False

    async with connect(Private) as client:
        assert client.accepted
        await client.assert_closed(close_codes.UNAUTHENTICATED)


async def test_application() -> None:
    """Any ASGI application around a consumer can be connected to; typed answers need the class."""
    application = URLRouter([path("chat/<slug:slug>/", Talker.as_asgi())])
    async with connect(application, "/chat/lobby/") as client:
        assert client.consumer is None
        await client.send(Word(text="a"))
        assert await client.receive(Word) == Word(text="a")
        assert await client.request(Other()) is None
        await client.receive(Word)
        with pytest.raises(AssertionError, match="connected to a consumer class"):
            await client.request(Word())


# Its server


def application_that(*messages: dict[str, Any]) -> Any:
    """Return an ASGI application that accepts, sends these messages, and waits for the end."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for message in messages:
            await send(message)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return application


def text(value: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": value}


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"type": "websocket.close", "code": 999}], "invalid close code 999"),
        ([{"type": "websocket.close", "code": 1005}], "invalid close code 1005"),
        ([{"type": "websocket.close", "code": 1006}], "invalid close code 1006"),
        ([{"type": "websocket.close", "code": 5000}], "invalid close code 5000"),
        ([{"type": "websocket.close", "code": 4500, "reason": "é" * 62}], "control frame too long"),
        ([{"type": "websocket.close"}, text("{}")], r"Unexpected ASGI message 'websocket\.send'"),
        ([{"type": "websocket.close"}, {"type": "websocket.close"}], r"Unexpected ASGI message 'websocket\.close'"),
        ([{"type": "websocket.accept"}], r"Unexpected ASGI message 'websocket\.accept'"),
        ([{"type": "http.response.start"}], "Unexpected ASGI message"),
        ([text("")], "empty frame, or one that is larger"),
        ([text('"' + "x" * (1 << 20) + "x" * 2000 + '"')], "empty frame, or one that is larger"),
        ([text("no json")], "expected"),
        ([text('{"event":"a","data":NaN}')], "expected"),
    ],
)
async def test_limits_of_a_server(messages: list[dict[str, Any]], error: str) -> None:
    """What real servers refuse is refused, and the application's error is the test's (S34, S35)."""
    with pytest.raises((ValueError, RuntimeError), match=error):
        async with connect(application_that(*messages)) as client:
            await client.receive_json()


async def test_frame_before_accept() -> None:
    """A frame before the handshake is answered is refused."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(text("{}"))

    with pytest.raises(RuntimeError, match="Unexpected ASGI message"):
        async with connect(application):
            pass


async def test_close_before_accept() -> None:
    """A close before accept is HTTP 403: the client never learns the code."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 4403, "reason": "Forbidden"})

    async with connect(application) as client:
        assert not client.accepted
        await client.assert_closed(403)


async def test_application_that_returns() -> None:
    """An application that just returns has closed nothing: that is 1006."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async with connect(application) as client:
        await client.assert_closed(1006)
        with pytest.raises(AssertionError, match="without closing"):
            await client.assert_closed(1000)


async def test_error_of_the_application() -> None:
    """An error that the application raises is the test's error, wherever the test waits."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.receive":
            pass
        raise ZeroDivisionError("by nought")

    with pytest.raises(ZeroDivisionError, match="by nought"):
        async with connect(application) as client:
            await client.send_text("{}")
            await client.receive_json()


async def test_error_while_leaving() -> None:
    """An error that the application raises when the client has left is not lost."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        raise ZeroDivisionError("by nought")

    with pytest.raises(ZeroDivisionError, match="by nought"):
        async with connect(application):
            pass


async def test_settle_waits_for_threads() -> None:
    """Silence is not asserted while a def handler is still in its thread."""
    release = threading.Event()

    class Slow(TypedEventConsumer):
        namespace = NAMESPACE
        out_events = (Word,)

        @on
        def word(self, event: Word) -> Word:
            release.wait(10)
            return event

    async with connect(Slow) as client:
        await client.send(Word(text="late"))
        settling = asyncio.create_task(client.settle())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not settling.done()
        release.set()
        await settling
        assert await client.receive(Word) == Word(text="late")
