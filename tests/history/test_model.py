"""
The stores beside a model: whatever is published, forgotten, lost or too old, a reading is the truth or says why not.

The model is told what happened and computes what must come of it, one operation after the other. Time is passed in: the
memory store gets a clock, and the scripts in Redis read one from a key.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, ClassVar, TypeVar

import hypothesis.strategies as st
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from tests.support.processes import RedisServer
from tests.support.report import note
from wsrt.history import memory
from wsrt.history.base import Append, Appended, Entry, Gap, HistoryFacts, HistoryStore, Last, Reading
from wsrt.history.memory import MemoryHistory
from wsrt.history.redis import RedisHistory, direct
from wsrt.history.redis import store as module
from wsrt.realms import RoomId
from wsrt.stores.redis.link import Script
from wsrt.types import Position

T = TypeVar("T")

UNIT = 20_000.0
"""The step of the clock, in seconds: far longer than a run takes, whose time Redis counts for the ends of keys."""

KEPT, VALUES_KEPT, REMEMBERED = 5 * UNIT, 9 * UNIT, 4 * UNIT

ALLOWED = 2 * UNIT + direct.TRIPS * 5
"""For how long entries may be added directly after a call of the script."""

MOST_VALUES = 2

SLACK = {1: 0, 4: 1, 12: 3}
"""How many entries Redis keeps beyond these sizes before it trims, unless some were added directly since."""

ROOMS: list[RoomId] = [("chat", "a"), ("chat", "b"), ("cha", "ta{}:\ud800")]
KEYS = ["k", "", "\ud800:1"]

RARELY = st.sampled_from([False, False, False, True])

seen: Counter[str] = Counter()
"""What happened in all runs."""


@dataclasses.dataclass
class Room:
    """
    What is true of a room.

    Attributes:
        epoch: The epoch. Empty while it isn't known.
        fate: What became of entries, by offset: "trimmed" or "expired".
        direct: Until when publishers add entries directly, without a script. 0 if a script has opened the room since.
    """

    epoch: str = ""
    offset: int = 0
    id: str | None = None
    entries: list[Entry] = dataclasses.field(default_factory=list)
    values: list[Entry] = dataclasses.field(default_factory=list)
    fate: dict[int, Gap] = dataclasses.field(default_factory=dict)
    keys: dict[str, tuple[int, str, float]] = dataclasses.field(default_factory=dict)
    used: float = 0.0
    direct: float = 0.0

    def use(self, now: float) -> None:
        if now - self.used >= VALUES_KEPT * (1.25 if self.direct else 1):
            self.begin()
        self.used = now
        if now > self.direct:
            self.direct = 0
        self.lose([entry for entry in self.entries if now - entry.time >= KEPT], "expired")
        self.values = [value for value in self.values if now - value.time < VALUES_KEPT]

    def begin(self) -> None:
        self.__init__()  # type: ignore[misc]  # a room that has nothing is a new one

    def lose(self, entries: list[Entry], fate: Gap) -> None:
        self.entries = [entry for entry in self.entries if entry not in entries]
        self.fate.update((entry.offset, fate) for entry in entries)
        if entries:
            seen[fate] += 1

    def append(self, publication: Append, now: float) -> tuple[int, str, bool]:
        key = publication.idempotency_key
        if key is not None and key in self.keys and now < self.keys[key][2]:
            seen["repeats"] += 1
            return *self.keys[key][:2], True
        self.offset += 1
        self.id = publication.id
        entry = Entry(self.offset, publication.id, publication.event, publication.data, publication.key, now)
        if publication.key is None:
            self.entries.append(entry)
        else:
            self.values = [value for value in self.values if value.key != publication.key] + [entry]
            self.values = self.values[-MOST_VALUES:]
        if key is not None:
            self.keys[key] = self.offset, publication.id, now + REMEMBERED
        return self.offset, publication.id, False

    def trim(self, size: int, slack: int) -> None:
        if len(self.entries) > size + slack:
            self.lose(self.entries[:-size], "trimmed")

    def floor(self, *fates: Gap) -> int:
        return max((offset for offset, fate in self.fate.items() if fate in fates), default=0)

    def read(self, after: Position, limit: int, most: int) -> Reading:
        start, gap, floor = after.offset, None, self.floor("trimmed", "expired")
        if after.epoch != self.epoch or after.offset > self.offset:
            start, gap = floor, "epoch"
        elif after.offset < floor:
            start, gap = floor, "trimmed" if after.offset < self.floor("trimmed") else "expired"
        later = sorted(
            (entry for entry in (*self.entries, *self.values) if entry.offset > start), key=lambda entry: entry.offset
        )
        kept = within(later, limit, most)
        seen[f"gap {gap}"] += 1
        return Reading(Position(self.epoch, self.offset), start, kept, has_more=kept != later, gap=gap)  # type: ignore[arg-type]

    def forget(self, offset: int | None, key: str | None) -> list[int]:
        gone = [
            entry
            for entry in (*self.entries, *self.values)
            if entry.offset == offset or (key is not None and entry.key == key)
        ]
        self.entries = [entry for entry in self.entries if entry not in gone]
        self.values = [entry for entry in self.values if entry not in gone]
        seen["forgotten"] += len(gone)
        return [entry.offset for entry in gone]

    def facts(self) -> HistoryFacts:
        kept = [*self.entries, *self.values]
        return HistoryFacts(
            Position(self.epoch, self.offset),
            len(self.entries),
            len(self.values),
            sum(entry.size for entry in kept),
            min((entry.time for entry in kept), default=None),
        )


def within(entries: list[Entry], limit: int, most: int) -> list[Entry]:
    return [
        entry
        for number, entry in enumerate(entries[:limit])
        if not number or sum(other.size for other in entries[: number + 1]) <= most
    ]


@dataclasses.dataclass
class Watched:
    """
    What the calls of append() have done in Redis.

    Attributes:
        opened: The rooms that the script has opened, and whether entries may be added directly to them.
        mixed: The rooms to which entries were added directly in an epoch that they don't have.
        added: The rooms to which entries were added directly.
    """

    opened: dict[RoomId, bool] = dataclasses.field(default_factory=dict)
    mixed: set[RoomId] = dataclasses.field(default_factory=set)
    added: set[RoomId] = dataclasses.field(default_factory=set)

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]  # nothing has happened


class Backend:
    """What holds the data of a store."""

    trims_late: ClassVar[bool] = False
    can_lose: ClassVar[bool] = False

    def store(self, **options: Any) -> HistoryStore:
        raise NotImplementedError

    async def begin(self, now: float) -> None:
        """Begin with nothing, at a time."""
        raise NotImplementedError

    async def advance(self, seconds: float) -> None:
        raise NotImplementedError

    async def save(self) -> None:
        raise NotImplementedError

    async def restore(self) -> None:
        """Go back to what was saved, as after a failover."""
        raise NotImplementedError

    async def evict(self, room: RoomId) -> None:
        """Lose the entries of a room, but nothing else of it."""
        raise NotImplementedError

    def watch(self, store: HistoryStore) -> Watched:
        """Return what a store notes of its calls."""
        return Watched()

    async def close(self) -> None:
        pass


class InMemory(Backend):
    def __init__(self) -> None:
        self.now = 0.0

    def store(self, **options: Any) -> HistoryStore:
        return MemoryHistory(**options)

    async def begin(self, now: float) -> None:
        self.now = now
        memory._state = memory._State()
        memory._state.now = lambda: self.now

    async def advance(self, seconds: float) -> None:
        self.now += seconds


class InRedis(Backend):
    trims_late = True
    can_lose = True

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Redis.from_url(url)
        self.now = 0.0
        self.saved: dict[bytes, tuple[bytes, float]] = {}

    def store(self, **options: Any) -> HistoryStore:
        return RedisHistory(self.url, **options)

    def watch(self, store: HistoryStore) -> Watched:
        assert isinstance(store, RedisHistory)
        watched, appends = Watched(), store._direct
        appends.clock = lambda: self.now
        note = appends.note

        def noting(room: RoomId, position: Position, redis_time: int, *, sent: float, is_direct: bool) -> None:
            watched.opened[room] = is_direct
            note(room, position, redis_time, sent=sent, is_direct=is_direct)

        execute_each = store._execute_each

        async def executing(commands: Any, accept: Any) -> list[Any]:
            answers = await execute_each(commands, accept)
            rooms = {store._keys.room(room).entries: room for room in ROOMS}
            for command, answer in zip(commands, answers, strict=True):
                if isinstance(answer, str):
                    (watched.mixed if answer.endswith("-0") else watched.added).add(rooms[command[1]])
            return answers

        store._execute_each = executing  # type: ignore[method-assign]
        appends.note = noting  # type: ignore[method-assign]
        return watched

    async def begin(self, now: float) -> None:
        self.now = now
        await self.client.flushall()
        await self._set_clock()

    async def _set_clock(self) -> None:
        await self.client.delete("clock")
        await self.client.rpush("clock", round(self.now), 0)

    async def advance(self, seconds: float) -> None:
        """Move the clock, and the ends of all keys with it."""
        self.now += seconds
        await self._set_clock()
        for key, left in (await self._ends()).items():
            if left <= 1000 * seconds:
                await self.client.delete(key)
            else:
                await self.client.pexpire(key, left - round(1000 * seconds))

    async def _ends(self) -> dict[bytes, int]:
        """Return the milliseconds for which each key stays. All keys of wsrt have an end."""
        keys = [key for key in await self.client.keys() if key != b"clock"]
        ends = {key: int(await self.client.pttl(key)) for key in keys}
        assert -1 not in ends.values(), ends
        # Without those that have just ended.
        return {key: left for key, left in ends.items() if left >= 0}

    async def save(self) -> None:
        dumps = {key: (await self.client.dump(key), left) for key, left in (await self._ends()).items()}
        self.saved = {key: (value, self.now + left / 1000) for key, (value, left) in dumps.items() if value is not None}

    async def restore(self) -> None:
        await self.begin(self.now)
        for key, (value, end) in self.saved.items():
            if end > self.now:
                await self.client.restore(key, round(1000 * (end - self.now)), value)

    async def evict(self, room: RoomId) -> None:
        await self.client.delete(RedisHistory()._keys.room(room).all[1].encode("utf-8", "surrogatepass"))

    async def close(self) -> None:
        await self.client.aclose()


class History(RuleBasedStateMachine):
    """A store, and what must come of every call."""

    make: ClassVar[Callable[[], Backend]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.backend = self.runner.run(self._made())
        self.rooms = {room: Room() for room in ROOMS}
        self.saved: dict[RoomId, Room] | None = None
        self.epochs: list[str] = ["other"]
        self.publishers: list[HistoryStore] = []
        self.ids = itertools.count()
        self.now = 1_700_000_000.0

    async def _made(self) -> Backend:
        return type(self).make()

    @initialize(size=st.sampled_from(sorted(SLACK)))
    def begin(self, size: int) -> None:
        self.size, self.slack = size, SLACK[size] if self.backend.trims_late else 0
        self.run(self.backend.begin(self.now))
        self.publishers = [
            self.backend.store(
                size=size, seconds=KEPT, values=MOST_VALUES, value_seconds=VALUES_KEPT, idempotency=REMEMBERED
            )
            for _ in range(2)
        ]
        self.store = self.publishers[0]
        self.watched = [*map(self.backend.watch, self.publishers)]

    def teardown(self) -> None:
        for publisher in self.publishers:
            self.run(publisher.close())
        self.run(self.backend.close())
        self.runner.close()

    def run(self, call: Awaitable[T]) -> T:
        async def called() -> T:
            return await call

        seen["operations"] += 1
        return self.runner.run(called())

    def use(self, room_id: RoomId, position: Position | None = None) -> Room:
        """Return the room at this time. Learn its epoch from an answer if it is a new one."""
        room = self.rooms[room_id]
        if position is None:
            room.use(self.now)
        elif not room.epoch:
            assert position.epoch
            assert position.epoch not in self.epochs
            room.epoch = position.epoch
            self.epochs.append(position.epoch)
        return room

    # Rules.

    @rule(
        drawn=st.lists(
            st.tuples(
                st.sampled_from([ROOMS[0], *ROOMS]),
                st.sampled_from([None, None, None, *KEYS]),
                st.sampled_from([None, None, *KEYS]),
                st.sampled_from(["1", "é😀", '"' + 20 * "x" + '"']),
            ),
            min_size=1,
            max_size=12,
        ),
        by=st.sampled_from([0, 0, 1]),
    )
    def append(self, drawn: list[tuple[RoomId, str | None, str | None, str]], by: int = 0) -> None:
        publications = [Append(room, f"id{next(self.ids)}", "said", data, key, once) for room, key, once, data in drawn]
        watched = self.watched[by]
        watched.clear()
        appended = self.run(self.publishers[by].append(publications))
        for room_id in watched.mixed:
            # The script has found entries of an epoch that was lost in a failover.
            seen["mixed"] += 1
            self.rooms[room_id].begin()
        rooms = {publication.room: self.rooms[publication.room] for publication in publications}
        for room_id, room in rooms.items():
            known = room.used, room.direct
            self.use(room_id)
            if room_id in watched.added:
                # No script has opened the room.
                room.used, room.direct = known
        for publication, result in zip(publications, appended, strict=True):
            offset, its_id, is_repeat = rooms[publication.room].append(publication, self.now)
            room = self.use(publication.room, result.position)
            assert result == Appended(Position(room.epoch, offset), its_id, is_repeat)
        for room_id, room in rooms.items():
            if room_id not in watched.added:
                if watched.opened.get(room_id):
                    room.direct = self.now + ALLOWED
                room.trim(self.size, self.slack)
                self.check(room_id)
                continue
            seen["added directly"] += 1
            if not room.direct:
                # A failover has lost that entries may be added directly. Until a script opens the room again, its
                # entries end too early.
                self.positions()
                room.direct = self.now + ALLOWED

    @precondition(lambda self: self.backend.can_lose)
    @rule()
    def open_due_rooms(self) -> None:
        """What the store does from time to time."""
        for publisher in self.publishers:
            assert isinstance(publisher, RedisHistory)
            due = publisher._direct.due_rooms()
            seen["due"] += len(due)
            self.run(publisher._open_due_rooms())
            for room_id in due:
                self.use(room_id)

    @rule(
        room_id=st.sampled_from([ROOMS[0], *ROOMS]),
        counts=st.lists(st.sampled_from([1, 1, 1, 2]), min_size=2, max_size=8),
        by=st.sampled_from([0, 0, 1]),
    )
    def append_often(self, room_id: RoomId, counts: list[int], by: int) -> None:
        """One publisher appends as often as lets it add entries directly."""
        for count in counts:
            self.append([(room_id, None, None, "1")] * count, by)

    def check(self, room_id: RoomId) -> None:
        """Read from the beginning, and from just below the floor."""
        for place in ("start", "floor"):
            self.read_at(room_id, place, -1 if place == "floor" else 0, self.rooms[room_id].epoch, 1000, 10_000)

    @rule()
    def positions(self) -> None:
        found = self.run(self.store.positions(ROOMS))
        for room_id, last in zip(ROOMS, found, strict=True):
            self.use(room_id)
            room = self.use(room_id, last.position)
            assert last == Last(Position(room.epoch, room.offset), room.id)

    @rule(
        room_id=st.sampled_from(ROOMS),
        place=st.sampled_from(["start", "start", "floor", "end"]),
        ahead=st.integers(-2, 2),
        epoch=st.sampled_from([-1, -1, -1, -1, -2, 0]),
        limit=st.sampled_from([1, 3, 100]),
        most=st.sampled_from([1, 30, 1000, 1000]),
    )
    def read(self, room_id: RoomId, place: str, ahead: int, epoch: int, limit: int, most: int) -> None:
        room = self.rooms[room_id]
        known = room.epoch if epoch == -1 and room.epoch else self.epochs[max(epoch, -len(self.epochs))]
        self.read_at(room_id, place, ahead, known, limit, most)

    def read_at(self, room_id: RoomId, place: str, ahead: int, known: str, limit: int, most: int) -> None:
        room = self.rooms[room_id]
        offsets = {"start": 0, "floor": room.floor("trimmed", "expired"), "end": room.offset}
        after = Position(known, max(0, offsets[place] + ahead))
        found = self.run(self.store.read(room_id, after, limit=limit, max_bytes=most))
        self.use(room_id)
        assert found == self.use(room_id, found.position).read(after, limit, most)

    @rule(room_id=st.sampled_from(ROOMS), limit=st.integers(1, 4), most=st.sampled_from([1, 30, 1000]))
    def values(self, room_id: RoomId, limit: int, most: int) -> None:
        found = self.run(self.store.values(room_id, limit=limit, max_bytes=most))
        self.use(room_id)
        room = self.use(room_id, found.position)
        kept = within(room.values[::-1], limit, most)[::-1]
        assert found == Reading(Position(room.epoch, room.offset), 0, kept, has_more=kept != room.values)

    @rule(room_id=st.sampled_from(ROOMS), back=st.integers(0, 10))
    def forget_by_offset(self, room_id: RoomId, back: int) -> None:
        offset = max(1, self.rooms[room_id].offset - back)
        gone = self.run(self.store.forget(room_id, offset=offset))
        assert gone == self.use(room_id).forget(offset, None)
        self.check(room_id)

    @rule(room_id=st.sampled_from(ROOMS), key=st.sampled_from(KEYS))
    def forget_by_key(self, room_id: RoomId, key: str) -> None:
        gone = self.run(self.store.forget(room_id, key=key))
        assert gone == self.use(room_id).forget(None, key)

    @rule(room_id=st.sampled_from(ROOMS), really=RARELY)
    def purge(self, room_id: RoomId, really: bool) -> None:
        if not really:
            return
        position = self.run(self.store.purge(room_id))
        self.use(room_id).begin()
        self.rooms[room_id].used = self.now
        assert position == Position(self.use(room_id, position).epoch, 0)

    @rule(room_id=st.sampled_from(ROOMS), is_current=RARELY)
    def renew(self, room_id: RoomId, is_current: bool) -> None:
        epoch = self.rooms[room_id].epoch if is_current else self.epochs[len(self.epochs) // 2]
        position = self.run(self.store.renew(room_id, epoch))
        room = self.use(room_id)
        if room.epoch == epoch and epoch:
            room.begin()
            room.used = self.now
        assert position == Position(self.use(room_id, position).epoch, room.offset)

    @rule()
    def facts(self) -> None:
        for room_id, facts in zip(ROOMS, self.run(self.store.facts(ROOMS)), strict=True):
            self.use(room_id)
            assert facts == self.use(room_id, facts.position).facts()

    @rule(steps=st.sampled_from([1, 2, 2, 3, 3, 4, 10]), room_id=st.sampled_from([ROOMS[0], *ROOMS, None]))
    def advance(self, steps: int, room_id: RoomId | None) -> None:
        self.now += steps * UNIT
        self.run(self.backend.advance(steps * UNIT))
        if room_id is not None:
            self.check(room_id)

    @rule(steps=st.lists(st.sampled_from([1, 2, 3]), min_size=2, max_size=4), forgets=st.booleans())
    def over_time(self, steps: list[int], forgets: bool) -> None:
        """Entries of different ages, of which some expire and others are left."""
        for number in steps:
            self.append([(ROOMS[0], None, None, "1"), (ROOMS[0], None, None, "2")])
            if forgets:
                self.forget_by_offset(ROOMS[0], number - 1)
            self.advance(number, ROOMS[0])

    @rule(really=RARELY)
    def flush(self, really: bool) -> None:
        """The server restarts, empty."""
        if not really:
            return
        self.run(self.backend.begin(self.now))
        for room in self.rooms.values():
            room.begin()

    @precondition(lambda self: self.backend.can_lose)
    @rule()
    def save(self) -> None:
        self.positions()
        self.run(self.backend.save())
        self.saved = copy.deepcopy(self.rooms)

    @precondition(lambda self: self.saved is not None)
    @rule(really=RARELY)
    def fail_over(self, really: bool) -> None:
        """A replica takes over that has missed the last writes."""
        if not really:
            return
        assert self.saved is not None
        self.run(self.backend.restore())
        self.rooms = copy.deepcopy(self.saved)
        seen["failovers"] += 1

    @precondition(lambda self: self.backend.can_lose)
    @rule(room_id=st.sampled_from(ROOMS), really=RARELY)
    def evict(self, room_id: RoomId, really: bool) -> None:
        """
        Redis is full and evicts the entries of a room: a reader is told that they have expired.

        Where entries were added directly, the last offset is gone with them, and the room begins a new epoch.
        """
        if not really:
            return
        self.run(self.backend.evict(room_id))
        room = self.rooms[room_id]
        if room.direct:
            room.begin()
        else:
            room.lose(room.entries, "expired")


def with_clock(script: Script, *changes: tuple[str, str]) -> Script:
    """Return a script that reads the time from a key, with more changes to its text."""
    text = script.text
    for old, new in (("redis.call('TIME')", "redis.call('LRANGE', 'clock', 0, 1)"), *changes):
        assert old in text, old
        text = text.replace(old, new)
    return Script(script.name, text, hashlib.sha1(text.encode()).hexdigest())


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for script in module.SCRIPTS:
        monkeypatch.setattr(module, script.name.upper(), with_clock(script))
    monkeypatch.setattr(direct, "FREQUENT", 2)
    monkeypatch.setattr(direct, "LEAST", 1)
    monkeypatch.setattr(direct, "SECONDS", 2 * UNIT)
    monkeypatch.setattr(direct, "RUN", 8)


@pytest.fixture
def in_memory() -> Iterator[Callable[[], Backend]]:
    yield InMemory
    memory._state = memory._State()


@pytest.fixture
def in_redis(single: RedisServer, timed: None) -> Callable[[], Backend]:
    return lambda: InRedis(single.url)


@pytest.mark.parametrize(
    ("where", "examples"),
    [("in_memory", 100), ("in_redis", 80), pytest.param("in_redis", 400, marks=pytest.mark.slow)],
)
def test_model(request: pytest.FixtureRequest, where: str, examples: int) -> None:
    """Each answer of a store is what the model says."""
    seen.clear()
    explore(request.getfixturevalue(where), examples)
    counts = ", ".join(f"{count:,} {what}" for what, count in seen.items())
    note("History, beside a model", f"{where.removeprefix('in_')}: {counts}")
    assert {"trimmed", "expired", "repeats", "forgotten", "gap epoch", "gap trimmed", "gap expired"} <= seen.keys()
    assert seen["operations"] > 20 * examples


@pytest_asyncio.fixture(params=["in_memory", "in_redis"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Backend, HistoryStore]]:
    """A backend with nothing in it, and a store."""
    backend: Backend = request.getfixturevalue(request.param)()
    await backend.begin(1_700_000_000.0)
    store = backend.store(seconds=KEPT, value_seconds=VALUES_KEPT)
    yield backend, store
    await store.close()
    await backend.close()


async def test_forgotten_beside_expired(opened: tuple[Backend, HistoryStore]) -> None:
    """An entry that was forgotten isn't expired when the one before it is, and one after it is left."""
    (backend, store), room = opened, ROOMS[0]
    *_, appended = await store.append([Append(room, "a", "said", "1"), Append(room, "b", "said", "2")])
    await backend.advance(UNIT)
    await store.append([Append(room, "c", "said", "3")])
    await store.forget(room, offset=2)
    await backend.advance(KEPT - UNIT)
    for offset, gap, start in ((0, "expired", 1), (1, None, 1), (2, None, 2)):
        found = await store.read(room, Position(appended.position.epoch, offset), limit=9, max_bytes=99)
        assert (found.gap, found.start, [entry.id for entry in found.entries]) == (gap, start, ["c"])


async def test_forgotten_last(opened: tuple[Backend, HistoryStore]) -> None:
    """When all entries have expired, the last one that was forgotten isn't missing."""
    (backend, store), room = opened, ROOMS[0]
    *_, appended = await store.append([Append(room, "a", "said", "1"), Append(room, "b", "said", "2")])
    await store.forget(room, offset=2)
    await backend.advance(KEPT)
    for offset, gap in ((0, "expired"), (1, None), (2, None)):
        found = await store.read(room, Position(appended.position.epoch, offset), limit=9, max_bytes=99)
        assert (found.gap, found.start, found.entries) == (gap, max(1, offset), [])


def explore(make: Callable[[], Backend], examples: int) -> None:
    # The same in each run, without the minutes that it takes to find the shortest failure. With WSRT_EXPLORE, another
    # one each time, as long as one likes.
    explored = int(os.environ.get("WSRT_EXPLORE", "0"))
    History.make = staticmethod(make)  # type: ignore[assignment]  # a function, not a method
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=explored or examples,
            stateful_step_count=50,
            derandomize=not explored,
            phases=[Phase.generate, *([Phase.shrink] if explored else [])],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
