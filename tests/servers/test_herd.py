"""A herd: all clients of a room come back to one process at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.sockets import Socket, connect
from tests.support.member import Speaker
from tests.support.processes import RedisServer, Server
from tests.support.redis import command_calls
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

AT_ONCE = 100
"""The handshakes that are under way at a time."""

MISSED = 20
"""The messages that are published while all clients are away."""

SECONDS = 300.0


class Sheep:
    """A client of the room "herd"."""

    def __init__(self) -> None:
        self.position: list[Any] | None = None
        self.numbers: list[int] = []
        self.told: dict[str, Any] | None = None
        self.socket: Socket | None = None

    async def come(self, port: int, turn: asyncio.Semaphore) -> None:
        async with turn:
            self.told = None
            while self.told is None:
                try:
                    self.socket = await connect(port, "/kept/herd/", self.take, subprotocol="wsrt.v1")
                except OSError:  # the backlog of the server is full
                    await asyncio.sleep(0.5)
                    continue
                claims = {} if self.position is None else {"herd": self.position}
                self.socket.send(json.dumps({"event": "wsrt.resume", "data": claims}))
                async with asyncio.timeout(SECONDS):
                    while self.told is None and not self.socket.ended.done():
                        await asyncio.sleep(0.05)

    def take(self, frame: bytes) -> None:
        message = json.loads(frame)
        if message["event"] == "wsrt.joined":
            self.told = message["data"]
            self.position = self.position or [message["data"]["epoch"], message["data"]["offset"]]
        elif message["event"] == "said":
            self.position = [message["epoch"], message["offset"]]
            self.numbers.append(message["data"]["n"])


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def server(redis: RedisServer) -> Iterator[Server]:
    wsrt = {
        "HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis.url},
        "HEARTBEAT": None,
        "SETUP_TIMEOUT": 120,
    }
    application = "tests.apps.kept:application"
    # Its memory is measured, so its coverage isn't.
    with Server("uvicorn", application=application, layer="pubsub", redis=redis.url, wsrt=wsrt) as running:
        yield running


async def come_back(server: Server, redis: RedisServer, clients: int) -> None:
    herd = [Sheep() for _ in range(clients)]
    turn = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(sheep.come(server.port, turn) for sheep in herd))
    before = server.worker.memory_info().rss
    for sheep in herd:
        assert sheep.socket is not None
        sheep.socket.reset()

    async def is_empty() -> bool:
        # The connection that asks isn't one of them.
        return bool((await asyncio.to_thread(server.stats))["connections"] == 0)

    await aeventually(is_empty, "the server to notice that the clients are gone", SECONDS)
    speaker = Speaker(server)
    await speaker.say("herd", *range(MISSED))
    assert command_calls(redis, "xrange") == 0
    scripts = command_calls(redis, "evalsha")
    await asyncio.gather(*(sheep.come(server.port, turn) for sheep in herd))
    await aeventually(lambda: all(len(sheep.numbers) == MISSED for sheep in herd), "the replays", SECONDS)
    # Five pages, and the empty one after them: one call of the script that reads.
    assert command_calls(redis, "xrange") == 6
    # Besides it, the positions of the room when the first one joins, and while nothing is published.
    assert command_calls(redis, "evalsha") - scripts < 200
    stats = await asyncio.to_thread(server.stats)
    assert stats["counts"]["history_reads"] == 1
    assert stats["counts"]["history_recovered"] == clients
    assert all(sheep.numbers == list(range(MISSED)) for sheep in herd)
    assert all(sheep.told is not None and sheep.told["count"] == MISSED for sheep in herd)
    # The same connections again, and what they have missed once.
    after = server.worker.memory_info().rss
    assert after < 1.3 * before + 32 * 2**20, (before, after)
    for sheep in herd:
        assert sheep.socket is not None
        sheep.socket.reset()
    assert "Traceback" not in server.log()


async def test_herd(server: Server, redis: RedisServer) -> None:
    """300 clients get what they have missed by one read of the history."""
    await come_back(server, redis, 300)


@pytest.mark.slow
async def test_herd_of_five_thousand(server: Server, redis: RedisServer) -> None:
    """5,000 clients too, and the memory of the process is that of before."""
    await come_back(server, redis, 5000)
