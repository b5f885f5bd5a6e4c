"""The Redis store: behaviour that other stores don't share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.processes import RedisServer
from tests.support.proxy import TcpProxy
from tests.support.redis import ClusterServer, say
from tests.support.waiting import aeventually
from wsrt.exceptions import StoreUnavailable
from wsrt.history.base import Append
from wsrt.history.contract.support import EVERYTHING
from wsrt.history.redis import RedisHistory
from wsrt.history.redis.appending import BYTES, PUBLICATIONS
from wsrt.history.redis.keys import Keys
from wsrt.presence.base import Join, NodeFacts
from wsrt.presence.redis import RedisPresence
from wsrt.stores.redis.partitions import Partitions
from wsrt.types import Position

NAMES = st.text(st.characters() | st.sampled_from("0123456789.:{}\ud800"))


def publications(room: str, count: int, **more: Any) -> list[Append]:
    return [Append(("chat", room), f"{room}{number}", "said", str(number), **more) for number in range(count)]


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=2, max_size=2))
def test_keys(names: list[tuple[str, str, str]]) -> None:
    """No two keys of two rooms have one name, whatever the realms, rooms and idempotency keys are called."""
    keys = Keys(Partitions("wsrt", 1, cluster=False))
    rooms = {(realm, name): keys.room((realm, name)) for realm, name, _ in names}
    assert len({key for room in rooms.values() for key in room.all}) == 4 * len(rooms)
    identities = {(realm, name, once): keys.room((realm, name)).identity(once) for realm, name, once in names}
    assert len({*identities.values()} - {key for room in rooms.values() for key in room.all}) == len(identities)


async def test_prefixes_and_partitions(make: Callable[..., RedisHistory]) -> None:
    """Stores with another prefix, or other partitions, share nothing; nor do history and presence with one prefix."""
    stores = [make(prefix="a"), make(prefix="b"), make(prefix="b", partitions=3)]
    for store in stores:
        (appended,) = await store.append(publications("a", 1))
        assert appended.position.offset == 1


async def test_beside_presence(single: RedisServer) -> None:
    """History and presence of one room don't meet, even with the same prefix."""
    history, presence = RedisHistory(single.url, prefix="both"), RedisPresence(single.url, prefix="both")
    await presence.begin(NodeFacts("n1", {}))
    await presence.apply("n1", [Join("chat", "a", 1, "ada")])
    await history.append(publications("a", 2, key="k"))
    assert (await presence.counts([("chat", "a")]))[0].users == 1
    assert (await history.facts([("chat", "a")]))[0].values == 1
    await history.close()
    await presence.close()


# Batches.


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[RedisHistory]:
    """The store of each round trip, as it begins."""
    begun: list[RedisHistory] = []
    round_trip = RedisHistory._round_trip

    def noting(store: RedisHistory, **options: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        begun.append(store)
        return round_trip(store, **options)

    monkeypatch.setattr(RedisHistory, "_round_trip", noting)
    return begun


async def test_one_round_trip(make: Callable[..., RedisHistory], trips: list[RedisHistory]) -> None:
    """Publications to hundreds of rooms, and hundreds to one, go to Redis together."""
    store = make(size=1000)
    trips.clear()
    everything = [publication for number in range(300) for publication in publications(f"r{number}", 2)]
    appended = await store.append([*everything, *publications("r7", 500)])
    assert len(trips) == 1
    assert [result.position.offset for result in appended[:600]] == [1, 2] * 300
    assert [result.position.offset for result in appended[600:]] == list(range(3, 503))


@pytest.mark.parametrize("partitions", [1, None])
async def test_scripts_that_the_server_lost(make: Callable[..., RedisHistory], partitions: int | None) -> None:
    """A server that has lost the scripts gets them again, and the order of a room stays."""
    store = make(size=1000, partitions=partitions)
    # The first call has other rooms besides the one that goes on in the next calls.
    mixed = [*publications("b", 1), *publications("a", 300), *publications("c", 100, key="k")]
    for turn in range(3):
        async with store._round_trip() as client:
            await client.script_flush()
        appended = await store.append(mixed)
        assert [result.position.offset for result in appended[1:301]] == list(range(300 * turn + 1, 300 * turn + 301))
        assert (await store.positions([("chat", "b")]))[0].position.offset == turn + 1
    found = await store.read(("chat", "a"), Position(appended[1].position.epoch, 0), **EVERYTHING)
    assert [entry.data for entry in found.entries] == [str(number) for number in range(300)] * 3


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[Any]]]:
    """The keys and arguments of all calls of scripts, as they are made."""
    made: list[tuple[list[str], list[Any]]] = []
    run_all = RedisHistory._run_all

    async def noting(store: RedisHistory, script: Any, calls: Any, **options: Any) -> list[Any]:
        made.extend(calls)
        return await run_all(store, script, calls, **options)

    monkeypatch.setattr(RedisHistory, "_run_all", noting)
    return made


def shares(calls: list[tuple[list[str], list[Any]]]) -> list[int]:
    """Return the number of publications of each call to one room."""
    return [(len(arguments) - 8) // 5 for _, arguments in calls]


async def test_calls_are_short(make: Callable[..., RedisHistory], calls: list[tuple[list[str], list[Any]]]) -> None:
    """No call of the script has more than its share of publications or bytes, because Redis does nothing else."""
    store = make()
    await store.append(publications("a", 1000))
    assert shares(calls) == [PUBLICATIONS] * 15 + [1000 % PUBLICATIONS]
    calls.clear()
    await store.append([Append(("chat", "a"), "i", "said", "x" * BYTES)] * 5)
    assert shares(calls) == [1] * 5


async def test_rooms_share_calls(make: Callable[..., RedisHistory], calls: list[tuple[list[str], list[Any]]]) -> None:
    """Rooms of one hash slot share calls, within the same limits, and each one that is new gets an epoch of its own."""
    store = make()
    rooms = [("chat", f"r{number}") for number in range(10 * PUBLICATIONS)]
    appended = await store.append([Append(room, "i", "said", "x", idempotency_key="x") for room in rooms])
    assert len({result.position.epoch for result in appended}) == len(rooms)
    full = len(rooms) // PUBLICATIONS
    slots = {keys[0].partition("}")[0] for keys, _ in calls}
    assert full <= len(calls) < full + len(slots)
    # Five keys of each room, and that of its publication.
    assert max(len(keys) for keys, _ in calls) <= 6 * PUBLICATIONS
    for keys, _ in calls:
        assert len({key.partition("}")[0] for key in keys}) == 1
    calls.clear()
    await store.append([Append(room, "i", "said", "x" * (BYTES // 2)) for room in rooms[:10]])
    assert len(calls) >= 5


async def test_parts_in_one_round_trip(single: RedisServer, trips: list[RedisHistory]) -> None:
    """The next parts are on their way to Redis before earlier ones are answered."""
    store = RedisHistory(single.url, prefix="parts")
    sent: list[str] = []
    kept: list[int] = []

    class Noting(list[Append]):
        """A part that notes when it is sent."""

        def __iter__(self) -> Iterator[Append]:
            sent.append(self[0].room[1])
            return super().__iter__()

    parts = [Noting(publications(f"r{number}", 300)) for number in range(20)]
    await store.append_parts(parts, lambda results: kept.append(len(set(sent))))
    assert len(trips) == 1
    # How many parts were sent when each one was kept.
    assert any(ahead > number for number, ahead in enumerate(kept, 1))
    await store.close()


@pytest.mark.parametrize("is_known", [True, False])
async def test_part_that_is_refused(single: RedisServer, is_known: bool) -> None:
    """The results of parts ahead of one that Redis refuses are reported, and those behind it aren't."""
    store = RedisHistory(single.url, prefix=f"refused{is_known}")
    parts = [publications("a", 70), [*publications("a", 1), *publications("b", 1)], publications("a", 1)]
    if is_known:
        await store.append(parts[0])
    say(single.port, f"RPUSH {store._keys.room(('chat', 'b')).all[0]} text")
    results: list[int] = []
    with pytest.raises(StoreUnavailable, match=r"WRONGTYPE.*may have been kept"):
        await store.append_parts(parts, lambda part: results.append(len(part)))
    assert results == [70]
    # The next call doesn't get answers to this one.
    assert len(await store.append(publications("c", 3))) == 3
    await store.close()


async def test_parts_on_a_connection_that_breaks(single: RedisServer) -> None:
    """Nothing is sent again over another connection, and what is reported was kept."""
    beside = RedisHistory(single.url, prefix="broken")
    reported = 0
    async with TcpProxy(single.port) as proxy:
        store = RedisHistory(proxy.url, prefix="broken", timeout=60)

        def take(results: Any) -> None:
            nonlocal reported
            reported += len(results)
            if reported == 300:
                proxy.reset()

        with pytest.raises(StoreUnavailable, match="may have been kept"):
            await store.append_parts([publications("a", 100)] * 50, take)
        (last,) = await beside.positions([("chat", "a")])
        assert 300 <= reported <= last.position.offset < 5000
        await store.append_parts([publications("b", 100)] * 3, take)
        assert await beside.positions([("chat", "a")]) == [last]
        await store.close()
    await beside.close()


# Failures.


@pytest.mark.parametrize("count", [1, 200])
async def test_append_is_not_sent_twice(single: RedisServer, count: int) -> None:
    """If the connection breaks after Redis has kept a publication, the caller is told, and nothing is sent again."""
    beside = RedisHistory(single.url, prefix=f"once{count}", timeout=60)
    once = publications("a", count - 1) + publications("a", 1, idempotency_key="x")
    async with TcpProxy(single.port, latency=1) as proxy:
        store = RedisHistory(proxy.url, prefix=f"once{count}", timeout=60)
        await store.positions([("chat", "b")])
        appending = asyncio.create_task(store.append(once))
        await aeventually(lambda: _has_offset(beside, count))
        proxy.reset()
        with pytest.raises(StoreUnavailable, match="may have been kept"):
            await appending
        (again,) = await store.append(once[-1:])
        assert (again.is_repeat, again.position.offset) == (True, count)
        assert await _has_offset(beside, count)
        await store.close()
    await beside.close()


async def _has_offset(store: RedisHistory, offset: int) -> bool:
    return (await store.positions([("chat", "a")]))[0].position.offset == offset


async def test_connection_that_was_idle(single: RedisServer) -> None:
    """A connection that the server has closed while it was idle is replaced without an error."""
    store = RedisHistory(single.url, prefix="idle")
    for offset in range(1, 4):
        (appended,) = await store.append(publications("a", 1))
        assert appended.position.offset == offset
        assert "-" not in say(single.port, "CLIENT KILL TYPE normal")
        # The client has to see the end before it can know.
        await asyncio.sleep(0.1)
    await store.close()


async def test_server_that_is_silent(single: RedisServer) -> None:
    """A server that doesn't answer in time is StoreUnavailable, for every call."""
    async with TcpProxy(single.port) as proxy:
        proxy.blackhole()
        store = RedisHistory(proxy.url, timeout=0.2)
        room, position = ("chat", "a"), Position("e", 1)
        for call in (
            store.append(publications("a", 2)),
            store.positions([room]),
            store.read(room, position, **EVERYTHING),
            store.values(room, **EVERYTHING),
            store.forget(room, offset=1),
            store.purge(room),
            store.renew(room, "e"),
            store.facts([room, room]),
        ):
            with pytest.raises(StoreUnavailable):
                await call
        await store.close()


@pytest.fixture
def full() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_server_that_is_full(full: RedisServer) -> None:
    """A Redis without memory refuses a publication, and the others of the call may be kept."""
    store = RedisHistory(full.url)
    await store.append(publications("a", 1))
    say(full.port, "CONFIG SET maxmemory 1")
    with pytest.raises(StoreUnavailable, match="OutOfMemory"):
        await store.append([*publications("a", 1), *publications("b", 1)])
    say(full.port, "CONFIG SET maxmemory 0")
    (appended,) = await store.append(publications("a", 1))
    assert appended.position.offset == 2
    await store.close()


async def test_flush(make: Callable[..., RedisHistory]) -> None:
    """After a flush the room has another epoch, also if the first call is a publication."""
    store = make()
    (before,) = await store.append(publications("a", 1))
    async with store._round_trip() as client:
        await client.flushall()
    (after,) = await store.append(publications("a", 1))
    assert after.position.offset == 1
    assert after.position.epoch != before.position.epoch
    assert (await store.read(("chat", "a"), before.position, **EVERYTHING)).gap == "epoch"


@pytest.mark.parametrize("evicted", [["values"], ["order"], ["values", "order"]], ids=str)
async def test_values_that_redis_has_evicted(make: Callable[..., RedisHistory], evicted: list[str]) -> None:
    """Where a Redis that evicts keys has lost values, readers are told by a new epoch, and the room stays usable."""
    store = make()
    old = (await store.append([*publications("a", 1, key="k"), *publications("a", 1)]))[-1].position
    keys = store._keys.room(("chat", "a")).all
    async with store._round_trip() as client:
        await client.delete(*(key for key in keys if any(f":{name}:" in key for name in evicted)))
    found = await store.values(("chat", "a"), limit=10, max_bytes=2**20)
    assert found.entries == []
    reading = await store.read(("chat", "a"), Position(old.epoch, 0), **EVERYTHING)
    assert (reading.gap, reading.position) == ("epoch", found.position)
    (new,) = await store.append(publications("a", 1, key="k"))
    assert [value.offset for value in (await store.values(("chat", "a"), limit=10, max_bytes=2**20)).entries] == [1]
    assert new.position.epoch == found.position.epoch != old.epoch


async def test_state_of_another_version(make: Callable[..., RedisHistory]) -> None:
    """A room that another version has written in a format of its own begins a new epoch, and stays usable."""
    store = make()
    (old,) = await store.append(publications("a", 1))
    async with store._round_trip() as client:
        await client.set(store._keys.room(("chat", "a")).all[0], "v9 of a later release")
    assert (await store.read(("chat", "a"), old.position, **EVERYTHING)).gap == "epoch"
    (new,) = await store.append(publications("a", 1))
    assert new.position.offset == 1
    assert new.position.epoch != old.position.epoch


async def test_values_that_were_forgotten(make: Callable[..., RedisHistory]) -> None:
    """A room whose last value was forgotten has lost nothing."""
    store = make()
    (appended,) = await store.append(publications("a", 1, key="k"))
    assert await store.forget(("chat", "a"), key="k") == [1]
    assert (await store.read(("chat", "a"), Position(appended.position.epoch, 0), **EVERYTHING)).gap is None


@pytest.mark.parametrize(("count", "size"), [(30, 20_000), (700, 50)])
async def test_facts_of_much(make: Callable[..., RedisHistory], count: int, size: int) -> None:
    """The size of many bytes or entries is estimated from the first ones."""
    store = make(size=1000)
    entries = [Append(("chat", "a"), str(number), "said", "x" * (size - 4)) for number in range(count)]
    await store.append([*entries, Append(("chat", "a"), "last", "said", "")])
    (facts,) = await store.facts([("chat", "a")])
    assert (facts.entries, facts.size) == (count + 1, (count + 1) * size)


def test_cluster_server_is_used(cluster: ClusterServer) -> None:
    """The cluster refuses what touches two slots, so that the tests on it show that no call does."""
    assert "CROSSSLOT" in say(cluster.port, "MGET a b")
