"""The memory store: its limits to one process, and its cost. For the contract see test_contract."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from wsrt.presence import memory
from wsrt.presence.base import EVERYONE, Change, Count, Join, LeaseLost, Leave, NodeFacts
from wsrt.presence.memory import MemoryPresence


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> memory._State:
    """A world of this test's own."""
    world = memory._State()
    monkeypatch.setattr(memory, "_state", world)
    return world


async def begun(store: MemoryPresence, name: str = "a") -> str:
    assert (await store.begin(NodeFacts(name, {}))).is_alive
    return name


async def reaped(store: MemoryPresence, node: str) -> list[list[Change]]:
    return [changes async for changes in store.reap(node)]


def is_empty(world: memory._State) -> bool:
    return not (world.rooms or world.leases or world.room_ids or world.details)


async def test_loops_see_each_other() -> None:
    """Nodes of several loops, each in a thread and with a store of its own, count together."""

    async def live(name: str) -> None:
        store = MemoryPresence()
        await begun(store, name)
        for number in range(200):
            await store.apply(name, [Join("n", "r", number, f"u{number}"), Join("n", name, number)])
            await store.apply(name, [Leave("n", "r", number - 1), Leave("n", name, number - 1)])

    threads = [threading.Thread(target=lambda n=n: asyncio.run(live(f"node{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    store = MemoryPresence()
    assert await store.counts([("n", "r"), ("n", "node3")]) == [Count(1, 0, 8), Count(0, 1, 1)]
    assert len(await store.nodes()) == 8


async def test_nothing_is_left(world: memory._State) -> None:
    """Members that left, and nodes that were removed, leave nothing behind."""
    store = MemoryPresence()
    node = await begun(store)
    joins = [
        Join("n", room, number, f"u{number % 7}", '"x"', '"d"') for room in ("r", EVERYONE) for number in range(20)
    ]
    await store.apply(node, joins)
    await store.apply(node, [Leave(join.namespace, join.room, join.connection) for join in joins[1:]])
    assert world.room(("n", "r")).data == {"u0": '"x"'}
    await store.apply(node, [Leave("n", "r", 0)])
    assert not (world.rooms or world.details)
    await store.apply(node, joins)
    await reaped(store, node)
    assert is_empty(world)


async def test_reaped_in_chunks(world: memory._State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk has connections of many small rooms, or a part of a large one; from the first on, the node is fenced."""
    monkeypatch.setattr(memory, "CHUNK", 50)
    store, other = MemoryPresence(), MemoryPresence()
    node = await begun(store)
    await store.apply(node, [Join("n", "large", number, f"u{number}") for number in range(120)])
    await store.apply(node, [Join("n", f"r{number}", 1, "ada") for number in range(130)])
    chunks: list[list[Change]] = []
    async for changes in store.reap(node):
        chunks.append(changes)
        with pytest.raises(LeaseLost):
            await store.apply(node, [Join("n", "r", 1)])
        assert not (await store.beat(NodeFacts(node, {}))).is_alive
        # Other nodes may help to remove it.
        assert await other.expired() == (() if len(chunks) == 5 else (node,))
    assert [len(changes) for changes in chunks] == [50] * 5
    assert is_empty(world)


async def test_expired_nodes_are_told_to_readers(world: memory._State) -> None:
    """Where no node is left to do it, readers learn whom to take out."""
    store = MemoryPresence(lease=30)
    node = await begun(store)
    await store.apply(node, [Join("n", "r", 1, "ada")])
    assert await store.expired() == ()
    now = world.now()
    world.now = lambda: now + 31
    assert await store.expired() == (node,)
    await reaped(store, node)
    assert await store.expired() == ()


@pytest.fixture
def forked() -> Iterator[tuple[int, int]]:
    """A pipe from a child."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_forked_child(world: memory._State, forked: tuple[int, int]) -> None:
    """A child has none of its parent's connections, and is not stopped by a lock that was held at the fork."""
    await MemoryPresence().begin(NodeFacts("a", {}))
    reader, writer = forked
    with world.lock:
        child = os.fork()
        if not child:
            os.write(writer, f"{memory._state.lock.locked()} {len(memory._state.leases)}".encode())
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 100) == b"False 0"
    os.waitpid(child, 0)
