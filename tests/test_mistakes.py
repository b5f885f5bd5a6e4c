"""The mistakes of newcomers: what each of them makes wsrt say, word for word as the page on mistakes has it."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.testing import WebsocketCommunicator
from django.apps import apps
from django.core.asgi import get_asgi_application
from django.test import override_settings
from django.urls import path

from tests.support.processes import ROOT
from wsrt import Event, Refused, TypedEventConsumer, apublish_to_room, checks, on, on_layer
from wsrt.asgi import with_runtime
from wsrt.cluster import layers
from wsrt.delivery.calls import report_calls
from wsrt.exceptions import BackplaneUnavailable
from wsrt.routing import consumer_urlpatterns
from wsrt.servers import http_only
from wsrt.testing import connect

PAGE = ROOT / "docs/reference/mistakes.md"


class SendMessage(Event, name="message.send"):
    text: str


class MessageSent(Event, name="message.sent"):
    text: str


Mistake = Callable[[pytest.MonkeyPatch], Any]

MISTAKES: dict[str, Mistake] = {}
"""What makes each mistake, by the name that the page gives it."""


@pytest.fixture(autouse=True)
def _debug(only_own_consumers: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be in development, with no consumer declared and no mistake logged yet."""
    monkeypatch.setattr(layers, "_used_by_hand", set())
    report_calls(True)
    with override_settings(DEBUG=True):
        yield
    report_calls(False)


def mistake(title: str) -> Callable[[Mistake], Mistake]:
    def add(function: Mistake) -> Mistake:
        MISTAKES[title] = function
        return function

    return add


def chat(**names: Any) -> type[TypedEventConsumer]:
    """Make a consumer with these names."""
    body = {"namespace": "chat", "out_events": (MessageSent,), **names}
    made: Any = type("ChatConsumer", (TypedEventConsumer,), body)
    return made  # type: ignore[no-any-return]


async def on_connect_with(code: Callable[[Any], Any], **names: Any) -> None:
    """Connect to a consumer whose ``on_connect`` runs some code."""

    async def on_connect(self: Any) -> None:
        result = code(self)
        if isinstance(result, Awaitable):
            await result

    async with connect(chat(on_connect=on_connect, **names)):
        pass


# The project


@mistake('`"wsrt"` isn\'t in `INSTALLED_APPS`')
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: False)
    chat().as_asgi()


@mistake("`runserver` is Django's own")
def runserver(monkeypatch: pytest.MonkeyPatch) -> Any:
    chat()
    monkeypatch.setattr(sys, "argv", ["manage.py", "runserver"])
    (message,) = checks.check_runserver()
    return f"{message.msg} {message.hint}"


@mistake("The server only speaks HTTP: WSGI, such as gunicorn without a worker class")
def wsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    http_only.note_request(None, environ={"HTTP_UPGRADE": "WebSocket", "PATH_INFO": "/ws/chat/"})


@mistake("uvicorn was installed without a WebSocket library")
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    http_only.note_request(None, scope={"path": "/ws/chat/", "headers": [(b"host", b"a"), (b"upgrade", b"websocket")]})


@mistake('`as_asgi()` is forgotten: `path("ws/chat/", ChatConsumer)`')
async def no_as_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    router = URLRouter([path("ws/chat/", chat())])
    await WebsocketCommunicator(router, "/ws/chat/").connect()


@mistake('`as_asgi` isn\'t called: `path("ws/chat/", ChatConsumer.as_asgi)`')
async def as_asgi_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    router = URLRouter([path("ws/chat/", chat().as_asgi)])
    await WebsocketCommunicator(router, "/ws/chat/").connect()


@mistake("`get_asgi_application` isn't called: `with_runtime(get_asgi_application)`")
def application_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with_runtime(get_asgi_application)


@mistake("The app isn't in `INSTALLED_APPS`, or the consumer isn't in its `consumers.py`")
async def consumer_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    application = with_runtime(ProtocolTypeRouter({"websocket": URLRouter(consumer_urlpatterns())}))
    async with connect(application, "/ws/chat/") as client:
        await client.settle()


@mistake("`ASGI_APPLICATION` has routers of its own, without the consumer")
def consumer_not_in_routers(monkeypatch: pytest.MonkeyPatch) -> Any:
    consumer = chat(path="ws/chat/")
    monkeypatch.setattr(sys.modules[__name__], "application", ProtocolTypeRouter({"websocket": URLRouter([])}), False)
    with override_settings(ASGI_APPLICATION=f"{__name__}.application"):
        (message,) = [each for each in checks.check_routes() if each.obj is consumer]
    return f"{message.msg} {message.hint}".replace(__name__, "mysite.asgi")


@mistake("`CHANNEL_LAYERS` names channels_redis, which isn't installed")
def no_channels_redis(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "channels_redis", None)
    monkeypatch.delitem(sys.modules, "channels_redis.pubsub", False)
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": checks.PUBSUB}}):
        (message,) = checks.check_layers()
    return f"{message.msg} {message.hint}"


@mistake("Redis isn't running")
async def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(self: Any) -> None:
        raise BackplaneUnavailable("the channel layer 'default' is down; wsrt keeps trying to reconnect")

    await on_connect_with(join)


@mistake("No middleware of the route sets the user")
async def no_users(monkeypatch: pytest.MonkeyPatch) -> None:
    async def on_connect(self: Any) -> None:
        assert self.user.is_anonymous

    client = connect(chat(on_connect=on_connect))
    del client._scope["user"]
    async with client:
        pass


# The class


@mistake("`@on` is forgotten")
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_message(self: Any, event: SendMessage) -> None: ...

    chat(send_message=send_message)


@mistake("`@on` is forgotten, and the consumer also sends the event")
async def forgotten_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    async def show_message(self: Any, event: MessageSent) -> None: ...

    async with connect(chat(show_message=show_message)) as client:
        await client.send(MessageSent(text="hi"))
        await client.settle()


@mistake("A handler returns something other than an event")
def returns_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_message(self: Any, event: SendMessage) -> dict[str, str]:
        return {}

    send_message.__annotations__["return"] = dict
    chat(send_message=on(send_message))  # type: ignore[arg-type, call-overload]


@mistake("A handler takes something other than an event")
def takes_str(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_message(self: Any, event: str) -> None: ...

    chat(send_message=on(send_message))  # type: ignore[arg-type, call-overload]


@mistake("A hook is misspelt")
def misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def authorise(self: Any) -> bool:
        return False

    chat(authorise=authorise)


@mistake("The class has a method that only Channels' own consumers call")
def channels_method(monkeypatch: pytest.MonkeyPatch) -> None:
    async def receive_json(self: Any, content: dict[str, Any]) -> None: ...

    chat(receive_json=receive_json)


@mistake("The class sets `groups = [...]`")
def class_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    chat(groups=["lobby"])


# What Channels' consumers have


@mistake("`self.accept()` is called")
async def accept(monkeypatch: pytest.MonkeyPatch) -> None:
    await on_connect_with(lambda self: self.accept())


@mistake("`self.groups` is read")
async def groups(monkeypatch: pytest.MonkeyPatch) -> None:
    await on_connect_with(lambda self: self.groups)


@mistake("`self.send_json(...)` is called")
async def send_json(monkeypatch: pytest.MonkeyPatch) -> None:
    await on_connect_with(lambda self: self.send_json({"text": "hi"}))


@mistake("`self.send(text_data=...)` is called")
async def send_text(monkeypatch: pytest.MonkeyPatch) -> None:
    await on_connect_with(lambda self: self.send(text_data="hi"))


@mistake('`self.send("...")` is called with a string')
async def send_str(monkeypatch: pytest.MonkeyPatch) -> None:
    await on_connect_with(lambda self: self.send("hi"))


@mistake("`self.channel_layer.group_add(...)` is called without a channel layer")
async def group_add(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(CHANNEL_LAYERS={}):
        await on_connect_with(lambda self: self.channel_layer.group_add("lobby", "chat"))


@mistake("`self.channel_layer.group_add(..., self.channel_name)` is called in a class without `@on_layer`")
async def channel_name(monkeypatch: pytest.MonkeyPatch) -> None:
    layers._used_by_hand.add(("ChatConsumer", "default"))
    await on_connect_with(lambda self: self.channel_layer.group_add("lobby", self.channel_name))


@mistake("`self.channel_layer` is used, and it is the in-memory layer")
async def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    await on_connect_with(lambda self: self.channel_layer.group_send("lobby", {"type": "chat.message"}))


@mistake("The class has `@on_layer` methods, but there is no channel layer")
async def on_layer_without(monkeypatch: pytest.MonkeyPatch) -> None:
    @on_layer("chat.message")
    async def chat_message(self: Any, message: dict[str, Any]) -> None: ...

    with override_settings(CHANNEL_LAYERS={}):
        await on_connect_with(lambda self: None, chat_message=chat_message)


# Calls


@mistake("A method isn't awaited")
async def not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def on_connect(self: Any) -> None:
        self.send(MessageSent(text="hi"))

    with pytest.warns(RuntimeWarning, match=r"self\.send\(\) was never awaited"):
        async with connect(chat(on_connect=on_connect)):
            pass


@mistake("A function isn't awaited")
async def publication_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    chat()
    with pytest.warns(RuntimeWarning, match="apublish_to_room"):
        apublish_to_room("lobby", MessageSent(text="hi"), namespace="chat")


@mistake("A `def` handler calls an async method")
async def join_in_def(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_connect(self: Any) -> None:
        self.join("lobby")

    async with connect(chat(on_connect=on_connect)):
        pass


@mistake("`namespace` is left out")
async def no_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    chat()
    await apublish_to_room("lobby", MessageSent(text="hi"))


# Frames


@mistake("A client sends data that isn't valid")
async def invalid_data(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_message(self: Any, event: SendMessage) -> None: ...

    async with connect(chat(send_message=on(send_message))) as client:
        await client.send_text('{"event": "message.send", "data": {}}')
        await client.settle()


@mistake("A client sends an unknown event")
async def unknown_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_message(self: Any, event: SendMessage) -> None: ...

    async with connect(chat(send_message=on(send_message)), subprotocols=["wsrt.v1"]) as client:
        await client.send_text('{"event": "mesage.send", "data": {}}')
        await client.settle()


@mistake("A client sends something other than an envelope")
async def no_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect(chat(), subprotocols=["wsrt.v1"]) as client:
        await client.send_text('{"text": "hi"}')
        await client.settle()


@mistake("A handler refuses a frame that has no `ref`")
async def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_message(self: Any, event: SendMessage) -> None:
        raise Refused("muted", "You are muted")

    async with connect(chat(send_message=on(send_message))) as client:
        await client.send(SendMessage(text="hi"))
        await client.settle()


@mistake("`authorize` doesn't return anything")
async def no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def authorize(self: Any) -> None:
        self.user.is_staff  # noqa: B018 - the return is what is forgotten

    async with connect(chat(authorize=authorize)) as client:
        await client.settle()


@mistake("`authorize` returns False")
async def unauthorized(monkeypatch: pytest.MonkeyPatch) -> None:
    async def authorize(self: Any) -> bool:
        return False

    async with connect(chat(authorize=authorize)) as client:
        await client.settle()


# The page


def quotes() -> dict[str, str]:
    """Return the message of each mistake on the page, by its title."""
    found = re.findall(r"^\*\*(.+?)\*\*\n\n((?:> .+\n)+)", PAGE.read_text(), re.MULTILINE)
    return {title.rstrip("."): " ".join(re.findall("> (.+)", quote)) for title, quote in found}


async def said(function: Mistake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> str:
    """Return what a mistake makes wsrt say: the text of the exception, of the exception in the log, or of the line."""
    with caplog.at_level(logging.WARNING, "wsrt"):
        try:
            result = function(monkeypatch)
            if asyncio.iscoroutine(result):
                result = await result
        except Exception as error:
            return str(error)
    if isinstance(result, str):
        return result
    # Without the mark django_db, clean-ups after an exception find that they may not use the database. The test client
    # isn't a server.
    others = ("database connections", "the server isn't recognised")
    (record,) = [each for each in caplog.records if not any(other in each.getMessage() for other in others)]
    return str(record.exc_info[1]) if record.exc_info else record.getMessage()


@pytest.mark.parametrize("title", MISTAKES)
async def test_mistake(title: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The mistake makes wsrt say what the page says."""
    message = await said(MISTAKES[title], monkeypatch, caplog)
    # Other tests of this process have counted, too.
    message = re.sub(r" \(\d+ times since this was last logged\)$", "", message)
    assert quotes().get(title) == re.sub(rf"^{re.escape(__file__)}:\d+:", "chat/consumers.py:12:", message)


def test_page() -> None:
    """The page has no other mistakes."""
    assert quotes().keys() == MISTAKES.keys()
