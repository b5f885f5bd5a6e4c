"""The cache store: the database's cache, large rooms, caches that forget, and processes that die."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections
from django.test.utils import override_settings

from tests.support.processes import ROOT, RedisServer
from tests.support.waiting import aeventually
from wsrt.presence import cache as module
from wsrt.presence.cache import CachePresence
from wsrt.presence.contract import PresenceStoreContract
from wsrt.presence.store import Change, Count, Fenced, Join, Leave, NodeFacts, PresenceStore, StoreUnavailable

LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "presence-store"}
DATABASE = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "presence_cache"}


@pytest.fixture
def database(tmp_path: Path, django_db_blocker: Any) -> Iterator[Path]:
    """A database in a file, with the table of a cache, as the default one."""
    path = tmp_path / "cache.sqlite3"
    with django_db_blocker.unblock():
        before = connections.settings["default"]["NAME"]
        connections["default"].close()
        for name in (str(path),):
            connections.settings["default"]["NAME"] = name
            connections["default"].settings_dict["NAME"] = name
        with override_settings(CACHES={"default": LOCMEM, "presence": DATABASE}):
            call_command("createcachetable", verbosity=0)
            yield path
        connections["default"].close()
        connections.settings["default"]["NAME"] = before
        connections["default"].settings_dict["NAME"] = before


class TestDatabaseCache(PresenceStoreContract):
    """The cache in the database."""

    @pytest.fixture(autouse=True)
    def use(self, database: Path) -> None:
        """Needs the table."""

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        return CachePresence("presence", lease=lease)


@pytest.fixture
def locmem(settings: Any) -> Iterator[None]:
    settings.CACHES = {"default": LOCMEM}
    yield
    caches["default"].clear()


async def begin(store: CachePresence, name: str = "a") -> str:
    await store.begin(NodeFacts(name, {}))
    return name


async def counted(store: CachePresence, room: str = "r") -> Count:
    (found,) = await store.counts([("n", room)])
    return found


async def test_large_room(locmem: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that outgrows one document is spread over many, of which a change writes one; and shrinks again."""
    monkeypatch.setattr(module, "INLINE", 20)
    store, reader = CachePresence(), CachePresence()
    node = await begin(store)
    written: list[int] = []
    put = store._put
    monkeypatch.setattr(store, "_put", lambda documents, stale: (written.append(len(documents)), put(documents, stale)))
    await store.apply(node, [Join("n", "r", number, f"u{number}", '"x"') for number in range(200)])
    assert written.pop() == module.CHUNKS + 2
    assert await counted(reader) == Count(200, 0, 200)
    await store.apply(node, [Join("n", "r", 500, "u7"), Join("n", "r", 501)])
    assert written.pop() <= 4
    assert await reader.user_connections("n", "r", ["u7", "u8", "nobody"]) == [2, 1, 0]
    page = await reader.connections("n", "r", user_id="u7")
    assert {record.id for record in page.items} == {"a-7", "a-500"}
    assert await store.held(node, "n", "r") == {*range(200), 500, 501}
    await store.apply(node, [Leave("n", "r", number) for number in range(195)])
    assert await counted(reader) == Count(6, 1, 7)
    await store.apply(node, [Leave("n", "r", number) for number in (*range(195, 200), 500, 501)])
    assert await counted(reader) == Count(0, 0, 0)
    await store.apply(node, [Join("n", "r", number, f"u{number}") for number in range(50)])
    await store.apply(node, [Leave("n", "r", number) for number in range(50)])
    assert await counted(reader) == Count(0, 0, 0)
    assert not [key for key in caches["default"]._cache if ".slot." not in key and ".index." not in key]  # type: ignore[attr-defined]


async def test_reaped_large_room(locmem: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that ends leaves nothing of a large room behind."""
    monkeypatch.setattr(module, "INLINE", 20)
    store = CachePresence()
    node = await begin(store)
    await store.apply(node, [Join("n", "r", number, f"u{number}") for number in range(50)])
    changes: list[Change] = []
    async for chunk in store.reap(node):
        changes += chunk
    assert {change.user_id for change in changes} == {f"u{number}" for number in range(50)}
    assert not caches["default"]._cache  # type: ignore[attr-defined]


async def test_cache_that_forgot(locmem: None) -> None:
    """A cache that was cleared is filled again by the next heartbeat."""
    store, reader = CachePresence(), CachePresence()
    node = await begin(store)
    await store.apply(node, [Join("n", f"r{number}", number, "ada") for number in range(30)])
    caches["default"].clear()
    assert await reader.namespaces() == []
    assert (await store.beat(NodeFacts(node, {}))).is_alive
    assert len((await reader.rooms("n")).items) == 30
    assert [found.id for found in await reader.nodes()] == [node]


async def test_documents_are_written_again(locmem: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents do not outlive their time while their node lives."""
    store = CachePresence(lease=30)
    node = await begin(store)
    await store.apply(node, [Join("n", "r", 1, "ada")])
    monkeypatch.setattr(module, "KEPT", 0)
    writes = 0

    async def write(*args: Any) -> None:
        nonlocal writes
        writes += 1

    monkeypatch.setattr(store, "_write", write)
    await store.beat(NodeFacts(node, {}))
    assert writes == 1


async def test_slot_of_another(locmem: None) -> None:
    """A node whose slot was taken while it stood still finds another one."""
    store, other = CachePresence(), CachePresence()
    node = await begin(store)
    await store.apply(node, [Join("n", "r", 1, "ada")])
    caches["default"].delete(store._slot_key(0))
    await begin(other, "b")
    assert (await store.beat(NodeFacts(node, {}))).is_alive
    assert {found.id for found in await store.nodes()} == {"a", "b"}


async def test_no_slot_left(locmem: None) -> None:
    """More nodes than slots are an error that says what to raise."""
    store = CachePresence(slots=2)
    await begin(store, "a")
    await begin(store, "b")
    with pytest.raises(StoreUnavailable, match="SLOTS"):
        await begin(store, "c")


async def test_cache_that_fails(locmem: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the cache raises, and what it does not take, is a StoreUnavailable."""
    store = CachePresence()
    node = await begin(store)
    monkeypatch.setattr(caches["default"].__class__, "set_many", lambda self, documents, timeout: list(documents))
    with pytest.raises(StoreUnavailable, match="did not take"):
        await store.apply(node, [Join("n", "r", 1)])

    def fail(self: object, keys: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(caches["default"].__class__, "get_many", fail)
    with pytest.raises(StoreUnavailable, match="OSError: gone"):
        await store.counts([("n", "r")])


async def test_unknown_alias(settings: Any) -> None:
    """An alias that is not in CACHES is an error at once."""
    settings.CACHES = {"default": LOCMEM}
    with pytest.raises(Exception, match="no-such-cache"):
        CachePresence("no-such-cache")


async def test_fenced_by_the_clock(locmem: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was stopped for longer than its lease may not write, even if nobody took its slot."""
    store = CachePresence(lease=30)
    node = await begin(store)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    with pytest.raises(Fenced):
        await store.apply(node, [Join("n", "r", 1)])
    assert not (await store.beat(NodeFacts(node, {}))).is_alive


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
    command = [sys.executable, "-m", "tests.presence.node_process", configuration, "n"]
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
        await asyncio.sleep(1.5 * lease)  # leases are renewed
        assert await counted(store) == Count(3, 0, 4)
        processes[0].kill()

        async def is_gone() -> bool:
            page = await store.members("n", "r")
            here = {member.user_id: member.connections for member in page.items}
            assert here["grace"] == 1
            return here == {"grace": 1, "both": 1}

        await aeventually(is_gone, seconds=lease + 0.5)
        assert len(await store.nodes()) == 1
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        await store.close()
