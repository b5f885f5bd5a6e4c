"""The places that a Redis gives, alone and as a cluster: exact however many claim at once, and free after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.support.processes import RedisServer
from wsrt.presence.base import PLACES, Claim, Decision, LeaseLost, Leave, NodeFacts
from wsrt.presence.redis.places import OPERATIONS
from wsrt.presence.redis.store import RedisPresence

ANN = f"{PLACES}user:ann"


@pytest_asyncio.fixture(params=["single", "cluster"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[str], Any]]:
    """Makes the store of a node, whose lease has begun, on an empty Redis."""
    server: RedisServer = request.getfixturevalue(request.param)
    stores: list[RedisPresence] = []

    async def make(node: str) -> RedisPresence:
        store = RedisPresence(server.url, cluster=request.param == "cluster", pace=1e6, timeout=30.0)
        if not stores:
            async with store._round_trip() as client:
                await client.flushall()
        stores.append(store)
        await store.begin(NodeFacts(node, {}))
        return store

    yield make
    for store in stores:
        await store.close()


def claim(number: int, limit: int | None = 2, *, room: str = ANN, replaces: bool = False) -> Claim:
    return Claim("n", room, number, limit, replaces)


def leave(number: int) -> Leave:
    return Leave("n", ANN, number)


def given(decisions: list[Decision]) -> list[bool]:
    return [decision.is_given for decision in decisions]


def replaced(decisions: list[Decision]) -> list[str]:
    return [place for decision in decisions for place in decision.replaced]


async def test_repeated(make: Any) -> None:
    """A claim whose answer was lost is repeated, and then names those that it replaced."""
    store = await make("n1")
    await store.decide("n1", [claim(1, 1)])
    operations = [claim(2, 1, replaces=True)]
    first, second = await store.decide("n1", operations), await store.decide("n1", operations)
    assert first == second == [Decision("n", ANN, 2, True, ("n1-1",))]
    # By now the first connection knows that it was replaced, or will.
    assert await store.decide("n1", [claim(1, 1)]) == [Decision("n", ANN, 1, True, ("n1-1",))]


async def test_lowered_limit(make: Any) -> None:
    """If the limit was lowered, all that are too many make room."""
    store = await make("n1")
    await store.decide("n1", [claim(number, None) for number in range(150)])
    assert given(await store.decide("n1", [claim(200)])) == [False]
    assert len(replaced(await store.decide("n1", [claim(200, replaces=True)]))) == 100
    assert len(replaced(await store.decide("n1", [claim(201, replaces=True)]))) == 50


async def test_many_at_once(make: Any) -> None:
    """However many nodes claim at the same time, exactly as many places are given as there are."""
    nodes = {f"n{number}": await make(f"n{number}") for number in range(4)}

    async def crowd(node: str) -> int:
        size = OPERATIONS + 5
        batches = [[claim(start + number, 7) for number in range(size)] for start in (0, 100)]
        decisions = [await nodes[node].decide(node, batch) for batch in batches]
        return sum(given(decisions[0]) + given(decisions[1]))

    assert sum(await asyncio.gather(*map(crowd, nodes))) == 7


async def test_reaped(make: Any) -> None:
    """The places of a dead node are given back, and it can't claim any more; nothing is left of it."""
    one, two = await make("n1"), await make("n2")
    await one.decide("n1", [claim(number) for number in (1, 2)])
    await two.decide("n2", [claim(1, replaces=True)])
    assert given(await two.decide("n2", [claim(2)])) == [False]
    assert [changes async for changes in two.reap("n1")] == []
    with pytest.raises(LeaseLost):
        await one.decide("n1", [claim(3)])
    assert given(await two.decide("n2", [claim(2), claim(3)])) == [True, False]
    assert await one.held("n1", "n", ANN) == set()
    assert await two.held("n2", "n", ANN) == {1, 2}
    assert replaced(await two.decide("n2", [claim(1, None)])) == []


async def test_not_a_room(make: Any) -> None:
    """Readers see no room, no namespace and no user; leaving twice is harmless, and leaves no key of the places."""
    store = await make("n1")
    await store.decide("n1", [claim(1)])
    assert (await store.rooms("n")).items == ()
    assert await store.namespaces() == []
    assert await store.decide("n1", [leave(1), leave(1)]) == []
    async with store._round_trip() as client:
        assert not [key for key in await client.keys("*") if "user:ann" in key]
