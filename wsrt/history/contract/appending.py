# ruff: noqa: S101 - these are tests
"""Appending: the positions of publications, and idempotency keys."""

from __future__ import annotations

import asyncio
import itertools

from ...types import Position
from ..base import Append, Appended, HistoryStore, Last
from .support import EVERYTHING, StoreTests


class AppendingTests(StoreTests):
    """Appending."""

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
