"""Two servers, Redis and a Celery worker: rooms, users and audiences reach across, in order, and survive outages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.client import dial, receive, request, send
from tests.support.processes import CeleryWorker, RedisServer, Server
from tests.support.proxy import TcpProxy
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

OPEN = {"RATE": None}


@dataclass
class Cluster:
    one: Server
    two: Server
    worker: CeleryWorker


@pytest.fixture(scope="module", params=["pubsub", "core"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    layer = request.param
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        environment = {"WSRT_TEST_BROKER": redis.url}
        options = {"layer": layer, "redis": redis.url, "wsrt": OPEN, "environment": environment}
        one = stack.enter_context(Server("daphne", **options))  # type: ignore[arg-type]
        two = stack.enter_context(Server("uvicorn", **options))  # type: ignore[arg-type]
        worker = stack.enter_context(CeleryWorker(redis.url, layer=layer, redis=redis.url))
        yield Cluster(one, two, worker)


@contextlib.asynccontextmanager
async def members(cluster: Cluster, room: str) -> AsyncIterator[list[ClientConnection]]:
    """A member of a room on each server, each of a user of the same name as its server's index."""
    sockets = [
        await dial(server.url(f"/chat/{room}/?user=u{n}")) for n, server in enumerate((cluster.one, cluster.two))
    ]
    for ws in sockets:
        await request(ws, "echo")  # answered once set-up is done
    yield sockets
    for ws in sockets:
        await ws.close()


async def texts(ws: ClientConnection, count: int) -> list[str]:
    return [(await receive(ws))["data"]["text"] for _ in range(count)]


@pytest.mark.parametrize("source", ["publish", "task"])
async def test_publish_from_view_and_worker(cluster: Cluster, source: str) -> None:
    """A view and a Celery worker reach rooms, users, audiences and everyone of both servers."""
    async with members(cluster, "lobby") as (first, second):
        for kind, target in [("room", "lobby"), ("audience", "lobby"), ("everyone", "-"), ("commit", "lobby")]:
            await asyncio.to_thread(cluster.one.get, f"/{source}/{kind}/{target}/?text={kind}")
            assert await texts(first, 1) == [kind]
            assert await texts(second, 1) == [kind]
        await asyncio.to_thread(cluster.one.get, f"/{source}/user/u1/?text=user")
        assert await texts(second, 1) == ["user"]


@pytest.mark.parametrize("source", ["publish", "task"])
async def test_rolled_back(cluster: Cluster, source: str) -> None:
    """What is published inside of a transaction that is rolled back is never seen."""
    async with members(cluster, "counters") as sockets:
        await asyncio.to_thread(cluster.two.get, f"/{source}/rollback/counters/?text=never")
        await asyncio.to_thread(cluster.two.get, f"/{source}/commit/counters/?text=after")
        for ws in sockets:
            assert await texts(ws, 1) == ["after"]


async def test_address_to_several_groups_arrives_once(cluster: Cluster) -> None:
    """A publication to a room and to a user in it reaches a connection once."""
    async with members(cluster, "u0") as (first, second):
        await asyncio.to_thread(cluster.two.get, "/publish/audience/u0/?text=once")
        await asyncio.to_thread(cluster.two.get, "/publish/room/u0/?text=then")
        assert await texts(first, 2) == ["once", "then"]
        assert await texts(second, 2) == ["once", "then"]


async def test_lists_of_users_and_rooms(cluster: Cluster) -> None:
    """A publication to many users or rooms is one message to each server, and reaches each connection once."""
    async with members(cluster, "listed") as (first, second):
        for kind, target in [("users", "u0,u1,u2"), ("users", "u1"), ("rooms", "listed,other"), ("room", "listed")]:
            await asyncio.to_thread(cluster.two.get, f"/publish/{kind}/{target}/?text={target}")
        assert await texts(first, 3) == ["u0,u1,u2", "listed,other", "listed"]
        assert await texts(second, 4) == ["u0,u1,u2", "u1", "listed,other", "listed"]


async def test_order_of_a_publisher(cluster: Cluster) -> None:
    """What one view publishes in a row arrives in that order at both servers."""
    async with members(cluster, "order") as sockets:
        await asyncio.to_thread(cluster.one.get, "/publish/many/order/?text=200")
        for ws in sockets:
            assert await texts(ws, 200) == [str(number) for number in range(200)]


async def test_500_from_one_client(cluster: Cluster) -> None:
    """500 messages sent as fast as a client can arrive complete and in order at the other server."""
    async with members(cluster, "fast") as (first, second):
        for number in range(500):
            await send(first, "say", room="fast", text=str(number))
        assert await texts(second, 500) == [str(number) for number in range(500)]
        assert await texts(first, 500) == [str(number) for number in range(500)]


async def test_disconnect_across_servers(cluster: Cluster) -> None:
    """A disconnect reaches a user of the other server."""
    async with members(cluster, "kicked") as (first, second):
        await send(first, "kick", user="u1")
        await asyncio.wait_for(second.wait_closed(), 10)
        assert second.close_code == 4410


async def test_groups_are_left(cluster: Cluster) -> None:
    """When the last connection is gone, the node is in no group but its own."""
    async with members(cluster, "passing"):
        pass
    for server in (cluster.one, cluster.two):
        await aeventually(lambda server=server: _is_empty(server), "the groups to be left")


async def _is_empty(server: Server) -> bool:
    stats = await asyncio.to_thread(server.stats)
    return not stats["connections"] and not stats["rooms"] and not stats["groups"]


@pytest.mark.parametrize("layer", [pytest.param("pubsub", marks=pytest.mark.slow), "core"])
async def test_redis_restart(redis_server: RedisServer, layer: str) -> None:
    """Redis is gone for 3 s: 200 clients keep their sockets, get ``unavailable``, and rooms come back by themselves."""
    options = {"layer": layer, "redis": redis_server.url, "wsrt": OPEN}
    with Server("uvicorn", **options) as one, Server("daphne", **options) as two:  # type: ignore[arg-type]
        sockets = [
            await dial((one, two)[number % 2].url(f"/chat/room{number % 20}/"), max_queue=None) for number in range(200)
        ]
        for ws in sockets:
            await request(ws, "echo")
        redis_server.stop()
        stopped = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - stopped < 3:
            answers = [
                await request(sockets[0], "say", room="room0", text="lost"),
                await request(sockets[1], "join", room=f"new{stopped}"),
            ]
            assert {answer["event"] for answer in answers} == {"wsrt.error"}
            assert {answer["data"]["code"] for answer in answers} == {"unavailable"}
        redis_server.start()

        async def works(sender: ClientConnection, member: ClientConnection, room: str) -> bool:
            await request(sender, "say", room=room, text="back")
            try:
                return bool(await receive(member, 0.3))
            except TimeoutError:
                return False

        for number in range(20):
            # The two members are on different servers for half of the rooms.
            await aeventually(
                lambda number=number: works(
                    sockets[number], sockets[(number + 1) % 20 + 20], f"room{(number + 1) % 20}"
                ),
                "rooms to work again",
                30,
            )
        for ws in sockets:
            assert (await request(ws, "echo"))["event"] == "echoed"
        for ws in sockets:
            await ws.close()


@pytest.mark.parametrize("layer", ["pubsub", pytest.param("core", marks=pytest.mark.slow)])
async def test_blackholed_redis(redis_server: RedisServer, layer: str) -> None:
    """Connections to Redis die without being closed: the node notices within 15 s, and recovers."""
    async with TcpProxy(redis_server.port) as proxy:
        through_proxy = f"redis://127.0.0.1:{proxy.port}/0"
        starting = asyncio.to_thread(Server("uvicorn", layer=layer, redis=through_proxy, wsrt=OPEN).__enter__)
        server = await starting
        try:
            ws = await dial(server.url("/chat/lobby/"))
            await request(ws, "say", room="lobby", text="before")
            loop = asyncio.get_running_loop()
            proxy.blackhole()
            lost = loop.time()
            proxy.restore()

            async def noticed() -> bool:
                stats = await asyncio.to_thread(server.stats)
                return bool(stats["counts"].get("backplane_rebuilds"))

            await aeventually(noticed, "the node to notice", 30)
            assert loop.time() - lost < 15

            async def recovered() -> bool:
                answer = await request(ws, "say", room="lobby", text="after")
                if answer["event"] != "wsrt.ok":
                    return False
                with contextlib.suppress(TimeoutError):
                    return (await receive(ws, 0.5))["data"]["text"] == "after"
                return False

            await aeventually(recovered, "the room to work again", 30)
            await ws.close()
        finally:
            await asyncio.to_thread(server.stop)
