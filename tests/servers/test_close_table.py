"""Every row of the close table that a server can produce, on the wire of real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.servers.conftest import WITH_RUNTIME
from tests.support import raw
from tests.support.client import closed, dial, receive, send
from tests.support.processes import Server
from tests.support.report import Matrix
from wsrt import close_codes
from wsrt.close_codes import Close

pytestmark = pytest.mark.servers

LIMITS: dict[str, Any] = {
    "MAX_PAYLOAD": 2000,
    "HEARTBEAT": 1,
    "HEARTBEAT_TIMEOUT": 1,
    "SETUP_TIMEOUT": 1,
    "RATE": "20/s",
    "RATE_BURST": 40,
    "MAX_VIOLATIONS": 3,
    "OUTBOX_SECONDS": 2,
}


STOCK = ["daphne", "uvicorn"]


@pytest.fixture(
    scope="module",
    params=[*[f"{kind} stock" for kind in STOCK], *WITH_RUNTIME],
    ids=lambda name: name.replace(" ", "-"),
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with its ordinary command, as it is and with the runtime around the application."""
    kind, _, is_stock = request.param.partition(" ")
    application = "tests.apps.asgi:application" if is_stock else "tests.apps.asgi:runtime"
    with Server(kind, wsrt=LIMITS, application=application, measured=True) as process:
        process.column = request.param  # type: ignore[attr-defined]
        process.is_stock = bool(is_stock)  # type: ignore[attr-defined]
        yield process


matrix = Matrix("Close codes on the wire (+: with the reason)")


def is_as_told(server: Server, seen: tuple[int, str], close: Close) -> bool:
    """
    Whether a client saw a close of wsrt: with the runtime code and reason; without it whichever the server passes on.
    """
    cell = f"{seen[0]}{'+' if seen[1] else ''}"
    matrix.put(f"{close.code} {close.reason}"[:50], server.column, cell)  # type: ignore[attr-defined]
    if server.is_stock:  # type: ignore[attr-defined]
        return seen[0] in (close.code, close.fallback_code) and seen[1] in (close.reason, "")
    return seen == (close.code, close.reason)


async def provoke(server: Server, path: str, *frames: str | bytes, extended: bool = False) -> tuple[int, str]:
    ws = await dial(server.url(path), extended=extended)
    for frame in frames:
        await ws.send(frame)
    return await closed(ws)


@pytest.mark.parametrize(
    ("frame", "close"),
    [
        ("{", close_codes.INVALID_MESSAGE_PAYLOAD),
        ("[]", close_codes.INVALID_MESSAGE_PAYLOAD),
        ('{"data": {}}', close_codes.INVALID_MESSAGE_PAYLOAD),
        ('{"event": 5}', close_codes.INVALID_MESSAGE_PAYLOAD),
        ('{"event": "echo", "data": {"value": NaN}}', close_codes.INVALID_MESSAGE_PAYLOAD),
        (b"\xff\xfe", close_codes.INVALID_MESSAGE_PAYLOAD),
        ('{"event": "say"}', close_codes.INVALID_EVENT_DATA),
        ('{"event": "say", "data": {"room": "a", "text": ""}}', close_codes.INVALID_EVENT_DATA),
        ('{"event": "constructor", "data": {}}', close_codes.UNKNOWN_EVENT),
        ('{"event": "__proto__"}', close_codes.UNKNOWN_EVENT),
        ('{"event": "' + "x" * 2000 + '"}', close_codes.MESSAGE_TOO_LARGE),
        ('{"event": "crash"}', close_codes.MESSAGE_HANDLING_FAILED),
        ('{"event": "crash", "data": {"kind": "cancel"}}', close_codes.MESSAGE_HANDLING_FAILED),
        ('{"event": "bye"}', close_codes.NORMAL),
    ],
)
async def test_frame(server: Server, frame: str | bytes, close: Close) -> None:
    """A bad frame, a failing handler and an orderly close each have their code and reason (S4, S17, S18, S37)."""
    assert is_as_told(server, await provoke(server, "/chat/", frame), close)


@pytest.mark.parametrize(
    ("path", "close"),
    [
        ("/chat/?authorize=no", close_codes.UNAUTHENTICATED),
        ("/chat/?authorize=denied", close_codes.UNAUTHENTICATED),
        ("/chat/?authorize=error", close_codes.CONNECTION_SETUP_FAILED),
        ("/chat/?authorize=slow", close_codes.CONNECTION_SETUP_TIMEOUT),
        ("/chat/?connect=missing", close_codes.NOT_FOUND),
        ("/chat/?connect=denied", close_codes.UNAUTHENTICATED),
        ("/chat/?connect=error", close_codes.CONNECTION_SETUP_FAILED),
        ("/chat/?connect=slow", close_codes.CONNECTION_SETUP_TIMEOUT),
        ("/chat/secret/", close_codes.UNAUTHENTICATED),
    ],
)
async def test_set_up(server: Server, path: str, close: Close) -> None:
    """A refused or failed set-up is accepted first, so that the client reads why (H1, H2, H4)."""
    assert is_as_told(server, await provoke(server, path), close)


async def test_rate(server: Server) -> None:
    """More frames than the rate allows close 4429."""
    frames = ['{"event": "echo"}'] * 60
    assert is_as_told(server, await provoke(server, "/chat/", *frames), close_codes.RATE_LIMIT_EXCEEDED)


async def test_too_many_violations(server: Server) -> None:
    """A wsrt.v1 client is told what is wrong, and closed 1008 when it goes on."""
    ws = await dial(server.url("/chat/"), extended=True)
    for _ in range(4):
        await ws.send('{"event": "nonsense"}')
    seen = [await receive(ws) for _ in range(4)]
    assert [frame["event"] for frame in seen] == ["wsrt.hello", *["wsrt.error"] * 3]
    assert {frame["data"]["code"] for frame in seen[1:]} == {"unknown_event"}
    assert is_as_told(server, await closed(ws), close_codes.TOO_MANY_VIOLATIONS)


async def test_heartbeat(server: Server) -> None:
    """A wsrt.v1 client that answers no ping is closed 1001; one that answers stays (S45-S49)."""
    silent = await dial(server.url("/chat/"), extended=True)
    lively = await dial(server.url("/chat/"), extended=True)

    async def answer() -> int:
        pings = 0
        async for text in lively:
            if json.loads(text)["event"] == "wsrt.ping":
                pings += 1
                await lively.send('{"event": "wsrt.pong"}')
                if pings == 4:
                    break
        return pings

    answering = asyncio.create_task(answer())
    assert is_as_told(server, await closed(silent), close_codes.HEARTBEAT_TIMEOUT)
    assert await asyncio.wait_for(answering, 15) == 4
    await lively.close()


async def test_disconnect(server: Server) -> None:
    """An operator's disconnect closes 4410 after what was sent before."""
    target = await dial(server.url("/chat/?user=target"))
    operator = await dial(server.url("/chat/"))
    await send(operator, "whisper", user="target", text="goodbye")
    await send(operator, "kick", user="target")
    assert (await receive(target))["data"] == {"text": "goodbye"}
    assert is_as_told(server, await closed(target), close_codes.DISCONNECTED)


@pytest.mark.parametrize("code", [4500, 4999, 3000])
async def test_own_code(server: Server, code: int) -> None:
    """An application's own codes pass."""
    frame = json.dumps({"event": "bye", "data": {"code": code, "reason": "own"}})
    assert is_as_told(server, await provoke(server, "/chat/", frame), Close(code, "own"))


async def test_long_reason(server: Server) -> None:
    """A reason is cut at 123 bytes between code points, and arrives (S35)."""
    frame = json.dumps({"event": "bye", "data": {"code": 4500, "reason": "é" * 100}})
    assert is_as_told(server, await provoke(server, "/chat/", frame), Close(4500, "é" * 61))


async def test_frames_before_close(server: Server) -> None:
    """What was sent before a close arrives before it (S37)."""
    ws = await dial(server.url("/chat/"))
    await send(ws, "bye")
    assert (await receive(ws))["data"] == {"text": "bye"}
    assert (await closed(ws))[0] == 1000


async def test_far_client(server: Server) -> None:
    """A client whose answer to a close takes seconds isn't reset, which could overtake the close frame on its way."""
    if server.is_stock:  # type: ignore[attr-defined]
        pytest.skip("how long a stock server waits is its own doing")
    client = await raw.connect(server.port, "/chat/")
    client.event("bye", code=4500, reason="own")
    assert (await client.until(raw.CLOSE)).close == (4500, "own")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2.5):
            assert await client.reader.read() == b""


async def test_foreign_origin(server: Server) -> None:
    """A page of another site is refused before accept (H8)."""
    with pytest.raises(Exception, match="403"):
        await dial(server.url("/chat/"), origin="https://evil.example")
    ws: ClientConnection = await dial(server.url("/chat/"), origin=f"http://127.0.0.1:{server.port}")
    await ws.close()
    assert "CSRF_TRUSTED_ORIGINS" in server.log()


async def test_slow_client(server: Server) -> None:
    """A client that does not read fast enough is closed 1013, where the server tells us so."""
    if server.is_stock:  # type: ignore[attr-defined]
        pytest.skip("whether a stock server says that a client is slow is its own doing")
    ws = await dial(server.url("/chat/slowroom/"), max_queue=1)
    reading = ws.transport
    reading.pause_reading()
    talker = await dial(server.url("/chat/"))
    for _ in range(4):
        await send(talker, "burst", count=1500, size=4000, room="slowroom")
        await asyncio.sleep(0.2)

    def overflowed() -> bool:
        return bool(server.stats()["counts"].get("outbox_overflows"))

    async with asyncio.timeout(15):
        while not await asyncio.to_thread(overflowed):
            await asyncio.sleep(0.1)
    reading.resume_reading()
    seen = await closed(ws)
    assert seen == (1006, "") or is_as_told(server, seen, close_codes.BACKPRESSURE_OVERFLOW)
    await talker.close()


async def test_refused_frame() -> None:
    """A frame that the server refuses while the peer is there closes 1011; Daphne's own limit may apply to sending."""
    with Server("daphne", "--websocket-max-message-size", "5000", "--websocket-max-frame-size", "5000") as daphne:
        ws = await dial(daphne.url("/chat/"))
        await send(ws, "large", size=6000)
        with contextlib.suppress(ConnectionClosed):
            await receive(ws)
            pytest.skip("this Daphne does not apply its limit to what it sends")
        assert (await closed(ws))[0] in (
            close_codes.OUTBOUND_PUBLISH_FAILED.code,
            close_codes.OUTBOUND_PUBLISH_FAILED.fallback_code,
        )


async def test_known_user_is_forbidden() -> None:
    """In a scope without an anonymous user, a refusal is 4403."""
    with Server("uvicorn", application="tests.apps.asgi:bare") as bare:
        ws = await dial(bare.url("/"))
        assert await closed(ws) == (4403, "Forbidden")
