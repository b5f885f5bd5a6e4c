"""Under TLS the same holds: codes, back-pressure, drain."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.processes import Server
from tests.support.raw import CLOSE, connect
from tests.support.tls import make_certificate
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

OUTBOX_SECONDS = 3


@pytest.fixture(params=["daphne", "uvicorn-sansio"])
def secure(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, ssl.SSLContext]]:
    """A server of its own with a certificate of its own."""
    key, certificate, trust = make_certificate(tmp_path)
    wsrt: dict[str, Any] = {"RATE": None, "OUTBOX_SECONDS": OUTBOX_SECONDS, "DRAIN_SECONDS": 3}
    server = Server(request.param, wsrt=wsrt, application="tests.apps.asgi:runtime")
    if request.param == "daphne":
        endpoint = f"ssl:{server.port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        server.command = [*server.command[:3], "-e", endpoint, server.command[-1]]
    else:
        server.command[-1:-1] = ["--ssl-keyfile", str(key), "--ssl-certfile", str(certificate)]
    with server:
        yield server, trust


async def test_close_code(secure: tuple[Server, ssl.SSLContext]) -> None:
    """Codes and reasons arrive."""
    server, trust = secure
    client = await connect(server.port, "/chat/", tls=trust)
    client.send("nonsense")
    assert (await client.until(CLOSE)).close == (1007, "Invalid message payload")


async def test_fan_out(secure: tuple[Server, ssl.SSLContext]) -> None:
    """Publications arrive as they were sent."""
    server, trust = secure
    clients = [await connect(server.port, "/chat/room/", tls=trust) for _ in range(5)]
    for client in clients:
        client.event("echo", ref=1)
        await client.receive()
    clients[0].event("burst", count=300, size=1000, room="room")
    for client in clients:
        for number in range(300):
            assert (await client.receive()).json["data"]["text"].rstrip(".") == str(number)


async def test_stuck_client(secure: tuple[Server, ssl.SSLContext]) -> None:
    """A client that does not read costs bounded memory, and is cut."""
    server, trust = secure
    stuck = await connect(server.port, "/chat/room/", tls=trust, buffer=1024)
    stuck.event("echo", ref=1)
    await stuck.receive()
    stuck.writer.transport.pause_reading()
    talker = await connect(server.port, "/chat/", tls=trust)
    assert server.process is not None
    memory = psutil.Process(server.process.pid).memory_info
    before = memory().rss
    talker.event("burst", ref=1, count=3000, size=10_000, room="room")
    assert (await talker.receive(60)).json["event"] == "wsrt.ok"
    assert memory().rss - before < 16_000_000
    process = psutil.Process(server.process.pid)

    def one_is_left() -> bool:
        return sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp")) == 1

    await aeventually(one_is_left, "the stuck socket to be gone", OUTBOX_SECONDS + 30)


async def test_drain(secure: tuple[Server, ssl.SSLContext]) -> None:
    """A handler under way finishes, and everybody is told."""
    server, trust = secure
    client = await connect(server.port, "/chat/", tls=trust)
    client.event("slow", ref="slow", seconds=1)
    await asyncio.sleep(0.3)
    server.signal(signal.SIGTERM)
    assert (await client.receive()).json["ref"] == "slow"
    closing = await client.until(CLOSE)
    assert closing.close == (1001, "Server shutting down")
    client.send(closing.payload, CLOSE)
    assert server.process is not None
    await asyncio.to_thread(server.process.wait, 15)
