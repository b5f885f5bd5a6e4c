"""The Redis store: behaviour that other stores don't share. For the model see test_redis_model."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import DataError

from tests.support.pages import pages
from tests.support.processes import RedisServer
from tests.support.redis import ClusterServer
from wsrt.presence.base import (
    EVERYONE,
    BadCursor,
    Change,
    Count,
    Join,
    LeaseLost,
    Leave,
    MemberRecord,
    NodeFacts,
    StoreUnavailable,
)
from wsrt.presence.redis import RedisPresence, reader
from wsrt.presence.redis import store as module
from wsrt.presence.redis.keys import Keys
from wsrt.stores.redis.partitions import Partitions

NASTY = [
    "a",
    "ab",
    "b",
    ":",
    "1.a",
    "a{b}",
    "}{",
    "{}",
    "*",
    "[a]?\\",
    "\0",
    "\r\n",
    "é",
    "e\u0301",
    "😀",
    "\ud800",
    " ",
]
"""Names that meet where keys are put together without care."""


@pytest_asyncio.fixture(params=["single", "cluster"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., RedisPresence]]:
    """Makes stores on an empty Redis."""
    server: RedisServer = request.getfixturevalue(request.param)
    stores: list[RedisPresence] = []

    def make(**options: Any) -> RedisPresence:
        options = {"cluster": request.param == "cluster", "pace": 1e6, **options}
        stores.append(RedisPresence(server.url, **options))
        return stores[-1]

    store = make()
    async with store._round_trip() as client:
        await client.flushall()
    yield make
    for store in stores:
        await store.close()


@pytest_asyncio.fixture
async def store(make: Callable[..., RedisPresence]) -> RedisPresence:
    """With one node, n1."""
    store = make()
    await store.begin(NodeFacts("n1", {}))
    return store


def told(changes: list[Change]) -> list[tuple[str, str | None, int]]:
    return [(change.kind, change.user_id, change.connections) for change in changes]


async def reaped(store: RedisPresence, node: str) -> list[Change]:
    """Reap a node; return all that changed."""
    return [change async for chunk in store.reap(node) for change in chunk]


async def lapse(store: RedisPresence, node: str) -> None:
    """Let the lease of a node be over."""
    await store._execute("ZADD", store._keys.leases, "XX", 1, node)


async def keys(store: RedisPresence) -> set[str]:
    async with store._round_trip() as client:
        return set(await client.keys("*"))


# Names.


async def test_nasty_names(store: RedisPresence) -> None:
    """No two rooms, namespaces, users or nodes meet, whatever is in their names, and each comes back as it was."""
    places = list(itertools.product(NASTY, NASTY))
    await store.apply("n1", [Join(*place, number, f"u{number}") for number, place in enumerate(places)])
    assert await store.counts(places) == [Count(1, 0, 1)] * len(places)
    for number, place in enumerate(places):
        assert (await store.members(*place)).items == (MemberRecord(f"u{number}", 1, None),)
    assert await store.namespaces() == sorted(NASTY)
    for namespace in NASTY:
        assert {room.room for room in (await store.rooms(namespace)).items} == set(NASTY)
    assert len(await reaped(store, "n1")) == len(places)


async def test_nasty_users(store: RedisPresence) -> None:
    """Users may have any id, also such as the store uses for itself."""
    users = [*NASTY, "n", "g", "c", "u"]
    await store.apply("n1", [Join("chat", "a", number, user, f'"{number}"') for number, user in enumerate(users)])
    page = await store.members("chat", "a")
    assert {record.user_id: record.data for record in page.items} == {
        user: f'"{number}"' for number, user in enumerate(users)
    }
    assert await store.user_connections("chat", "a", [*users, "nobody"]) == [1] * len(users) + [0]
    left = await store.apply("n1", [Leave("chat", "a", number) for number in range(len(users))])
    assert [change.user_id for change in left] == users


async def test_nasty_nodes(store: RedisPresence) -> None:
    """Nodes may have any id; they do not meet either."""
    for number, node in enumerate(NASTY):
        await store.begin(NodeFacts(node, {"number": number}))
        await store.apply(node, [Join(name, name, number, str(number)) for name in NASTY])
    assert {node.id: node.facts.get("number") for node in await store.nodes() if node.id != "n1"} == {
        node: number for number, node in enumerate(NASTY)
    }
    for number, node in enumerate(NASTY):
        assert await store.held(node, "a", "a") == {number}
        assert {change.user_id for change in await reaped(store, node)} == {str(number)}


@given(st.lists(st.tuples(*[st.text(st.characters() | st.sampled_from("1.:{}"))] * 3), min_size=2, max_size=2))
def test_any_names(names: list[tuple[str, str, str]]) -> None:
    """No two keys of two rooms, whatever the namespaces, rooms and nodes are called, have one name."""
    keys = Keys(Partitions("wsrt", 1, cluster=False))
    found: list[dict[tuple[object, ...], str]] = []
    for namespace, room, node in names:
        here = keys.room((namespace, room))
        found.append(
            {
                ("counts", namespace, room): here.counts,
                ("data", namespace, room): here.data,
                ("numbers", namespace, room, node): here.numbers(node),
                ("details", namespace, room, node): here.details(node),
                ("list", namespace): keys.list(here.part, namespace),
                ("index", node): keys.index(node),
                ("claim", node): keys.claim(node),
            }
        )
    what = {**found[0], **found[1]}
    assert len(set(what.values())) == len(what)


async def test_prefixes_and_partitions(make: Callable[..., RedisPresence]) -> None:
    """Stores with another prefix, or other partitions, share nothing."""
    stores = [make(prefix="a"), make(prefix="b"), make(prefix="b", partitions=3)]
    for number, store in enumerate(stores):
        await store.begin(NodeFacts(f"n{number}", {}))
        await store.apply(f"n{number}", [Join("chat", "a", 1, "ada")])
    for number, store in enumerate(stores):
        assert [node.id for node in await store.nodes()] == [f"n{number}"]
        assert await store.counts([("chat", "a")]) == [Count(1, 0, 1)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunks": 5}, TypeError),
        ({"prefix": "a{b}"}, ValueError),
        ({"chunk": 0}, ValueError),
        ({"chunk": 251}, ValueError),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception]) -> None:
    """Options that do not exist or cannot be raise when the store is made."""
    with pytest.raises(error):
        RedisPresence(**options)


# What is left behind.


async def test_nothing_is_left(store: RedisPresence) -> None:
    """Of rooms that are empty and nodes that were reaped, nothing is left but the highest version of before."""
    await store.apply("n1", [Join("chat", str(n), n, "ada", '"data"', '"details"') for n in range(30)])
    await store.apply("n1", [Join("chat", EVERYONE, n, None, None, '"details"') for n in range(30)])
    await store.apply("n1", [Leave("chat", str(n), n) for n in range(15)])
    await reaped(store, "n1")
    left = await keys(store)
    assert left
    for key in left:
        assert key.endswith(":versions")
        assert list(await store._execute("HGETALL", key)) == [""]


async def test_versions_go_on(store: RedisPresence) -> None:
    """A room that was empty continues with higher versions, also within one call."""
    changes = await store.apply("n1", [Join("chat", "a", 1, "ada"), Leave("chat", "a", 1)] * 50)
    versions = [change.version for change in changes]
    assert versions == sorted(set(versions))
    assert len(versions) == 100


async def test_versions_when_the_clock_is_set_back(store: RedisPresence) -> None:
    """Versions never go down, though Redis' clock may."""
    [change] = await store.apply("n1", [Join("chat", "a", 1, "ada")])
    later = change.version + 10**12
    room = store._keys.room(("chat", "a"))
    await store._execute("HSET", store._keys.versions(room.part), room.field, later)
    changes = await store.apply("n1", [Leave("chat", "a", 1), Join("chat", "a", 1, "ada")])
    assert [change.version for change in changes] == [later + 1, later + 2]


async def test_another_user_in_the_same_connection(store: RedisPresence) -> None:
    """At a log-in, the user joins before the guest leaves: the room isn't empty in between."""
    await store.apply("n1", [Join("chat", "a", 1)])
    changes = await store.apply("n1", [Join("chat", "a", 1, "ada", '"data"')])
    assert told(changes) == [("joined", "ada", 1), ("left", None, 0)]
    assert changes[1].version == changes[0].version + 1
    assert await store.counts([("chat", "a")]) == [Count(1, 0, 1)]


async def test_changes_are_in_the_order_of_operations(store: RedisPresence) -> None:
    """What happened in rooms of several partitions is told in the order in which it was said."""
    changes = await store.apply("n1", [Join("chat", str(number), 1, "ada") for number in range(300)])
    assert [change.room for change in changes] == [str(number) for number in range(300)]
    assert await store.versions([("chat", str(number)) for number in range(300)]) == [
        change.version for change in changes
    ]


async def test_concurrent_nodes(make: Callable[..., RedisPresence]) -> None:
    """Nodes that write at the same time count each other's members once, and every version is told once."""
    stores = [make() for _ in range(4)]

    async def write(number: int, store: RedisPresence) -> list[Change]:
        await store.begin(NodeFacts(f"n{number}", {}))
        changes: list[Change] = []
        for turn in range(40):
            users = [f"u{(turn * 7 + n) % 11}" for n in range(10)]
            changes += await store.apply(f"n{number}", [Join("chat", "a", n, user) for n, user in enumerate(users)])
        return changes

    parts = await asyncio.gather(*(write(number, store) for number, store in enumerate(stores)))
    versions = sorted(change.version for part in parts for change in part)
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    assert await stores[0].versions([("chat", "a")]) == [versions[-1]]
    [count] = await stores[0].counts([("chat", "a")])
    assert (count.connections, count.guests) == (40, 0)
    assert sum(record.connections for record in (await stores[0].members("chat", "a")).items) == 40


# Leases and fences.


async def test_unknown_node(store: RedisPresence) -> None:
    """Who has not begun cannot write."""
    for operation in (Join("chat", "a", 1, "ada"), Leave("chat", "a", 1)):
        with pytest.raises(LeaseLost):
            await store.apply("n2", [operation])


async def test_begin_of_a_node_whose_lease_has_ended(store: RedisPresence) -> None:
    """An id whose lease has ended stays dead, also for one who begins with it."""
    await lapse(store, "n1")
    assert not (await store.begin(NodeFacts("n1", {}))).is_alive


async def test_expired_are_at_most_16(store: RedisPresence) -> None:
    """A heartbeat names 16 dead nodes, the longest dead first, and when the next one dies."""
    for number in range(20):
        await store.begin(NodeFacts(f"d{number:02}", {}))
        await lapse(store, f"d{number:02}")
    beat = await store.beat(NodeFacts("n1", {}))
    assert beat.expired == await store.expired() == tuple(f"d{number:02}" for number in range(16))
    assert beat.next_expiry is None
    await store.begin(NodeFacts("n2", {}))
    beat = await store.beat(NodeFacts("n1", {}))
    assert beat.next_expiry is not None
    assert 29 < beat.next_expiry <= 30


async def test_heartbeat_is_one_command(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing happens, a node asks one thing a heartbeat."""
    await store.apply("n1", [Join("chat", str(number), 1, "ada") for number in range(30)])
    asked: list[Any] = []
    execute = store._client.execute_command

    async def counting(*command: Any) -> Any:
        asked.append(command)
        return await execute(*command)

    monkeypatch.setattr(store._client, "execute_command", counting)
    await store.beat(NodeFacts("n1", {}))
    assert len(asked) == 1


async def test_lease_that_is_over_here(store: RedisPresence) -> None:
    """A node that was stopped for longer than its lease is fenced without asking."""
    await store.apply("n1", [Join("chat", "a", 1, "ada")])
    store._nodes["n1"].ends = 0.0
    with pytest.raises(LeaseLost):
        await store.apply("n1", [Leave("chat", "a", 1)])
    assert await store.counts([("chat", "a")]) == [Count(1, 0, 1)]


async def test_store_that_comes_back_empty(store: RedisPresence) -> None:
    """After Redis has lost everything, the node is fenced at its next write, whatever that is."""
    await store.apply("n1", [Join("chat", "a", 1, "ada")])
    async with store._round_trip() as client:
        await client.flushall()
    with pytest.raises(LeaseLost):
        await store.apply("n1", [Join("chat", "a", 2, "ada")])
    assert not (await store.beat(NodeFacts("n1", {}))).is_alive
    assert await keys(store) == set()


async def test_index_that_was_lost(store: RedisPresence) -> None:
    """A heartbeat sees that rooms of the node are not put down, and puts them down again."""
    await store.apply("n1", [Join("chat", str(number), 1, "ada") for number in range(5)])
    await store._execute("DEL", store._keys.index("n1"))
    assert (await store.beat(NodeFacts("n1", {}))).is_alive
    assert len(await reaped(store, "n1")) == 5


async def test_index_that_was_lost_with_the_lease(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that dies while its rooms are put down again is fenced."""
    await store.apply("n1", [Join("chat", "a", 1, "ada")])
    await store._execute("DEL", store._keys.index("n1"))
    run = store._run

    async def dying(script: Any, *args: Any) -> Any:
        if script is module.INDEX:
            await lapse(store, "n1")
        return await run(script, *args)

    monkeypatch.setattr(store, "_run", dying)
    assert not (await store.beat(NodeFacts("n1", {}))).is_alive


async def test_rooms_that_were_left(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that the node has left for long leaves its index with a heartbeat; one that it came back to does not."""
    await store.apply("n1", [Join("chat", "a", 1, "ada"), Join("chat", "b", 1, "ada"), Join("chat", "c", 1, "ada")])
    await store.apply("n1", [Leave("chat", "a", 1), Leave("chat", "b", 1), Join("chat", "b", 1, "ada")])
    await store.beat(NodeFacts("n1", {}))
    assert len(await store._execute("HGETALL", store._keys.index("n1"))) == 3
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    await store.beat(NodeFacts("n1", {}))
    assert set(await store._execute("HGETALL", store._keys.index("n1"))) == {"4.chatb", "4.chatc"}


async def test_room_that_is_joined_while_it_is_taken_out(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat between a join and its answer does not take the room out of the index."""
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    await store.apply("n1", [Join("chat", "a", 1, "ada"), Leave("chat", "a", 1)])
    run = store._run

    async def slow(script: Any, *args: Any) -> Any:
        if script is module.APPLY:
            await store.beat(NodeFacts("n1", {}))
        return await run(script, *args)

    monkeypatch.setattr(store, "_run", slow)
    await store.apply("n1", [Join("chat", "a", 1, "ada")])
    assert len(await reaped(store, "n1")) == 1


async def test_heartbeat_that_arrives_late(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that Redis carries out late does not take out a room that was joined meanwhile."""
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    await store.apply("n1", [Join("chat", "a", 1, "ada"), Leave("chat", "a", 1)])
    run = store._run

    async def late(script: Any, *args: Any) -> Any:
        if script is module.BEAT:
            await store.apply("n1", [Join("chat", "a", 1, "ada")])
        return await run(script, *args)

    monkeypatch.setattr(store, "_run", late)
    await store.beat(NodeFacts("n1", {}))
    assert len(await reaped(store, "n1")) == 1


async def test_many_rooms_that_were_left(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """One heartbeat takes out all rooms that the node has left for long, however many clients came and went."""
    for start in range(0, 2000, 500):
        rooms = [str(number) for number in range(start, start + 500)]
        await store.apply("n1", [Join("chat", room, 1, "ada") for room in rooms])
        await store.apply("n1", [Leave("chat", room, 1) for room in rooms if room != "77"])
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    await store.beat(NodeFacts("n1", {}))
    assert set(await store._execute("HGETALL", store._keys.index("n1"))) == {"4.chat77"}
    assert set(store._nodes["n1"].rooms) == {"4.chat77"}


@pytest.mark.parametrize("is_carried_out", [False, True])
async def test_heartbeat_without_an_answer(
    store: RedisPresence, monkeypatch: pytest.MonkeyPatch, is_carried_out: bool
) -> None:
    """Rooms of a heartbeat whose answer is lost leave the index with the next one, but those that were joined again."""
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    await store.apply("n1", [Join("chat", room, 1, "ada") for room in "abc"])
    await store.apply("n1", [Leave("chat", room, 1) for room in "abc"])
    run = store._run

    async def lossy(script: Any, *args: Any) -> Any:
        if script is module.BEAT:
            if is_carried_out:
                await run(script, *args)
            raise StoreUnavailable("lost")
        return await run(script, *args)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_run", lossy)
        with pytest.raises(StoreUnavailable):
            await store.beat(NodeFacts("n1", {}))
    await store.apply("n1", [Join("chat", "b", 1, "ada")])
    assert "4.chatb" in await store._execute("HGETALL", store._keys.index("n1"))
    await store.beat(NodeFacts("n1", {}))
    assert set(await store._execute("HGETALL", store._keys.index("n1"))) == {"4.chatb"}
    assert len(await reaped(store, "n1")) == 1


# Reaping.


async def test_chunks(make: Callable[..., RedisPresence]) -> None:
    """A call takes out no more connections than it may, of one room or of many."""
    store = make(chunk=10)
    await store.begin(NodeFacts("n1", {}))
    await store.apply("n1", [Join("chat", "large", n, f"u{n}") for n in range(1000)])
    await store.apply("n1", [Join("chat", str(n), n, f"u{n}") for n in range(100)])
    sizes = [len(chunk) async for chunk in store.reap("n1")]
    assert sum(sizes) == 1100
    assert max(sizes) <= 10
    assert len(sizes) < 200


async def test_reaping_is_paced(make: Callable[..., RedisPresence]) -> None:
    """Between calls Redis has time for others."""
    store = make(chunk=10, pace=100)
    await store.begin(NodeFacts("n1", {}))
    await store.apply("n1", [Join("chat", "a", n, f"u{n}") for n in range(200)])
    loop = asyncio.get_running_loop()
    began = loop.time()
    await reaped(store, "n1")
    assert loop.time() - began > 0.19


async def test_zombie_between_chunks(make: Callable[..., RedisPresence]) -> None:
    """From its reaper's first step on, a node changes nothing any more, in no room."""
    store = make(chunk=2)
    await store.begin(NodeFacts("n1", {}))
    rooms = [("chat", str(number)) for number in range(4)]
    await store.apply("n1", [Join(*room, number, f"u{number}") for room in rooms for number in range(5)])
    async for _ in store.reap("n1"):
        before = await store.counts(rooms), await store.versions(rooms)
        for operation in (Join("chat", "0", 9, "eve"), Leave("chat", "3", 1), Join("new", "new", 1, "eve")):
            with pytest.raises(LeaseLost):
                await store.apply("n1", [operation])
        assert (await store.counts(rooms), await store.versions(rooms)) == before


async def test_zombie_in_another_process(make: Callable[..., RedisPresence]) -> None:
    """A node that knows nothing of its end is fenced with the rooms that it had put down."""
    zombie, other = make(), make()
    await zombie.begin(NodeFacts("n1", {}))
    await zombie.apply("n1", [Join("chat", "a", 1, "ada")])
    await reaped(other, "n1")
    for operation in (Join("chat", "a", 2, "ada"), Leave("chat", "a", 1)):
        with pytest.raises(LeaseLost):
            await zombie.apply("n1", [operation])
    assert await other.counts([("chat", "a")]) == [Count(0, 0, 0)]


async def test_one_reaper(make: Callable[..., RedisPresence]) -> None:
    """Where somebody reaps, another one ends at once."""
    store, other = make(chunk=1), make(chunk=1)
    await store.begin(NodeFacts("n1", {}))
    await store.apply("n1", [Join("chat", "a", n, f"u{n}") for n in range(3)])
    async for _ in store.reap("n1"):
        assert await reaped(other, "n1") == []


async def test_reaper_that_dies(make: Callable[..., RedisPresence]) -> None:
    """When a reaper has died, another one goes on where it was once its claim is over; each leave is told once."""
    store, other = make(chunk=2, claim=1.0), make()
    await store.begin(NodeFacts("n1", {}))
    await store.apply("n1", [Join("chat", "a", n, f"u{n}") for n in range(6)])
    reaper = store.reap("n1")
    assert len(await anext(reaper)) == 2
    assert await reaped(other, "n1") == []
    await asyncio.sleep(1.1)  # the claim
    assert len(await reaped(other, "n1")) == 4
    assert await other.expired() == ()
    assert [chunk async for chunk in reaper] == []


async def test_reaper_that_is_cancelled(make: Callable[..., RedisPresence]) -> None:
    """A reaper that is cancelled, or not asked any more, gives up its claim."""
    store, other = make(chunk=2, pace=1), make()
    await store.begin(NodeFacts("n1", {}))
    await store.apply("n1", [Join("chat", "a", n, f"u{n}") for n in range(6)])
    task = asyncio.create_task(reaped(store, "n1"))
    while (await other.counts([("chat", "a")])) == [Count(6, 0, 6)]:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)  # what is left of the claim
    reaper = other.reap("n1")
    assert len(await anext(reaper)) == 4
    await reaper.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.01)  # what is left of the claim
    assert await reaped(store, "n1") == []
    assert await other.expired() == ()


async def test_reaper_that_was_replaced(make: Callable[..., RedisPresence]) -> None:
    """A reaper that was away for longer than its claim leaves the rest to the one who took over."""
    slow, other = make(chunk=2, claim=0.05), make(chunk=2)
    await slow.begin(NodeFacts("n1", {}))
    await slow.apply("n1", [Join("chat", "a", n, f"u{n}") for n in range(8)])
    reaper = slow.reap("n1")
    changes = await anext(reaper)
    await asyncio.sleep(0.06)  # the claim
    successor = other.reap("n1")
    changes += await anext(successor)
    assert [chunk async for chunk in reaper] == []
    changes += [change async for chunk in successor for change in chunk]
    assert [change.kind for change in changes] == ["left"] * 8


async def test_reaping_an_unknown_node(store: RedisPresence) -> None:
    """Where nothing is, nothing is taken out."""
    before = await keys(store)
    assert await reaped(store, "nobody") == []
    assert await keys(store) == before


# Reading.


async def test_dead_nodes_are_not_shown(make: Callable[..., RedisPresence]) -> None:
    """Connections of a node whose lease has ended are not shown, though they count until it is reaped."""
    store = make()
    for node in ("n1", "n2"):
        await store.begin(NodeFacts(node, {}))
        await store.apply(node, [Join("chat", EVERYONE, 1, "ada", None, f'"{node}"')])
    await lapse(store, "n1")
    page = await store.connections("chat")
    assert [(connection.id, connection.details) for connection in page.items] == [("n2-1", '"n2"')]
    assert [node.id for node in await store.nodes()] == ["n2"]
    assert await store.counts([("chat", EVERYONE)]) == [Count(1, 0, 2)]


async def test_details_go_with_their_connection(store: RedisPresence) -> None:
    """Details are those that were said last, of everyone, whatever room is asked for."""
    await store.apply("n1", [Join("chat", EVERYONE, 1, "ada", None, '"old"'), Join("chat", "a", 1, "ada")])
    await store.apply("n1", [Join("chat", EVERYONE, 1, "ada", None, '"new"')])
    assert [connection.details for connection in (await store.connections("chat", "a")).items] == ['"new"']
    await store.apply("n1", [Join("chat", EVERYONE, 1, "ada")])
    assert [connection.details for connection in (await store.connections("chat", "a")).items] == [None]


async def test_pages_of_connections(store: RedisPresence) -> None:
    """Pages bring each connection of each node, also of one user alone."""
    for node in ("n1", "n2", "n3:x"):
        await store.begin(NodeFacts(node, {}))
        await store.apply(node, [Join("chat", EVERYONE, n, f"u{n % 10}") for n in range(700)])
    for user, expected in ((None, 2100), ("u3", 210)):
        found: list[str] = []
        turns = 0
        async for page in pages(lambda at, user=user: store.connections("chat", user_id=user, cursor=at, limit=100)):
            found += [connection.id for connection in page.items]
            turns += 1
        assert len(set(found)) == expected
        assert turns >= 2
    assert (await store.connections("chat", user_id="nobody")).items == ()


async def test_pages_of_members(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages bring each member that stays, while others come and go."""
    monkeypatch.setattr(reader, "BULK", 50)
    await store.apply("n1", [Join("chat", "a", n, f"u{n}", f'"{n}"') for n in range(1000)])
    await store.apply("n1", [Join("chat", "a", 5000)])
    found: dict[str | None, str | None] = {}
    turn = 0
    async for page in pages(lambda at: store.members("chat", "a", cursor=at, limit=100)):
        assert len(page.items) < 300
        found |= {member.user_id: member.data for member in page.items}
        turn += 1
        await store.apply("n1", [Join("chat", "a", 6000 + 100 * turn + n, f"x{turn}.{n}") for n in range(100)])
        await store.apply("n1", [Leave("chat", "a", 500 + 20 * turn + n) for n in range(20)])
    assert turn > 3
    assert {f"u{n}": f'"{n}"' for n in range(500)}.items() <= found.items()
    assert None in found


async def test_search_among_members(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are found by any part of their id, whatever the case; guests have none."""
    monkeypatch.setattr(reader, "BULK", 50)
    await store.apply("n1", [Join("chat", "a", n, f"User{n}") for n in range(1000)])
    await store.apply("n1", [Join("chat", "a", 2000), Join("chat", "a", 2001, "ÉMILE*", '"é"')])
    assert (await store.members("chat", "a", search="émile*")).items == (MemberRecord("ÉMILE*", 1, '"é"'),)
    assert len((await store.members("chat", "a", search="uSER99")).items) == 11
    assert (await store.members("chat", "a", search="nobody")).items == ()


async def test_search_that_finds_little(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks at so many members a page, and goes on with the next one."""
    monkeypatch.setattr(reader, "BULK", 10)
    monkeypatch.setattr(reader, "PAGE", 10)
    monkeypatch.setattr(reader, "SCANS", 2)
    await store.apply("n1", [Join("chat", "a", n, f"u{n}") for n in range(600)])
    await store.apply("n1", [Join("chat", f"{n:03}", n, f"u{n}") for n in range(100)])
    found = [page async for page in pages(lambda at: store.members("chat", "a", search="u599", cursor=at))]
    assert len(found) > 1
    assert {member.user_id for page in found for member in page.items} == {"u599"}
    page = await store.rooms("chat", search="000")
    assert (page.items, page.next is None) == ((), False)


async def test_rooms_largest_first(store: RedisPresence) -> None:
    """Rooms are listed by how many users they have, guests beside them; everyone's is none."""
    for size, room in ((3, "b"), (5, "a"), (1, "c")):
        await store.apply("n1", [Join("chat", room, n, f"u{n}") for n in range(size)])
    await store.apply("n1", [Join("chat", "c", 10 + n) for n in range(3)])
    await store.apply("n1", [Join("chat", "b", 20 + n, "u0") for n in range(9)])
    await store.apply("n1", [Join("chat", EVERYONE, n, "u0") for n in range(30)])
    page = await store.rooms("chat")
    assert [(room.room, room.count) for room in page.items] == [
        ("a", Count(5, 0, 5)),
        ("c", Count(1, 3, 4)),
        ("b", Count(3, 0, 12)),
    ]
    assert (await store.rooms("other")).items == ()


async def test_pages_of_rooms(store: RedisPresence) -> None:
    """Pages bring each room that stays once, however many are alike, though others go; those with most users first."""
    await store.apply("n1", [Join("chat", f"r{n}é:{n}", 1, "ada") for n in range(300)])
    await store.apply("n1", [Join("chat", f"r{n}é:{n}", 2, "bob") for n in range(0, 300, 3)])
    found: list[tuple[int, str]] = []
    async for page in pages(lambda at: store.rooms("chat", cursor=at, limit=32)):
        found += [(room.count.users, room.room) for room in page.items]
        # The room at which the page ended, and one before it.
        for _, room in found[-32::31]:
            await store.apply("n1", [Leave("chat", room, 1), Leave("chat", room, 2)])
    assert len(found) == len({room for _, room in found}) == 300
    assert [users for users, _ in found] == [2] * 100 + [1] * 200


async def test_search_among_rooms(store: RedisPresence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms are found by any part of their name, whatever the case, in pages of the size that was asked for."""
    monkeypatch.setattr(reader, "PAGE", 20)
    await store.apply("n1", [Join("chat", f"Room-{n:03}", 1, "ada") for n in range(100)])
    assert [room.room for room in (await store.rooms("chat", search="OM-042")).items] == ["Room-042"]
    first = await store.rooms("chat", search="-01", limit=4)
    second = await store.rooms("chat", search="-01", limit=100, cursor=first.next)
    assert len(first.items) == 4
    assert {room.room for room in (*first.items, *second.items)} == {f"Room-01{n}" for n in range(10)}
    assert second.next is None


async def test_cursors_that_are_none(store: RedisPresence) -> None:
    """What Redis would refuse as a cursor is not said to it."""
    await store.apply("n1", [Join("chat", room, 1, "ada") for room in ("a", EVERYONE)])
    for cursor in ("", "abc", "abc:x", "nan:x", "-1", "-1:x", "5\n", "[1]", 40 * "9", "n1:", f"n1:{40 * '9'}", "n1:-1"):
        for page in (
            store.members("chat", "a", cursor=cursor),
            store.rooms("chat", cursor=cursor),
            store.connections("chat", cursor=cursor),
            store.connections("chat", user_id="nobody", cursor=cursor),
        ):
            with pytest.raises(BadCursor):
                await page


async def test_snapshot_of_a_large_room(store: RedisPresence) -> None:
    """The members are given while they are at most so many; all guests are one."""
    await store.apply("n1", [Join("chat", "a", n, f"u{n}", f'"{n}"') for n in range(9)])
    await store.apply("n1", [Join("chat", "a", 10 + n) for n in range(5)])
    snapshot = await store.snapshot("chat", "a", 10)
    assert snapshot.count == Count(9, 5, 14)
    assert set(snapshot.members or ()) == {
        *(MemberRecord(f"u{n}", 1, f'"{n}"') for n in range(9)),
        MemberRecord(None, 5, None),
    }
    assert (await store.snapshot("chat", "a", 9)).members is None
    assert (await store.snapshot("chat", "b", 0)).members == ()


# Trouble.


async def test_scripts_that_redis_forgot(store: RedisPresence) -> None:
    """After a restart of Redis or SCRIPT FLUSH, scripts are loaded again."""
    await store.apply("n1", [Join("chat", "a", 1, "ada")])
    async with store._round_trip() as client:
        await client.script_flush()
    assert len(await store.apply("n1", [Leave("chat", "a", 1)])) == 1


async def test_connections_that_were_closed(store: RedisPresence) -> None:
    """A connection that Redis has closed costs nothing."""
    assert len(await store.apply("n1", [Join("chat", "a", 1, "ada")])) == 1
    async with store._round_trip() as client:
        await client.client_kill_filter(_type="normal", skipme=True)
    assert len(await store.apply("n1", [Leave("chat", "a", 1)])) == 1


async def test_many_calls_at_once(store: RedisPresence) -> None:
    """More calls than there are connections wait for each other."""
    await store.apply("n1", [Join("chat", "a", 1, "ada")])
    snapshots = await asyncio.gather(*(store.snapshot("chat", "a", 10) for _ in range(500)))
    assert {snapshot.count for snapshot in snapshots} == {Count(1, 0, 1)}


async def test_errors_of_redis(store: RedisPresence) -> None:
    """What Redis answers instead of a result is StoreUnavailable, in pipelines too."""
    await store._execute("SET", store._keys.room(("chat", "a")).counts, "no hash")
    with pytest.raises(StoreUnavailable, match=r"WRONGTYPE|HMGET"):
        await store.snapshot("chat", "a", 10)
    with pytest.raises(StoreUnavailable, match=r"WRONGTYPE|HMGET"):
        await store.counts([("chat", "a"), ("chat", "b")])
    with pytest.raises(StoreUnavailable):
        await store.apply("n1", [Join("chat", "a", 1, "ada")])


async def test_answers_that_are_errors(store: RedisPresence) -> None:
    """An error reply isn't reported as a missing reply, nor an invalid question as a failure of Redis."""
    with pytest.raises(StoreUnavailable, match=r"^Redis refused a command: ResponseError"):
        await store._execute("HSCAN", "key", "abc")
    with pytest.raises(DataError):
        await store._execute("SET", "key", None)


@pytest.mark.parametrize("kind", [RedisServer, ClusterServer])
async def test_redis_that_is_down(kind: type[RedisServer]) -> None:
    """While Redis is down, everything raises StoreUnavailable; when it is back, the node is fenced."""
    with kind() as server:
        store = RedisPresence(server.url, cluster=kind is ClusterServer, timeout=1)
        await store.begin(NodeFacts("n1", {}))
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.apply("n1", [Join("chat", "a", 1, "ada")])
        with pytest.raises(StoreUnavailable):
            await store.beat(NodeFacts("n1", {}))
        with pytest.raises(StoreUnavailable):
            await anext(store.reap("n1"))
        await store.close()
        store = RedisPresence(server.url, cluster=kind is ClusterServer, timeout=1)
        with pytest.raises(StoreUnavailable):
            await store.counts([("chat", "a"), ("chat", "b")])
        await store.close()


async def test_redis_that_is_stopped() -> None:
    """A Redis that does not answer in time raises StoreUnavailable; later answers are not taken for others'."""
    with RedisServer() as server:
        store = RedisPresence(server.url, timeout=0.2)
        await store.begin(NodeFacts("n1", {}))
        await store.apply("n1", [Join("chat", str(n), n, f"u{n}") for n in range(20)])
        server.signal(signal.SIGSTOP)
        outcomes = await asyncio.gather(
            *(store.snapshot("chat", str(n), 10) for n in range(20)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        server.signal(signal.SIGCONT)
        for n in range(20):
            snapshot = await store.snapshot("chat", str(n), 10)
            assert snapshot.members == (MemberRecord(f"u{n}", 1, None),)
        await store.close()


async def test_closing_twice(store: RedisPresence) -> None:
    """Closing may be done at any time, and the store used again."""
    await store.close()
    await store.close()
    assert [node.id for node in await store.nodes()] == ["n1"]
