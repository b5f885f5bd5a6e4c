# ruff: noqa: S101 - these are tests
"""Tests of places under a limit of connections."""

from __future__ import annotations

import asyncio

from ..base import (
    EVERYONE,
    Count,
    LeaseLost,
)
from .support import StoreTests


class PlaceTests(StoreTests):
    """Places, for stores that give them."""

    async def test_places(self) -> None:
        """As many connections as the limit get a place, on any node. One that leaves makes room for another."""
        async with self.placing() as store, self.opened() as other:
            node, second, claim = await self.begin(store), await self.begin(other), self.claims()
            assert [given for given, _ in await self.decide(store, node, claim(1), claim(2), claim(1))] == [True] * 3
            assert await self.decide(other, second, claim(1)) == [(False, ())]
            await store.decide(node, [self.leave(claim(2)), self.leave(claim(2))])
            assert await self.decide(other, second, claim(1)) == [(True, ())]

    async def test_places_are_replaced(self) -> None:
        """A claim that replaces gets the place of the oldest connection, which is named until it leaves."""
        async with self.placing() as store, self.opened() as other:
            node, second, claim = await self.begin(store), await self.begin(other), self.claims(replaces=True)
            await store.decide(node, [claim(9), claim(10)])
            assert await self.decide(other, second, claim(9)) == [(True, (f"{node}-9",))]
            # The answer may have been lost.
            assert await self.decide(other, second, claim(9)) == [(True, (f"{node}-9",))]
            assert await self.decide(other, second, claim(10), claim(11)) == [
                (True, (f"{node}-10",)),
                (True, (f"{second}-9",)),
            ]
            await store.decide(node, [self.leave(claim(9)), self.leave(claim(10))])
            ((given, replaced),) = await self.decide(other, second, claim(11, None))
            assert (given, replaced) == (True, (f"{second}-9",))

    async def test_places_without_a_limit(self) -> None:
        """A connection that has its place keeps it, even if there are more than the limit."""
        async with self.placing() as store:
            node, claim = await self.begin(store), self.claims()
            assert await self.decide(store, node, *(claim(number, None) for number in range(3))) == [(True, ())] * 3
            assert await self.decide(store, node, claim(3)) == [(False, ())]

    async def test_places_of_concurrent_nodes(self) -> None:
        """However many claims arrive at once, exactly as many places are given as there are."""
        async with self.placing() as store, self.opened() as other:
            node, second, claim = await self.begin(store), await self.begin(other), self.claims()
            claims = [claim(number, 7) for number in range(100)]
            decisions = await asyncio.gather(self.decide(store, node, *claims), self.decide(other, second, *claims))
            assert sum(given for decided in decisions for given, _ in decided) == 7

    async def test_places_of_a_reaped_node(self) -> None:
        """When a node is reaped, its places are free, it gets no others, and causes no change."""
        async with self.placing() as store, self.opened() as other:
            node, second, claim = await self.begin(store), await self.begin(other), self.claims()
            await store.decide(node, [claim(1), claim(2)])
            assert [chunk async for chunk in other.reap(node)] == []
            try:
                await store.decide(node, [claim(3)])
            except LeaseLost:
                pass
            else:
                raise AssertionError("the claim of a reaped node was accepted")
            assert await self.decide(other, second, claim(1), claim(2)) == [(True, ())] * 2

    async def test_places_are_no_rooms(self) -> None:
        """Readers see no namespace, room, member or connection where there are only places."""
        async with self.placing() as store:
            node, claim = await self.begin(store), self.claims()
            await store.decide(node, [claim(1)])
            space, room = claim(1).namespace, claim(1).room
            assert space not in await store.namespaces()
            assert (await store.rooms(space)).items == ()
            assert await store.counts([(space, EVERYONE)]) == [Count(0, 0, 0)]
            assert await store.held(node, space, room) == {1}
