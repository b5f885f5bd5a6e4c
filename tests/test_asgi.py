"""The runtime around an application: its part in the lifespan of a server, and handshakes without a route."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

from wsrt import TypedEventConsumer
from wsrt.asgi import Runtime, with_runtime
from wsrt.close_codes import Close
from wsrt.delivery.transport import TRANSPORT
from wsrt.routing import consumer_urlpatterns
from wsrt.schema.routes import NO_ROUTES
from wsrt.testing import connect


async def unaware(scope: Any, receive: Any, send: Any) -> None:
    """An application that doesn't know the scope."""
    raise ValueError(scope["type"])


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """An application whose part goes on after its last answer."""
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
    await asyncio.Event().wait()


@pytest.mark.parametrize("application", [unaware, endless])
async def test_lifespan_ends_with_its_last_answer(application: Any) -> None:
    """A server that cancels the task of the lifespan once it has the last answer, as hypercorn does, finds it done."""
    inbound = iter(["lifespan.startup", "lifespan.shutdown"])
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": next(inbound)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])
        if message["type"] == "lifespan.shutdown.complete":
            asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(with_runtime(application)({"type": "lifespan"}, receive, send))
    await asyncio.wait([task])
    assert not task.cancelled()
    assert task.exception() is None
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# Handshakes without a route


class RoomConsumer(TypedEventConsumer):
    namespace = "asgi"


ROUTERS = [
    path("ws/chat/<slug:room>/", RoomConsumer.as_asgi()),
    path("ws/outer/", URLRouter([path("inner/<int:number>/", RoomConsumer.as_asgi())])),
    re_path(r"^ws/old/(?P<year>[0-9]{4})$", RoomConsumer.as_asgi()),
]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("/ws/chat/lobby", "add a slash at the end: '/ws/chat/lobby/'"),
        ("/ws/old/2026/", "remove the slash at the end"),
        ("/ws/outer/inner/7", "add a slash at the end: '/ws/outer/inner/7/'"),
        ("/ws/chats/lobby/", "the most similar route is /ws/chat/{room}/"),
        ("/ws/outer/iner/7/", "the most similar route is /ws/outer/inner/{number}/"),
        ("/ws/chat/no room/", "the most similar route is /ws/chat/{room}/"),
        ("/", "the most similar route is /ws/old/{year}"),
        (f"/ws/chat/{'x' * 10_000}/y/", "the most similar route is /ws/chat/{room}/"),
    ],
)
async def test_path_without_a_route(settings: Any, caplog: Any, wrong: str, hint: str) -> None:
    """A path without a route is closed 4404; the log, and under DEBUG the reason, say what to change."""
    settings.DEBUG = True
    application = with_runtime(ProtocolTypeRouter({"websocket": URLRouter(ROUTERS)}))
    async with connect(application, wrong) as client:
        await client.assert_closed(Close(4404, f"No WebSocket route matches: {hint}"))
    (line,) = [message for message in caplog.messages if "route" in message]
    assert line.startswith("no WebSocket route matches '/")
    assert f": {hint}" in line
    assert len(line) < 500


async def test_no_routes_but_those_of_wsrt(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project without a route isn't sent to the admin's, but told where consumers must be. The answer isn't cut."""
    settings.DEBUG = True
    monkeypatch.setattr("wsrt.routing.namespaces", {})
    application = with_runtime(ProtocolTypeRouter({"websocket": URLRouter(consumer_urlpatterns())}))
    close = Close(4404, f"No WebSocket route matches: {NO_ROUTES}")
    assert close.wire_reason == close.reason
    async with connect(application, "/ws/chat/") as client:
        await client.assert_closed(close)
    async with connect(application, "/ws/wsrt/admin") as client:
        hint = "add a slash at the end: '/ws/wsrt/admin/'"
        await client.assert_closed(Close(4404, f"No WebSocket route matches: {hint}"))


async def test_runtime_in_a_runtime() -> None:
    """The outer of two runtimes does the work: the inner one passes the server's capabilities on as they are."""
    seen: list[Any] = []

    def recorded(inner: Any) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            seen.append((scope["extensions"][TRANSPORT], send))
            if inner is not None:
                await inner(scope, receive, send)

        return application

    async def send(message: Any) -> None: ...

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/", "extensions": {}}
    await with_runtime(recorded(with_runtime(recorded(None))))(scope, receive, send)
    outer, inner = seen
    assert inner == outer


async def test_error_that_looks_like_a_missing_route() -> None:
    """An error of the application itself is raised as it is."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("No route found for path 'ws/'.")

    with pytest.raises(ValueError, match="No route found"):
        async with connect(with_runtime(failing)):
            pass


# The two forms


def as_an_object(application: Any) -> Any:
    """A wrapper as those of Sentry and OpenTelemetry."""
    return type("Wrapper", (), {"app": application})()


@pytest.mark.parametrize("wrap", [lambda django: django, as_an_object], ids=["bare", "wrapped"])
def test_short_form(wrap: Any) -> None:
    """Django's application, perhaps within other wrappers, gets WebSocket routes beside it."""
    django = wrap(get_asgi_application())
    application = with_runtime(django)
    assert isinstance(application, Runtime)
    assert application._application.application_mapping["http"] is django
    assert set(application._application.application_mapping) == {"http", "lifespan", "websocket"}


@pytest.mark.parametrize(
    "application",
    [ProtocolTypeRouter({"http": get_asgi_application()}), unaware, RoomConsumer.as_asgi()],
    ids=["router", "unknown", "consumer"],
)
def test_long_form(application: Any) -> None:
    """An application that decides about WebSockets itself is left as it is, and takes no middleware."""
    runtime = with_runtime(application)
    assert isinstance(runtime, Runtime)
    assert runtime._application is application
    with pytest.raises(TypeError, match="This application has WebSocket routes of its own"):
        with_runtime(application, middleware=[lambda inner: inner])
