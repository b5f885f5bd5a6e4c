"""Presence of two server processes on one Redis: exact with many tabs, and free of ghosts after any crash."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support import report
from tests.support.client import dial, receive, send
from tests.support.processes import ROOT, RedisServer, Server, is_listening
from tests.support.waiting import aeventually
from wsrt import presence
from wsrt.presence import backends

pytestmark = pytest.mark.servers

LEASE = 3.0
GRACE = 0.5
MARGIN = 2.0
"""How long after the lease a crash may be seen."""


def settings_of(redis: RedisServer, **options: Any) -> dict[str, Any]:
    store = {
        "BACKEND": "wsrt.presence.redis.RedisPresence",
        "LOCATION": redis.url,
        "OPTIONS": {"LEASE": LEASE, "GRACE": GRACE, **options},
    }
    return {"RATE": None, "PRESENCE": store}


@dataclass
class Cluster:
    redis: RedisServer
    one: Server
    two: Server


@pytest.fixture
def cluster(settings: Any) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        layer = stack.enter_context(RedisServer())
        settings.WSRT = settings_of(redis)
        one, two = (
            stack.enter_context(
                Server(kind, layer="pubsub", redis=layer.url, wsrt=settings.WSRT, application="tests.apps.asgi:runtime")
            )
            for kind in ("daphne", "uvicorn")
        )
        yield Cluster(redis, one, two)


@pytest_asyncio.fixture(autouse=True)
async def closed_stores() -> AsyncIterator[None]:
    yield
    await backends.close_stores()


class Watching:
    """A member of a room who writes down what it is told."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.told: list[str] = []
        self.members: dict[str | None, Any] | None = None
        self.at: dict[str, float] = {}
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            try:
                frame = await receive(self.ws, 3600)
            except ConnectionClosed:
                return
            if frame["event"] == "wsrt.ping":
                await send(self.ws, "wsrt.pong")
            if frame["event"] != "wsrt.presence":
                continue
            data = frame["data"]
            if "members" in data:
                self.members = {member["user_id"]: member["data"] for member in data["members"]}
            assert self.members is not None
            for kind in ("left", "joined", "changed"):
                for member in data.get(kind, ()):
                    word = f"{kind} {member['user_id']}"
                    self.told.append(word)
                    self.at[word] = time.monotonic()
                    if kind == "left":
                        del self.members[member["user_id"]]
                    else:
                        self.members[member["user_id"]] = member["data"]

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.ws.close()


@contextlib.asynccontextmanager
async def watching(server: Server, room: str) -> AsyncIterator[Watching]:
    watcher = Watching(await dial(server.url(f"/here/{room}/?user=watcher"), extended=True))
    await aeventually(lambda: watcher.members is not None, "the snapshot")
    yield watcher
    await watcher.stop()


async def tab(server: Server, room: str, user: str, **query: str) -> ClientConnection:
    arguments = "".join(f"&{name}={value}" for name, value in query.items())
    return await dial(server.url(f"/here/{room}/?user={user}{arguments}"))


async def is_count(room: str, number: int) -> bool:
    return await presence.acount(room, namespace="here") == number


async def test_tabs_over_two_processes(cluster: Cluster) -> None:
    """Three tabs over two processes are one join and one leave; data is shown, and changed when it changes."""
    async with watching(cluster.one, "lobby") as watcher:
        tabs = [await tab(server, "lobby", "ada", name="Ada") for server in (cluster.one, cluster.two, cluster.two)]
        await aeventually(lambda: watcher.told == ["joined ada"])

        async def all_there() -> bool:
            return len(await presence.aconnections(user="ada", namespace="here")) == len(tabs)

        await aeventually(all_there, "the connections")
        assert watcher.members == {"watcher": None, "ada": {"name": "Ada"}}
        page = await presence.amembers("lobby", namespace="here")
        assert {(member.user_id, member.connections) for member in page} == {("watcher", 1), ("ada", 3)}
        assert len({found.node for found in await presence.aconnections(user="ada", namespace="here")}) == 2
        await send(tabs[1], "rename", name="Countess")
        await aeventually(lambda: watcher.told == ["joined ada", "changed ada"])
        assert watcher.members["ada"] == {"name": "Countess"}
        for ws in tabs[:2]:
            await ws.close()
        await aeventually(lambda: is_count("lobby", 2))
        assert await presence.ais_online("ada")
        await tabs[2].close()
        await aeventually(lambda: watcher.told == ["joined ada", "changed ada", "left ada"])
        assert not await presence.ais_online("ada")
        hooks = [hook for name, hook in cluster.one.stats()["hooks"] if name.startswith("on_presence")]
        assert hooks == ["ada lobby", "ada lobby"]


async def test_connection_that_says_nothing(cluster: Cluster) -> None:
    """A consumer without presence in the same room leaves what a user shows as it is, and counts as ever."""
    async with watching(cluster.one, "lobby") as watcher:
        await tab(cluster.one, "lobby", "ada", name="Ada")
        await aeventually(lambda: watcher.told == ["joined ada"])
        for server in (cluster.one, cluster.two):
            await dial(server.url("/quiet/lobby/?user=ada"))
        await dial(cluster.two.url("/quiet/lobby/?user=grace"))
        await aeventually(lambda: watcher.told == ["joined ada", "joined grace"])
        assert watcher.members == {"watcher": None, "ada": {"name": "Ada"}, "grace": None}
        members = {member.user_id: member for member in await presence.amembers("lobby", namespace="here")}
        assert members["ada"] == presence.Member("ada", 3, {"name": "Ada"})


async def test_reload_shows_nothing(cluster: Cluster) -> None:
    """A page that is left and comes back within the grace was never away; one that says goodbye is gone at once."""
    async with watching(cluster.one, "lobby") as watcher:
        ws = await tab(cluster.two, "lobby", "ada")
        await aeventually(lambda: watcher.told == ["joined ada"])
        for end in (lambda ws: ws.close(1001), lambda ws: asyncio.sleep(0, ws.transport.abort())):
            await end(ws)
            ws = await tab(cluster.one, "lobby", "ada")
            await asyncio.sleep(3 * GRACE)  # nothing is told
            assert watcher.told == ["joined ada"]
        begun = time.monotonic()
        ws.transport.abort()
        await aeventually(lambda: watcher.told == ["joined ada", "left ada"])
        assert watcher.at["left ada"] - begun >= GRACE


async def test_killed_process(cluster: Cluster) -> None:
    """The users of a process that was killed leave once its lease has ended; those who came back do not."""
    async with watching(cluster.one, "lobby") as watcher:
        for name in ("ada", "grace", "edsger"):
            await tab(cluster.two, "lobby", name)
        await aeventually(lambda: len(watcher.told) == 3)
        killed = time.monotonic()
        cluster.two.kill()
        await tab(cluster.one, "lobby", "grace")
        await aeventually(lambda: len(watcher.told) == 5, seconds=LEASE + MARGIN)
        assert set(watcher.told[3:]) == {"left ada", "left edsger"}
        report.note(
            "Presence after a SIGKILL", f"leave told after {max(watcher.at.values()) - killed:.1f} s, lease {LEASE} s"
        )
        await aeventually(lambda: is_count("lobby", 2), seconds=1)
        assert await presence.aonline(["ada", "grace", "edsger"]) == {"grace"}
        assert len((await presence.astats()).nodes) == 1
        assert len(await presence.aconnections(namespace="here")) == 2


async def test_nobody_left_to_tell(cluster: Cluster) -> None:
    """When every process has died, presence is empty after the lease."""
    await tab(cluster.one, "lobby", "ada")
    await tab(cluster.two, "lobby", "grace")
    await aeventually(lambda: is_count("lobby", 2))
    cluster.one.kill()
    cluster.two.kill()
    await aeventually(lambda: is_count("lobby", 0), seconds=LEASE + MARGIN)
    assert not await presence.aonline(["ada", "grace"])
    assert (await presence.astats()).nodes == ()


async def test_stopped_process(cluster: Cluster) -> None:
    """
    A process that was stopped for longer than its lease comes back whole, under a new lease.

    Its clients stay, and are told nothing of it: they were there all the time.
    """
    async with watching(cluster.one, "lobby") as watcher, watching(cluster.two, "lobby") as inside:
        tabs = [await tab(cluster.two, "lobby", name) for name in ("ada", "grace")]
        await aeventually(lambda: len(watcher.told) == len(inside.told) == 2)
        cluster.two.signal(signal.SIGSTOP)
        await aeventually(lambda: set(watcher.told[2:]) == {"left ada", "left grace"}, seconds=LEASE + MARGIN)
        assert await presence.aonline(["ada", "grace"]) == set()
        cluster.two.signal(signal.SIGCONT)
        await aeventually(lambda: set(watcher.told[4:]) == {"joined ada", "joined grace"})
        assert await presence.aonline(["ada", "grace"]) == {"ada", "grace"}
        assert len(await presence.amembers("lobby", namespace="here")) == 3
        for ws in tabs:
            await send(ws, "rename", name="still here")
        await aeventually(lambda: watcher.told.count("changed ada") == watcher.told.count("changed grace") == 1)
        await aeventually(lambda: [inside.members[name] for name in ("ada", "grace")] == [{"name": "still here"}] * 2)
        assert inside.told.count("joined ada") == inside.told.count("joined grace") == 1
        assert set(inside.told) <= {"joined ada", "joined grace", "changed ada", "changed grace"}
        for ws in tabs:
            await ws.close()
        await aeventually(lambda: is_count("lobby", 1))
        await aeventually(lambda: watcher.members == {"watcher": None})
        assert len(await presence.aconnections(namespace="here")) == 2


async def test_store_restarted_empty(cluster: Cluster) -> None:
    """A store that comes back empty is filled again within a lease; clients aren't notified."""
    async with watching(cluster.one, "lobby") as watcher:
        for server, name in [(cluster.one, "ada"), (cluster.two, "grace")]:
            await tab(server, "lobby", name)
        await aeventually(lambda: len(watcher.told) == 2)
        cluster.redis.stop()
        await asyncio.sleep(0.5)
        cluster.redis.start()
        await aeventually(lambda: is_count("lobby", 3), seconds=LEASE + MARGIN)
        await tab(cluster.two, "lobby", "edsger")
        await aeventually(lambda: "joined edsger" in watcher.told)
        assert watcher.members == dict.fromkeys(["watcher", "ada", "grace", "edsger"])
        assert not [word for word in watcher.told if word.startswith("left")]
        assert await presence.aonline(["watcher", "ada", "grace"]) == {"watcher", "ada", "grace"}


async def test_drained_process(cluster: Cluster) -> None:
    """A process that is told to end takes its members along, at once."""
    async with watching(cluster.one, "lobby") as watcher:
        await tab(cluster.two, "lobby", "ada")
        await aeventually(lambda: watcher.told == ["joined ada"])
        await asyncio.to_thread(cluster.two.stop)
        await aeventually(lambda: watcher.told == ["joined ada", "left ada"])
        assert len((await presence.astats()).nodes) == 1


async def test_reloaded_process(settings: Any) -> None:
    """The development server that reloads itself leaves no ghost, and its watching parent isn't a node."""
    with RedisServer() as redis:
        settings.WSRT = settings_of(redis, LEASE=30.0)
        server = Server("daphne", wsrt=settings.WSRT, environment={"WSRT_TEST_RUNSERVER": "1"})
        server.command = [sys.executable, "-m", "django", "runserver", f"127.0.0.1:{server.port}"]
        with server:
            for _ in range(2):
                await tab(server, "lobby", "ada")
                await aeventually(lambda: is_count("lobby", 1))
                assert len((await presence.astats()).nodes) == 1
                assert server.process is not None
                (child,) = psutil.Process(server.process.pid).children()

                # As when a file was changed: the child ends, and the parent starts another one. Again and again, for
                # a change before the child has seen all files isn't a change to it.
                def is_reloading(child: psutil.Process = child) -> bool:
                    (ROOT / "tests" / "apps" / "chat" / "views.py").touch()
                    return not child.is_running()

                await aeventually(is_reloading, "the reload")
                await aeventually(lambda: is_count("lobby", 0), "the ghosts")
                assert (await presence.astats()).nodes == ()
                await aeventually(lambda: is_listening(server.port), "the next process")


async def asked_of(redis: RedisServer, seconds: float) -> int:
    """Return the number of commands that a Redis receives within some seconds."""
    count = 0
    async with Redis.from_url(redis.url) as client, client.monitor() as monitor:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for command in monitor.listen():
                    count += command["client_type"] != "lua"
    return count


@pytest.mark.slow
async def test_idle_cost(settings: Any) -> None:
    """What an idle node asks of Redis does not grow with its connections."""
    with RedisServer() as redis:
        settings.WSRT = settings_of(redis)
        commands: dict[int, float] = {}
        with Server(
            "uvicorn", wsrt={**settings.WSRT, "HEARTBEAT": None}, application="tests.apps.asgi:runtime"
        ) as server:
            for connections in (200, 2000):
                for start in range(sum(commands), connections, 100):
                    await asyncio.gather(
                        *(tab(server, f"room-{number % 200}", str(number)) for number in range(start, start + 100))
                    )
                expected = connections // 200
                await aeventually(lambda n=expected: is_count("room-7", n), "everybody")
                await asyncio.sleep(LEASE / 3)  # what came with the last of them
                commands[connections] = await asked_of(redis, 4 * LEASE) / (4 * LEASE)
        for connections, rate in commands.items():
            report.note(
                "Redis commands of an idle node",
                f"{connections:5} connections in 200 rooms: {rate:.2f} a second, {rate * LEASE / 3:.1f} a heartbeat",
            )
        assert abs(commands[2000] - commands[200]) * LEASE < 3
        # The heartbeat, the versions of what is shown, and once a lease a look at one room.
        assert commands[2000] * LEASE / 3 < 4


def test_option_of_no_store() -> None:
    """An option that the store does not have is an error that names it."""
    with pytest.raises(TypeError, match="colour"):
        backends.make_store({"BACKEND": "wsrt.presence.redis.RedisPresence", "OPTIONS": {"COLOUR": 1}})
