"""Clients that don't read cost bounded memory, don't delay others, and are gone in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psutil
import pytest
from websockets.asyncio.client import ClientConnection

from tests.servers.conftest import WITH_RUNTIME, marks_of
from tests.support.client import dial, receive, request
from tests.support.processes import Server
from tests.support.raw import RawClient, connect
from tests.support.report import note
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

OUTBOX_SECONDS = 3
PUBLISHED = 30_000_000
SIZE = 10_000
CHUNK = 50


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=marks_of(kind)) for kind in WITH_RUNTIME])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    wsrt = {"RATE": None, "OUTBOX_SECONDS": OUTBOX_SECONDS, "HEARTBEAT": None}
    with Server(request.param, wsrt=wsrt, application="tests.apps.asgi:runtime") as process:
        yield process


@pytest.mark.parametrize("stuck", [1, 100])
async def test_stuck_clients(server: Server, stuck: int) -> None:
    """
    Sockets that join a room and never read: others get 30 MB at once, memory stays, and the sockets are cut; granian
    alone keeps them until the client reads or goes.
    """
    memory = server.worker.memory_info
    member, talker = await dial(server.url("/chat/flood/"), max_queue=None), await dial(server.url("/chat/"))
    await request(member, "echo")
    # A first flood without them: what the server takes for itself does not count.
    await flood(talker, member, PUBLISHED // 10)
    sockets = [await paused(server) for _ in range(stuck)]
    before = memory().rss
    await flood(talker, member, PUBLISHED)
    grown = memory().rss - before

    async def are_gone() -> bool:
        stats = await asyncio.to_thread(server.stats)
        return stats["connections"] == 2 and (server.kind == "granian" or established(server) <= 4)

    await aeventually(are_gone, "the stuck sockets to be gone", OUTBOX_SECONDS + 5)
    note("Memory that clients who do not read cost", f"{server.kind:20} {stuck:4} clients: {grown / 1e6:5.1f} MB")
    assert grown < 16_000_000
    for socket in sockets:
        socket.writer.transport.abort()


def established(server: Server) -> int:
    """How many sockets the server has open."""
    connections = server.worker.net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED for one in connections)


async def flood(talker: ClientConnection, member: ClientConnection, size: int) -> None:
    """Publish so much, half an outbox at a time, as fast as the member reads."""
    for _ in range(size // SIZE // CHUNK):
        answer = asyncio.create_task(request(talker, "burst", count=CHUNK, size=SIZE, room="flood"))
        for number in range(CHUNK):
            text = (await receive(member))["data"]["text"]
            assert text.rstrip(".") == str(number)
        await answer


async def paused(server: Server) -> RawClient:
    """A member that reads nothing any more."""
    client = await connect(server.port, "/chat/flood/", buffer=1024)
    client.event("echo", ref=1)
    while (await client.receive()).json.get("ref") != 1:
        pass
    client.writer.transport.pause_reading()
    return client
