# ruff: noqa: S101 - these are tests
"""Keeping: how many publications a room has, and how long."""

from __future__ import annotations

import asyncio
import time

from ...types import Position
from ..base import HistoryFacts, Reading
from .support import EVERYTHING, MOST_SURPLUS, StoreTests


class KeepingTests(StoreTests):
    """Keeping."""

    # Trimming.

    async def test_trimming(self) -> None:
        """
        The oldest entries are removed first, and at least ``size`` are kept.

        Reading from a position before the kept entries reports the gap "trimmed".
        """
        async with self.opened(size=10) as store:
            room = self.room()
            for _ in range(15):
                await self.append(store, room, 20)
            await self.check_floor(store, room, "trimmed", 300)

    async def test_size_of_one(self) -> None:
        """A history of one entry has the last one."""
        async with self.opened(size=1) as store:
            room = self.room()
            for offset in range(1, 120):
                await self.append(store, room, 1)
                entries = (await self.everything(store, room)).entries
                assert entries[-1].offset == offset
            await self.check_floor(store, room, "trimmed", 119, size=1)

    async def test_trimming_beside_values(self) -> None:
        """A position after the last entry that was removed has no gap, if only values followed."""
        async with self.opened(size=10) as store:
            room = self.room()
            await self.append(store, room, 1)
            await store.append([self.publication(room, key="a"), self.publication(room, key="b")])
            await self.append(store, room, 10)
            epoch = (await self.position(store, room)).epoch
            while (await store.read(room, Position(epoch, 0), **EVERYTHING)).gap is None:
                await store.append([self.publication(room, key="c"), self.publication(room)])
            await self.check_floor(store, room, "trimmed", (await self.position(store, room)).offset)

    # Expiry.

    async def test_expiry(self) -> None:
        """Entries are kept for ``seconds``; then a position before them has the gap "expired"."""
        async with self.opened(seconds=self.short, value_seconds=60) as store:
            room = self.room()
            await store.append([self.publication(room), self.publication(room, key="k"), self.publication(room)])
            epoch = (await self.position(store, room)).epoch
            await self.until(lambda: self.has_gap(store, room, Position(epoch, 0)), "the entries to expire")
            await self.append(store, room, 2)
            gone = await store.read(room, Position(epoch, 0), **EVERYTHING)
            assert (gone.start, gone.gap, self.offsets(gone)) == (3, "expired", [4, 5])
            assert (await store.read(room, Position(epoch, 2), **EVERYTHING)).gap == "expired"
            assert (await store.read(room, Position(epoch, 3), **EVERYTHING)).gap is None
            (facts,) = await store.facts([room])
            assert (facts.position.epoch, facts.entries, facts.values) == (epoch, 2, 1)

    async def test_expiry_of_all(self) -> None:
        """When all entries have expired, the epoch and the offsets go on, and the last position has no gap."""
        async with self.opened(seconds=self.short, value_seconds=60) as store:
            room = self.room()
            await self.append(store, room, 3)
            position = await self.position(store, room)
            await self.until(lambda: self.has_gap(store, room, Position(position.epoch, 0)), "the entries to expire")
            found = await store.read(room, Position(position.epoch, 2), **EVERYTHING)
            assert found == Reading(position, 3, [], gap="expired")
            assert await store.read(room, position, **EVERYTHING) == Reading(position, 3, [])
            assert await store.facts([room]) == [HistoryFacts(position, 0, 0, 0, None)]
            await self.append(store, room, 1)
            assert await self.position(store, room) == Position(position.epoch, 4)

    async def test_expiry_one_after_the_other(self) -> None:
        """Entries expire by their own age: those that are left are complete from the floor on."""
        async with self.opened(seconds=self.short, value_seconds=60) as store:
            room = self.room()
            epoch = (await self.position(store, room)).epoch
            began = time.monotonic()
            while time.monotonic() < began + 2 * self.short:
                await self.append(store, room, 3)
                await asyncio.sleep(self.short / 20)
            found = await store.read(room, Position(epoch, 0), **EVERYTHING)
            assert found.gap == "expired"
            assert self.offsets(found) == list(range(found.start + 1, found.position.offset + 1))

    async def test_trimmed_and_expired(self) -> None:
        """If entries were trimmed and later ones have expired, the reason for a gap depends on the position."""
        async with self.opened(size=1, seconds=self.short, value_seconds=60) as store:
            room = self.room()
            await self.append(store, room, 1)
            epoch = (await self.position(store, room)).epoch
            await self.until(lambda: self.has_gap(store, room, Position(epoch, 0)), "the entry to expire")
            assert (await store.read(room, Position(epoch, 0), **EVERYTHING)).gap == "expired"
            await self.append(store, room, 2 + MOST_SURPLUS)
            found = await store.read(room, Position(epoch, 0), **EVERYTHING)
            assert found.gap == "trimmed"
            trimmed = found.start
            await self.until(lambda: self.has_gap(store, room, Position(epoch, trimmed)), "the entries to expire")
            assert (await store.read(room, Position(epoch, trimmed - 1), **EVERYTHING)).gap == "trimmed"
            last = await store.read(room, Position(epoch, trimmed), **EVERYTHING)
            assert (last.gap, last.start, last.entries) == ("expired", 2 + 1 + MOST_SURPLUS, [])

    async def test_room_that_is_not_used(self) -> None:
        """After ``value_seconds`` without use, the values are gone, and the room has another epoch."""
        async with self.opened(seconds=self.short / 2, value_seconds=self.short) as store:
            room = self.room()
            await store.append([self.publication(room, key="k")])
            position = await self.position(store, room)
            # A use in between would prolong it, so the waiting becomes longer with each attempt.
            for attempt in range(1, 8):
                await asyncio.sleep(self.short * 1.1 * attempt)
                found = await store.read(room, position, **EVERYTHING)
                if found.gap:
                    break
            assert (found.gap, found.position.offset, found.entries) == ("epoch", 0, [])
            assert found.position.epoch != position.epoch

    async def test_use_keeps_the_epoch(self) -> None:
        """A room that is only read keeps its epoch, while its values expire."""
        async with self.opened(seconds=self.short, value_seconds=2 * self.short) as store:
            room = self.room()
            await store.append([self.publication(room, key="k")])
            position = await self.position(store, room)

            async def is_empty() -> bool:
                assert await self.position(store, room) == position
                return not (await store.values(room, **EVERYTHING)).entries

            await self.until(is_empty, "the value to expire")
            assert await store.facts([room]) == [HistoryFacts(position, 0, 0, 0, None)]
            found = await store.read(room, Position(position.epoch, 0), **EVERYTHING)
            # The value was state, not an entry of the sequence, so that nothing is missing.
            assert found == Reading(position, 0, [])
