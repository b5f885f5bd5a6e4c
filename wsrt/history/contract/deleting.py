# ruff: noqa: S101 - these are tests
"""Deleting: publications that are forgotten, and epochs that begin."""

from __future__ import annotations

import asyncio

from ...types import Position
from ..base import HistoryFacts, Reading
from .support import EVERYTHING, StoreTests


class DeletingTests(StoreTests):
    """Deleting."""

    # Forgetting.

    async def test_forget_an_entry(self) -> None:
        """An entry that is forgotten is deleted. It causes no gap, and its offset isn't given again."""
        async with self.opened() as store:
            room = self.room()
            await self.append(store, room, 4)
            position = await self.position(store, room)
            for offset, rest in ((2, [1, 3, 4]), (1, [3, 4]), (4, [3]), (3, [])):
                assert await store.forget(room, offset=offset) == [offset]
                assert await store.forget(room, offset=offset) == []
                for after in range(5):
                    found = await store.read(room, Position(position.epoch, after), **EVERYTHING)
                    assert (found.start, found.gap) == (after, None)
                    assert self.offsets(found) == [other for other in rest if other > after]
                (facts,) = await store.facts([room])
                assert (facts.position, facts.entries) == (position, len(rest))
                assert facts.size == sum(entry.size for entry in (await self.everything(store, room)).entries)
            assert await store.forget(room, offset=99) == []
            await self.append(store, room, 1)
            assert await self.position(store, room) == Position(position.epoch, 5)

    async def test_forget_a_value(self) -> None:
        """A value is forgotten by its key or its offset."""
        async with self.opened() as store:
            room = self.room()
            await store.append([self.publication(room, key=key) for key in ("a", "b", "a", "")])
            assert await store.forget(room, key="c") == []
            assert await store.forget(room, offset=1) == []
            assert await store.forget(room, key="a") == [3]
            assert await store.forget(room, key="a") == []
            assert await store.forget(room, offset=2) == [2]
            assert await store.forget(room, key="") == [4]
            found = await self.everything(store, room)
            assert (found.entries, found.gap, found.position.offset) == ([], None, 4)
            assert (await store.facts([room]))[0].size == 0

    async def test_forgotten_entries_and_the_floor(self) -> None:
        """Entries that were forgotten don't count as trimmed or expired later."""
        async with self.opened(size=5) as store:
            room = self.room()
            await self.append(store, room, 4)
            epoch = (await self.position(store, room)).epoch
            for offset in (3, 2, 4):
                await store.forget(room, offset=offset)
            while (await store.read(room, Position(epoch, 0), **EVERYTHING)).gap is None:
                await self.append(store, room, 1)
            # Whatever was trimmed together with it: between the entries 1 and 5 nothing is missing.
            found = await store.read(room, Position(epoch, 0), **EVERYTHING)
            first = found.entries[0].offset
            assert found.gap == "trimmed"
            assert found.start == (1 if first == 5 else first - 1)

    async def test_forgotten_before_expiry(self) -> None:
        """When the rest has expired, a position after the last entry that wasn't forgotten has no gap."""
        async with self.opened(seconds=self.short, value_seconds=60) as store:
            room = self.room()
            await self.append(store, room, 5)
            epoch = (await self.position(store, room)).epoch
            for offset in (4, 5, 2):
                await store.forget(room, offset=offset)
            await self.until(lambda: self.has_gap(store, room, Position(epoch, 0)), "the entries to expire")
            found = await store.read(room, Position(epoch, 0), **EVERYTHING)
            assert (found.start, found.gap) == (3, "expired")
            assert (await store.read(room, Position(epoch, 3), **EVERYTHING)).gap is None

    # New epochs.

    async def test_purge(self) -> None:
        """Everything of the room is deleted, and an old position has the gap "epoch". Other rooms aren't touched."""
        async with self.opened() as store:
            room, other = self.room(), self.room()
            for each in (room, other):
                await store.append([self.publication(each), self.publication(each, key="k")])
            before = await self.position(store, room)
            position = await store.purge(room)
            assert position.offset == 0
            assert position.epoch not in ("", before.epoch)
            assert await self.position(store, room) == position
            assert await store.read(room, before, **EVERYTHING) == Reading(position, 0, [], gap="epoch")
            assert await store.values(room, **EVERYTHING) == Reading(position, 0, [])
            assert await store.facts([room]) == [HistoryFacts(position, 0, 0, 0, None)]
            await self.append(store, room, 1)
            assert await self.position(store, room) == Position(position.epoch, 1)
            assert self.offsets(await self.everything(store, other)) == [1, 2]

    async def test_renew(self) -> None:
        """A node that sees lost writes begins a new epoch; one that comes later gets the same one."""
        async with self.opened() as one, self.opened() as other:
            room = self.room()
            await one.append([self.publication(room), self.publication(room, key="k")])
            before = await self.position(one, room)
            renewed = await one.renew(room, before.epoch)
            assert renewed.offset == 0
            assert renewed.epoch not in ("", before.epoch)
            assert await other.read(room, before, **EVERYTHING) == Reading(renewed, 0, [], gap="epoch")
            (appended,) = await one.append([self.publication(room)])
            for epoch in (before.epoch, "", "other"):
                assert await other.renew(room, epoch) == appended.position
            assert self.offsets(await self.everything(one, room)) == [1]

    async def test_concurrent_renewals(self) -> None:
        """Of several nodes that begin a new epoch, one does."""
        async with self.opened() as store:
            room = self.room()
            await self.append(store, room, 1)
            before = await self.position(store, room)
            renewed = await asyncio.gather(*(store.renew(room, before.epoch) for _ in range(10)))
            assert len(set(renewed)) == 1
            assert await self.position(store, room) == renewed[0] != before
