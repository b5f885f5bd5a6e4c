"""Connections that come and go at full rate: nothing that the server, its log or Redis keeps goes on growing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import redis
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.support import report
from tests.support.processes import RedisServer, Server
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

MIB = 1024 * 1024

CLIENTS = 40
"""Clients at a time; each comes, joins, speaks, and leaves in one of the ways that there are."""


@dataclass
class Deployment:
    server: Server
    redis: RedisServer


@dataclass
class Size:
    """What is kept, once all clients have left."""

    memory: int
    redis_memory: int
    redis_keys: int
    log: int
    tasks: int
    objects: int


@pytest.fixture(params=["uvicorn", "daphne"])
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with RedisServer() as store:
        presence = {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": store.url, "OPTIONS": {"GRACE": 0}}
        options = {"layer": "pubsub", "redis": store.url, "wsrt": {"RATE": None, "PRESENCE": presence}}
        with Server(request.param, application="tests.apps.asgi:runtime", **options) as server:  # type: ignore[arg-type]
            yield Deployment(server, store)


async def churn(server: Server, seconds: float) -> int:
    """Have clients come and go for some time, and return their number."""
    end = time.monotonic() + seconds
    counts = await asyncio.gather(*(one_after_another(server, number, end) for number in range(CLIENTS)))
    return sum(counts)


async def one_after_another(server: Server, number: int, end: float) -> int:
    chance, count = random.Random(number), 0
    while time.monotonic() < end:
        count += 1
        kind, room = chance.choice(["chat", "here"]), f"room-{number}-{count}"
        url = server.url(f"/{kind}/{room}/?user={number}-{count}&name={'n' * 50}")
        extended = chance.random() < 0.5
        with suppress(OSError, WebSocketException, TimeoutError):
            async with asyncio.timeout(30):
                protocols = [Subprotocol("wsrt.v1")] if extended else None
                ws = await connect(url, compression=None, subprotocols=protocols)
                await ws.send('{"event":"%s","ref":"1"}' % ("echo" if kind == "chat" else "nothing"))
                while '"ref"' not in await ws.recv():
                    pass
                await leave(ws, chance)
    return count


async def leave(ws: ClientConnection, chance: random.Random) -> None:
    """Leave in one of the ways that there are."""
    match chance.randrange(5):
        case 0:
            ws.transport.abort()
            await ws.wait_closed()
        case 1:
            await ws.send("no envelope at all")
            await ws.send('{"event":"' + "x" * 3000 + '"}')
            await ws.close()
        case 2:
            await ws.send('{"event":"crash","data":{"kind":"refused"}}')
            await ws.close(4999, "gone")
        case _:
            await ws.close()


async def measure(deployment: Deployment, *, most_tasks: int = 100) -> Size:
    """Wait until all clients are forgotten and no more than ``most_tasks`` tasks are left, and look."""
    server, store = deployment.server, deployment.redis

    async def is_quiet() -> bool:
        stats = await asyncio.to_thread(server.stats)
        is_empty = not stats["connections"] and not stats["rooms"] and not stats["groups"]
        return is_empty and stats["tasks"] <= most_tasks and keys(store) <= KEPT

    await aeventually(is_quiet, "all clients to be forgotten", 60)
    stats = await asyncio.to_thread(server.stats)
    return Size(
        memory=server.worker.memory_info().rss,
        redis_memory=info(store, "used_memory"),
        redis_keys=keys(store),
        log=len(server.log()),
        tasks=stats["tasks"],
        objects=stats["objects"],
    )


SETTLING = 20.0
"""Seconds until the timers of closed connections have run out, which hold some of their objects until then."""

KEPT = 12
"""Keys in Redis of a node without connections."""


def keys(server: RedisServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.dbsize())


def info(server: RedisServer, name: str) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("memory")[name])


async def test_churn(deployment: Deployment) -> None:
    """After churn at full rate no connection, room, group, task or key in Redis is left."""
    await churn(deployment.server, 2)
    before = await measure(deployment)
    count = await churn(deployment.server, 6)
    after = await measure(deployment, most_tasks=before.tasks + 2)
    note(deployment, 6, count, before, after)
    assert count > CLIENTS
    assert after.redis_keys <= before.redis_keys + 2


@pytest.mark.slow
async def test_ten_minutes_of_churn(deployment: Deployment) -> None:
    """Once caches are full and the allocator has its arenas, memory of server and Redis stays where it is."""
    await churn(deployment.server, 200)
    await asyncio.sleep(SETTLING)
    before = await measure(deployment)
    count = await churn(deployment.server, 400)
    await asyncio.sleep(SETTLING)
    after = await measure(deployment, most_tasks=before.tasks + 2)
    note(deployment, 400, count, before, after)
    assert after.redis_keys <= before.redis_keys + 2
    assert after.redis_memory - before.redis_memory < MIB
    # One object kept for each client would be tens of thousands.
    assert after.objects - before.objects < count / 10
    # The allocator's arenas fragment, above all under Daphne, so the memory of the process says less than its objects.
    assert after.memory - before.memory < 32 * MIB


def note(deployment: Deployment, seconds: int, count: int, before: Size, after: Size) -> None:
    report.note(
        "Churn",
        f"{deployment.server.kind}, {seconds} s: {count} clients came and left; "
        f"memory {before.memory / MIB:.1f} -> {after.memory / MIB:.1f} MiB, "
        f"Redis {before.redis_memory / MIB:.2f} -> {after.redis_memory / MIB:.2f} MiB in "
        f"{before.redis_keys} -> {after.redis_keys} keys, tasks {before.tasks} -> {after.tasks}, "
        f"objects {before.objects:,} -> {after.objects:,}, "
        f"log {(after.log - before.log) / count:.0f} bytes a client",
    )
