"""The cache store: its documents, caches that forget, fail and hang, and processes that die."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.db import connections
from django.test.utils import override_settings

from tests.support.pages import pages
from tests.support.processes import ROOT, RedisServer
from tests.support.waiting import aeventually, eventually
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
    PresenceStore,
    StoreUnavailable,
)
from wsrt.presence.cache import CachePresence
from wsrt.presence.cache import documents as layout
from wsrt.presence.cache import reader as reader_module
from wsrt.presence.cache import store as module
from wsrt.presence.cache.documents import Head, PagedDocument
from wsrt.presence.cache.executor import Access, CacheExecutor, SerialQueue
from wsrt.presence.cache.reader import DocumentSet, Lease
from wsrt.presence.contract import PresenceStoreContract

LOCMEM = {
    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
    "LOCATION": "presence-store",
    "OPTIONS": {"MAX_ENTRIES": 100_000},
}
DATABASE = {
    "BACKEND": "django.core.cache.backends.db.DatabaseCache",
    "LOCATION": "presence_cache",
    "OPTIONS": {"MAX_ENTRIES": 100_000},
}


class CacheRouter:
    """Sends the database's cache to a database of its own."""

    alias = "presence-cache"

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.alias if model._meta.app_label == "django_cache" else None

    db_for_write = db_for_read


@pytest.fixture
def database(tmp_path: Path, django_db_blocker: Any) -> Iterator[Path]:
    """A database in a file, with the table of a cache; the one of the other tests stays as it is."""
    path = tmp_path / "cache.sqlite3"
    routers = [f"{__name__}.CacheRouter"]
    with django_db_blocker.unblock():
        connections.settings[CacheRouter.alias] = {**connections.settings["default"], "NAME": str(path)}
        with override_settings(CACHES={"default": LOCMEM, "presence": DATABASE}, DATABASE_ROUTERS=routers):
            call_command("createcachetable", database=CacheRouter.alias, verbosity=0)
            yield path
        connections[CacheRouter.alias].close()
        del connections[CacheRouter.alias], connections.settings[CacheRouter.alias]


@pytest.fixture
def locmem(settings: Any) -> Iterator[LocMemCache]:
    """A cache in memory, as the default one."""
    settings.CACHES = {"default": LOCMEM}
    yield caches["default"]  # type: ignore[misc]
    caches["default"].clear()


@pytest_asyncio.fixture
async def make(locmem: LocMemCache) -> AsyncIterator[Callable[..., CachePresence]]:
    """Makes stores on that cache, as several processes would."""
    stores: list[CachePresence] = []

    def make(**options: Any) -> CachePresence:
        stores.append(CachePresence(**options))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


class TestDatabaseCache(PresenceStoreContract):
    """The cache in the database."""

    @pytest.fixture(autouse=True)
    def use(self, database: Path) -> None:
        """Needs the table."""

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        # A busy machine takes more than five seconds for the largest of the writes.
        return CachePresence("presence", lease=lease, timeout=60.0)


class TestSmallPages(PresenceStoreContract):
    """Every room on many pages."""

    @pytest.fixture(autouse=True)
    def use(self, locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layout, "PAGE", 100)

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        return CachePresence(lease=lease)


async def begin(store: CachePresence, name: str = "a") -> str:
    assert (await store.begin(NodeFacts(name, {}))).is_alive
    return name


async def counted(store: CachePresence, room: str = "r") -> Count:
    (found,) = await store.counts([("n", room)])
    return found


async def reaped(store: CachePresence, node: str) -> list[Change]:
    return [change async for changes in store.reap(node) for change in changes]


def is_of_rooms(key: str) -> bool:
    return ".room." in key or ".details." in key or ".index" in key


# DocumentSet.


def written(document: PagedDocument, documents: dict[str, str], totals: object) -> int:
    """Write the changed documents into a dict, and return their number."""
    changed = document.pop_changed_values(totals)
    for key, text in changed.items():
        if text is None:
            del documents[key]
        else:
            documents[key] = text
    return len(changed)


class Cabinet:
    """DocumentSet in a dict, read as from a cache."""

    def __init__(self, documents: Mapping[str, str]) -> None:
        self.documents = documents
        self.gets = 0

    def get(self, keys: Any) -> dict[str, str]:
        self.gets += 1
        return {key: self.documents[key] for key in keys if key in self.documents}


def read(documents: Mapping[str, str], where: Any = layout.WHOLE) -> Mapping[str, Any]:
    return DocumentSet.read(Cabinet(documents), {"b": where}).entries.get("b", {})  # type: ignore[arg-type]


def test_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is one document while it is small, then many of a bounded size; a change writes one and the head."""
    monkeypatch.setattr(layout, "PAGE", 500)
    document, documents = PagedDocument("b"), dict[str, str]()
    document.put("k", 1)
    assert written(document, documents, [1]) == 1
    assert Head.parse(documents["b"]) == Head(1, [1], {"k": 1})
    assert written(document, documents, [1]) == 0
    entries = {f"key{number}": [number, "x" * 20] for number in range(500)}
    for key, value in entries.items():
        document.put(key, value)
    document.pop("k")
    document.pop("k")
    written(document, documents, [500])
    head = Head.parse(documents["b"])
    assert (head.totals, head.entries) == ([500], None)
    assert len(documents) == head.pages + 1
    assert 16 <= head.pages <= 64
    assert max(map(len, documents.values())) < 1500
    assert read(documents) == entries
    document.put("key7", "other")
    assert written(document, documents, [500]) == 1
    assert written(document, documents, [501]) == 1
    assert read(documents, layout.Points(["key7", "nobody"]))["key7"] == "other"
    assert len(read(documents, layout.Points(["key7"]))) < 100


def test_book_that_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that has become small is one document again, and nothing is left of its pages; nor of an empty one."""
    monkeypatch.setattr(layout, "PAGE", 500)
    document, documents = PagedDocument("b"), dict[str, str]()
    for number in range(500):
        document.put(f"key{number}", number)
    written(document, documents, [500])
    for number in range(2, 500):
        document.pop(f"key{number}")
    written(document, documents, [2])
    assert documents == {"b": '{"pages":1,"totals":[2],"entries":' + json.dumps(read(documents)).replace(" ", "") + "}"}
    assert read(documents) == {"key0": 0, "key1": 1}
    document.pop("key0")
    document.pop("key1")
    written(document, documents, None)
    assert documents == {}
    assert written(document, documents, None) == 0


def test_book_that_is_laid_out_anew_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader with an outdated head, which doesn't find its pages, reads the head again."""
    monkeypatch.setattr(layout, "PAGE", 500)
    document, before, after = PagedDocument("b"), dict[str, str](), dict[str, str]()
    for number in range(100):
        document.put(f"key{number}", number)
    written(document, before, [100])
    after |= before
    for number in range(100, 500):
        document.put(f"key{number}", number)
    written(document, after, [500])

    class Turning(Cabinet):
        def get(self, keys: Any) -> dict[str, str]:
            found = super().get(keys)
            self.documents = after
            return found

    documents = DocumentSet.read(Turning(before), {"b": layout.WHOLE})  # type: ignore[arg-type]
    assert len(documents.entries["b"]) == 500
    lost = {key: text for key, text in after.items() if not key.endswith(".3")}
    cabinet = Cabinet(lost)
    documents = DocumentSet.read(cabinet, {"b": layout.WHOLE})  # type: ignore[arg-type]
    assert 300 < len(documents.entries["b"]) < 500
    assert cabinet.gets == 2 * reader_module.REREADS
    emptied = Turning(before)
    after.clear()
    assert DocumentSet.read(emptied, {"b": layout.WHOLE}).heads == {}  # type: ignore[arg-type]


# The executor.


@pytest_asyncio.fixture
async def executor(locmem: LocMemCache) -> AsyncIterator[CacheExecutor]:
    executor = CacheExecutor("default", 0.2)
    yield executor
    executor.close()


async def test_cache_that_hangs(executor: CacheExecutor) -> None:
    """A cache that does not answer in time is a StoreUnavailable, and others are served meanwhile."""
    gate = threading.Event()
    with pytest.raises(StoreUnavailable, match=r"didn't answer within 0\.2 s"):
        await executor.run(lambda access: gate.wait(20))
    assert await executor.run(lambda access: 7) == 7
    gate.set()


async def test_writes_do_not_overtake(executor: CacheExecutor) -> None:
    """What was given up is still written before what comes after it."""
    gate, turn, done = threading.Event(), SerialQueue(), list[int]()

    def slow(access: Access) -> None:
        gate.wait(20)
        done.append(1)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await executor.run(slow, turn)
    last = asyncio.create_task(executor.run(lambda access: done.append(2), turn))
    await asyncio.sleep(0.01)  # let it wait for its turn
    gate.set()
    await last
    assert done == [1, 2]


async def test_what_waited_too_long_is_not_done(executor: CacheExecutor) -> None:
    """Work that waited for a thread until its caller was gone is skipped."""
    gate, done = threading.Event(), list[int]()
    busy = [asyncio.create_task(executor.run(lambda access: gate.wait(20))) for _ in range(8)]
    await asyncio.sleep(0)  # let them take the threads
    with pytest.raises(StoreUnavailable):
        await executor.run(lambda access: done.append(1))
    await asyncio.gather(*busy, return_exceptions=True)
    gate.set()
    assert await executor.run(lambda access: 7) == 7
    assert done == []


async def test_many_callers_of_a_cache_that_hangs(executor: CacheExecutor) -> None:
    """While a cache hangs, callers are given up, and nothing of them piles up in a queue."""
    gate = threading.Event()
    waiting = [asyncio.create_task(executor.run(lambda access: gate.wait(20))) for _ in range(500)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert executor._threads._work_queue.qsize() <= 1
    gate.set()
    assert await executor.run(lambda access: 7) == 7


async def test_namespaces_that_come_and_go(locmem: LocMemCache) -> None:
    """Nothing is kept of empty namespaces, as there may be one for each tenant."""
    store = CachePresence()
    node = await begin(store)
    before = {key for key in locmem._cache if "lease" not in key}
    for number in range(50):
        place = (f"tenant-{number}", EVERYONE)
        await store.apply(node, [Join(*place, 1, "ada", details='{"consumer":"C"}')])
        await store.apply(node, [Leave(*place, 1)])
    writer = store._writers[node]
    assert (writer._details, writer._rooms, writer.values, +writer._namespaces) == ({}, {}, {}, Counter())
    assert {key for key in locmem._cache if "lease" not in key} == before
    await store.close()


async def test_closed_store(locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that was closed is unavailable; its threads are gone, and have closed their backends."""
    closed: list[object] = []
    monkeypatch.setattr(LocMemCache, "close", lambda self: closed.append(self))
    before = {*threading.enumerate()}
    store = CachePresence()
    await begin(store)
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.nodes()
    eventually(lambda: not {thread for thread in threading.enumerate() if "presence" in thread.name} - before)
    eventually(lambda: closed)
    assert locmem not in closed


async def test_one_backend_a_thread(executor: CacheExecutor) -> None:
    """Tasks share the backends, and so the connections, of the threads."""
    found = [await asyncio.create_task(executor.run(lambda access: id(access._cache))) for _ in range(20)]
    assert len(set(found)) <= 4


async def test_database_that_loses_writes(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database cache keeps errors for itself: what it lost is written again, and told if that does not help."""
    real, losses = DatabaseCache._base_set, [3]  # type: ignore[attr-defined]

    def lose(self: object, mode: str, *args: Any) -> bool:
        losses[0] -= mode == "set"
        return False if losses[0] >= 0 and mode == "set" else bool(real(self, mode, *args))

    executor = CacheExecutor("presence", 5)
    monkeypatch.setattr(DatabaseCache, "_base_set", lose)
    await executor.run(lambda access: access.set({"a": "1", "b": "2"}, 30))
    assert await executor.run(lambda access: access.get(["a", "b", "c"])) == {"a": "1", "b": "2"}
    losses[0] = 1000
    with pytest.raises(StoreUnavailable, match="rejected 1 of 2 values"):
        await executor.run(lambda access: access.set({"a": "1", "c": "3"}, 30))
    executor.close()


async def test_slot_that_two_claimed(executor: CacheExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who claimed a slot but is not in it has not got it."""
    monkeypatch.setattr(LocMemCache, "add", lambda self, key, value, seconds: self.set(key, "other", seconds) or True)
    assert not await executor.run(lambda access: access.add("slot", "me", 30))


# Writing.


async def test_one_hop(make: Callable[..., CachePresence], monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is one hop into a thread, and few commands, however many rooms it is about."""
    store, reader = make(), make()
    node = await begin(store)
    calls: Counter[str] = Counter()
    run = CacheExecutor.run

    async def count_hops(self: CacheExecutor, *args: Any) -> Any:
        calls["hops"] += 1
        return await run(self, *args)

    for name in ("get_many", "set_many", "delete_many", "get", "set"):
        real = getattr(LocMemCache, name)

        def count(self: object, *args: Any, name: str = name, real: Any = real, **kwargs: Any) -> Any:
            calls[name] += 1
            return real(self, *args, **kwargs)

        if name.endswith("many"):
            monkeypatch.setattr(LocMemCache, name, count)
    monkeypatch.setattr(CacheExecutor, "run", count_hops)
    await store.apply(node, [Join("n", f"r{number}", 1, "ada") for number in range(60)])
    assert calls == {"hops": 1, "get_many": 1, "set_many": 1}
    await reader.counts([("n", f"r{number}") for number in range(60)])
    calls.clear()
    await reader.counts([("n", f"r{number}") for number in range(60)])
    assert calls == {"hops": 1, "get_many": 2}
    calls.clear()
    await reader.snapshot("n", "r1", 5)
    assert calls["hops"] == 1
    assert calls["get_many"] <= 3


async def test_only_what_was_touched_is_written(
    make: Callable[..., CachePresence], locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many rooms, and of a large one, only what has changed is written."""
    monkeypatch.setattr(layout, "PAGE", 500)
    store = make()
    node = await begin(store)
    await store.apply(node, [Join("n", f"r{number}", 1, "ada") for number in range(50)])
    await store.apply(node, [Join("n", "large", number, f"u{number}", '"x"') for number in range(500)])
    written: list[str] = []
    real = LocMemCache.set_many
    monkeypatch.setattr(
        LocMemCache,
        "set_many",
        lambda self, documents, *rest: written.extend(documents) or real(self, documents, *rest),
    )
    await store.apply(node, [Join("n", "large", 900, "u7"), Join("n", "r3", 2, "grace")])
    # A page and the head of the large room, the small room, two pages of the index.
    assert len(written) <= 5
    assert written.index(store._keys.room(node, ("n", "large"))) > 0


async def test_nothing_is_left(
    make: Callable[..., CachePresence], locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rooms that were emptied leave no documents behind, nor does a node that was taken out."""
    monkeypatch.setattr(layout, "PAGE", 500)
    store = make()
    node = await begin(store)
    joins = [Join("n", room, number, f"u{number}", None, '"x"') for room in ("r", EVERYONE) for number in range(300)]
    await store.apply(node, joins)
    assert len([key for key in locmem._cache if is_of_rooms(key)]) > 20  # type: ignore[attr-defined]
    await store.apply(node, [Leave(join.namespace, join.room, join.connection) for join in joins])
    assert not [key for key in locmem._cache if is_of_rooms(key)]  # type: ignore[attr-defined]
    await store.apply(node, joins)
    await reaped(store, node)
    assert {key.rpartition(".")[2] for key in locmem._cache} == {"word", "dead"}  # type: ignore[attr-defined]


async def test_write_that_fails(make: Callable[..., CachePresence], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the cache raises, or does not take, is a StoreUnavailable; said again it is written and told, once."""
    store, reader = make(), make()
    node = await begin(store)
    with monkeypatch.context() as broken:
        broken.setattr(LocMemCache, "set_many", lambda self, documents, timeout: list(documents))
        with pytest.raises(StoreUnavailable, match="rejected 2 of 2 values"):
            await store.apply(node, [Join("n", "r", 1, "ada")])
    with monkeypatch.context() as broken:
        broken.setattr(LocMemCache, "get_many", lambda self, keys: 1 / 0)
        with pytest.raises(StoreUnavailable, match="ZeroDivisionError"):
            await store.apply(node, [Leave("n", "r", 2)])
        with pytest.raises(StoreUnavailable):
            await store.counts([("n", "r")])
    assert await counted(reader) == Count(0, 0, 0)
    changes = await store.apply(node, [Join("n", "r", 1, "ada")])
    assert [(change.kind, change.user_id) for change in changes] == [("joined", "ada")]
    assert await counted(reader) == Count(1, 0, 1)
    assert await store.apply(node, [Join("n", "r", 1, "ada")]) == []


async def test_words_of_two_nodes_in_one_moment(make: Callable[..., CachePresence]) -> None:
    """A user's word on one node survives when another node's connections of the user leave."""
    one, two = make(), make()
    await begin(one, "a")
    await begin(two, "b")
    await one.apply("a", [Join("n", "r", 1, "ada", '"one"')])
    await two.apply("b", [Join("n", "r", 1, "ada", '"two"')])
    assert (await one.snapshot("n", "r", 5)).members == (MemberRecord("ada", 2, '"two"'),)
    await two.apply("b", [Leave("n", "r", 1)])
    assert (await two.snapshot("n", "r", 5)).members == (MemberRecord("ada", 1, '"one"'),)


# Caches that forget.


async def test_cleared_cache(make: Callable[..., CachePresence], locmem: LocMemCache) -> None:
    """A cache that was cleared is filled again by the next heartbeat."""
    store, reader = make(), make()
    node = await begin(store)
    await store.apply(node, [Join("n", f"r{number}", number, "ada") for number in range(30)])
    before = dict(locmem._cache)  # type: ignore[attr-defined]
    locmem.clear()
    assert await reader.namespaces() == []
    assert (await store.beat(NodeFacts(node, {}))).is_alive
    assert len((await reader.rooms("n")).items) == 30
    assert [found.id for found in await reader.nodes()] == [node]
    assert len(locmem._cache) == len(before)  # type: ignore[attr-defined]


async def test_evicted_documents(
    make: Callable[..., CachePresence], locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever document is lost, the next heartbeat writes it again, and only that."""
    monkeypatch.setattr(layout, "PAGE", 300)
    store, reader = make(), make()
    node = await begin(store)
    joins = [Join("n", room, number, f"u{number}", None, '"x"') for room in ("r", EVERYONE) for number in range(40)]
    await store.apply(node, joins)
    await store.beat(NodeFacts(node, {}))
    for key in sorted(locmem._cache):  # type: ignore[attr-defined]
        del locmem._cache[key]  # type: ignore[attr-defined]
        del locmem._expire_info[key]  # type: ignore[attr-defined]
        reader._scan = None
        await reader.counts([("n", "r")])
        assert (await store.beat(NodeFacts(node, {}))).is_alive
        assert await counted(reader) == Count(40, 0, 40), key
        assert len((await reader.connections("n", limit=100)).items) == 40
        assert [record.room for record in (await reader.rooms("n")).items] == ["r"]
    await store.beat(NodeFacts(node, {}))
    written: list[str] = []
    real = LocMemCache.set_many
    monkeypatch.setattr(
        LocMemCache,
        "set_many",
        lambda self, documents, *rest: written.extend(documents) or real(self, documents, *rest),
    )
    await store.beat(NodeFacts(node, {}))
    assert len(written) == 2


async def test_documents_do_not_expire(make: Callable[..., CachePresence], monkeypatch: pytest.MonkeyPatch) -> None:
    """DocumentSet that have not changed are written again long before the cache would drop them."""
    store, reader = make(lease=1000), make(lease=1000)
    node = await begin(store)
    await store.apply(node, [Join("n", "r", 1, "ada")])
    now = time.time()
    for seconds in range(300, 12_000, 300):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: now + seconds)
        assert (await store.beat(NodeFacts(node, {}))).is_alive
        assert await counted(reader) == Count(1, 0, 1), f"after {seconds} s"


async def test_many_documents_to_look_at(make: Callable[..., CachePresence], monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat looks at documents for a while only, and the next one goes on there."""
    monkeypatch.setattr(module, "CHECK_BATCH", 10)
    monkeypatch.setattr(module, "WRITE_BATCH", 7)
    store, reader = make(lease=30), make()
    node = await begin(store)
    await store.apply(node, [Join("n", f"r{number}", 1, "ada") for number in range(95)])
    caches["default"].clear()
    # A clock by which each look takes three seconds of the seven that there are.
    clock = itertools.count(0, 3)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=time.time, monotonic=lambda: next(clock)))
    seen = []
    while not seen or seen[-1] < 95:
        assert (await store.beat(NodeFacts(node, {}))).is_alive
        seen.append(len([key for key in caches["default"]._cache if ".room." in key]))  # type: ignore[attr-defined]
        assert len(seen) < 20
    assert len(seen) > 2
    monkeypatch.undo()
    assert len((await reader.rooms("n")).items) == 95


async def test_pages_are_exact(make: Callable[..., CachePresence], monkeypatch: pytest.MonkeyPatch) -> None:
    """No member is on two pages, and the last page is marked as such."""
    monkeypatch.setattr(layout, "PAGE", 200)
    store, other = make(), make()
    for presence, name in ((store, "a"), (other, "b")):
        await begin(presence, name)
        await presence.apply(name, [Join("n", "r", number, f"u{name}{number % 25}") for number in range(50)])
        await presence.apply(name, [Join("n", f"r{number}", 1) for number in range(49)])
    reads: list[tuple[Any, ...]] = [(store.members, "n", "r"), (store.rooms, "n"), (store.connections, "n", "r")]
    for size, (read, *args) in zip((50, 50, 100), reads, strict=True):
        found: list[Any] = []
        async for page in pages(lambda at, read=read, args=args: read(*args, cursor=at, limit=10)):
            assert len(page.items) == 10
            found += page.items
        assert len(found) == len(set(found)) == size


async def test_random_life(
    make: Callable[..., CachePresence], locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever nodes do, die of and lose: after a heartbeat of each, readers see what is true."""
    monkeypatch.setattr(layout, "PAGE", 200)
    dice = random.Random(5)
    reader = make()
    places = [("n", "r"), ("n", "s"), ("m", "r"), ("n", EVERYONE)]
    alive: dict[str, tuple[CachePresence, dict[tuple[Any, int], str | None]]] = {}
    for step in range(400):
        if len(alive) < 3:
            name = f"node{step}"
            alive[name] = make(), {}
            await begin(alive[name][0], name)
        name = dice.choice(sorted(alive))
        store, members = alive[name]
        operations: list[Join | Leave] = []
        for _ in range(dice.randint(1, 12)):
            place, number, user = dice.choice(places), dice.randint(0, 30), dice.choice(["ada", "bob", "eve", None])
            if dice.random() < 0.4:
                operations.append(Leave(*place, number))
                members.pop((place, number), None)
            else:
                operations.append(Join(*place, number, user, details='"x"'))
                members[place, number] = user
        await store.apply(name, operations)
        if dice.random() < 0.05:
            # It dies, and another node removes it, or none does.
            locmem.set(store._keys.lease(name), Lease(name, 1.0, {}).text())
            del alive[name]
            if dice.random() < 0.5:
                await reaped(reader, name)
        if dice.random() < 0.1:
            for key in dice.sample(sorted(locmem._cache), len(locmem._cache) // 3):  # type: ignore[attr-defined]
                locmem.delete(key.removeprefix(":1:"))
            reader._scan = None
            for name, (store, _) in alive.items():
                assert (await store.beat(NodeFacts(name, {}))).is_alive
        for place in places:
            truth = Counter(user for _, known in alive.values() for (where, _), user in known.items() if where == place)
            page = await reader.members(*place)
            assert {member.user_id: member.connections for member in page.items} == truth
            [count] = await reader.counts([place])
            assert count == Count(len(truth) - (None in truth), truth[None], truth.total())
            found = (await reader.connections(*place)).items
            assert {record.id: record.user_id for record in found} == {
                f"{name}-{number}": user
                for name, (_, known) in alive.items()
                for (where, number), user in known.items()
                if where == place
            }


# Slots and leases.


async def test_lost_slot(make: Callable[..., CachePresence], locmem: LocMemCache) -> None:
    """A node that has lost its slot to another one claims a new one."""
    store, other = make(slots=2), make(slots=2)
    node = await begin(store)
    (slot,) = [key for key in store._keys.slots if locmem.get(key)]
    locmem.delete(slot)
    locmem.set(slot, "b")
    await begin(other, "b")
    assert (await store.beat(NodeFacts(node, {}))).is_alive
    assert {found.id for found in await make(slots=2).nodes()} == {"a", "b"}


async def test_no_slot_left(make: Callable[..., CachePresence]) -> None:
    """More nodes than slots are an error that says what to raise; a slot that was given back serves again."""
    store = make(slots=2)
    await begin(store, "a")
    await begin(store, "b")
    with pytest.raises(StoreUnavailable, match="2 of 2 are taken: raise"):
        await store.begin(NodeFacts("c", {}))
    await reaped(store, "a")
    await begin(store, "c")


async def test_many_nodes_begin_at_once(make: Callable[..., CachePresence]) -> None:
    """Each gets a slot of its own."""
    stores = [make(slots=20) for _ in range(20)]
    await asyncio.gather(*(begin(store, f"node{number}") for number, store in enumerate(stores)))
    assert len(await stores[0].nodes()) == 20


async def test_begin_said_again(make: Callable[..., CachePresence]) -> None:
    """A node that doesn't know whether its start was recorded starts again, in the same slot, and keeps its data."""
    store = make()
    node = await begin(store)
    await store.apply(node, [Join("n", "r", 1, "ada")])
    await begin(store)
    assert len([key for key in caches["default"]._cache if ".slot." in key]) == 1  # type: ignore[attr-defined]
    await store.apply(node, [Join("n", "r", 2, "ada")])
    assert await counted(store) == Count(1, 0, 2)


async def test_readers_look_for_new_nodes_when_there_are_some(
    make: Callable[..., CachePresence], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots are read when a node has come, or after a while, and not for every call."""
    reader, store = make(), make()
    scans = 0
    real = LocMemCache.get_many

    def get_many(self: object, keys: Any, *args: Any) -> Any:
        nonlocal scans
        scans += any(".slot." in key for key in keys)
        return real(self, keys, *args)

    await begin(store, "a")
    monkeypatch.setattr(LocMemCache, "get_many", get_many)
    for _ in range(5):
        assert len(await reader.nodes()) == 1
    assert scans == 1
    monkeypatch.setattr(reader_module, "SCAN_SECONDS", 0)
    await begin(make(), "b")
    assert len(await reader.nodes()) == 2
    scans = 0
    for _ in range(5):
        assert len(await reader.nodes()) == 2
    assert scans == 5


async def test_fenced_by_the_clock(make: Callable[..., CachePresence], monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was stopped for longer than its lease may not write, even if no node removed it."""
    store = make(lease=30)
    node = await begin(store)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    with pytest.raises(LeaseLost):
        await store.apply(node, [Join("n", "r", 1)])
    assert not (await store.beat(NodeFacts(node, {}))).is_alive


async def test_fenced_while_it_writes(make: Callable[..., CachePresence]) -> None:
    """A node that others have taken out learns so with its next write or heartbeat, and cannot begin again."""
    one, two, other = make(), make(), make()
    await begin(one, "a")
    await begin(two, "b")
    await one.apply("a", [Join("n", "r", 1, "ada")])
    await reaped(other, "a")
    await reaped(other, "b")
    with pytest.raises(LeaseLost):
        await one.apply("a", [Join("n", "r", 2, "ada")])
    assert not (await two.beat(NodeFacts("b", {}))).is_alive
    assert not (await two.begin(NodeFacts("b", {}))).is_alive
    assert await other.nodes() == []


async def test_fenced_while_it_mends(make: Callable[..., CachePresence], locmem: LocMemCache) -> None:
    """A heartbeat whose node is taken out between its steps says so."""
    store = make()
    node = await begin(store)
    await store.apply(node, [Join("n", "r", 1, "ada")])
    locmem.delete(store._keys.room(node, ("n", "r")))
    renew = store._renew

    async def renew_and_die(*args: Any) -> Any:
        beat = await renew(*args)
        locmem.set(store._keys.dead(node), "1")
        return beat

    store._renew = renew_and_die  # type: ignore[method-assign]
    assert not (await store.beat(NodeFacts(node, {}))).is_alive


async def test_reaper_that_dies(
    make: Callable[..., CachePresence], locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reaper that died has not told, another one tells, once the claim has ended; and nothing is left."""
    monkeypatch.setattr(module, "REAP_BATCH", 10)
    store, one, two = make(), make(), make()
    node = await begin(store)
    await store.apply(node, [Join("n", f"r{number}", 1, "ada", details='"x"') for number in range(95)])
    await store.apply(node, [Join("n", EVERYONE, 1, "ada", details='"x"')])
    reaper = one.reap(node)
    told = [change.room for _ in range(3) for change in await anext(reaper)]
    await reaper.aclose()  # type: ignore[attr-defined]
    assert await reaped(two, node) == []
    beat = await two.begin(NodeFacts("b", {}))
    assert beat.expired == (node,)
    locmem.delete(store._keys.claim(node))
    rest = [change.room for change in await reaped(two, node)]
    assert {*told, *rest} == {*(f"r{number}" for number in range(95)), EVERYONE}
    # What was told last was not deleted yet.
    assert len({*told} & {*rest}) == 10
    await reaped(two, "b")
    assert not [key for key in locmem._cache if is_of_rooms(key)]  # type: ignore[attr-defined]


async def test_reaper_that_is_late(
    make: Callable[..., CachePresence], locmem: LocMemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reaper whose claim another one has got leaves it the rest."""
    monkeypatch.setattr(module, "REAP_BATCH", 10)
    store, late = make(), make()
    node = await begin(store)
    await store.apply(node, [Join("n", f"r{number}", 1, "ada") for number in range(30)])
    reaper = late.reap(node)
    await anext(reaper)
    locmem.set(store._keys.claim(node), "another one")
    assert [changes async for changes in reaper] == []
    assert locmem.get(store._keys.claim(node)) == "another one"


async def test_cursors_that_are_none(make: Callable[..., CachePresence]) -> None:
    """An invalid cursor, or one beyond the end, isn't a failure of the cache, and keeps no thread busy."""
    store = make()
    node = await begin(store)
    await store.apply(node, [Join("n", room, 1, "ada") for room in ("r", EVERYONE)])
    far = [f'["{node}",{position},0]' for position in (-1, -(10**30), 1 << 64)]
    for cursor in ("", "abc", "[]", "[1]", "-1", "5\n", str(1 << 64), '["a"]', '["a",true,0]', 100_000 * "[", *far):
        for page in (
            store.members("n", "r", cursor=cursor),
            store.rooms("n", cursor=cursor),
            store.connections("n", cursor=cursor),
            store.connections("n", user_id="nobody", cursor=cursor),
        ):
            with pytest.raises(BadCursor):
                await page


async def test_unknown_alias(settings: Any) -> None:
    """An alias that is not in CACHES is an error at once."""
    settings.CACHES = {"default": LOCMEM}
    with pytest.raises(ValueError, match="LOCATION must be an alias in CACHES, which has 'default'"):
        CachePresence("no-such-cache")


# Processes.


@pytest.mark.parametrize("kind", ["redis", "database"])
async def test_killed_process(kind: str, redis_server: RedisServer, database: Path, settings: Any) -> None:
    """Of two processes one is killed: within the lease its members are shown no more, the other's all the time."""
    lease = 2.0
    backend = {"redis": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_server.url}}
    settings.CACHES = {"default": LOCMEM, "presence": backend.get(kind, DATABASE)}
    store_settings = {
        "BACKEND": "wsrt.presence.cache.CachePresence",
        "LOCATION": "presence",
        "OPTIONS": {"LEASE": lease},
    }
    configuration = json.dumps({"CACHES": settings.CACHES, "DATABASE": str(database), "PRESENCE": store_settings})
    command = [sys.executable, "-m", "tests.support.node_process", configuration, "n"]
    processes = [
        subprocess.Popen([*command, *users], cwd=ROOT, stdout=subprocess.PIPE)
        for users in (["ada", "both"], ["grace", "both"])
    ]
    store = CachePresence("presence", lease=lease)
    try:
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        assert await counted(store) == Count(3, 0, 4)
        until = time.monotonic() + 1.5 * lease
        while time.monotonic() < until:  # leases are renewed
            assert await counted(store) == Count(3, 0, 4)
            await asyncio.sleep(lease / 10)
        processes[0].kill()

        async def is_gone() -> bool:
            page = await store.members("n", "r")
            here = {member.user_id: member.connections for member in page.items}
            assert here["grace"] == 1
            return here == {"grace": 1, "both": 1}

        await aeventually(is_gone, seconds=lease + 0.5)
        assert len(await store.nodes()) == 1
        assert await counted(store) == Count(2, 0, 2)
        beat = await store.begin(NodeFacts("third", {}))
        (dead,) = beat.expired
        changes = await reaped(store, dead)
        assert {change.user_id for change in changes} == {"ada", "both"}
        assert await counted(store) == Count(2, 0, 2)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        await store.close()
