"""Presence under churn: members that came and went leave nothing in processes or stores."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import selectors
import types
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from django.core.cache import caches

from tests.support.processes import RedisServer
from wsrt import TypedEventConsumer
from wsrt.cluster.node import current_node
from wsrt.delivery.subscriber import Subscriber
from wsrt.presence import memory
from wsrt.presence.base import (
    EVERYONE,
    Beat,
    Change,
    Join,
    Leave,
    MemberRecord,
    NodeFacts,
    PresenceStore,
    StoreUnavailable,
)
from wsrt.presence.cache import CachePresence
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.redis import RedisPresence
from wsrt.presence.redis import store as module
from wsrt.presence.roster import Roster, Watcher
from wsrt.presence.tracker import Tracker

HOUR = 3600.0

DAY = 24 * HOUR


class ChurnConsumer(TypedEventConsumer):
    """Shows the members of its rooms to each other."""

    namespace = "churn"
    presence = True


class SkippingSelector(selectors.DefaultSelector):
    """Waits for no time: it passes at once."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing is left to wait for"
            self.now += timeout
        return found


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop in which a day is over as soon as everything in it is done."""

    def __init__(self) -> None:
        self.passing = SkippingSelector()
        super().__init__(self.passing)

    def time(self) -> float:
        return self.passing.now


class Outbox:
    """Takes frames, and keeps none."""

    limits = types.SimpleNamespace(outbox_bytes=2**20)

    def __init__(self) -> None:
        self.is_open = True

    def put(self, frame: object) -> None:
        pass


class Faulty(MemoryPresence):
    """The memory, which is away now and then."""

    is_away = False

    async def apply(self, node: str, operations: Any) -> list[Change]:
        return await super().apply(node, operations) if not self._fails() else []

    async def beat(self, node: NodeFacts) -> Beat:
        self._fails()
        return await super().beat(node)

    async def snapshot(self, *args: Any, **kwargs: Any) -> Any:
        self._fails()
        return await super().snapshot(*args, **kwargs)

    def _fails(self) -> bool:
        if self.is_away:
            raise StoreUnavailable("away")
        return False


class Clients:
    """Clients of one node that come, go and watch rooms, in a namespace whose rooms are shown."""

    def __init__(self, tracker: Tracker, seed: int) -> None:
        self.tracker = tracker
        self.random = random.Random(seed)
        self.number = 1
        self.here: dict[int, tuple[Watcher, str]] = {}

    def come(self, room: str | None = None, user: str | None = None) -> int:
        self.number += 1
        number, dice = self.number, self.random
        if room is None:
            room = f"r{dice.randrange(50)}" if dice.random() < 0.5 else f"once-{number}"
            user = f"u{dice.randrange(3000)}" if dice.random() < 0.8 else None
        connection = Subscriber(f"n-{number}", "churn", Outbox(), None)  # type: ignore[arg-type]
        connection.user_id = user
        connection.rooms[room] = None
        watcher = Watcher(connection, True, None)
        self.here[number] = watcher, room
        self.tracker.join(Join("churn", EVERYONE, number, user, details='{"consumer":"C"}'))
        self.tracker.join(Join("churn", room, number, user, f'"{dice.random()}"'))
        self.tracker.watch(("churn", room), watcher)
        return number

    def go(self, number: int) -> None:
        watcher, room = self.here.pop(number)
        watcher.subscriber.outbox.is_open = False  # type: ignore[misc]
        self.tracker.unwatch(("churn", room), watcher)
        self.tracker.remove_connection(number, at_once=self.random.random() < 0.5)

    def turn(self) -> None:
        """One comes; if there are many, one goes. The first one stays."""
        self.come()
        if len(self.here) > 100:
            self.go(self.random.choice(list(self.here)[1:]))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[memory._State]:
    world = memory._State()
    monkeypatch.setattr(memory, "_state", world)
    yield world


@pytest.mark.parametrize(("seconds", "clients"), [(HOUR, 3000), pytest.param(DAY, 20_000, marks=pytest.mark.slow)])
def test_node(world: memory._State, monkeypatch: pytest.MonkeyPatch, seconds: float, clients: int) -> None:
    """After a day of clients that come and go, with outages and a node that dies each hour, all is as it was."""
    # pytest keeps the records of outages, with exceptions whose frames hold what was being written.
    monkeypatch.setattr(logging.getLogger("wsrt"), "propagate", False)
    loop = SkippingLoop()
    world.now = loop.time
    run(loop, _live(loop, world, seconds, clients))


async def _live(loop: SkippingLoop, world: memory._State, seconds: float, clients: int) -> None:
    store = Faulty()
    tracker = Tracker(current_node(), store, grace=5.0)
    crowd = Clients(tracker, seed=1)
    resident = crowd.come("home", "resident")
    await asyncio.sleep(60)
    before = held(tracker, world, loop)
    # Another node, which writes to the same rooms without a heartbeat: it dies after each lease.
    for hour in range(int(seconds / HOUR)):
        await store.begin(NodeFacts(f"dying-{hour}", {}))
        await store.apply(f"dying-{hour}", [Join("churn", f"r{n % 50}", n, f"u{n}") for n in range(300)])
        for _ in range(int(clients / (seconds / HOUR))):
            crowd.turn()
            store.is_away = crowd.random.random() < 0.02
            await asyncio.sleep(HOUR * seconds / clients / HOUR)
        store.is_away = False
    for number in [number for number in crowd.here if number != resident]:
        crowd.go(number)
    await asyncio.sleep(300)
    assert held(tracker, world, loop) == before
    await tracker.end()
    assert not (world.rooms or world.leases or world.room_ids or world.details)


def held(tracker: Tracker, world: memory._State, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Return the number of objects held by a tracker, its views, the memory, and its loop."""
    gc.collect()
    views = list(tracker._rosters.values())
    found: dict[str, Any] = {
        name: len(getattr(tracker, name))
        for name in (
            "_joins",
            "_rooms_of",
            "_users",
            "_pending",
            "_grace_timers",
            "_former_ids",
            "_reaping",
            "_rosters",
            "_tasks",
        )
    }
    found["audited"] = len(tracker._audit_queue) <= len(tracker._joins)
    for name in ("watchers", "_members", "_unsent", "_ignored_leaves", "_out_of_order", "_during_load"):
        found[f"view{name}"] = [len(getattr(view, name)) for view in views]
    found["view bytes"] = [view._bytes == sum(m.size for m in (view._members or {}).values()) for view in views]
    for name in ("rooms", "leases", "room_ids", "details"):
        found[f"world {name}"] = len(getattr(world, name))
    found["rooms"] = {room: len(found_.users) for rooms in world.rooms.values() for room, found_ in rooms.items()}
    kinds = (Join, Leave, Change, MemberRecord, Roster, Watcher, Subscriber)
    alive = Counter(type(found_).__name__ for found_ in gc.get_objects() if isinstance(found_, kinds))
    found["objects"] = dict(alive)
    found["timers"] = sum(not timer.cancelled() for timer in loop._scheduled) <= 3  # type: ignore[attr-defined]
    return found


def run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    try:
        loop.run_until_complete(work)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def churn(store: PresenceStore, rounds: int, size: int, *, seed: int = 1) -> None:
    """Have crowds come and go on one node, in new rooms, as new users, and in new namespaces."""
    dice = random.Random(seed)
    for turn in range(rounds):
        places = [
            (f"tenant-{seed}-{turn}-{n % 7}", EVERYONE if n % 5 == 0 else f"room-{turn}-{n}") for n in range(size)
        ]
        users = [f"user-{turn}-{n}" if n % 4 else None for n in range(size)]
        joins = [
            Join(*place, n, user, f'"{n}"' if user else None, '{"consumer":"C"}')
            for n, (place, user) in enumerate(zip(places, users, strict=True))
        ]
        await store.apply("n1", joins)
        assert (await store.beat(NodeFacts("n1", {}))).is_alive
        leaves = [Leave(*place, n) for n, place in enumerate(places)]
        dice.shuffle(leaves)
        await store.apply("n1", leaves)
        # And one node that ends with everybody on it.
        await store.begin(NodeFacts(f"other-{seed}-{turn}", {}))
        await store.apply(f"other-{seed}-{turn}", joins)
        async for _ in store.reap(f"other-{seed}-{turn}"):
            pass
        assert (await store.beat(NodeFacts("n1", {}))).is_alive


ROUNDS = [(4, 300), pytest.param(30, 1500, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("rounds", "size"), ROUNDS)
async def test_redis(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, rounds: int, size: int) -> None:
    """After crowds that came and went, Redis has the keys and bytes of before, and the process remembers no room."""
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    store = RedisPresence(redis_server.url, pace=1e6, lease=3600)
    await store.begin(NodeFacts("n1", {}))
    # Of the same size: what was a hash table once stays one.
    await churn(store, 1, size, seed=0)
    before = await _bytes_of(store)
    await churn(store, rounds, size)
    after = await _bytes_of(store)
    assert after.keys() == before.keys()
    assert sum(after.values()) <= sum(before.values()) + 1024
    known = store._nodes["n1"]
    assert (known.rooms, known._idle, known._leaving, len(store._nodes)) == ({}, {}, {}, 1)
    await store.close()


async def _bytes_of(store: RedisPresence) -> dict[str, int]:
    keys = await store._execute("KEYS", "*")
    return {key: await store._execute("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys}


@pytest.mark.parametrize(("rounds", "size"), ROUNDS)
async def test_cache(settings: Any, rounds: int, size: int) -> None:
    """After crowds that came and went, the cache has the keys of before, and the process remembers no room."""
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "churn", "OPTIONS": {"MAX_ENTRIES": 1_000_000}}}
    store = CachePresence(lease=3600)
    await store.begin(NodeFacts("n1", {}))
    await churn(store, 1, 10, seed=0)
    stored: Any = caches["default"]
    # That a node is dead is said for as long as what it wrote may be there.
    before = {key for key in stored._cache if not key.endswith(".dead")}
    await churn(store, rounds, size)
    assert {key for key in stored._cache if not key.endswith(".dead")} == before
    writer = store._writers["n1"]
    assert len(store._writers) == 1
    assert (writer.values, writer.written, writer.dirty, writer.obsolete, writer.unannounced) == (
        {},
        {},
        set(),
        set(),
        [],
    )
    assert (writer._rooms, writer._details, +writer._namespaces, writer._touched) == ({}, {}, Counter(), {})
    await store.close()
    stored.clear()


async def test_memory(world: memory._State) -> None:
    """After crowds that came and went, the memory holds the lease of the node that is left."""
    store = MemoryPresence()
    await store.begin(NodeFacts("n1", {}))
    await churn(store, 4, 300)
    assert (world.rooms, world.room_ids, world.details, list(world.leases)) == ({}, {"n1": set()}, {}, ["n1"])
