"""Middleware of Sentry and OpenTelemetry around and below the runtime, on a real server: all works, and is observed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection

from tests.support.client import closed, dial, receive, request, send
from tests.support.processes import Server
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

BURST = 500
SIZE = 4000

SINGLE = ["sentry_around", "sentry_below", "otel_around", "otel_below"]


@pytest_asyncio.fixture(
    params=["both", *(pytest.param(name, marks=pytest.mark.slow) for name in SINGLE)],
)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    with observed(request.param) as server:
        yield server


@contextlib.contextmanager
def observed(name: str, **wsrt: Any) -> Iterator[Server]:
    """A server whose application is observed; nothing that it logs at the end is an error."""
    with Server("uvicorn", application=f"tests.apps.observed:{name}", wsrt=wsrt) as server:
        yield server
        log = server.log()
    for trouble in ("Traceback", "Failed to detach", "was created in a different Context", "Task exception", "ERROR"):
        assert trouble not in log, log


async def test_all_that_a_connection_does(server: Server) -> None:
    """Handshake, subprotocol, requests, publications, refusals and close codes are what they are without it."""
    extended = await dial(server.url("/chat/lobby/"), extended=True)
    plain = await dial(server.url("/chat/lobby/"))
    assert extended.subprotocol == "wsrt.v1"
    assert (await receive(extended))["event"] == "wsrt.hello"
    assert (await request(plain, "echo", value=5))["data"] == {"value": 5}
    assert (await request(extended, "crash", kind="refused"))["data"]["code"] == "teapot"
    await request(plain, "say", room="lobby", text="hi")
    assert (await receive(extended))["data"] == {"text": "hi"}
    # The application closes, with what is queued before, and so does the policy.
    await send(extended, "bye", code=4500, reason="done")
    assert (await receive(extended))["data"] == {"text": "bye"}
    assert await closed(extended) == (4500, "done")
    await plain.send("no envelope")
    assert await closed(plain) == (1007, "Invalid message payload")
    assert await closed(await dial(server.url("/chat/?authorize=denied"))) == (4401, "Unauthenticated")


async def test_client_that_reads_slowly(server: Server) -> None:
    """Sends that the server holds up, and that other tasks finish, arrive in order and break no context."""
    slow = await dial(server.url("/chat/lobby/"), max_queue=1)
    quick = await dial(server.url("/chat/lobby/"))
    await request(quick, "echo")
    await send(slow, "burst", count=BURST, size=SIZE)
    texts = []
    for number in range(20):
        # Publications of another connection's handler come upon an outbox that waits for the server.
        await request(quick, "say", room="lobby", text=f"said {number}")
        texts += [await text_of(slow) for _ in range(BURST // 20)]
    texts += [await text_of(slow) for _ in range(20)]
    assert [text for text in texts if text.isdigit()] == [str(number) for number in range(BURST)]
    assert [text for text in texts if not text.isdigit()] == [f"said {number}" for number in range(20)]


async def text_of(ws: ClientConnection) -> str:
    text: str = (await receive(ws))["data"]["text"]
    return text.rstrip(".")


async def test_end_of_the_process(server: Server) -> None:
    """A drain closes 1001, and the connections' spans and transactions are reported when they end."""
    ws = await dial(server.url("/chat/lobby/"))
    await request(ws, "echo")
    stopping = asyncio.create_task(asyncio.to_thread(server.signal, 15))
    assert await closed(ws) == (1001, "Server shutting down")
    await stopping
    await aeventually(lambda: "sentry transaction" in server.log() or "span" in server.log(), "a report")


@pytest.mark.parametrize(
    "name", ["otel_below", *(pytest.param(name, marks=pytest.mark.slow) for name in ("otel_around", "both"))]
)
async def test_parents_of_spans(name: str) -> None:
    """Each message has a span below its own connection's, even if the handler of another connection published it."""
    with observed(name, FAST_PATH=False) as server:
        lobby, garden = await dial(server.url("/chat/lobby/")), await dial(server.url("/chat/garden/"))
        for text in ("one", "two"):
            await request(garden, "say", room="lobby", text=text)
            assert (await receive(lobby))["data"] == {"text": text}
        await lobby.close()
        await garden.close()
        await aeventually(lambda: len(connection_spans(server)) == 2, "the spans of both connections")
        for path in ("/chat/lobby/", "/chat/garden/"):
            (connection,) = [span for span in connection_spans(server) if span.name.endswith(path)]
            children = [span for span in spans_of(server) if span != connection and path in span.name]
            # The handshake, and two publications or answers.
            assert len([span for span in children if span.name.endswith("websocket send")]) == 3
            assert {span.parent for span in children} == {connection.id}


class Span(NamedTuple):
    id: str
    parent: str | None
    name: str


def spans_of(server: Server) -> list[Span]:
    lines = [line.split(" ", 3) for line in server.log().splitlines() if line.startswith("span ")]
    return [Span(span, None if parent == "-" else parent, name) for _, span, parent, name in lines]


def connection_spans(server: Server) -> list[Span]:
    return [span for span in spans_of(server) if span.parent is None]
