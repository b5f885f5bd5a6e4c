# ruff: noqa: S101 - these are tests
"""Reading: publications after a position, the last values, and what operators see."""

from __future__ import annotations

from ...types import Position
from ..base import MAX_OFFSET, Append, Entry, HistoryFacts, Reading
from .support import EVERYTHING, MOST_SURPLUS, StoreTests


class ReadingTests(StoreTests):
    """Reading."""

    # Reading.

    async def test_read(self) -> None:
        """A reading has all fields of the publications after the position, and the position of the room."""
        async with self.opened() as store:
            room = self.room()
            await store.append(
                [
                    Append(room, "i1", "said", '{"text":"1"}'),
                    Append(room, "i2", "price", "2", key="gold"),
                    Append(room, "i3", "said", '{"text":"3"}'),
                ]
            )
            position = await self.position(store, room)
            found = await store.read(room, Position(position.epoch, 0), **EVERYTHING)
            times = [entry.time for entry in found.entries]
            assert found == Reading(
                position,
                0,
                [
                    Entry(1, "i1", "said", '{"text":"1"}', None, times[0]),
                    Entry(2, "i2", "price", "2", "gold", times[1]),
                    Entry(3, "i3", "said", '{"text":"3"}', None, times[2]),
                ],
            )
            assert times == sorted(times)
            # Any clock of this century: the store has its own.
            assert 946_684_800 < times[0] < 4_102_444_800
            later = await store.read(room, Position(position.epoch, 2), **EVERYTHING)
            assert later == Reading(position, 2, found.entries[2:])
            assert await store.read(room, position, **EVERYTHING) == Reading(position, 3, [])

    async def test_read_of_a_new_room(self) -> None:
        """A room that was never used has an epoch and nothing else, so no position from elsewhere is of its epoch."""
        async with self.opened() as store:
            room = self.room()
            found = await store.read(room, Position("other", 0), **EVERYTHING)
            assert found == Reading(await self.position(store, room), 0, [], gap="epoch")
            assert await store.read(room, found.position, **EVERYTHING) == Reading(found.position, 0, [])

    async def test_limit_in_publications(self) -> None:
        """A limit cuts off the later ones, and the rest follows the last entry."""
        async with self.opened() as store:
            room = self.room()
            await store.append([self.publication(room, key=f"k{n}" if n % 3 == 0 else None) for n in range(80)])
            after, offsets, has_more = Position((await self.position(store, room)).epoch, 0), list[int](), True
            while has_more:
                page = await store.read(room, after, limit=33, max_bytes=2**20)
                assert page.start == after.offset
                assert page.gap is None
                assert len(page.entries) == min(33, 80 - len(offsets))
                offsets += self.offsets(page)
                after, has_more = Position(after.epoch, offsets[-1]), page.has_more
            assert offsets == list(range(1, 81))

    async def test_limit_in_bytes(self) -> None:
        """Entries count with the bytes of their event and data; a first one that is larger is returned all the same."""
        async with self.opened() as store:
            room = self.room()
            await store.append([self.publication(room, event="é", data="x" * 8) for _ in range(4)])
            epoch = (await self.position(store, room)).epoch
            for most, expected in ((1, 1), (10, 1), (19, 1), (20, 2), (39, 3), (40, 4), (41, 4)):
                found = await store.read(room, Position(epoch, 0), limit=100, max_bytes=most)
                assert self.offsets(found) == list(range(1, expected + 1))
                assert found.has_more is (expected < 4)

    async def test_gap_of_another_epoch(self) -> None:
        """For a position of another epoch, or ahead of the room, the gap is "epoch", and the rest is returned."""
        async with self.opened() as store:
            room = self.room()
            await self.append(store, room, 3)
            position = await self.position(store, room)
            for strange in (
                Position("other", 2),
                Position("", 0),
                Position(position.epoch + "x", 3),
                Position(position.epoch, 4),
                Position(position.epoch, MAX_OFFSET),
            ):
                found = await store.read(room, strange, **EVERYTHING)
                assert (found.position, found.start, found.gap) == (position, 0, "epoch")
                assert self.offsets(found) == [1, 2, 3]

    # Values.

    async def test_values(self) -> None:
        """A store keeps the last value of each key, and returns them in the order of their offsets."""
        async with self.opened() as store:
            room = self.room()
            keys = ["b", "a", "b", "", "c", "a"]
            await store.append(
                [self.publication(room, id=f"i{n}", key=key, data=str(n)) for n, key in enumerate(keys, 1)]
            )
            found = await store.values(room, **EVERYTHING)
            position = await self.position(store, room)
            assert (found.position, found.start, found.gap, found.has_more) == (position, 0, None, False)
            assert [(entry.offset, entry.key, entry.data, entry.id) for entry in found.entries] == [
                (3, "b", "3", "i3"),
                (4, "", "4", "i4"),
                (5, "c", "5", "i5"),
                (6, "a", "6", "i6"),
            ]
            after = await store.read(room, Position(position.epoch, 4), **EVERYTHING)
            assert after == Reading(position, 4, found.entries[2:])

    async def test_values_are_not_trimmed(self) -> None:
        """Entries don't push values out, nor values entries."""
        async with self.opened(size=5, values=3) as store:
            room = self.room()
            await store.append([self.publication(room, key="k")])
            await self.append(store, room, 10 + MOST_SURPLUS)
            await store.append([self.publication(room, key=f"k{n}") for n in range(2)])
            (facts,) = await store.facts([room])
            assert facts.values == 3
            assert 5 <= facts.entries <= 5 + MOST_SURPLUS
            assert [entry.key for entry in (await store.values(room, **EVERYTHING)).entries] == ["k", "k0", "k1"]

    async def test_too_many_values(self) -> None:
        """When there are more than ``values`` keys, the value that was set first goes first."""
        async with self.opened(values=3) as store:
            room = self.room()
            await store.append([self.publication(room, key=key) for key in ("a", "b", "c", "a", "d")])
            assert [entry.key for entry in (await store.values(room, **EVERYTHING)).entries] == ["c", "a", "d"]
            await store.append([self.publication(room, key="e")])
            assert [entry.key for entry in (await store.values(room, **EVERYTHING)).entries] == ["a", "d", "e"]
            assert (await store.facts([room]))[0].values == 3

    async def test_limits_of_values(self) -> None:
        """Limits leave the newest values."""
        async with self.opened() as store:
            room = self.room()
            await store.append([self.publication(room, event="e", key=f"k{n}", data="x" * 9) for n in range(5)])
            for limit, most, expected in ((2, 1000, 2), (5, 1000, 5), (6, 50, 5), (6, 49, 4), (6, 1, 1), (1, 1, 1)):
                found = await store.values(room, limit=limit, max_bytes=most)
                assert self.offsets(found) == list(range(6 - expected, 6))
                assert found.has_more is (expected < 5)

    # Facts.

    async def test_facts(self) -> None:
        """Facts have the counts of the entries and of the values that are kept, and their size in bytes of UTF-8."""
        async with self.opened(size=2) as store:
            room, empty = self.room(), self.room()
            await store.append(
                [
                    self.publication(room, event="é", data="😀"),
                    self.publication(room, event="e", key="k", data="long"),
                    self.publication(room, event="e", key="k", data="x"),
                    self.publication(room, event="e", key="l", data="xyz"),
                ]
            )
            entries = (await self.everything(store, room)).entries
            facts, nothing = await store.facts([room, empty])
            assert facts == HistoryFacts(await self.position(store, room), 1, 2, 6 + 2 + 4, entries[0].time)
            assert nothing == HistoryFacts(await self.position(store, empty), 0, 0, 0, None)
            await self.append(store, room, 2 + MOST_SURPLUS)
            (facts,) = await store.facts([room])
            entries, values = (await self.everything(store, room)).entries, await store.values(room, **EVERYTHING)
            assert (facts.entries, facts.values) == (len(entries), 2)
            assert facts.size == sum(entry.size for entry in (*entries, *values.entries))
            assert facts.oldest == values.entries[0].time
            assert await store.facts([]) == []
