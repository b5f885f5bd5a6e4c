"""Entries that publishers add to the streams in Redis directly, without the script."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.processes import RedisServer
from tests.support.proxy import TcpProxy
from tests.support.redis import say
from tests.support.waiting import aeventually
from wsrt.exceptions import StoreUnavailable
from wsrt.history.base import Append
from wsrt.history.contract.support import EVERYTHING
from wsrt.history.redis import RedisHistory, direct
from wsrt.history.redis import store as module
from wsrt.history.redis.direct import AT_ONCE, FREQUENT, LEAST, RUN, SECONDS
from wsrt.types import Position

ROOM = "chat", "a"


@pytest.fixture(autouse=True)
def _least(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Begin early."""
    if request.function is not test_young_room:
        monkeypatch.setattr(direct, "LEAST", 1)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of publications of each call of the script."""
    made: list[int] = []
    append = RedisHistory._append_by_script

    async def noting(store: RedisHistory, publications: Any) -> Any:
        if publications:
            made.append(len(publications))
        return await append(store, publications)

    monkeypatch.setattr(RedisHistory, "_append_by_script", noting)
    return made


async def publish(store: RedisHistory, count: int, **more: Any) -> list[Position]:
    """Append entries to a room, one after the other."""
    positions = []
    for number in range(count):
        (appended,) = await store.append([Append(ROOM, f"id{number}", "said", str(number), **more)])
        positions.append(appended.position)
    return positions


async def stream_of(store: RedisHistory, command: str, *arguments: Any) -> Any:
    return await store._execute(command, store._keys.room(ROOM).entries, *arguments)


async def test_frequent_publisher(make: Callable[..., RedisHistory], scripts: list[int]) -> None:
    """A publisher that appends to a room often calls the script for one entry in RUN, and gets the same positions."""
    store = make()
    positions = await publish(store, FREQUENT + 5 * (RUN + 1))
    assert positions == [Position(positions[0].epoch, offset) for offset in range(1, len(positions) + 1)]
    assert len(scripts) == FREQUENT + 5
    found = await store.read(ROOM, Position(positions[0].epoch, len(positions) - 90), **EVERYTHING)
    assert [(entry.offset, entry.data) for entry in found.entries] == [
        (offset, str(offset - 1)) for offset in range(len(positions) - 89, len(positions) + 1)
    ]


async def test_young_room(make: Callable[..., RedisHistory], scripts: list[int]) -> None:
    """Entries are added directly only when a room has had many: until then, numbers from 0 on could pass for theirs."""
    store = make()
    await publish(store, LEAST + RUN)
    assert scripts == [1] * (LEAST + 1)


async def test_rare_publisher(make: Callable[..., RedisHistory], scripts: list[int]) -> None:
    """A publisher with breaks always calls the script, so that Redis drops the entries of the room by itself."""
    store = make(seconds=100)
    now = 0.0
    store._direct.clock = lambda: now
    for _ in range(3 * FREQUENT):
        now += SECONDS
        await publish(store, 1)
    assert scripts == [1] * 3 * FREQUENT
    assert await stream_of(store, "PTTL") <= 100_000


@pytest.mark.parametrize(("kept", "seconds"), [(86_400, SECONDS), (100, 25)])
async def test_break(make: Callable[..., RedisHistory], scripts: list[int], kept: int, seconds: float) -> None:
    """After a while, a publisher calls the script again, from which Redis learns that the room is used."""
    store = make(seconds=10, value_seconds=kept)
    now = 0.0
    store._direct.clock = lambda: now
    await publish(store, FREQUENT + 3)
    scripts.clear()
    for passed in (seconds - 1, 2):
        now += passed
        await publish(store, 1)
    assert scripts == [1]


async def test_publishers_at_the_same_time(make: Callable[..., RedisHistory], scripts: list[int]) -> None:
    """Publishers with and without keys, values and deletions don't take each other's offsets."""
    stores = [make(size=10_000) for _ in range(4)]
    random.seed(3)

    async def append(store: RedisHistory, number: int) -> None:
        for turn in range(150):
            more: dict[str, str] = random.choice([{}] * 30 + [{"key": "k"}, {"idempotency_key": f"{number}.{turn}"}])
            await store.append([Append(ROOM, f"{number}.{turn}", "said", "{}", **more)])
            if turn % 50 == 49:
                await store.forget(ROOM, offset=turn)

    await asyncio.gather(*(append(store, number) for number, store in enumerate(stores)))
    (last,) = await stores[0].positions([ROOM])
    found = await stores[0].read(ROOM, Position(last.position.epoch, 0), **EVERYTHING)
    assert last.position.offset == 600
    assert found.gap is None
    for number in range(4):
        turns = [int(entry.id.partition(".")[2]) for entry in found.entries if entry.id.startswith(f"{number}.")]
        assert turns == sorted(turns)
        # Missing are values that were replaced, and three that were deleted.
        assert len(turns) > 120
    assert len(scripts) < 300


async def test_room_stays_bounded(make: Callable[..., RedisHistory]) -> None:
    """Several publishers add to a room directly, and it doesn't grow further than the contract allows."""
    stores = [make(size=20) for _ in range(3)]
    most = 0
    for _ in range(150):
        for store in stores:
            await publish(store, 1)
        most = max(most, await stream_of(stores[0], "XLEN"))
    assert RUN <= most <= 25 + RUN + len(stores)


async def test_many_tasks(make: Callable[..., RedisHistory]) -> None:
    """Nor does it grow further if one publisher appends from many tasks at the same time."""
    store = make(size=20)
    await publish(store, FREQUENT)
    lengths = []
    for _ in range(4):
        await asyncio.gather(*(publish(store, 1) for _ in range(100)))
        lengths.append(await stream_of(store, "XLEN"))
    assert max(lengths) <= 25 + RUN + AT_ONCE
    (last,) = await store.positions([ROOM])
    assert last.position.offset == FREQUENT + 400


async def test_room_with_values_stays_bounded(make: Callable[..., RedisHistory]) -> None:
    """Values, which the script keeps, don't keep it from removing entries that were added directly."""
    store = make(size=20)
    await publish(store, FREQUENT)
    for _ in range(5):
        await publish(store, RUN - 1)
        await publish(store, 1, key="k")
    assert await stream_of(store, "XLEN") == 20


async def test_deleted_entries(make: Callable[..., RedisHistory]) -> None:
    """An entry that is added to a stream whose entries were all deleted expires by its own age."""
    store = make(seconds=100)
    now = 0.0
    store._direct.clock = lambda: now
    position = (await publish(store, FREQUENT))[-1]
    for offset in range(1, FREQUENT + 1):
        assert await store.forget(ROOM, offset=offset) == [offset]
    now -= 200
    (added,) = await publish(store, 1)
    assert added == Position(position.epoch, FREQUENT + 1)
    found = await store.read(ROOM, position, **EVERYTHING)
    assert (found.gap, found.start, found.entries) == ("expired", added.offset, [])


async def test_epochs_ascend(make: Callable[..., RedisHistory]) -> None:
    """Epochs of a room ascend, also those of one millisecond, so that a stream refuses entries of an earlier one."""
    store = make()
    epochs = [(await store.purge(ROOM)).epoch for _ in range(50)]
    assert [*map(int, epochs)] == sorted({*map(int, epochs)})


# The ends of keys.


async def test_stream_is_kept_as_long_as_the_state(make: Callable[..., RedisHistory]) -> None:
    """Whatever prolongs what Redis knows of a room prolongs its stream, which knows the last offset."""
    store = make(seconds=1, value_seconds=600)
    await publish(store, FREQUENT + 3)
    for use in (store.positions([ROOM]), store.facts([ROOM]), publish(store, 1, key="k")):
        await stream_of(store, "PEXPIRE", 30_000)
        await use
        left = [await store._execute("PTTL", key) for key in store._keys.room(ROOM).all[:2]]
        # A quarter longer than VALUE_SECONDS, of which Redis may not see that the room is used.
        assert min(left) > 700_000


@pytest.fixture
def without_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries can't arrive late."""
    monkeypatch.setattr(direct, "TRIPS", 0)
    monkeypatch.setattr(module, "LOOK", 0.05)


@pytest.mark.usefixtures("without_margin")
@pytest.mark.parametrize("count", [FREQUENT, FREQUENT + 3])
async def test_room_that_is_not_used_any_more(make: Callable[..., RedisHistory], count: int) -> None:
    """A publisher lets a script open a room once more, so that its entries end like those of others."""
    store = make(seconds=1, value_seconds=600)
    positions = await publish(store, count)
    assert await stream_of(store, "PTTL") > 500_000

    async def is_closed() -> bool:
        return bool(await stream_of(store, "PTTL") <= 1000)

    await aeventually(is_closed, "the room to be opened")
    assert not store._direct.has_open_rooms
    (last,) = await store.positions([ROOM])
    assert last.position == positions[-1]

    async def is_gone() -> bool:
        return bool(await stream_of(store, "EXISTS") == 0)

    await aeventually(is_gone, "the stream to end")
    found = await store.read(ROOM, Position(positions[0].epoch, count - 1), **EVERYTHING)
    assert (found.gap, found.start, found.position) == ("expired", count, positions[-1])
    assert (await publish(store, 1))[0] == Position(positions[0].epoch, count + 1)


@pytest.mark.usefixtures("without_margin")
async def test_rooms_are_opened_again(make: Callable[..., RedisHistory], monkeypatch: pytest.MonkeyPatch) -> None:
    """If a room can't be opened, it is tried again."""
    store = make(seconds=1, value_seconds=600)
    failures = iter([True, True])
    positions = RedisHistory._positions

    async def failing(store: RedisHistory, rooms: Any) -> Any:
        if next(failures, False):
            raise StoreUnavailable("as if")
        return await positions(store, rooms)

    monkeypatch.setattr(RedisHistory, "_positions", failing)
    await publish(store, FREQUENT + 3)

    async def is_closed() -> bool:
        return not store._direct.has_open_rooms

    await aeventually(is_closed, "the room to be opened")
    assert next(failures, None) is None
    assert await stream_of(store, "PTTL") <= 1000


async def test_room_that_others_use(make: Callable[..., RedisHistory]) -> None:
    """A publisher remembers a room as long as Redis knows that entries may be added to it directly."""
    store = make()
    await publish(store, FREQUENT + 1)
    store._direct.clock = lambda: time.time() + 10_000
    assert store._direct.due_rooms() == [ROOM]
    await store._open_due_rooms()
    assert store._direct.due_rooms() == [ROOM]


async def test_answer_that_is_lost(make: Callable[..., RedisHistory], monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher remembers a room from the moment when it asks to add entries directly."""
    store = make()
    await publish(store, FREQUENT - 1)
    run_all = RedisHistory._run_all

    async def failing(*arguments: Any, **options: Any) -> Any:
        await run_all(*arguments, **options)
        raise StoreUnavailable("as if")

    monkeypatch.setattr(RedisHistory, "_run_all", failing)
    assert not store._direct.has_open_rooms
    with pytest.raises(StoreUnavailable):
        await publish(store, 1)
    assert store._direct.has_open_rooms


async def test_publishers_with_other_times(make: Callable[..., RedisHistory]) -> None:
    """A publisher that keeps entries for a shorter time doesn't shorten the time of another one."""
    read = "return tostring(({ cmsgpack.unpack(redis.call('GET', KEYS[1])) })[11])"
    store, other = make(seconds=100), make(seconds=2)

    async def until() -> int:
        return int(float(await store._execute("EVAL", read, 1, store._keys.room(ROOM).all[0])))

    await publish(store, FREQUENT)
    before = await until()
    await publish(other, FREQUENT)
    assert await until() == before
    await publish(store, RUN + 1)
    assert await until() >= before


async def test_repeats(make: Callable[..., RedisHistory]) -> None:
    """A repeat has an offset of before, but doesn't tell a publisher that it is the last one."""
    store = make()
    (first,) = await publish(store, 1, idempotency_key="once")
    (*_, last) = await publish(store, FREQUENT + 3)
    assert await publish(store, 1, idempotency_key="once") == [first]
    known = store._direct._open[ROOM]
    assert (known.last, known.opened) == (last.offset, last.offset)


async def test_closing(make: Callable[..., RedisHistory]) -> None:
    """A store that is closed looks for nothing, and one that is used again does."""
    store = make()
    await publish(store, FREQUENT + 1)
    await store.close()
    assert store._look is None
    await publish(store, RUN)
    assert store._look is not None


@pytest.mark.parametrize("loss", ["purge", "flush", "evict", "renew"])
async def test_sequence_ends(make: Callable[..., RedisHistory], loss: str) -> None:
    """After a purge, or if Redis has lost the room or its stream, nothing is added to what no longer exists."""
    store, other = make(), make()
    before = (await publish(store, FREQUENT + 3))[-1]
    match loss:
        case "purge":
            await other.purge(ROOM)
        case "renew":
            await other.renew(ROOM, before.epoch)
        case "flush":
            async with store._round_trip() as client:
                await client.flushall()
        case "evict":
            await stream_of(other, "DEL")
    if loss != "flush":
        # Another publisher creates the stream again.
        await publish(other, 2)
    positions = await publish(store, 3)
    first = 1 if loss == "flush" else 3
    assert [position.offset for position in positions] == [first, first + 1, first + 2]
    assert positions[0].epoch != before.epoch
    assert (await store.read(ROOM, before, **EVERYTHING)).gap == "epoch"
    assert len((await store.read(ROOM, Position(positions[0].epoch, 0), **EVERYTHING)).entries) == first + 2


def keys_of(store: RedisHistory, names: tuple[str, ...]) -> list[str]:
    return [key for key in store._keys.room(ROOM).all if key.split(":")[1] in names]


async def save(store: RedisHistory, *names: str) -> None:
    """Copy what Redis knows of the room."""
    for key in keys_of(store, names or ("state", "entries")):
        await store._execute("COPY", key, f"{key}:saved", "REPLACE")


async def restore(store: RedisHistory, *names: str) -> None:
    """Go back to the copy, as in a failover to a replica that has missed the last writes."""
    for key in keys_of(store, names or ("state", "entries")):
        await store._execute("COPY", f"{key}:saved", key, "REPLACE")


async def test_failover_to_an_earlier_epoch(make: Callable[..., RedisHistory]) -> None:
    """If a failover brings back an earlier epoch, an entry of the later one begins another, and readers are told."""
    store = make()
    earlier = (await publish(store, FREQUENT + 3))[-1]
    await save(store)
    await store.purge(ROOM)
    later = (await publish(store, FREQUENT + 3))[-1]
    await restore(store)
    (position,) = await publish(store, 1)
    assert position.offset == 1
    assert len({earlier.epoch, later.epoch, position.epoch}) == 3
    for before in (earlier, later):
        found = await store.read(ROOM, before, **EVERYTHING)
        assert (found.gap, found.position, len(found.entries)) == ("epoch", position, 1)


async def test_entries_at_the_same_time_after_a_failover(make: Callable[..., RedisHistory]) -> None:
    """Of entries that several tasks add to an earlier epoch, each is kept in the epoch that is begun."""
    store = make()
    await asyncio.gather(*(store.positions([("chat", str(number))]) for number in range(12)))
    await publish(store, 3)
    await save(store)
    await store.purge(ROOM)
    later = await publish(store, FREQUENT + 3)
    await restore(store)
    positions = [position for (position,) in await asyncio.gather(*(publish(store, 1) for _ in range(12)))]
    assert {position.epoch for position in positions}.isdisjoint({later[0].epoch})
    (last,) = await store.positions([ROOM])
    found = await store.read(ROOM, Position(last.position.epoch, 0), **EVERYTHING)
    kept = [Position(last.position.epoch, entry.offset) for entry in found.entries]
    assert (
        sorted(positions, key=lambda position: position.offset)
        == kept
        == [Position(last.position.epoch, offset) for offset in range(1, 13)]
    )


async def test_failover_to_before_entries_were_direct(make: Callable[..., RedisHistory]) -> None:
    """If a failover loses that entries may be added directly, they don't take the offsets of values."""
    store, other = make(), make()
    await publish(store, 3)
    (value,) = await publish(store, 1, key="k")
    await save(store, "state", "entries", "values", "order")
    await publish(store, FREQUENT + 3)
    await restore(store, "state", "entries", "values", "order")
    positions = [*await publish(store, 2), *await publish(other, 1)]
    assert positions == [Position(value.epoch, offset) for offset in (5, 6, 7)]
    found = await other.read(ROOM, value, **EVERYTHING)
    assert (found.gap, [entry.offset for entry in found.entries]) == (None, [5, 6, 7])


@pytest.mark.parametrize("saved", [FREQUENT - 1, FREQUENT + 3])
async def test_failover_within_an_epoch(make: Callable[..., RedisHistory], saved: int) -> None:
    """After a failover that lost writes, offsets go on from those that are left, whoever publishes, and how."""
    store, other = make(), make()
    epoch = (await publish(store, saved))[0].epoch
    await save(store)
    await publish(store, FREQUENT + 3)
    await restore(store)
    positions = [*await publish(store, 2), *await publish(other, 2), *await publish(store, 2)]
    assert positions == [Position(epoch, saved + number) for number in range(1, 7)]
    found = await store.read(ROOM, Position(epoch, 0), **EVERYTHING)
    assert [entry.offset for entry in found.entries] == list(range(1, saved + 7))


async def test_times(make: Callable[..., RedisHistory]) -> None:
    """An entry that is added directly has the time of Redis when it was added, as far as the publisher knows it."""
    store = make()
    now = 0.0
    store._direct.clock = lambda: now
    await publish(store, FREQUENT)
    now = 40.0
    (position,) = await publish(store, 1)
    found = await store.read(ROOM, Position(position.epoch, position.offset - 2), **EVERYTHING)
    last, added = found.entries
    assert added.time - last.time == 40


async def test_redis_without_numbering(
    make: Callable[..., RedisHistory], scripts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis older than 7 is asked once, and gets scripts after that."""
    store = make()
    asked = 0
    execute_each = RedisHistory._execute_each

    async def refusing(store: RedisHistory, commands: Any, accept: Callable[[Any], bool]) -> Any:
        nonlocal asked
        asked += 1
        commands = [[part.replace("-*", "-x") for part in command] for command in commands]
        return await execute_each(store, commands, accept)

    monkeypatch.setattr(RedisHistory, "_execute_each", refusing)
    positions = await publish(store, 3 * FREQUENT)
    assert [position.offset for position in positions] == list(range(1, 3 * FREQUENT + 1))
    assert asked == 1
    assert len(scripts) == 3 * FREQUENT


@pytest.mark.parametrize("count", [0, 1])
async def test_redis_that_is_gone(count: int) -> None:
    """Nothing to append needs no Redis. An entry that may have been added isn't added again."""
    with RedisServer() as server:
        store = RedisHistory(server.url, timeout=2)
        await publish(store, FREQUENT + 1)
    if count:
        with pytest.raises(StoreUnavailable, match="may have been kept"):
            await publish(store, 1)
        assert store._direct.adding([Append(ROOM, "id", "said", "{}")]) is None
    else:
        assert await store.append([]) == []
    await store.close()


async def test_cancellation(single: RedisServer, scripts: list[int]) -> None:
    """After a call that was cancelled, the script looks what has become of its entry."""
    beside = RedisHistory(single.url, prefix="cancelled")
    async with TcpProxy(single.port, latency=0.2) as proxy:
        store = RedisHistory(proxy.url, prefix="cancelled", timeout=60)
        (*_, last) = await publish(store, FREQUENT)
        adding = asyncio.create_task(publish(store, 1))

        async def is_added() -> bool:
            (found,) = await beside.positions([ROOM])
            return found.position.offset > last.offset

        await aeventually(is_added, "the entry to be added")
        adding.cancel()
        await asyncio.wait([adding])
        assert adding.cancelled()
        scripts.clear()
        assert await publish(store, 1) == [Position(last.epoch, last.offset + 2)]
        assert scripts == [1]
        await store.close()
    await beside.close()


async def test_other_refusals(single: RedisServer) -> None:
    """What Redis refuses for another reason raises StoreUnavailable."""
    store = RedisHistory(single.url, prefix="refused")
    await publish(store, FREQUENT)
    say(single.port, "ACL SETUSER default -xadd")
    try:
        with pytest.raises(StoreUnavailable, match="NoPermission"):
            await publish(store, 1)
    finally:
        say(single.port, "ACL SETUSER default +xadd")
    await store.close()
