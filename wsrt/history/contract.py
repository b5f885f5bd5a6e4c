# ruff: noqa: S101 - these are tests
"""
A test suite for history stores, for the ones in this package and for those of other authors.

    class TestMyStore(HistoryStoreContract):
        async def make_store(self, **options: Any) -> HistoryStore:
            return MyStore("...", **options)

Run it with pytest and pytest-asyncio in auto mode. To see the compared values in failures, call
``pytest.register_assert_rewrite("wsrt.history.contract")`` in ``conftest.py``. Alternatively, mix the class into
``unittest.IsolatedAsyncioTestCase``.

The tests use only the public interface, and rooms of their own, so that other data in the same backend does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

from ..realms import RoomId
from ..types import Position
from .base import MAX_OFFSET, Append, Appended, Entry, HistoryFacts, HistoryStore, Last, Reading

__all__ = ["NASTY_NAMES", "HistoryStoreContract"]

NASTY_NAMES = (
    "a",
    "A",
    "ab",
    "a:b",
    "b:a",
    "1.a",
    "1:a",
    "a{b}",
    "}{",
    "a b",
    " ",
    "%s",
    "*?[x]",
    "\\",
    "line\nbreak",
    "\r\n\t",
    "\0\x1f\x7f",
    "Zo\u00eb",
    "Zoe\u0308",
    "\U0001f600",
    "\ud800",
    "x" * 500,
    "1",
    "01",
    "-1",
    "null",
)
"""Names that collide or break if a store builds its keys carelessly."""

SECONDS = 30.0
"""The number of seconds that a test waits for a condition."""

MOST_SURPLUS = 100
"""The entries that a store may keep beyond its size."""

EVERYTHING: dict[str, int] = {"limit": 100_000, "max_bytes": 2**40}
"""Limits that cut nothing off."""


class HistoryStoreContract:
    """
    The guarantees of every history store, as tests.

    Subclass it and override ``make_store()``.
    """

    short: ClassVar[float] = 1.0
    """
    The seconds that publications are kept in tests that wait for their end.

    It must be long enough for a few calls on a busy machine.
    """

    async def make_store(self, **options: Any) -> HistoryStore:
        """
        Override to return a new instance for the same backend, as another process would create it.

        The tests close it.

        Args:
            options: Options of HistoryStore.
        """
        raise NotImplementedError("override make_store()")

    # Positions.

    async def test_first_publication(self) -> None:
        """A room has an epoch before its first publication, which is the one of the first publication, too."""
        async with self.opened() as store:
            room = self.room()
            (before,) = await store.positions([room])
            assert before.position.epoch
            assert before.position.offset == 0
            assert before.id is None
            assert await store.positions([room]) == [before]
            (appended,) = await store.append([self.publication(room, id="one")])
            assert appended == Appended(Position(before.position.epoch, 1), "one")
            assert await store.positions([room]) == [Last(appended.position, "one")]

    async def test_epoch_of_the_first_publication(self) -> None:
        """The first publication to a room that was never read has an epoch, and later calls have the same one."""
        async with self.opened() as store:
            room = self.room()
            (first,) = await store.append([self.publication(room)])
            (second,) = await store.append([self.publication(room, key="k")])
            assert first.position.epoch
            assert second.position == Position(first.position.epoch, 2)
            assert await self.position(store, room) == second.position

    async def test_positions_of_many_rooms(self) -> None:
        """Positions are returned in the order of the rooms, also of rooms that are repeated or new."""
        async with self.opened() as store:
            rooms = [self.room() for _ in range(250)]
            await store.append([self.publication(room) for number, room in enumerate(rooms) for _ in range(number % 3)])
            found = await store.positions([*rooms, rooms[1]])
            assert [last.position.offset for last in found] == [*(number % 3 for number in range(250)), 1]
            assert len({last.position.epoch for last in found}) > 1
            assert await store.positions(rooms) == found[:250]
            assert await store.positions([]) == []

    async def test_id_of_the_last_publication(self) -> None:
        """The id of the last publication is known, be it an entry or a value. A new epoch has had none."""
        async with self.opened() as store:
            room = self.room()
            for name, key in (("one", None), ("two", "k"), ("\0\n", None), ("three words here", None)):
                await store.append([self.publication(room, id=name, key=key, idempotency_key=f"i{name}")])
                assert (await store.positions([room]))[0].id == name
            await store.append([self.publication(room, id="other", idempotency_key="ione")])
            (last,) = await store.positions([room])
            assert (last.position.offset, last.id) == (4, "three words here")
            await store.forget(room, offset=4)
            (last,) = await store.positions([room])
            assert (last.position.offset, last.id) in ((4, "three words here"), (4, None))
            await store.purge(room)
            assert (await store.positions([room]))[0].id is None

    async def test_stores_share_rooms(self) -> None:
        """Instances of different processes see the same rooms."""
        async with self.opened() as one, self.opened() as other:
            room = self.room()
            await self.append(one, room, 2)
            (appended,) = await other.append([self.publication(room)])
            assert appended.position == Position((await self.position(one, room)).epoch, 3)
            assert self.offsets(await self.everything(one, room)) == [1, 2, 3]

    # Appending.

    async def test_results_are_in_order(self) -> None:
        """Publications of one call get ascending offsets in each room, returned in the order of the call."""
        async with self.opened() as store:
            rooms = [self.room() for _ in range(7)]
            publications = [
                self.publication(rooms[number * number % 7], id=f"id{number}", data=str(number))
                for number in range(150)
            ]
            appended = await store.append(publications)
            assert [result.id for result in appended] == [f"id{number}" for number in range(150)]
            for room in rooms:
                mine = [number for number, publication in enumerate(publications) if publication.room == room]
                assert [appended[number].position.offset for number in mine] == list(range(1, len(mine) + 1))
                assert [entry.data for entry in (await self.everything(store, room)).entries] == list(map(str, mine))
            assert await store.append([]) == []

    async def test_many_to_one_room(self) -> None:
        """Thousands of publications to one room in one call stay in order."""
        async with self.opened(size=3000) as store:
            room, other = self.room(), self.room()
            publications = [self.publication(room, data=str(number)) for number in range(2500)]
            appended = await store.append([*publications, self.publication(other)])
            assert [result.position.offset for result in appended] == [*range(1, 2501), 1]
            found = await self.everything(store, room)
            assert [entry.data for entry in found.entries] == [str(number) for number in range(2500)]

    async def test_many_rooms(self) -> None:
        """Publications to more than a thousand rooms in one call are all kept."""
        async with self.opened() as store:
            rooms = [self.room() for _ in range(1100)]
            appended = await store.append([self.publication(room) for room in rooms])
            assert await store.positions(rooms) == [Last(result.position, result.id) for result in appended]
            assert {result.position.offset for result in appended} == {1}

    async def test_rooms_of_one_call(self) -> None:
        """Entries, values and repeats of many rooms don't mix, however unevenly a call is spread over the rooms."""
        async with self.opened(size=1000) as store:
            rooms = [self.room() for _ in range(60)]
            await store.append([self.publication(room, id=f"of {room}", idempotency_key="x") for room in rooms[::2]])
            last = [1 - number % 2 for number in range(60)]
            publications, expected = list[Append](), list[tuple[int, str, bool]]()
            for place in range(600):
                # Some rooms get many publications, and some none.
                number = place % 2 if place < 200 else place * place % 60
                room, is_repeat, name = rooms[number], number % 2 == 0 and place % 5 == 0, f"new{place}"
                key, once = (None, f"k{place}")[place % 2], "x" if is_repeat else (None, None, f"i{place}")[place % 3]
                publications.append(self.publication(room, id=name, data=str(place), key=key, idempotency_key=once))
                last[number] += not is_repeat
                expected.append((1, f"of {room}", True) if is_repeat else (last[number], name, False))
            appended = await store.append(publications)
            assert [(result.position.offset, result.id, result.is_repeat) for result in appended] == expected
            for number, room in enumerate(rooms):
                mine = [place for place in range(600) if publications[place].room == room]
                assert len({appended[place].position.epoch for place in mine}) == bool(mine)
                data = [str(place) for place in mine if not appended[place].is_repeat]
                # After the one with which the room began, if it isn't new.
                assert [entry.data for entry in (await self.everything(store, room)).entries[1 - number % 2 :]] == data

    async def test_parts(self) -> None:
        """The results of parts come in order, also of empty ones, and a room's offsets go on from part to part."""
        async with self.opened(size=3000) as store:
            rooms = [self.room() for _ in range(3)]
            sizes = [0, 300, 1, 0, 0, 1200, 2, 0]
            publications = [self.publication(rooms[n * n % 3], data=str(n)) for n in range(sum(sizes))]
            remaining = iter(publications)
            parts = [list(itertools.islice(remaining, size)) for size in sizes]
            results = list[list[Appended]]()
            await store.append_parts(parts, results.append)
            assert list(map(len, results)) == sizes
            appended = [result for part in results for result in part]
            assert [result.id for result in appended] == [publication.id for publication in publications]
            for room in rooms:
                mine = [n for n, publication in enumerate(publications) if publication.room == room]
                assert [appended[n].position.offset for n in mine] == list(range(1, len(mine) + 1))
                assert [entry.data for entry in (await self.everything(store, room)).entries] == list(map(str, mine))
            await store.append_parts([], results.append)
            assert len(results) == len(sizes)

    async def test_concurrent_appends(self) -> None:
        """Offsets are given once, and the publications of one caller stay in order."""
        async with self.opened(size=1000) as one, self.opened(size=1000) as other:
            room = self.room()

            async def publish(store: HistoryStore, name: str) -> list[int]:
                offsets = []
                for number in range(30):
                    (appended,) = await store.append([self.publication(room, data=f"{name}{number}")])
                    offsets.append(appended.position.offset)
                return offsets

            given = await asyncio.gather(*(publish((one, other)[n % 2], f"p{n}.") for n in range(4)))
            assert sorted(offset for offsets in given for offset in offsets) == list(range(1, 121))
            found = await self.everything(one, room)
            for number, offsets in enumerate(given):
                assert offsets == sorted(offsets)
                mine = [entry.data for entry in found.entries if entry.data.startswith(f"p{number}.")]
                assert mine == [f"p{number}.{n}" for n in range(30)]

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

    # Idempotency.

    async def test_idempotency(self) -> None:
        """A publication whose idempotency key is known isn't kept; the first one's position and id are returned."""
        async with self.opened() as store:
            room, other = self.room(), self.room()
            first, second, third = await store.append(
                [
                    self.publication(room, id="i1", idempotency_key="x"),
                    self.publication(room, id="i2", idempotency_key="x"),
                    self.publication(room, id="i3", idempotency_key="y"),
                ]
            )
            assert first == Appended(Position(first.position.epoch, 1), "i1")
            assert second == Appended(first.position, "i1", is_repeat=True)
            assert third == Appended(Position(first.position.epoch, 2), "i3")
            (again,) = await store.append([self.publication(room, id="i4", key="k", idempotency_key="y")])
            assert again == Appended(third.position, "i3", is_repeat=True)
            (elsewhere,) = await store.append([self.publication(other, id="i5", idempotency_key="x")])
            assert (elsewhere.position.offset, elsewhere.is_repeat) == (1, False)
            assert [entry.id for entry in (await self.everything(store, room)).entries] == ["i1", "i3"]

    async def test_idempotency_of_values(self) -> None:
        """The key of a value that was replaced since is still known."""
        async with self.opened() as store:
            room = self.room()
            (first,) = await store.append([self.publication(room, id="i1", key="k", idempotency_key="x")])
            await store.append([self.publication(room, id="i2", key="k")])
            (again,) = await store.append([self.publication(room, id="i3", key="k", idempotency_key="x")])
            assert again == Appended(first.position, "i1", is_repeat=True)
            assert [entry.id for entry in (await store.values(room, **EVERYTHING)).entries] == ["i2"]

    async def test_idempotency_ends(self) -> None:
        """Keys are forgotten after ``idempotency`` seconds, and when the epoch changes."""
        async with self.opened(idempotency=self.short) as store:
            room = self.room()
            publication = self.publication(room, idempotency_key="x")
            (first,) = await store.append([publication])

            async def is_forgotten() -> bool:
                (appended,) = await store.append([publication])
                return not appended.is_repeat

            await self.until(is_forgotten, "the key to be forgotten")
            assert await self.position(store, room) == Position(first.position.epoch, 2)
        async with self.opened() as store:
            for is_purge in (True, False):
                (known,) = await store.append([publication])
                position = await (store.purge(room) if is_purge else store.renew(room, known.position.epoch))
                (appended,) = await store.append([publication])
                assert appended == Appended(Position(position.epoch, 1), publication.id)

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

    # Facts.

    async def test_facts(self) -> None:
        """Facts have the numbers of what is kept, and its bytes in UTF-8."""
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

    # Names.

    async def test_nasty_names(self) -> None:
        """Rooms and realms with any names don't collide, whatever their idempotency keys; all is read unchanged."""
        async with self.opened() as store:
            realm = secrets.token_hex(4)
            rooms = [(realm + one, other) for one in NASTY_NAMES for other in NASTY_NAMES]
            await store.append(
                [Append(room, room[0], room[1], room[0] + room[1], idempotency_key="k") for room in rooms]
            )
            for room in rooms[:: len(NASTY_NAMES) - 1]:
                (entry,) = (await self.everything(store, room)).entries
                assert (entry.offset, entry.id, entry.event) == (1, *room)
                assert entry.data == room[0] + room[1]
            found = await store.positions(rooms)
            assert [(last.position.offset, last.id) for last in found] == [(1, room[0]) for room in rooms]

    async def test_nasty_keys(self) -> None:
        """Keys of values may be any strings, and so may idempotency keys."""
        async with self.opened() as store:
            room = self.room()
            publications = [self.publication(room, key=name, idempotency_key=name, data=name) for name in NASTY_NAMES]
            assert not any(result.is_repeat for result in await store.append(publications))
            assert all(result.is_repeat for result in await store.append(publications))
            found = (await store.values(room, **EVERYTHING)).entries
            assert [(entry.key, entry.data) for entry in found] == [(name, name) for name in NASTY_NAMES]
            for offset, name in enumerate(NASTY_NAMES, 1):
                assert await store.forget(room, key=name) == [offset]

    async def test_large_data(self) -> None:
        """Publications may be large, as may be all those of one call together."""
        async with self.opened() as store:
            room = self.room()
            await store.append([self.publication(room, data="é" * 50_000) for _ in range(20)])
            found = await self.everything(store, room)
            assert {entry.data for entry in found.entries} == {"é" * 50_000}
            assert self.offsets(found) == list(range(1, 21))

    # Opening and closing.

    async def test_close(self) -> None:
        """After close(), the next call opens connections again."""
        async with self.opened() as store:
            room = self.room()
            await self.append(store, room, 1)
            await store.close()
            await self.append(store, room, 1)
            assert self.offsets(await self.everything(store, room)) == [1, 2]

    async def test_options(self) -> None:
        """Options that don't exist, or have values that aren't valid, are refused when the store is made."""
        for options in ({"size": 0}, {"seconds": 0}, {"values": -1}, {"value_seconds": 1}, {"idempotency": "x"}):
            await self.assert_refused(options)
        await self.assert_refused({"colour": 1})

    async def assert_refused(self, options: dict[str, Any]) -> None:
        try:
            store = await self.make_store(**options)
        except (TypeError, ValueError):
            return
        await store.close()
        raise AssertionError(f"{options} was accepted")

    # Helpers.

    @contextlib.asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[HistoryStore]:
        """Make a store, and close it."""
        store = await self.make_store(**options)
        try:
            yield store
        finally:
            await store.close()

    def room(self) -> RoomId:
        """Return a room that no other test uses."""
        return "contract", secrets.token_hex(8)

    def publication(
        self,
        room: RoomId,
        *,
        id: str | None = None,
        event: str = "said",
        data: str = "{}",
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Append:
        return Append(room, id or secrets.token_hex(4), event, data, key, idempotency_key)

    async def append(self, store: HistoryStore, room: RoomId, count: int) -> None:
        """Append entries."""
        await store.append([self.publication(room, data=str(number)) for number in range(count)])

    async def position(self, store: HistoryStore, room: RoomId) -> Position:
        (last,) = await store.positions([room])
        return last.position

    async def everything(self, store: HistoryStore, room: RoomId) -> Reading:
        """Read what is kept of a room."""
        position = await self.position(store, room)
        found = await store.read(room, Position(position.epoch, 0), **EVERYTHING)
        assert not found.has_more
        return found

    def offsets(self, reading: Reading) -> list[int]:
        return [entry.offset for entry in reading.entries]

    async def has_gap(self, store: HistoryStore, room: RoomId, after: Position) -> bool:
        return (await store.read(room, after, **EVERYTHING)).gap is not None

    async def check_floor(self, store: HistoryStore, room: RoomId, gap: str, last: int, *, size: int = 10) -> None:
        """Check that what is left of a room is complete after the floor, and every position before it has the gap."""
        epoch = (await self.position(store, room)).epoch
        found = await store.read(room, Position(epoch, 0), **EVERYTHING)
        entries = [entry.offset for entry in found.entries if entry.key is None]
        assert found.gap == gap
        assert found.position.offset == last
        assert size <= len(entries) <= size + MOST_SURPLUS
        assert found.start < entries[0]
        for offset in range(last + 1):
            later = await store.read(room, Position(epoch, offset), **EVERYTHING)
            assert (later.gap, later.start) == ((gap, found.start) if offset < found.start else (None, offset))
            assert [entry.offset for entry in later.entries if entry.key is None] == [n for n in entries if n > offset]

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until the condition is true. Fail after SECONDS."""
        deadline = time.monotonic() + SECONDS
        while not await condition():
            assert time.monotonic() < deadline, f"waited {SECONDS:g} s for {what}"
            await asyncio.sleep(0.02)
