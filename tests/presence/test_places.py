"""The node's side of places, with a store that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest

from tests.support.waiting import aeventually
from wsrt.addresses import Connection
from wsrt.close_codes import REPLACED
from wsrt.cluster.messages import CommandMessage
from wsrt.cluster.node import Node, current_node
from wsrt.exceptions import BackplaneUnavailable
from wsrt.metrics import counters
from wsrt.presence import memory, places, tracker
from wsrt.presence.base import PLACES, Claim, Decision, LeaseLost, Leave, StoreUnavailable
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.places import Places, places_of_loop
from wsrt.presence.tracker import Tracker

LEASE = 0.3
ANN = ("n", f"{PLACES}user:ann")


class Store(MemoryPresence):
    """Gives places, fails as it is told, and knows what it was asked."""

    gives_places: ClassVar[bool] = True
    is_shared: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(lease=LEASE)
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[tuple[str, Claim | Leave]] = []
        self.places: dict[str, set[int]] = {}
        self.decision: Callable[[Claim], tuple[bool, tuple[str, ...]]] = lambda claim: (True, ())

    async def decide(self, node: str, operations: Sequence[Claim | Leave]) -> list[Decision]:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        decisions = []
        for operation in operations:
            self.asked.append((node, operation))
            held = self.places.setdefault(node, set())
            if isinstance(operation, Leave):
                held.discard(operation.connection)
                continue
            is_given, replaced = self.decision(operation)
            if is_given:
                held.add(operation.connection)
            decisions.append(Decision(*ANN, operation.connection, is_given, replaced))
        return decisions

    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        return set(self.places.get(node, ()))


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(memory, "_state", memory._State())
    monkeypatch.setattr(tracker, "RETRY_SECONDS", 0.05)
    yield


@pytest.fixture
async def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the connections that this node was told to close."""
    found: list[str] = []

    def carry_out(self: Node, command: CommandMessage) -> None:
        assert (command.name, command.arguments["code"]) == ("disconnect", REPLACED.code)
        assert isinstance(command.audience, Connection)
        found.append(command.audience.id)

    monkeypatch.setattr(Node, "carry_out", carry_out)
    return found


@pytest.fixture
async def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the connections that other nodes were told to close."""
    found: list[str] = []

    async def send(outgoing: Any) -> None:
        found.append(outgoing.item.audience.id)
        if len(found) == 1:
            raise BackplaneUnavailable("no layer")

    monkeypatch.setattr(places, "send", send)
    monkeypatch.setattr(places, "layer_alias", lambda namespace: "default")
    return found


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def shared(store: Store) -> AsyncIterator[Places]:
    """The places of a node whose store gives them."""
    node = Tracker(current_node(), store, grace=0)
    yield places_of_loop()
    store.error = None
    store.gate.set()
    await node.end()


def claim(number: int, limit: int | None = 2, *, replaces: bool = False) -> Claim:
    return Claim(*ANN, number, limit, replaces)


async def test_alone(commands: list[str]) -> None:
    """Without a store that gives places, a node gives those of its own connections."""
    own = Places(current_node())
    assert [await own.claim(claim(number)) for number in (1, 2, 3, 1)] == [True, True, False, True]
    assert [await own.claim(claim(number, 2, replaces=True)) for number in (4, 5)] == [True, True]
    assert commands == [f"{current_node().id}-{number}" for number in (1, 2)]
    own.release(ANN, 4)
    assert await own.claim(claim(6))
    assert own.numbers(ANN) == {5, 6}
    for number in (1, 5, 6):
        own.release(ANN, number)
    assert own.rooms == []
    assert not own.pending


async def test_store_decides(shared: Places, store: Store) -> None:
    """The store decides; the decision is known here until the connection leaves."""
    store.decision = lambda claim: (claim.connection != 2, ())
    assert [await shared.claim(claim(number)) for number in (1, 2, 1)] == [True, False, True]
    assert [operation.connection for _, operation in store.asked] == [1, 2]
    shared.release(ANN, 1)
    await aeventually(lambda: not any(store.places.values()))
    assert shared.rooms == []


async def test_batches(shared: Places, store: Store) -> None:
    """Many that claim at the same time are decided in few calls."""
    assert all(await asyncio.gather(*(shared.claim(claim(number)) for number in range(1000))))
    assert len(shared.numbers(ANN)) == 1000


async def test_replaced(
    shared: Places, store: Store, commands: list[str], sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are replaced are closed, here and elsewhere, and again until they are gone."""
    monkeypatch.setattr(places, "CONFIRM_SECONDS", 0.1)
    here = f"{current_node().id}.2-7"
    gone = False
    store.decision = lambda claim: (True, () if gone else (here, "abc.1-4", "abc-5"))
    before = [counters[name] for name in ("connections_replaced", "replacements_repeated", "replacements_unsent")]
    assert await shared.claim(claim(1, replaces=True))
    assert commands == [f"{current_node().id}-7"]
    await aeventually(lambda: len(sent) >= 4)
    assert sent[:4] == ["abc-4", "abc-5"] * 2
    gone = True
    await aeventually(lambda: not shared._confirming)
    after = [counters[name] for name in ("connections_replaced", "replacements_repeated", "replacements_unsent")]
    assert after[0] == before[0] + 3
    assert after[1] >= before[1] + 3
    assert after[2] == before[2] + 1


async def test_nobody_is_left_to_confirm(shared: Places, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the newer connection has ended itself, this node doesn't ask."""
    monkeypatch.setattr(places, "CONFIRM_SECONDS", 0.05)
    store.decision = lambda claim: (True, (f"{current_node().id}-7",))
    await shared.claim(claim(1, replaces=True))
    shared.release(ANN, 1)
    await aeventually(lambda: not shared._confirming and not any(store.places.values()))
    assert [type(operation) for _, operation in store.asked] == [Claim, Leave]


async def test_withdrawn(shared: Places, store: Store) -> None:
    """A connection that ends while it waits has no place, and the store takes back what it has given."""
    store.gate.clear()
    waiting = asyncio.create_task(shared.claim(claim(1)))
    cancelled = asyncio.create_task(shared.claim(claim(2)))
    await asyncio.sleep(0)
    shared.release(ANN, 1)
    assert await waiting is False
    cancelled.cancel()
    await asyncio.wait([cancelled])
    shared.release(ANN, 2)
    store.gate.set()
    await aeventually(lambda: len(store.asked) == 4 and not any(store.places.values()))
    assert shared.rooms == []


async def test_store_that_is_away(shared: Places, store: Store) -> None:
    """While the store doesn't answer, the node decides, and tells the store afterwards."""
    store.error = StoreUnavailable("away")
    before = counters["limits_unavailable"]
    # The first one waits for the error.
    assert [await shared.claim(claim(number)) for number in (1, 2, 3)] == [True, True, False]
    assert counters["limits_unavailable"] == before + 3
    # The store would have decided otherwise.
    store.decision = lambda claim: (claim.limit is None, ())
    store.error = None
    await aeventually(lambda: set().union(*store.places.values()) == {1, 2} and not shared.pending)
    assert shared.numbers(ANN) == {1, 2}


async def test_fenced(shared: Places, store: Store) -> None:
    """A node whose lease has ended writes its places again under another id, and asks again what was not decided."""
    assert await shared.claim(claim(1))
    store.gate.clear()
    waiting = asyncio.create_task(shared.claim(claim(2)))
    await asyncio.sleep(0.01)
    store.error = LeaseLost("ended")
    store.gate.set()
    await asyncio.sleep(0.01)
    store.error = None
    before = counters["limits_unavailable"]
    assert await waiting
    # The store is there, and decides.
    assert counters["limits_unavailable"] == before
    await aeventually(lambda: {1, 2} in store.places.values())
    rewritten = [operation for node, operation in store.asked if node != current_node().id]
    assert rewritten[0] == claim(1, None)


async def test_lost_writes(shared: Places, store: Store) -> None:
    """A store that has lost places gets all of them again."""
    assert await shared.claim(claim(1))
    store.places.clear()
    await aeventually(lambda: {1} in store.places.values())


async def test_many_pending(shared: Places, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If too much waits for a store that is away, everything is written later."""
    monkeypatch.setattr(places, "MAX_PENDING", 10)
    store.error = StoreUnavailable("away")
    for number in range(40):
        assert await shared.claim(claim(number, 100))
        shared.release(ANN, number)
        assert len(shared.pending) <= 10
    assert await shared.claim(claim(50, 100))
    store.error = None
    await aeventually(lambda: {50} in store.places.values() and not shared.pending)


async def test_end(store: Store) -> None:
    """At the end of a node those that wait are decided here, and nothing is written any more."""
    node = Tracker(current_node(), store, grace=0)
    own = places_of_loop()
    store.gate.clear()
    waiting = asyncio.create_task(own.claim(claim(1)))
    await asyncio.sleep(0)
    await node.end()
    assert await waiting
    own.release(ANN, 1)
    assert not own.pending


async def test_another_store(store: Store) -> None:
    """If the setting changes, the connections that have a place have it in the new store, too."""
    own = places_of_loop()
    own.use(None)
    assert await own.claim(claim(1))
    node = Tracker(current_node(), store, grace=0)
    await aeventually(lambda: {1} in store.places.values())
    await node.end()
    own.release(ANN, 1)
