"""Limits of connections at real servers: exact for all processes together when many arrive, and after a crash."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from websockets.asyncio.client import ClientConnection

from tests.apps.limited import PLACES
from tests.clients.drivers import OURS, Driver, Kind
from tests.support import report
from tests.support.client import closed, dial, request
from tests.support.processes import RedisServer, Server
from tests.support.waiting import aeventually
from wsrt.close_codes import REPLACED, TOO_MANY_CONNECTIONS

pytestmark = pytest.mark.servers

MANY, FEW = 500, 60
LEASE = 30.0
"""Long, so that no server loses it while all of them are busy."""

SHORT_LEASE = 5.0
SECONDS = 60.0
MARGIN = 40.0
"""How long after its lease the places of a dead process may still be taken: servers look after a third of their own."""

REFUSED = TOO_MANY_CONNECTIONS.code, TOO_MANY_CONNECTIONS.reason
REPLACED_CLOSE = REPLACED.code, REPLACED.reason


@dataclass
class Cluster:
    redis: RedisServer
    one: Server
    two: Server

    def serve(self, kind: str, lease: float = LEASE) -> Server:
        return Server(
            kind,
            application="tests.apps.limited:application",
            layer="pubsub",
            redis=self.redis.url,
            wsrt={
                "PRESENCE": {
                    "BACKEND": "wsrt.presence.redis.RedisPresence",
                    "LOCATION": self.redis.url,
                    "OPTIONS": {"LEASE": lease, "GRACE": 0.5, "TIMEOUT": 30},
                },
                "TRUSTED_PROXIES": ["127.0.0.0/8"],
                "SETUP_TIMEOUT": 60,
            },
        )

    def count(self, name: str) -> int:
        return sum(int(server.stats()["counts"].get(name, 0)) for server in (self.one, self.two))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        found = Cluster.__new__(Cluster)
        found.redis = stack.enter_context(RedisServer())
        found.one = stack.enter_context(found.serve("daphne"))
        found.two = stack.enter_context(found.serve("uvicorn"))
        yield found


class Arrivals:
    """Clients that have arrived at once, each of which waits for its close."""

    def __init__(self, sockets: list[ClientConnection]) -> None:
        self.sockets = sockets
        self.closes: dict[ClientConnection, tuple[int, str]] = {}
        self._tasks = [asyncio.create_task(self._wait(socket)) for socket in sockets]

    async def _wait(self, socket: ClientConnection) -> None:
        self.closes[socket] = await closed(socket, 3600)

    async def settle(self, closes: int) -> collections.Counter[tuple[int, str]]:
        """Wait for so many closes, and a little longer; return the number of each."""
        await aeventually(lambda: len(self.closes) >= closes, f"{closes} closes", seconds=90)
        await asyncio.sleep(1)
        return collections.Counter(self.closes.values())

    async def stay(self) -> int:
        """Return the number of clients that are served."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        staying = [socket for socket in self.sockets if socket not in self.closes]
        answers = await asyncio.gather(*(request(socket, "echo", value="here") for socket in staying))
        return sum(answer["data"]["value"] == "here" for answer in answers)


async def arrive(cluster: Cluster, path: str, many: int = MANY, addresses: Sequence[str] = ("",)) -> Arrivals:
    """Let clients arrive at both servers at once, from each of some addresses."""

    async def one(number: int) -> ClientConnection:
        server = (cluster.one, cluster.two)[number % 2]
        address = addresses[number // 2 % len(addresses)]
        headers = {"X-Forwarded-For": f"192.0.2.1, {address}"} if address else {}
        return await dial(server.url(path), ping_interval=None, open_timeout=90, additional_headers=headers)

    return Arrivals(await asyncio.gather(*map(one, range(many))))


@pytest.mark.parametrize(("who", "many"), [("user", MANY), ("later", FEW)])
async def test_refused(cluster: Cluster, who: str, many: int) -> None:
    """Of 500 connections of one user that arrive at once, as many stay as there are places; the others read 4429."""
    before = cluster.count("connections_refused_per_user")
    arrivals = await arrive(cluster, f"/refuse/?{who}=crowd-{who}", many)
    assert await arrivals.settle(many - PLACES) == {REFUSED: many - PLACES}
    assert await arrivals.stay() == PLACES
    assert cluster.count("connections_refused_per_user") - before == many - PLACES
    # Another user isn't affected, and a place that becomes free is given again.
    other = await arrive(cluster, f"/refuse/?{who}=other-{who}", 2)
    assert await other.stay() == 2
    socket = next(socket for socket in arrivals.sockets if socket not in arrivals.closes)
    await socket.close()
    await aeventually(lambda: _is_admitted(cluster.one, f"/refuse/?{who}=crowd-{who}"), "a free place")


@pytest.mark.parametrize(("who", "many"), [("user", MANY), ("later", FEW)])
async def test_replaced(cluster: Cluster, who: str, many: int) -> None:
    """With the policy "replace" the newest stay; the others read 4409, on whichever process they are."""
    before = cluster.count("connections_replaced")
    arrivals = await arrive(cluster, f"/replace/?{who}=crowd-{who}", many)
    assert await arrivals.settle(many - PLACES) == {REPLACED_CLOSE: many - PLACES}
    assert await arrivals.stay() == PLACES
    assert cluster.count("connections_replaced") - before == many - PLACES
    newest = await arrive(cluster, f"/replace/?{who}=crowd-{who}", PLACES)
    await aeventually(lambda: _are_closed(arrivals.sockets), "the older ones are closed")
    assert await newest.stay() == PLACES


@pytest.mark.parametrize(
    ("addresses", "others", "many"),
    [
        (["203.0.113.7", "::ffff:203.0.113.7"], ["203.0.113.8"], MANY),
        (["2001:db8:1:2::7", "2001:db8:1:2:ffff::8"], ["2001:db8:1:3::7"], FEW),
    ],
)
async def test_refused_by_address(cluster: Cluster, addresses: list[str], others: list[str], many: int) -> None:
    """An address has as many places for all its clients; all of an IPv6 network of 64 bits are one address."""
    before = cluster.count("connections_refused_per_address")
    arrivals = await arrive(cluster, "/address/", many, addresses)
    assert await arrivals.settle(many - PLACES) == {REFUSED: many - PLACES}
    assert await arrivals.stay() == PLACES
    assert cluster.count("connections_refused_per_address") - before == many - PLACES
    assert await (await arrive(cluster, "/address/", 2, others)).stay() == 2


async def test_killed(cluster: Cluster) -> None:
    """The places of a process that was killed are free again when its lease has ended."""
    path = "/refuse/?user=killed"
    with cluster.serve("uvicorn", SHORT_LEASE) as third:
        for _ in range(PLACES):
            assert await _is_admitted(third, path, stays=True)
        assert not await _is_admitted(cluster.one, path)
        third.signal(signal.SIGKILL)
        killed = time.monotonic()
        await aeventually(
            lambda: _is_admitted(cluster.one, path, stays=True), "the places", seconds=SHORT_LEASE + MARGIN
        )
        took = time.monotonic() - killed
    assert sum([await _is_admitted(cluster.two, path, stays=True) for _ in range(PLACES)]) == PLACES - 1
    report.note("limits", f"the places of a killed process were free after {took:.1f} s; its lease is {SHORT_LEASE} s")


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)
async def test_replaced_client_stays_away(cluster: Cluster, kind: Kind) -> None:
    """A client that was replaced reads 4409, is closed for good, and doesn't throw out the others in turn."""
    path = f"/replace/?user=client-{kind.name}"
    async with Driver(kind) as driver:
        driver.connect(cluster.one.url(path), base_ms=20, cap_ms=100, min_ms=10, later_ms=100)
        await driver.state("open", SECONDS)
        newer = await arrive(cluster, path, PLACES)
        closed_state = await driver.state("closed", SECONDS)
        assert (closed_state["reason"]["kind"], closed_state["reason"]["code"]) == ("server", REPLACED.code)
        # Longer than any pause before another attempt.
        await asyncio.sleep(1)
        assert driver.all("dial") == []
        assert driver.all("state")[-1]["state"] == "closed"
        assert await newer.stay() == PLACES


async def _is_admitted(server: Server, path: str, *, stays: bool = False) -> bool:
    socket = await dial(server.url(path))
    try:
        await request(socket, "echo", value="here")
    except Exception:
        assert await closed(socket) == REFUSED
        return False
    if not stays:
        await socket.close()
    return True


async def _are_closed(sockets: list[ClientConnection]) -> bool:
    return all(socket.close_code is not None for socket in sockets)
