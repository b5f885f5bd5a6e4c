"""A server that lacks a feature of those it is known by is served as plain ASGI, with a warning."""

from __future__ import annotations

import asyncio
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets.frames  # noqa: F401 - as uvicorn's implementations do
import wsproto.events  # noqa: F401

from tests.support.client import closed, dial, receive, request, send
from tests.support.processes import Server
from wsrt import close_codes, servers
from wsrt.delivery.transport import Transport
from wsrt.metrics import counters
from wsrt.servers import daphne, granian, hypercorn, transport_of, uvicorn


class StandIn:
    """What a server keeps for a connection: an object with some attributes."""

    def __init__(self, names: str, **values: Any) -> None:
        for name in names.split():
            setattr(self, name, values.get(name))


async def nothing(*_: Any) -> None:
    """Do nothing with a message."""


async def handle_reply(*_: Any) -> None:
    """Have the name of Daphne's."""


def bound_to(owner: Any) -> Callable[..., Any]:
    """Return a method of an object, as a server's ``send`` is."""
    return types.MethodType(nothing, owner)


def of_daphne() -> tuple[Any, dict[str, Any]]:
    names = daphne.FEATURES["daphne"]
    # autobahn sets the factory's attributes on each protocol.
    protocol = StandIn(
        f"{names['daphne.ws_protocol:WebSocketProtocol']} {names['daphne.ws_protocol:WebSocketFactory']}"
    )
    return functools.partial(handle_reply, protocol), {"protocol": protocol}


def of_uvicorn(ws: str) -> tuple[Any, dict[str, Any]]:
    places = list(uvicorn.FEATURES[f"uvicorn ({ws})"].values())
    protocol = StandIn(places[1])
    owners = {"protocol": protocol}
    if ws != "websockets":
        owners["conn"] = protocol.conn = StandIn(places[2])  # type: ignore[attr-defined]
    return bound_to(protocol), owners


def of_hypercorn() -> tuple[Any, dict[str, Any]]:
    stream_names, h11_names, _, context_names = hypercorn.FEATURES["hypercorn"].values()
    context = StandIn(context_names, terminated=asyncio.Event())
    tcp = StandIn("writer")
    h11 = StandIn(h11_names, send=bound_to(tcp))
    config = StandIn("graceful_timeout", graceful_timeout=1.0)
    stream = StandIn(stream_names, context=context, config=config, send=bound_to(h11))
    return bound_to(stream), {"stream": stream, "context": context, "tcp": tcp}


def of_granian() -> tuple[Any, dict[str, Any]]:
    kind = type("ASGIWebsocketProtocol", (StandIn,), {"__module__": "granian._granian"})
    protocol = kind("send receive")
    return bound_to(protocol), {"protocol": protocol}


SERVERS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "daphne": of_daphne,
    "uvicorn (websockets-sansio)": functools.partial(of_uvicorn, "websockets-sansio"),
    "uvicorn (websockets)": functools.partial(of_uvicorn, "websockets"),
    "uvicorn (wsproto)": functools.partial(of_uvicorn, "wsproto"),
    "hypercorn": of_hypercorn,
    "granian": of_granian,
}

CASES = [
    (server, owner, name)
    for server, make in SERVERS.items()
    for owner, held in make()[1].items()
    for name in vars(held)
]
"""By server and object, each name that wsrt needs of it."""


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No server was seen; what stands in for hypercorn ends."""
    monkeypatch.setattr(servers, "_known", set())
    watched = set(hypercorn._watched)
    yield
    for context in set(hypercorn._watched) - watched:
        hypercorn._watched.pop(context).cancel()


@pytest.mark.parametrize("server", SERVERS)
async def test_all_features(server: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server with everything is recognised."""
    before = counters["transports_unknown"]
    sending, _ = SERVERS[server]()
    assert transport_of(sending).server == server
    assert counters["transports_unknown"] == before
    assert "is not known" not in caplog.text


@pytest.mark.parametrize(("server", "owner", "name"), CASES)
async def test_one_feature_less(server: str, owner: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without any one of the features connections are plain ASGI, each is counted, and a warning is logged once."""
    before = counters["transports_unknown"]
    for _ in range(3):
        sending, owners = SERVERS[server]()
        delattr(owners[owner], name)
        assert type(transport_of(sending)) is Transport
    assert counters["transports_unknown"] == before + 3
    assert caplog.text.count("the server isn't recognised") == 1


def made_up(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Put a module in the place of a server's."""
    module = types.ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("server", ["daphne", "granian", "uvicorn (websockets-sansio)"])
async def test_shutdown_that_cannot_be_seen(
    server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server whose end cannot be seen serves as ever; it is counted and logged once that clients will not be told."""
    made_up(monkeypatch, "daphne.server", Server=type("Server", (), {}))
    made_up(monkeypatch, "granian._signals")
    servers.hook_shutdown()
    servers.hook_shutdown(asyncio.get_running_loop())
    before = counters["shutdowns_unseen"]
    for _ in range(3):
        assert transport_of(SERVERS[server]()[0]).server == server
    assert counters["shutdowns_unseen"] == before + 1
    assert caplog.text.count(f"wsrt can't notice the shutdown of {server} in time") == 1


@pytest.mark.parametrize("module", [daphne, granian])
def test_shutdown_that_is_hooked(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """Where the server has what it takes, its end is seen."""
    made_up(monkeypatch, "daphne.server", Server=type("Server", (), {"kill_all_applications": nothing}))
    made_up(monkeypatch, "granian._signals", set_loop_signals=lambda loop: asyncio.Event())
    assert not module.is_shutdown_hooked()
    servers.hook_shutdown()
    assert module.is_shutdown_hooked()


async def test_granian_whose_receive_cannot_be_cancelled() -> None:
    """A close leaves wsrt also where what waits for the client's next frame cannot be called off."""
    sent: list[Any] = []

    class Waiting:
        def __await__(self) -> Any:
            return asyncio.Event().wait().__await__()

    async def server_send(message: Any) -> None:
        sent.append(message)

    transport = granian.GranianTransport(server_send)
    reading = asyncio.ensure_future(transport.receiver(Waiting)())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await transport.send({"type": "websocket.close", "code": 4000})
    assert sent == [{"type": "websocket.close", "code": 4000}]
    reading.cancel()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("daphne", "daphne.ws_protocol:WebSocketProtocol.sendPing"),
        ("uvicorn-sansio", "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol.handle_pong"),
        ("uvicorn-websockets", "uvicorn.protocols.websockets.websockets_impl:WebSocketProtocol.pings"),
        ("uvicorn-wsproto", "uvicorn.protocols.websockets.wsproto_impl:WSProtocol.writable"),
        ("hypercorn", "hypercorn.protocol.ws_stream:WSStream.context"),
    ],
)
async def test_server_of_tomorrow(kind: str, lacks: str) -> None:
    """A running server that lacks a feature serves requests, publications and closes, and one warning is in its log."""
    environment = {"WSRT_TEST_LACKS": lacks}
    with Server(kind, application="tests.apps.lacking:runtime", environment=environment) as server:
        member, talker = await dial(server.url("/chat/room/")), await dial(server.url("/chat/"))
        assert (await request(member, "echo"))["event"] == "echoed"
        await send(talker, "say", room="room", text="hi")
        assert (await receive(member))["data"] == {"text": "hi"}
        await member.send("{")
        code, _ = await closed(member)
        assert code in {close_codes.INVALID_MESSAGE_PAYLOAD.code, close_codes.INVALID_MESSAGE_PAYLOAD.fallback_code}
        assert (await asyncio.to_thread(server.stats))["counts"]["transports_unknown"] == 2
        assert server.log().count("the server isn't recognised") == 1
        await talker.close()
