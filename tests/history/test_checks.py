"""The checks of silent rooms: what the layer has lost is found, and what the store has lost."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence

import pytest

from tests.support.following import A, Cluster
from tests.support.simulation import simulate
from wsrt.exceptions import StoreUnavailable
from wsrt.history import checks as module
from wsrt.history import memory
from wsrt.history.base import Last
from wsrt.realms import RoomId


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_state", memory._state)


def test_a_lost_last_publication() -> None:
    """A publication that was lost before a silence arrives when the room is checked."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        await cluster.publish(1, arrives=False)
        await asyncio.sleep(2 * module.CHECK_SECONDS)
        assert len(cluster.delivered) == 1

    simulate(work, 1)


def test_checks_after_an_outage_of_the_layer() -> None:
    """All rooms are checked at once when the layer is back, also if the store refuses at first."""

    async def work() -> None:
        cluster = Cluster()
        cluster.follower.check_all()
        await cluster.follower.follow(A)
        await cluster.publish(1, arrives=False)
        cluster.store.errors["positions"] = StoreUnavailable("down")
        cluster.follower.check_all()
        await asyncio.sleep(1)
        assert cluster.delivered == []
        cluster.store.errors.clear()
        cluster.follower.check_all()
        await asyncio.sleep(1)
        assert len(cluster.delivered) == 1

    simulate(work, 1)


def test_no_rooms_no_checks() -> None:
    """A node whose connections are in no room with history asks nothing."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        cluster.follower.unfollow(A)
        before = len(cluster.store.calls)
        cluster.follower.check_all()
        await asyncio.sleep(2 * module.CHECK_SECONDS)
        assert len(cluster.store.calls) == before

    simulate(work, 1)


def test_checks_survive_a_defect_of_the_store() -> None:
    """After an unexpected error, positions are checked as before."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        cluster.store.errors["positions"] = ValueError("a defect")
        await asyncio.sleep(60)
        cluster.store.errors.clear()
        await cluster.publish(1, arrives=False)
        await asyncio.sleep(60)
        assert len(cluster.delivered) == 1

    simulate(work, 1)


def test_rooms_left_during_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that is left while earlier ones are being checked is skipped."""
    monkeypatch.setattr(module, "CHECK_ROOMS", 1)

    async def work() -> None:
        cluster = Cluster()
        rooms = [("r", name) for name in "abc"]
        for room in rooms:
            await cluster.follower.follow(room)
        found = cluster.store.positions

        async def positions(asked: Sequence[RoomId]) -> list[Last]:
            if cluster.follower._rooms.get(rooms[1]) is not None:
                cluster.follower.unfollow(rooms[1])
            return await found(asked)

        cluster.store.positions = positions  # type: ignore[method-assign]
        await cluster.publish(1, rooms[2], arrives=False)
        cluster.follower.check_all()
        await asyncio.sleep(1)
        assert len(cluster.delivered) == 1

    simulate(work, 1)


def test_more_made_again_than_lost() -> None:
    """A store that has lost the last publication is recognised, even if publications after it arrive before another."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.publish(1)
        saved = copy.deepcopy(memory._state.rooms)
        before = await cluster.publish(2)
        await cluster.follower.follow(A)
        memory._state.rooms = saved
        again = await cluster.publish(3, arrives=False)
        assert again == before
        await cluster.publish(4)
        cluster.arrive(3, again)
        await asyncio.sleep(60)
        assert cluster.follower.position(A).epoch != before.epoch

    simulate(work, 1)


@pytest.mark.parametrize("is_new", [False, True])
def test_as_many_lost_as_made_again(is_new: bool) -> None:
    """A store that has other publications at the same offsets is recognised, also by a node that has seen only one."""

    async def work() -> None:
        cluster = Cluster()
        await cluster.follower.follow(A)
        await cluster.publish(1)
        saved = copy.deepcopy(memory._state.rooms)
        before = await cluster.publish(2)
        if is_new:
            cluster.follower.unfollow(A)
            await cluster.follower.follow(A)
        memory._state.rooms = saved
        assert await cluster.publish(3, arrives=False) == before
        await asyncio.sleep(60)
        assert cluster.follower.position(A).epoch != before.epoch

    simulate(work, 1)
