"""The node's side of presence, with a store that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from tests.support.waiting import aeventually
from wsrt import presence
from wsrt.cluster.node import Node, current_node
from wsrt.metrics import counters
from wsrt.presence import memory, tracker
from wsrt.presence.base import Beat, Change, Join, LeaseLost, Leave, MemberRecord, NodeFacts, StoreUnavailable
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.tracker import Tracker

LEASE = 0.3


class Store(MemoryPresence):
    """The memory, that fails as it is told, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(lease=LEASE)
        self.error: Exception | None = None
        self.apply_error: Exception | None = None
        self.batches: list[int] = []
        self.begun: list[str] = []

    async def begin(self, node: NodeFacts) -> Beat:
        self._fail()
        self.begun.append(node.id)
        return await super().begin(node)

    async def beat(self, node: NodeFacts) -> Beat:
        self._fail()
        return await super().beat(node)

    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        self._fail()
        if self.apply_error is not None and operations:
            await super().apply(node, ())
            raise self.apply_error
        self.batches.append(len(operations))
        await asyncio.sleep(0)
        return await super().apply(node, operations)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def lose(self) -> None:
        """Come back empty."""
        self._state.rooms.clear()
        self._state.room_ids.clear()
        self._state.leases.clear()
        self._state.details.clear()

    async def users(self, room: str = "r") -> set[str]:
        page = await self.members("n", room, limit=5000)
        return {member.user_id for member in page.items if member.user_id is not None}


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(memory, "_state", memory._State())
    monkeypatch.setattr(tracker, "RETRY_SECONDS", 0.05)
    yield


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def node(store: Store) -> AsyncIterator[Tracker]:
    found = Tracker(current_node(), store, grace=0.1)
    yield found
    store.error = None
    await found.end()


def join(number: int, user: str | None = None, room: str = "r") -> Join:
    return Join("n", room, number, user or f"u{number}")


async def test_written_in_batches(node: Tracker, store: Store) -> None:
    """A crowd is written in few round trips, in order."""
    for number in range(1000):
        node.join(join(number))
    node.leave("n", "r", 7)
    await node.settle()
    assert await store.users() == {f"u{number}" for number in range(1000) if number != 7}
    assert len(store.batches) == 4
    assert node.is_idle


async def test_fenced(node: Tracker, store: Store) -> None:
    """A node whose lease has ended writes everything again under another id, including later changes."""
    node.join(join(1))
    await node.settle()
    store.lose()
    node.join(join(2))
    node.leave("n", "r", 1)
    node.join(join(3))
    await aeventually(lambda: _has(store, {"u2", "u3"}))
    assert len(store.begun) == 2
    assert store.begun[1].startswith(node.id.partition(".")[0] + ".")


async def test_store_that_came_back_empty(node: Tracker, store: Store) -> None:
    """A node that has nothing to write sees at its heartbeat that the store lost it."""
    node.join(join(1))
    await node.settle()
    store.lose()
    await aeventually(lambda: _has(store, {"u1"}))


async def _has(store: Store, users: set[str]) -> bool:
    return await store.users() == users


async def test_nobody_told_of_a_new_id(node: Tracker, store: Store) -> None:
    """Who is there under the old id and the new was never away."""
    node.join(join(1))
    await node.settle()
    (before,) = await store.versions([("n", "r")])
    node._must_rebuild = True
    node._wake.set()
    await aeventually(lambda: len(store.begun) == 2 and node.is_idle and not node._former_ids)
    assert await store.versions([("n", "r")]) == [before]
    assert len(await store.held(node.id, "n", "r")) == 1
    assert [found.id for found in await store.nodes()] == [node.id]


async def test_last_word_after_a_rebuild(node: Tracker, store: Store) -> None:
    """When everything is written again, the latest data of a user's connections is written last."""
    for number, word in [(1, '"one"'), (2, '"two"'), (1, '"three"')]:
        node.join(Join("n", "r", number, "ada", word))
    node.join(Join("n", "r", 3, "ada"))
    await node.settle()
    store.lose()
    await aeventually(lambda: len(store.begun) == 2 and node.is_idle)
    page = await store.members("n", "r")
    assert page.items == (MemberRecord("ada", 3, '"three"'),)


@pytest.mark.parametrize("error", [StoreUnavailable("down"), RuntimeError("a bug of the store")])
async def test_store_that_is_down(node: Tracker, store: Store, error: Exception) -> None:
    """A failed write is retried, and no caller waits for it."""
    failed = counters["presence_unavailable"] + counters["presence_failed"]
    store.error = error
    node.join(join(1))
    await aeventually(lambda: counters["presence_unavailable"] + counters["presence_failed"] > failed)
    node.join(join(2))
    async with asyncio.timeout(tracker.SETTLE_SECONDS / 2):
        await node.settle()
    store.error = None
    await aeventually(lambda: _has(store, {"u1", "u2"}))


async def test_heartbeat_that_fails(node: Tracker, store: Store) -> None:
    """A failed heartbeat is retried; if the lease has ended the node takes a new id, and no member is lost."""
    node.join(join(1))
    await node.settle()
    for error in (StoreUnavailable("down"), LeaseLost("gone"), RuntimeError("bug")):
        store.error = error
        await asyncio.sleep(1.5 * LEASE)  # the lease ends
        store.error = None
        await aeventually(lambda: _has(store, {"u1"}))
        await aeventually(lambda: node.is_idle and not node._must_rebuild)


async def test_too_much_waits(node: Tracker, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many changes wait, they are dropped, and everything is written again."""
    monkeypatch.setattr(tracker, "MAX_PENDING", 10)
    node.join(join(0))
    await node.settle()
    store.error = StoreUnavailable("down")
    for number in range(1, 26):
        node.join(join(number))
    node.leave("n", "r", 3)
    store.error = None
    await aeventually(lambda: _has(store, {f"u{number}" for number in range(26) if number != 3}))


async def test_lost_writes_are_found(node: Tracker, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that lost a write which it had taken is repaired (a failover)."""
    monkeypatch.setattr(Store, "is_shared", True)
    repaired = counters["presence_repairs"]
    node.join(join(1))
    node.join(join(2, room="other"))
    await node.settle()
    await MemoryPresence.apply(store, node.id, [Leave("n", "other", 2)])
    await aeventually(lambda: counters["presence_repairs"] > repaired)
    await aeventually(lambda: store.users("other"))
    assert await store.users("r") == {"u1"}


async def test_dead_node_is_reaped(node: Tracker, store: Store) -> None:
    """The members of a node that is heard of no more are taken out soon after its lease."""
    dead = MemoryPresence(lease=LEASE)
    await dead.begin(NodeFacts("dead", {}))
    await dead.apply("dead", [join(1, "ghost"), join(2, "u1")])
    node.join(join(1))
    await node.settle()
    assert await store.users() == {"ghost", "u1"}
    await aeventually(lambda: _has(store, {"u1"}), seconds=LEASE + 2)


class Unlooked(dict[int, Join]):
    """Connections of a room that is never listed."""

    def values(self) -> Any:
        raise AssertionError("all connections of the room were looked through")

    items = __iter__ = values  # type: ignore[assignment]


async def test_leave_costs_no_look_at_others(node: Tracker, store: Store) -> None:
    """Whether a user is still here is known without a look through the connections of the room."""
    place = ("n", "r")
    for number, user in enumerate(["ada", "ada", "grace", None]):
        node.join(Join(*place, number, user))
    node.join(join(1, "edsger"))
    node._joins[place] = Unlooked(node._joins[place])
    assert [node._is_here(place, user) for user in ("ada", "edsger", "grace", None, "u9")] == [True] * 4 + [False]
    for number in range(3):
        node.leave("n", "r", number)
    assert [node._is_here(place, user) for user in ("ada", "edsger", "grace", None)] == [False] * 3 + [True]
    node.leave("n", "r", 3)
    assert not node._is_here(place, None)
    assert (node._joins, node._users, node._rooms_of) == ({}, {}, {})


async def test_store_that_takes_ids_and_no_members(node: Tracker, store: Store) -> None:
    """While a store begins leases and takes no members, the ids of attempts are taken out, and do not pile up."""
    node.join(join(1))
    await node.settle()
    first = node.id
    store.apply_error = StoreUnavailable("no room for members")
    store.lose()
    node.join(join(2))
    await aeventually(lambda: len(store.begun) > 5)
    assert node._former_ids == [first]
    assert len(store._state.leases) <= 2
    store.apply_error = None
    await aeventually(lambda: _has(store, {"u1", "u2"}))
    await aeventually(lambda: not node._former_ids)


async def test_grace(node: Tracker, store: Store) -> None:
    """Who is lost counts for the grace; who said goodbye does not."""
    for number in (1, 2):
        node.join(join(number))
    node.remove_connection(1, at_once=True)
    node.remove_connection(2, at_once=False)
    await node.settle()
    assert await store.users() == {"u2"}
    await aeventually(lambda: _has(store, set()))


async def test_end(store: Store) -> None:
    """A node that ends takes everything along, and does nothing after that."""
    found = Tracker(Node(asyncio.get_running_loop()), store, grace=10)
    found.join(join(1))
    await found.settle()
    found.remove_connection(1, at_once=False)
    await found.end()
    await found.end()
    assert await store.users() == set()
    assert await store.nodes() == []
    found.join(join(2))
    found.remove_connection(2, at_once=False)
    await asyncio.sleep(2 * LEASE)
    assert await store.users() == set()


async def test_end_before_anything(store: Store) -> None:
    """A node that never had a connection has no lease, and ends without a word."""
    found = Tracker(Node(asyncio.get_running_loop()), store, grace=10)
    await found.end()
    assert store.begun == []


def test_loops_of_one_process() -> None:
    """Two event loops of a process are two nodes that see each other; one that was closed leaves no member behind."""

    async def enter(user: str) -> None:
        found = tracker.tracker_of_loop()
        assert found is not None
        found.join(Join("loops", "r", 1, user))
        await found.settle()

    async def here() -> set[str | None]:
        page = await presence.amembers("r", namespace="loops")
        return {member.user_id for member in page}

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(enter("ada"))
        second.run_until_complete(enter("grace"))
        assert first.run_until_complete(here()) == second.run_until_complete(here()) == {"ada", "grace"}
        close(first)
        assert second.run_until_complete(here()) == {"grace"}
    finally:
        close(first)
        close(second)


def test_loops_that_were_closed_are_taken_out() -> None:
    """Loops with connections that come and go don't stay in memory, even without a reader."""

    async def enter(user: str) -> None:
        found = tracker.tracker_of_loop()
        assert found is not None
        found.join(Join("gone", "r", 1, user))
        await found.settle()
        await aeventually(lambda: len(memory._state.room_ids) == 1)

    for number in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(enter(f"u{number}"))
        close(loop)
    assert len([node for node, _ in tracker._trackers.values() if node.loop.is_closed()]) == 1
    assert len(memory._state.leases) == 1


def close(loop: asyncio.AbstractEventLoop) -> None:
    if not loop.is_closed():
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
