"""The backplane, on a layer whose faults are staged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from tests.support.layer import FakeLayer, installed
from tests.support.waiting import aeventually
from wsrt import BackplaneUnavailable
from wsrt.addresses import CONTROL_GROUP, node_group
from wsrt.cluster import backplane, layers, memberships
from wsrt.cluster.backplane import Backplane
from wsrt.metrics import counters


@pytest.fixture
def layer() -> Iterator[FakeLayer]:
    with installed(FakeLayer()) as fake:
        yield fake


@pytest_asyncio.fixture
async def plane(layer: FakeLayer) -> AsyncIterator[Backplane]:
    received: list[dict[str, Any]] = []

    async def on_message(message: dict[str, Any]) -> None:
        if message["type"] == "bad":
            raise ValueError("no such type")
        received.append(message)

    plane = Backplane("default", "n1", on_message)
    plane.received = received  # type: ignore[attr-defined]
    yield plane
    for task in list(plane._tasks):
        task.cancel()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let supervision take its steps in milliseconds."""
    monkeypatch.setattr(backplane, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(backplane, "ANSWER_SECONDS", 0.02)
    monkeypatch.setattr(backplane, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(layers, "LAYER_SECONDS", 0.2)


async def test_own_groups(plane: Backplane, layer: FakeLayer) -> None:
    """An open node is in the group of control and in its own, with one channel."""
    await plane.open()
    await plane.open()
    assert (layer.members(CONTROL_GROUP), layer.members(node_group("n1"))) == (1, 1)
    assert layer.calls["new_channel", ""] == 1


async def test_one_membership_a_node(plane: Backplane, layer: FakeLayer) -> None:
    """The node joins a group with its first connection and leaves it with the last (C3)."""
    await plane.acquire("room")
    await plane.acquire("room")
    assert layer.calls["group_add", "room"] == 1
    plane.release("room")
    await asyncio.sleep(0)
    assert layer.members("room") == 1
    plane.release("room")
    await aeventually(lambda: not layer.members("room") and not plane.groups)
    assert layer.calls["group_discard", "room"] == 1


async def test_second_joiner_waits_for_the_first(plane: Backplane, layer: FakeLayer) -> None:
    """A second joiner returns when the group was joined, not before: nothing is missed."""
    await plane.open()
    layer.gate.clear()
    joins = [asyncio.create_task(plane.acquire("room")) for _ in range(2)]
    await asyncio.sleep(0.01)  # let both reach the layer
    assert not any(join.done() for join in joins)
    layer.gate.set()
    await asyncio.gather(*joins)
    assert layer.calls["group_add", "room"] == 1


async def test_leave_does_not_overtake_a_join(plane: Backplane, layer: FakeLayer) -> None:
    """A join that begins while the last member leaves ends in the group."""
    for _ in range(20):
        await plane.acquire("room")
        plane.release("room")
        await plane.acquire("room")
        await asyncio.sleep(0.001)  # let the leave run
        assert layer.members("room") == 1
        plane.release("room")


async def test_join_waits_for_a_leave_under_way(plane: Backplane, layer: FakeLayer) -> None:
    """A join does not run beside the leave before it: a layer may carry out two calls in any order."""
    await plane.acquire("room")
    layer.gate.clear()
    plane.release("room")
    await aeventually(lambda: layer.calls["group_discard", "room"])
    joining = asyncio.create_task(plane.acquire("room"))
    await asyncio.sleep(0.01)  # let it come as far as it gets
    assert layer.calls["group_add", "room"] == 1
    layer.gate.set()
    await joining
    assert (layer.calls["group_add", "room"], layer.members("room")) == (2, 1)


async def test_join_that_fails_holds_nothing(plane: Backplane, layer: FakeLayer) -> None:
    """A join that the layer refuses raises, and leaves no group behind (S10)."""
    await plane.open()
    layer.is_down = True
    with pytest.raises(BackplaneUnavailable, match="join a group"):
        await plane.acquire("room")
    await aeventually(lambda: not plane.groups)


async def test_unknown_release(plane: Backplane) -> None:
    """Giving back what was never held does nothing (P5)."""
    plane.release("room")
    assert not plane.groups


async def test_open_while_the_layer_is_down(plane: Backplane, layer: FakeLayer) -> None:
    """A layer that is down at first use raises, and the next use tries again."""
    layer.is_down = True
    with pytest.raises(BackplaneUnavailable):
        await plane.open()
    layer.is_down = False
    await plane.open()
    assert plane.is_up


async def test_join_of_own_groups_fails(plane: Backplane, layer: FakeLayer) -> None:
    """A layer that fails between channel and groups raises, and the next use starts over."""
    layer.failing = {"group_add"}
    with pytest.raises(BackplaneUnavailable):
        await plane.open()
    layer.failing = set()
    await plane.open()
    assert plane.is_up


async def test_bad_message(plane: Backplane, layer: FakeLayer, caplog: pytest.LogCaptureFixture) -> None:
    """A message that cannot be handled is logged and counted, and the next one is received (C5, C6)."""
    before = counters["backplane_bad_messages"]
    await plane.acquire("room")
    await layer.group_send("room", {"type": "bad"})
    await layer.group_send("room", {"type": "good"})
    await aeventually(lambda: plane.received)  # type: ignore[attr-defined]
    assert plane.received == [{"type": "good"}]  # type: ignore[attr-defined]
    assert counters["backplane_bad_messages"] == before + 1
    assert "Traceback" in caplog.text


async def test_receive_that_fails(plane: Backplane, layer: FakeLayer, fast: None) -> None:
    """After an error of receive() all groups are joined again: Redis may have come back empty."""
    await plane.acquire("room")
    layer.groups.clear()
    layer.fail(ConnectionError("gone"))
    await aeventually(lambda: layer.members("room") and layer.members(CONTROL_GROUP))
    await layer.group_send("room", {"type": "good"})
    await aeventually(lambda: plane.received)  # type: ignore[attr-defined]


async def test_receive_that_fails_while_the_layer_is_down(plane: Backplane, layer: FakeLayer, fast: None) -> None:
    """Joining again is tried until it works."""
    await plane.acquire("room")
    layer.groups.pop("room")
    layer.failing = {"group_add"}
    before = counters["backplane_errors"]
    layer.fail(ConnectionError("gone"))
    layer.fail(ConnectionError("still gone"))
    await aeventually(lambda: counters["backplane_errors"] >= before + 2)
    assert not layer.members("room")
    layer.failing = set()
    layer.fail(ConnectionError("gone again"))
    await aeventually(lambda: layer.members("room") == 1)


async def test_idle_timeout_is_no_error(plane: Backplane, layer: FakeLayer) -> None:
    """A time-out of an idle connection to Redis costs nothing."""
    await plane.acquire("room")
    before = counters["backplane_errors"]
    layer.fail(TimeoutError())
    await layer.group_send("room", {"type": "good"})
    await aeventually(lambda: plane.received)  # type: ignore[attr-defined]
    assert counters["backplane_errors"] == before


async def test_deaf_layer_is_rebuilt(
    plane: Backplane, layer: FakeLayer, fast: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that does not hear itself twice replaces channel and groups, and hears again."""
    caplog.set_level(logging.WARNING, "wsrt")
    await plane.acquire("room")
    first = set(layer.queues)
    layer.is_deaf = True
    await aeventually(lambda: len(layer.queues) > len(first), "a new channel")
    layer.is_deaf = False
    await aeventually(lambda: plane.is_up)
    await aeventually(lambda: layer.groups["room"] and not layer.groups["room"] & first, "the old channel to be out")
    assert "joining 1 groups" in caplog.text
    await layer.group_send("room", {"type": "good"})
    await aeventually(lambda: plane.received)  # type: ignore[attr-defined]


async def test_rebuild_until_it_works(plane: Backplane, layer: FakeLayer, fast: None) -> None:
    """While the layer is down, joining raises, what was wanted is kept, and all of it comes back by itself."""
    await plane.acquire("room")
    layer.groups.clear()
    layer.is_down = True
    await aeventually(lambda: not plane.is_up, "the probes to fail")
    with pytest.raises(BackplaneUnavailable):
        await plane.acquire("other")
    assert "room" in plane.groups
    layer.is_down = False
    await aeventually(lambda: plane.is_up and layer.members("room") == 1)


async def test_leaving_while_the_layer_is_down(plane: Backplane, layer: FakeLayer) -> None:
    """A group that cannot be left is forgotten, and counted."""
    await plane.acquire("room")
    before = counters["groups_left_late"]
    layer.is_down = True
    plane.release("room")
    await aeventually(lambda: counters["groups_left_late"] == before + 1)
    assert not plane.groups


async def test_refresh_before_groups_expire(plane: Backplane, layer: FakeLayer, fast: None) -> None:
    """Memberships are renewed three times within group_expiry."""
    layer.group_expiry = 0.6
    await plane.acquire("room")
    await aeventually(lambda: layer.calls["group_add", "room"] >= 3)
    layer.failing = {"group_add"}
    tried = layer.calls["group_add", CONTROL_GROUP]
    await aeventually(lambda: layer.calls["group_add", CONTROL_GROUP] > tried + 1, "another try")
    layer.failing = set()
    renewed = layer.calls["group_add", "room"]
    await aeventually(lambda: layer.calls["group_add", "room"] > renewed)


async def test_foreign_probe(plane: Backplane, layer: FakeLayer) -> None:
    """A message that another channel sent to itself through the group isn't an answer."""
    await plane.open()
    for number in range(99):
        await layer.group_send(node_group("n1"), {"type": backplane.PROBE, "channel": "other", "number": number})
    await asyncio.sleep(0.01)  # let it be received
    assert await plane._probe()


async def test_receive_loop_that_is_cancelled(plane: Backplane, layer: FakeLayer) -> None:
    """A receive loop that somebody else cancels goes on, and nothing that waits in the layer is lost."""
    await plane.acquire("room")
    receiver = plane._receiver
    assert receiver is not None
    receiver.cancel()
    await layer.group_send("room", {"type": "good"})
    await aeventually(lambda: plane.received)  # type: ignore[attr-defined]
    assert plane._receiver is not receiver
    assert layer.calls["new_channel", ""] == 1


# Callers that are cancelled.


@pytest.mark.parametrize("steps", range(8))
async def test_opening_outlives_its_caller(plane: Backplane, layer: FakeLayer, steps: int) -> None:
    """A first caller that is cancelled at any step, as by a set-up time-out, leaves no node that is deaf."""
    layer.gate.clear()
    opening = asyncio.create_task(plane.acquire("room"))
    for step in range(steps):
        if step == 4:
            layer.gate.set()
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    layer.gate.set()
    await plane.acquire("room")
    await layer.group_send("room", {"type": "good"})
    await aeventually(lambda: plane.received)  # type: ignore[attr-defined]
    assert plane.is_up
    assert await plane._probe()
    assert layer.calls["new_channel", ""] == 1


@pytest.mark.parametrize("steps", range(1, 8))
async def test_join_that_is_cancelled(plane: Backplane, layer: FakeLayer, steps: int) -> None:
    """A join that is cancelled at any step leaves no membership behind."""
    await plane.open()
    joining = asyncio.create_task(plane.acquire("room"))
    for _ in range(steps):
        await asyncio.sleep(0)
    joining.cancel()
    await asyncio.wait([joining])
    if not joining.cancelled():
        plane.release("room")
    await aeventually(lambda: not layer.members("room") and not plane._memberships._groups)


async def test_second_joiner_outlives_the_first(plane: Backplane, layer: FakeLayer) -> None:
    """A joiner that waits for another's call is joined though that other one is cancelled."""
    await plane.open()
    layer.gate.clear()
    first, second = (asyncio.create_task(plane.acquire("room")) for _ in range(2))
    await aeventually(lambda: layer.calls["group_add", "room"])
    first.cancel()
    await asyncio.wait([first])
    layer.gate.set()
    await second
    assert layer.members("room") == 1
    assert layer.calls["group_add", "room"] == 1


# What the layer has confirmed.


async def test_is_up_is_what_the_probe_saw(plane: Backplane, layer: FakeLayer, fast: None) -> None:
    """A node is up while its last message to itself came back."""
    await plane.open()
    assert plane.is_up
    layer.failing = {"probe"}
    await aeventually(lambda: not plane.is_up)
    layer.failing = set()
    await aeventually(lambda: plane.is_up)


async def test_join_after_memberships_were_lost(plane: Backplane, layer: FakeLayer) -> None:
    """A join of a group that the node was in waits until the layer has confirmed it again, once it may be lost."""
    await plane.acquire("room")
    layer.groups.clear()
    layer.gate.clear()
    layer.fail(ConnectionError("gone"))
    await asyncio.sleep(0.01)  # let it be received
    joining = asyncio.create_task(plane.acquire("room"))
    await asyncio.sleep(0.01)  # let it come as far as it gets
    assert not joining.done()
    layer.gate.set()
    await joining
    assert layer.members("room") == 1


async def test_group_is_proved_once(plane: Backplane, layer: FakeLayer) -> None:
    """On a layer that isn't known to confirm, the first join of a group returns when a message came through it."""
    layer.delay = 0.05
    await plane.acquire("room")
    assert layer.members("room") == 1
    probes = layer.calls["probe", "room"]
    assert probes
    for _ in range(10):
        await plane.acquire("room")
    assert layer.calls["probe", "room"] == probes


async def test_group_that_carries_nothing(plane: Backplane, layer: FakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A join fails where the layer took the membership, but no message comes through the group."""
    await plane.open()
    monkeypatch.setattr(layers, "LAYER_SECONDS", 0.1)
    layer.is_deaf = True
    with pytest.raises(BackplaneUnavailable, match="deliver to a group"):
        await plane.acquire("room")
    await aeventually(lambda: not layer.members("room"))


async def test_memberships_that_could_not_be_ended(plane: Backplane, layer: FakeLayer, fast: None) -> None:
    """A group that could not be left while the layer was down is left when it is back."""
    await plane.acquire("room")
    layer.failing = {"group_discard"}
    plane.release("room")
    await aeventually(lambda: layer.calls["group_discard", "room"])
    assert layer.members("room") == 1
    layer.failing = set()
    await aeventually(lambda: not layer.members("room") and not plane._memberships.strays)


async def test_memberships_to_end_are_bounded(
    plane: Backplane, layer: FakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than STRAYS memberships wait to be ended; the oldest are left to the layer's expiry, counted."""
    monkeypatch.setattr(memberships, "STRAYS", 3)
    before = counters["groups_not_left"]
    for number in range(5):
        await plane.acquire(f"room{number}")
    layer.failing = {"group_discard"}
    for number in range(5):
        plane.release(f"room{number}")
    await aeventually(lambda: counters["groups_not_left"] == before + 2)
    assert plane._memberships.strays == len(plane._memberships._groups) == 3


# Connections of a layer.


class Closable(FakeLayer):
    """A layer of a third party, which says how it is closed."""

    made: ClassVar[list[Closable]] = []

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False
        self.made.append(self)

    async def aclose(self) -> None:
        self.is_closed = True


async def test_rebuilds_close_what_can_be_closed(monkeypatch: pytest.MonkeyPatch, fast: None, plane: Backplane) -> None:
    """Each instance of a layer that is given up is closed, where it has a way to be."""
    monkeypatch.setattr(layers, "_make", lambda alias, shared: Closable())
    Closable.made.clear()
    await plane.open()
    Closable.made[0].is_deaf = True
    await aeventually(lambda: len(Closable.made) == 2 and plane.is_up and Closable.made[0].is_closed)
    assert not Closable.made[1].is_closed


async def test_layers_that_cannot_be_closed(monkeypatch: pytest.MonkeyPatch, fast: None, plane: Backplane) -> None:
    """A layer that can't be closed is replaced once a rebuild, however long it is down: each may leak connections."""
    made: list[FakeLayer] = []

    def make(alias: str, shared: object) -> FakeLayer:
        made.append(FakeLayer())
        made[-1].is_down = len(made) > 1
        return made[-1]

    monkeypatch.setattr(layers, "_make", make)
    await plane.open()
    made[0].is_deaf = True
    await aeventually(lambda: len(made) == 2 and made[1].calls["new_channel", ""] > 3)
    assert len(made) == 2
    made[1].is_down = False
    await aeventually(lambda: plane.is_up)
