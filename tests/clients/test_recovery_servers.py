"""Clients that are cut off from real servers, and receive what was published in the meantime."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.sync_api import Page
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.clients.drivers import Driver
from tests.clients.toolchain import STATIC
from tests.support.browser import chromium
from tests.support.processes import RedisServer, Server
from tests.support.proxy import TcpProxy
from tests.support.redis import say

pytestmark = pytest.mark.servers

APPLICATION = "tests.apps.recovery:application"

SECONDS = 30.0

FAST: dict[str, Any] = {"base_ms": 50, "cap_ms": 200, "min_ms": 20, "jump_ms": 50, "connect_timeout_ms": 1000}


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One process, whose history is in its memory."""
    settings = {"HISTORY_SIZE": 400}
    with Server(request.param, application=APPLICATION, wsrt=settings, measured=True) as server:
        yield server


@pytest_asyncio.fixture
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    """A client in a process of its own."""
    async with Driver(request.param) as driver:
        yield driver


async def ask(server: Server, event: str, **data: Any) -> None:
    """Have the server publish something, over a connection of its own that is no client of ours."""
    async with connect(server.url("/news/"), subprotocols=[Subprotocol("wsrt.v1")]) as ws:
        await ws.send(json.dumps({"event": "wsrt.resume", "data": {}}))
        await ws.send(json.dumps({"event": event, "data": data, "ref": "1"}))
        async with asyncio.timeout(SECONDS):
            while json.loads(await ws.recv()).get("ref") != "1":
                pass


@contextlib.asynccontextmanager
async def without_network(driver: Driver, proxy: TcpProxy) -> AsyncIterator[None]:
    """Reset the socket of a client, and keep the client away."""
    proxy.blackhole()
    proxy.reset()
    await driver.until("state", SECONDS, state="waiting")
    yield
    proxy.restore()


def numbers(driver: Driver) -> list[int]:
    """Return the numbers of the news that a client has received."""
    return [line["data"]["n"] for line in driver.all("event") if line["event"] == "news"]


async def joined(driver: Driver, proxy: TcpProxy, **options: Any) -> dict[str, Any]:
    driver.connect(f"ws://127.0.0.1:{proxy.port}/news/", **FAST, **options)
    return await driver.until("room", SECONDS, room="news", joined=True)


async def test_nothing_is_lost(driver: Driver, server: Server) -> None:
    """A client whose socket is reset, again and again, receives all news once and in order, and knows how many."""
    async with TcpProxy(server.port) as proxy:
        await joined(driver, proxy)
        await ask(server, "publish", first=1, last=5)
        await driver.until("event", SECONDS, data={"n": 5})
        for first in (6, 46, 86):
            async with without_network(driver, proxy):
                await ask(server, "publish", first=first, last=first + 39)
            recovered = await driver.until("recovered", SECONDS)
            assert recovered == {**recovered, "recovered": True, "count": 40, "reason": None}
        await ask(server, "publish", first=126, last=126)
        await driver.until("event", SECONDS, data={"n": 126})
        assert numbers(driver) == list(range(1, 127))
        # A second recovery without traffic repeats nothing.
        async with without_network(driver, proxy):
            pass
        await driver.until("recovered", SECONDS, count=0)
        assert numbers(driver) == list(range(1, 127))
        assert driver.all("error") == []


async def test_too_many(driver: Driver, server: Server) -> None:
    """A client that has missed more than the server sends at once is told, and gets what is new."""
    async with TcpProxy(server.port) as proxy:
        await joined(driver, proxy)
        async with without_network(driver, proxy):
            await ask(server, "publish", first=1000, last=1349)
        assert (await driver.until("recovered", SECONDS))["reason"] == "too_many"
        await ask(server, "publish", first=2000, last=2000)
        await driver.until("event", SECONDS, data={"n": 2000})
        assert numbers(driver) == [2000]


async def test_values(driver: Driver, server: Server) -> None:
    """A client that joins gets the last value of each key, and one that was away what has changed."""
    await ask(server, "price.set", item="tea", cents=100)
    await ask(server, "price.set", item="tea", cents=200)
    await ask(server, "price.set", item="cake", cents=300)
    async with TcpProxy(server.port) as proxy:
        await joined(driver, proxy)
        values = [(await driver.until("event", SECONDS, event="price"))["data"] for _ in range(2)]
        assert values == [{"item": "tea", "cents": 200}, {"item": "cake", "cents": 300}]
        async with without_network(driver, proxy):
            await ask(server, "price.set", item="tea", cents=250)
        await driver.until("recovered", SECONDS, recovered=True, count=1)
        assert [line["data"]["cents"] for line in driver.all("event")] == [200, 300, 250]


async def test_history_that_is_lost(driver: Driver) -> None:
    """A client whose server is killed, with the history in its memory, is told that the epoch is another one."""
    with Server("uvicorn", application=APPLICATION) as server:
        async with TcpProxy(server.port) as proxy:
            before = await joined(driver, proxy)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            after = await driver.until("room", SECONDS, room="news", joined=True)
            assert (after["recovered"], after["reason"]) == (False, "epoch")
            assert after["epoch"] != before["epoch"]
            await driver.until("recovered", SECONDS, recovered=False, reason="epoch")
            await ask(server, "publish", first=1, last=1)
            await driver.until("event", SECONDS, data={"n": 1})


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, Server, Server]]:
    """Redis, which has the history, and two processes."""
    with RedisServer() as redis:
        history = {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis.url}
        arguments: dict[str, Any] = {
            "application": APPLICATION,
            "layer": "pubsub",
            "redis": redis.url,
            "wsrt": {"HISTORY": history, "HISTORY_SIZE": 400},
        }
        with Server("uvicorn", **arguments) as one, Server("daphne", **arguments) as two:
            yield redis, one, two


async def test_killed_server(driver: Driver, servers: tuple[RedisServer, Server, Server]) -> None:
    """The clients of a killed server recover at another one; with Redis flushed, they are told."""
    redis, one, two = servers
    async with TcpProxy(one.port) as proxy:
        await joined(driver, proxy)
        await ask(two, "publish", first=1, last=3)
        await driver.until("event", SECONDS, data={"n": 3})
        one.kill()
        await driver.until("state", SECONDS, state="waiting")
        await ask(two, "publish", first=4, last=23)
        proxy.target = two.port
        await driver.until("recovered", SECONDS, recovered=True, count=20)
        await ask(two, "publish", first=24, last=24)
        await driver.until("event", SECONDS, data={"n": 24})
        assert numbers(driver) == list(range(1, 25))
        async with without_network(driver, proxy):
            say(redis.port, "FLUSHALL")
            await ask(two, "publish", first=25, last=25)
        assert (await driver.until("recovered", SECONDS))["reason"] == "epoch"
        await ask(two, "publish", first=26, last=26)
        await driver.until("event", SECONDS, data={"n": 26})
        assert numbers(driver) == [*range(1, 25), 26]
    await asyncio.to_thread(one.start)


async def test_fetching(driver: Driver, servers: tuple[RedisServer, Server, Server]) -> None:
    """
    A client that has missed more than the server sends at once fetches it, page by page, from the view of another
    process, and receives everything once and in order, also what is published meanwhile.
    """
    _, one, two = servers
    async with TcpProxy(one.port) as proxy:
        await joined(driver, proxy, history_url=f"http://127.0.0.1:{two.port}/history/")
        await ask(two, "publish", first=1, last=3)
        await driver.until("event", SECONDS, data={"n": 3})
        async with without_network(driver, proxy):
            await ask(two, "publish", first=4, last=353)
        await driver.until("state", SECONDS, state="open")
        await ask(two, "publish", first=354, last=360)
        recovered = await driver.until("recovered", SECONDS)
        assert (recovered["recovered"], recovered["reason"]) == (True, None)
        assert recovered["count"] >= 350
        await driver.until("event", SECONDS, data={"n": 360})
        assert numbers(driver) == list(range(1, 361))
        assert driver.all("error") == []


SCRIPT = """
import { Client } from "/client.js";
window.heard = []; window.recoveries = [];
window.client = new Client("/news/");
client.on("news", ({ n }) => heard.push(n));
client.onRecovered((room, recovery) => recoveries.push(recovery));
if (window.since) client.setPosition("news", since);
await client.connect();
"""


@pytest.mark.browser
def test_chromium(server: Server) -> None:
    """A page that was offline receives what was missed; another one begins at the position it was rendered with."""

    def enter(since: dict[str, Any] | None = None) -> Page:
        page = browser.new_context().new_page()
        page.route("**/client.js", lambda route: route.fulfill(content_type="text/javascript", body=STATIC.read_text()))
        page.goto(f"http://127.0.0.1:{server.port}/stats/")
        page.evaluate("since => void (window.since = since)", since)
        page.add_script_tag(type="module", content=SCRIPT)
        page.wait_for_function("window.client?.rooms.get('news')?.joined")
        return page

    with chromium() as browser:
        one, two = enter(), enter()
        two.evaluate("client.request('publish', {first: 1, last: 3})")
        one.wait_for_function("heard.length === 3")
        position = one.evaluate("client.rooms.get('news')")
        one.context.set_offline(True)
        one.wait_for_function("client.state === 'waiting'")
        two.evaluate("client.request('publish', {first: 4, last: 30})")
        one.context.set_offline(False)
        one.wait_for_function("recoveries.length === 1")
        two.evaluate("client.request('publish', {first: 31, last: 31})")
        one.wait_for_function("heard.length >= 31")
        assert one.evaluate("heard") == list(range(1, 32))
        assert one.evaluate("recoveries") == [{"recovered": True, "count": 27, "reason": None}]
        three = enter(position)
        three.wait_for_function("recoveries.length === 1")
        assert three.evaluate("heard") == list(range(4, 32))
