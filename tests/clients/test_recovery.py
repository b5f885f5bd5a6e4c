"""
How clients receive what they have missed, whatever they are written in, against a server that does what the test says.

What holds is written in DRIVER.md; each test runs with every client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients.drivers import Driver
from tests.clients.history_view import HistoryView
from tests.clients.scripted import Peer, ScriptedServer

pytestmark = pytest.mark.servers

FAST: dict[str, Any] = {"base_ms": 20, "cap_ms": 100, "min_ms": 10, "jump_ms": 20}


@pytest_asyncio.fixture
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    """A client in a process of its own."""
    async with Driver(request.param) as driver:
        yield driver


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest_asyncio.fixture
async def view() -> AsyncIterator[HistoryView]:
    async with HistoryView() as view:
        yield view


async def opened(driver: Driver, server: ScriptedServer, **options: Any) -> Peer:
    """Connect a client and greet it."""
    driver.connect(server.url, **{**FAST, **options})
    peer = await server.greet()
    await driver.state("open")
    return peer


async def resumed(driver: Driver, server: ScriptedServer, peer: Peer) -> tuple[Peer, Any]:
    """Cut the connection; return the next one and what it claims."""
    peer.drop()
    peer = await server.accept()
    claim = (await peer.receive("wsrt.resume"))["data"]
    await peer.hello()
    await driver.state("open")
    return peer, claim


async def joined(peer: Peer, **over: Any) -> None:
    await peer.send("wsrt.joined", {"room": "a", "epoch": "e1", "offset": 5, **over})


async def news(peer: Peer, *offsets: int, epoch: str = "e1") -> None:
    for offset in offsets:
        await peer.send("news", {"n": offset}, room="a", epoch=epoch, offset=offset)


async def away(driver: Driver, server: ScriptedServer, **options: Any) -> Peer:
    """Return the connection of a client that was joined at 5, was away, and is back."""
    peer = await opened(driver, server, **options)
    await joined(peer)
    await driver.until("room", room="a")
    peer, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 5]}
    return peer


async def told(driver: Driver, peer: Peer) -> list[Any]:
    """Return what the client has told: the numbers of events, and the counts or reasons of recoveries."""
    await peer.send("mark", {"n": "mark"})
    await driver.until("event", event="mark")
    return [
        line["data"]["n"]
        if line["kind"] == "event"
        else (line["kind"], line.get("reason") or line.get("count", line.get("offset")))
        for line in driver.lines
        if line["kind"] in {"event", "recovered", "forgotten"} and line.get("event") != "mark"
    ]


async def test_recovered_in_order(driver: Driver, server: ScriptedServer) -> None:
    """The missed events come first, then the client tells how many there were, then come new ones."""
    peer = await away(driver, server)
    await joined(peer, recovered=True, offset=7, count=2)
    await news(peer, 6, 7, 8, 8)
    assert await told(driver, peer) == [6, 7, ("recovered", 2), 8]
    last = driver.all("event")[-2]
    assert (last["room"], last["epoch"], last["offset"]) == ("a", "e1", 8)


async def test_second_recovery_repeats_nothing(driver: Driver, server: ScriptedServer) -> None:
    """A second recovery without traffic repeats nothing."""
    peer = await away(driver, server)
    await joined(peer, recovered=True, offset=6, count=1)
    await news(peer, 6)
    for _ in range(2):
        await driver.until("recovered")
        peer, claim = await resumed(driver, server, peer)
        assert claim == {"a": ["e1", 6]}
        await joined(peer, recovered=True, offset=6, count=0)
    assert await told(driver, peer) == [6, ("recovered", 1), ("recovered", 0), ("recovered", 0)]


async def test_invalidated_client(driver: Driver, server: ScriptedServer) -> None:
    """An invalidated client that reconnects is told no, each time, also while it is connected."""
    peer = await away(driver, server)
    await joined(peer, recovered=False, reason="epoch", epoch="e2", offset=1)
    await news(peer, 2, epoch="e2")
    await joined(peer, recovered=False, reason="epoch", epoch="e3", offset=0)
    await news(peer, 1, epoch="e3")
    await driver.until("event", epoch="e3")
    peer, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e3", 1]}
    await joined(peer, recovered=False, reason="epoch", epoch="e4", offset=0)
    assert await told(driver, peer) == [("recovered", "epoch"), 2, ("recovered", "epoch"), 1, ("recovered", "epoch")]


async def test_epoch_of_first_publication(driver: Driver, server: ScriptedServer) -> None:
    """The epoch of the first publication is learnt."""
    peer = await opened(driver, server)
    await peer.send("wsrt.joined", {"room": "a"})
    await news(peer, 1, 1)
    assert await told(driver, peer) == [1]
    _, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 1]}


async def test_half_positions(driver: Driver, server: ScriptedServer) -> None:
    """An offset without an epoch never replaces a position; nor does one that is no number of publications."""
    peer = await opened(driver, server)
    await joined(peer)
    halves: list[dict[str, Any]] = [{"offset": 9}, {"epoch": "e2"}, {"epoch": 7, "offset": 9}]
    halves += [{"epoch": "e1", "offset": each} for each in ("9", 10**30, -1, 1.5, True, 2**53, None)]
    for half in halves:
        await peer.send("news", {"n": "half"}, room="a", **half)
        await peer.send("wsrt.joined", {"room": "a", **half})
        await peer.send("wsrt.forgotten", {"room": "a", **half})
    assert await told(driver, peer) == ["half"] * len(halves)
    _, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 5]}


async def test_fewer_than_announced(driver: Driver, server: ScriptedServer) -> None:
    """A replay that the server cuts short ends with the next publication, which isn't lost."""
    peer = await away(driver, server)
    await joined(peer, recovered=True, offset=8, count=3)
    await news(peer, 6, 9)
    assert await told(driver, peer) == [6, ("recovered", 3), 9]


async def test_end_of_replay(driver: Driver, server: ScriptedServer) -> None:
    """After a replay the position is the server's, also if the last publications were taken back."""
    peer = await away(driver, server)
    await joined(peer, recovered=True, offset=9, count=1)
    await news(peer, 6)
    await driver.until("recovered")
    _, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 9]}


async def test_lost_during_replay(driver: Driver, server: ScriptedServer) -> None:
    """A client that is cut off during a replay claims from where it has come, and tells the end once."""
    peer = await away(driver, server)
    await joined(peer, recovered=True, offset=8, count=3)
    await news(peer, 6)
    await driver.until("event")
    peer, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 6]}
    await joined(peer, recovered=True, offset=8, count=2)
    await news(peer, 7, 8)
    assert await told(driver, peer) == [6, 7, 8, ("recovered", 2)]


async def test_values(driver: Driver, server: ScriptedServer) -> None:
    """Values are older than the position of the room, and no duplicates; cut off among them, a client begins again."""
    peer = await opened(driver, server)
    await joined(peer, values=2)
    await news(peer, 2)
    await driver.until("event")
    peer, claim = await resumed(driver, server, peer)
    assert claim == {}
    await joined(peer, values=2)
    await news(peer, 2, 4, 4, 6)
    assert await told(driver, peer) == [2, 2, 4, 6]
    peer, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 6]}
    await joined(peer, recovered=False, reason="trimmed", offset=50, values=1)
    await news(peer, 3, 51)
    assert (await told(driver, peer))[4:] == [("recovered", "trimmed"), 3, 51]


async def test_values_that_are_missing(driver: Driver, server: ScriptedServer) -> None:
    """A client knows that the server has left out values, until a connection gets all of them."""
    peer = await opened(driver, server)
    await joined(peer, values=1, values_missing=True)
    assert (await driver.until("room", joined=True))["values_missing"] is True
    await news(peer, 3)
    peer, _ = await resumed(driver, server, peer)
    for extra in ({}, {"values_missing": False}, {"values_missing": "yes"}):
        await joined(peer, **extra)
        assert (await driver.until("room", joined=True))["values_missing"] is False


async def test_forgotten(driver: Driver, server: ScriptedServer) -> None:
    """A publication that was taken back is told, and nothing that names none."""
    peer = await opened(driver, server)
    await joined(peer)
    for data in ({"room": "a", "epoch": "e1", "offset": 4}, {"room": 7, "epoch": "e1", "offset": 4}, [], "a", None):
        await peer.send("wsrt.forgotten", data)
    assert await told(driver, peer) == [("forgotten", 4)]
    line = driver.all("forgotten")[0]
    assert (line["room"], line["epoch"]) == ("a", "e1")


async def test_positions_of_the_application(driver: Driver, server: ScriptedServer) -> None:
    """A page that was rendered first claims its position."""
    driver.connect(server.url, **FAST, positions={"a": ["e1", 3], "__proto__": ["e2", 0]})
    peer = await server.accept()
    assert await peer.receive() == {"event": "wsrt.resume", "data": {"a": ["e1", 3], "__proto__": ["e2", 0]}}
    await peer.hello()
    await joined(peer, recovered=True, count=2)
    await news(peer, 3, 4, 5)
    assert await told(driver, peer) == [4, 5, ("recovered", 2)]


async def test_unclaimed(driver: Driver, server: ScriptedServer) -> None:
    """A server that says nothing of a position that the client has is taken for one that was not asked."""
    peer = await away(driver, server)
    await joined(peer, offset=9)
    await news(peer, 9, 10)
    assert await told(driver, peer) == [("recovered", "late"), 10]
    peer, _ = await resumed(driver, server, peer)
    await joined(peer, offset=10)
    await driver.until("recovered", recovered=True, count=0)


async def test_unclaimed_and_ahead(driver: Driver, server: ScriptedServer, view: HistoryView) -> None:
    """A position ahead of the room's may be of publications that the history has lost: those that follow are new."""
    peer = await away(driver, server, history_url=view.url)
    await joined(peer, offset=3)
    await news(peer, 4, 5)
    assert await told(driver, peer) == [("recovered", "late"), 4, 5]
    assert view.requests == []


async def test_most_claims(driver: Driver, server: ScriptedServer) -> None:
    """At most 1,000 positions are claimed, of the rooms that were joined last, and no more than fit in one frame."""
    peer = await opened(driver, server)
    for index in range(1100):
        await joined(peer, room=f"r{index}")
    await told(driver, peer)
    peer.drop()
    peer = await server.accept()
    claim = (await peer.receive())["data"]
    assert sorted(claim) == sorted(f"r{index}" for index in range(100, 1100))
    await peer.hello(max_payload=1000)
    await driver.state("open")
    _, claim = await resumed(driver, server, peer)
    assert 20 < len(claim) < 60
    assert "r1099" in claim


# Fetching.


async def test_too_many(driver: Driver, server: ScriptedServer, view: HistoryView) -> None:
    """What is too much for the socket is fetched page by page; what is new in the room waits, and nothing else."""
    peer = await away(driver, server, history_url=view.url)
    await joined(peer, recovered=False, reason="too_many", offset=9)
    await news(peer, 10)
    await peer.send("wsrt.forgotten", {"room": "a", "epoch": "e1", "offset": 6})
    await peer.send("news", {"n": "elsewhere"}, room="b")
    await driver.until("event", data={"n": "elsewhere"})
    view.answer(6, 7, has_more=True)
    view.answer(8, 9, 10, offset=10)
    await driver.until("forgotten")
    await driver.until("recovered", recovered=True, count=5)
    assert await told(driver, peer) == ["elsewhere", 6, 7, 8, 9, 10, ("recovered", 5), ("forgotten", 6)]
    assert view.requests == [{"room": "a", "since": "e1:5"}, {"room": "a", "since": "e1:7"}]
    _, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 10]}


async def test_gap_while_fetching(driver: Driver, server: ScriptedServer, view: HistoryView) -> None:
    """A gap in the history is told, and what is new follows."""
    peer = await away(driver, server, history_url=view.url)
    await joined(peer, recovered=False, reason="too_many", offset=9)
    await news(peer, 10)
    view.answer(8, 9, gap="trimmed")
    await driver.until("recovered")
    assert await told(driver, peer) == [("recovered", "trimmed"), 10]
    _, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 10]}


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("refused", lambda view: view.pages.put_nowait("403 Forbidden")),
        ("no page", lambda view: view.pages.put_nowait({"detail": "login"})),
        ("half a position", lambda view: view.answer(6, events=[{"event": "news", "data": {}, "offset": 6}])),
        ("no end", lambda view: view.answer(has_more=True)),
        ("too early", lambda view: view.answer(offset=6)),
    ],
)
async def test_fetching_fails(
    driver: Driver, server: ScriptedServer, view: HistoryView, what: str, answer: Any
) -> None:
    """If the missed events can't be fetched, the error and the server's reason are told, and what is new follows."""
    peer = await away(driver, server, history_url=view.url)
    await joined(peer, recovered=False, reason="too_many", offset=9)
    await news(peer, 10)
    answer(view)
    await driver.until("recovered")
    assert await told(driver, peer) == [("recovered", "too_many"), 10]
    assert len(driver.all("error")) == 1


async def test_fetching_takes_too_long(driver: Driver, server: ScriptedServer, view: HistoryView) -> None:
    """A view that doesn't answer is given up after the time of a request."""
    peer = await away(driver, server, history_url=view.url, request_timeout_ms=200)
    await joined(peer, recovered=False, reason="too_many", offset=9)
    await driver.until("recovered", reason="too_many")
    assert driver.all("error")
    view.answer(6)


async def test_too_much_waits(driver: Driver, server: ScriptedServer, view: HistoryView) -> None:
    """No more than 1,000 frames of a room wait for what is fetched: then it is given up, and none of them is lost."""
    peer = await away(driver, server, history_url=view.url)
    await joined(peer, recovered=False, reason="too_many", offset=9)
    await news(peer, *range(10, 1011))
    await driver.until("recovered", reason="too_many")
    assert await told(driver, peer) == [("recovered", "too_many"), *range(10, 1011)]
    view.answer(6, 7)
    assert len(await told(driver, peer)) == 1002


async def test_lost_while_fetching(driver: Driver, server: ScriptedServer, view: HistoryView) -> None:
    """A client that is cut off while it fetches claims from where it has come; the old answer is ignored."""
    peer = await away(driver, server, history_url=view.url)
    await joined(peer, recovered=False, reason="too_many", offset=9)
    view.answer(6, 7, has_more=True)
    await driver.until("event", offset=7)
    peer, claim = await resumed(driver, server, peer)
    assert claim == {"a": ["e1", 7]}
    view.answer(8)
    await joined(peer, recovered=True, offset=9, count=2)
    await news(peer, 8, 9)
    assert await told(driver, peer) == [6, 7, 8, 9, ("recovered", 2)]
