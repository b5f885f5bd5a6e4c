"""The follower where only staged faults show it: pauses, sizes, conflicts, and claims under way."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from tests.support.following import A, Cluster
from tests.support.simulation import simulate
from wsrt.exceptions import StoreUnavailable
from wsrt.history import follower as module
from wsrt.history import memory
from wsrt.history.memory import MemoryHistory
from wsrt.types import Position


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_state", memory._state)


def test_a_store_that_refuses_at_once() -> None:
    """While the store refuses, the node asks again after pauses, and not in a loop that nothing else interrupts."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        cluster.store.errors["read"] = StoreUnavailable("down")
        await cluster.publish(1, arrives=False)
        await cluster.publish(2)
        await asyncio.sleep(20)
        assert 5 < cluster.store.calls.count("read") < 60
        cluster.store.errors.clear()
        await asyncio.sleep(2)
        assert len(cluster.delivered) == 2

    simulate(work, 1)


def test_a_room_left_while_its_log_is_extended() -> None:
    """The bytes of a log that nobody needs any more aren't counted."""

    async def work() -> None:
        cluster = Cluster()
        for n in range(5):
            await cluster.publish(n)
        await cluster.follower.follow(A)
        epoch = cluster.follower.position(A).epoch
        covering = asyncio.ensure_future(cluster.follower.cover(A, Position(epoch, 1)))
        await asyncio.sleep(0.001)
        cluster.follower.unfollow(A)
        with pytest.raises(LookupError):
            await covering
        assert cluster.follower._size == 0

    simulate(work, 1)


def test_a_claim_ahead_of_the_node() -> None:
    """A node that is behind a client reads on before it answers, so that it recognises writes that are lost later."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        last = await cluster.publish(1, arrives=False)
        assert await cluster.follower.cover(A, last) is None
        assert cluster.follower.position(A) == last
        assert len(cluster.delivered) == 1
        assert await cluster.follower.cover(A, Position(last.epoch, 2)) == "epoch"

    simulate(work, 1)


def test_a_conflict_while_the_store_is_down() -> None:
    """A history that has lost publications starts again when the store is back."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        saved = copy.deepcopy(memory._state.rooms)
        before = await cluster.publish(1)
        memory._state.rooms = saved
        cluster.store.errors["renew"] = StoreUnavailable("down")
        await cluster.publish(2)
        await asyncio.sleep(10)
        assert cluster.follower.position(A) == before
        cluster.store.errors.clear()
        await asyncio.sleep(10)
        assert cluster.follower.position(A).epoch != before.epoch
        assert len(cluster.delivered) == 2

    simulate(work, 1)


def test_logs_used_longest_ago_are_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, the logs of the rooms go whose last publication was earliest."""
    rooms = [("r", name) for name in "abcd"]

    async def work() -> None:
        cluster = Cluster()
        for room in rooms:
            await cluster.follower.follow(room)
        for n, room in enumerate(rooms):
            await cluster.publish(n, room)
        one = cluster.follower._size // len(rooms)
        monkeypatch.setattr(module, "LOG_BYTES", len(rooms) * one)
        await cluster.publish(5, rooms[0])
        assert [cluster.follower._log(room).size // one for room in rooms] == [2, 0, 1, 1]
        await cluster.publish(6, rooms[1])
        assert [cluster.follower._log(room).size // one for room in rooms] == [2, 1, 0, 1]

    simulate(work, 1)


def test_an_epoch_that_begins_during_a_read() -> None:
    """A publication of an epoch that begins while the history is being read is delivered once, with its position."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        await cluster.publish(1, arrives=False)
        await cluster.publish(2)
        read = MemoryHistory.read

        async def slow(store: Any, *arguments: Any, **options: Any) -> Any:
            reading = await read(store, *arguments, **options)
            if not cluster.store.errors:
                cluster.store.errors["once"] = ValueError()
                await cluster.store.purge(A)
                await cluster.publish(3)
            return reading

        cluster.store.read = lambda *arguments, **options: slow(cluster.store, *arguments, **options)  # type: ignore[assignment,method-assign]
        await asyncio.sleep(5)
        third = [text for text in cluster.delivered if "0003" in text]
        assert len(third) == 1
        assert '"offset":1' in third[0]

    simulate(work, 1)
