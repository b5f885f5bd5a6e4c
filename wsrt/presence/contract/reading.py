# ruff: noqa: S101 - these are tests
"""Tests of what can be read: members, rooms, connections and their pages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable
from unittest import SkipTest

from ..base import (
    EVERYONE,
    BadCursor,
    ConnectionRecord,
    Count,
    Join,
    Leave,
    MemberRecord,
    Page,
    RoomRecord,
)
from .support import StoreTests


class ReadingTests(StoreTests):
    """Counts, lists, pages and searches."""

    # Reading.

    async def test_empty(self) -> None:
        """Queries about an empty room or namespace return empty results."""
        async with self.opened() as store:
            space = self.namespace()
            snapshot = await store.snapshot(space, "r", 3)
            assert (snapshot.version, snapshot.count, snapshot.members) == (0, Count(0, 0, 0), ())
            assert await store.members(space, "r") == Page((), None)
            assert await store.rooms(space) == Page((), None)
            assert await store.connections(space) == Page((), None)
            assert await store.connections(space, "r", user_id="ada") == Page((), None)
            assert await store.counts([(space, "r")]) == [Count(0, 0, 0)]
            assert await store.user_connections(space, "r", ["ada"]) == [0]
            assert await store.held(self.node(), space, "r") == set()
            assert space not in await store.namespaces()

    async def test_empty_arguments(self) -> None:
        """Queries about an empty list return an empty list."""
        async with self.opened() as store:
            assert await store.counts([]) == []
            assert await store.versions([]) == []
            assert await store.user_connections(self.namespace(), "r", []) == []

    async def test_snapshot(self) -> None:
        """A snapshot has the members if there are at most ``limit`` of them. Otherwise it has only the counts."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", number, f"u{number}", f'"{number}"') for number in range(4)])
            whole = await store.snapshot(space, "r", 4)
            assert set(whole.members or ()) == {MemberRecord(f"u{number}", 1, f'"{number}"') for number in range(4)}
            assert len(whole.members or ()) == 4
            large = await store.snapshot(space, "r", 3)
            assert large.members is None
            assert whole.count == large.count == Count(4, 0, 4)
            await store.apply(node, [Join(space, "r", 8), Join(space, "r", 9)])
            whole = await store.snapshot(space, "r", 5)
            assert MemberRecord(None, 2, None) in (whole.members or ())
            assert whole.count == Count(4, 2, 6)

    async def test_snapshot_of_large_members(self) -> None:
        """A snapshot has no members if they exceed ``max_bytes``. It still has the counts."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            data = '"' + 3000 * "x" + '"'
            await store.apply(node, [Join(space, "r", n, f"u{n}", data) for n in range(600)])
            snapshot = await store.snapshot(space, "r", 1000, max_bytes=600 * 3000)
            assert snapshot.members is None
            assert snapshot.count == Count(600, 0, 600)
            snapshot = await store.snapshot(space, "r", 1000, max_bytes=600 * 3100)
            assert snapshot.members is not None
            assert {member.user_id for member in snapshot.members} == {f"u{n}" for n in range(600)}
            assert sum(member.size for member in snapshot.members) <= 600 * 3100

    async def test_counts_of_many_rooms(self) -> None:
        """Counts are returned in the order of the argument, including repetitions."""
        async with self.opened() as store:
            node, space, other = await self.begin(store), self.namespace(), self.namespace()
            joins = [Join(space, f"r{room}", n, f"u{n}") for room in range(60) for n in range(room % 5)]
            await store.apply(node, [*joins, Join(other, "r1", 1), Join(other, EVERYONE, 1)])
            asked = [(space, f"r{room}") for room in range(60)]
            expected = [Count(room % 5, 0, room % 5) for room in range(60)]
            assert await store.counts(asked[::-1]) == expected[::-1]
            asked = [(other, "r1"), (space, "r1"), (other, EVERYONE), (space, "r1"), (other, "r2")]
            one, guest = Count(1, 0, 1), Count(0, 1, 1)
            assert await store.counts(asked) == [guest, one, guest, one, Count(0, 0, 0)]

    async def test_user_connections(self) -> None:
        """Numbers of connections are returned in the order of the argument, 0 for users who aren't in the room."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            joins = [Join(space, "r", 10 * n + tab, f"u{n}") for n in range(20) for tab in range(n % 4)]
            await store.apply(node, [*joins, Join(space, "s", 500, "u0")])
            users = [f"u{n}" for n in reversed(range(25))]
            expected = [n % 4 if n < 20 else 0 for n in reversed(range(25))]
            assert await store.user_connections(space, "r", users) == expected

    async def test_pages_of_members(self) -> None:
        """Each page has about ``limit`` members. Together, the pages have all members."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", n, f"u{n}", f'"{n}"') for n in range(1500)])
            await store.apply(node, [Join(space, "r", 2000 + n) for n in range(3)])
            page = await store.members(space, "r", limit=100)
            assert 0 < len(page.items) < 500
            found = await self.pages(store.members, space, "r", limit=100)
            assert set(found) == {
                *(MemberRecord(f"u{n}", 1, f'"{n}"') for n in range(1500)),
                MemberRecord(None, 3, None),
            }

    async def test_pages_of_members_during_changes(self) -> None:
        """A member who stays while others come and go is on at least one page."""
        async with self.opened() as one, self.opened() as two:
            node, other, space = await self.begin(one), await self.begin(two), self.namespace()
            stay = {f"stay{n}" for n in range(600)}
            await one.apply(node, [Join(space, "r", n, user) for n, user in enumerate(sorted(stay))])
            await two.apply(other, [Join(space, "r", n, f"go{n}") for n in range(600)])

            async def shuffle(step: int) -> None:
                start = 30 * step
                await two.apply(other, [Leave(space, "r", n) for n in range(start, start + 30)])
                await one.apply(node, [Join(space, "r", 1000 + n, f"new{n}") for n in range(start, start + 30)])

            found = await self.pages(one.members, space, "r", limit=50, between=shuffle)
            assert stay <= {member.user_id for member in found}

    async def test_search_of_members(self) -> None:
        """A search returns exactly the users whose id contains the text, ignoring case, in pages."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            users = [*(f"User{n}" for n in range(600)), "ADA", "\u00c9mile", "100%", "a_b", "a*b", "[x]"]
            await store.apply(node, [Join(space, "r", n, user) for n, user in enumerate(users)])
            await store.apply(node, [Join(space, "r", 9000)])
            for search, expected in {
                "aDa": {"ADA"},
                "\u00e9MILE": {"\u00c9mile"},
                "uSER59": {"User59", *(f"User{n}" for n in range(590, 600))},
                "%": {"100%"},
                "_": {"a_b"},
                "*": {"a*b"},
                "[x]": {"[x]"},
                "absent": set(),
            }.items():
                found = await self.pages(store.members, space, "r", limit=4, search=search)
                assert {member.user_id for member in found} == expected, search

    async def test_rooms(self) -> None:
        """All rooms with connections are listed with their counts, except EVERYONE. An empty room isn't listed."""
        async with self.opened() as one, self.opened() as two:
            first, second, space = await self.begin(one), await self.begin(two), self.namespace()
            await one.apply(first, [Join(space, EVERYONE, 1, "ada"), Join(space, "a", 1, "ada"), Join(space, "b", 1)])
            await two.apply(second, [Join(space, "a", 1, "ada"), Join(space, "a", 2, "grace"), Join(space, "c", 1)])
            assert set(await self.rooms(one, space)) == {
                RoomRecord(space, "a", Count(2, 0, 3)),
                RoomRecord(space, "b", Count(0, 1, 1)),
                RoomRecord(space, "c", Count(0, 1, 1)),
            }
            await one.apply(first, [Leave(space, "a", 1), Leave(space, "b", 1)])
            assert set(await self.rooms(one, space)) == {
                RoomRecord(space, "a", Count(2, 0, 2)),
                RoomRecord(space, "c", Count(0, 1, 1)),
            }
            await two.apply(second, [Leave(space, "a", 1), Leave(space, "a", 2), Leave(space, "c", 1)])
            assert await self.rooms(one, space) == []

    async def test_rooms_by_size(self) -> None:
        """The largest rooms come first, across pages."""
        if not self.sorts_rooms:
            raise SkipTest("this store doesn't sort rooms")
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            sizes = random.Random(1).sample(range(1, 31), 30)  # noqa: S311
            await store.apply(node, [Join(space, f"r{size}", n, f"u{n}") for size in sizes for n in range(size)])
            found = await self.pages(store.rooms, space, limit=7)
            assert [record.room for record in found] == [f"r{size}" for size in range(30, 0, -1)]

    async def test_pages_of_rooms(self) -> None:
        """Each page has about ``limit`` rooms. Together, the pages have each room that stays throughout."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            rooms = {f"stay{n}" for n in range(300)}
            await store.apply(node, [Join(space, room, 1, "ada") for room in rooms])
            await store.apply(node, [Join(space, f"go{n}", 1, "ada") for n in range(100)])

            async def shuffle(step: int) -> None:
                await store.apply(node, [Leave(space, f"go{5 * step + n}", 1) for n in range(5)])
                await store.apply(node, [Join(space, f"new{5 * step + n}", 1, "ada") for n in range(5)])

            assert 0 < len((await store.rooms(space, limit=20)).items) <= 40
            found = await self.pages(store.rooms, space, limit=20, between=shuffle)
            assert rooms <= {record.room for record in found}

    async def test_search_of_rooms(self) -> None:
        """A search returns exactly the rooms whose name contains the text, ignoring case, in pages."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            names = [*(f"Room {n}" for n in range(80)), "LOBBY", "100%", "a_b", "[x]"]
            await store.apply(node, [Join(space, name, 1) for name in names])
            for search, expected in {
                "lobby": {"LOBBY"},
                "rOOM 7": {"Room 7", *(f"Room {n}" for n in range(70, 80))},
                "%": {"100%"},
                "_": {"a_b"},
                "[x]": {"[x]"},
                "nothing": set(),
            }.items():
                found = await self.pages(store.rooms, space, limit=4, search=search)
                assert {record.room for record in found} == expected, search

    async def test_connections(self) -> None:
        """Connections can be listed by namespace, room and user. Their details are those of the join of EVERYONE."""
        async with self.opened() as store:
            one, two, space = await self.begin(store), await self.begin(store), self.namespace()
            await store.apply(one, [Join(space, EVERYONE, 1, "ada", None, '{"a":1}'), Join(space, EVERYONE, 2, "ada")])
            await store.apply(two, [Join(space, EVERYONE, 1, None, None, '{"a":2}')])
            await store.apply(one, [Join(space, "r", 1, "ada", '"data"'), Join(space, "r", 2, "ada")])
            ada, tab, guest = (
                ConnectionRecord(f"{one}-1", space, "ada", one, '{"a":1}'),
                ConnectionRecord(f"{one}-2", space, "ada", one, None),
                ConnectionRecord(f"{two}-1", space, None, two, '{"a":2}'),
            )
            assert set((await store.connections(space)).items) == {ada, tab, guest}
            assert set((await store.connections(space, "r")).items) == {ada, tab}
            assert set((await store.connections(space, user_id="ada")).items) == {ada, tab}
            assert (await store.connections(space, user_id="grace")).items == ()
            await store.apply(one, [Join(space, "s", 1, "ada"), Leave(space, "s", 1)])
            assert set((await store.connections(space, "r")).items) == {ada, tab}
            await store.apply(one, [Join(space, EVERYONE, 1, "ada", None, '{"a":3}'), Leave(space, "r", 2)])
            (found,) = (await store.connections(space, "r")).items
            assert found == ConnectionRecord(f"{one}-1", space, "ada", one, '{"a":3}')

    async def test_pages_of_connections(self) -> None:
        """Each page has about ``limit`` connections. Together, the pages have each connection that stays throughout."""
        async with self.opened() as one, self.opened() as two:
            nodes, space = {one: await self.begin(one), two: await self.begin(two)}, self.namespace()
            for store, node in nodes.items():
                joins = [Join(space, EVERYONE, n, f"u{n % 3}" if n % 3 else None, None, f"{n}") for n in range(600)]
                await store.apply(node, joins)
                await store.apply(node, [Join(space, EVERYONE, 1000 + n, f"go{n}") for n in range(100)])
            stay = {(f"{node}-{n}", f"{n}") for node in nodes.values() for n in range(600)}

            async def shuffle(step: int) -> None:
                for store, node in nodes.items():
                    await store.apply(node, [Leave(space, EVERYONE, 1000 + step)])
                    await store.apply(node, [Join(space, EVERYONE, 2000 + step, f"new{step}")])

            assert 0 < len((await one.connections(space, limit=50)).items) < 500
            found = await self.pages(one.connections, space, limit=50, between=shuffle)
            assert stay <= {(record.id, record.details) for record in found}
            found = await self.pages(one.connections, space, user_id="u2", limit=50)
            assert {record.id for record in found} == {
                f"{node}-{n}" for node in nodes.values() for n in range(2, 600, 3)
            }

    async def test_smallest_pages(self) -> None:
        """Pages of one item work, and come to an end."""
        async with self.opened() as store:
            one, two, space = await self.begin(store), await self.begin(store), self.namespace()
            for node in (one, two):
                await store.apply(node, [Join(space, "r", number, f"u{number // 2}") for number in range(6)])
                await store.apply(node, [Join(space, room, 1) for room in ("s", "t")])
            members = await self.pages(store.members, space, "r", limit=1)
            assert {member.user_id for member in members} == {"u0", "u1", "u2"}
            assert {record.room for record in await self.pages(store.rooms, space, limit=1)} == {"r", "s", "t"}
            found = await self.pages(store.connections, space, "r", limit=1)
            assert {record.id for record in found} == {f"{node}-{number}" for node in (one, two) for number in range(6)}
            found = await self.pages(store.connections, space, "r", user_id="u1", limit=1)
            assert {record.id for record in found} == {f"{node}-{number}" for node in (one, two) for number in (2, 3)}

    async def test_invalid_cursors(self) -> None:
        """
        A cursor that isn't the ``next`` of a page raises BadCursor or is accepted, but isn't a failure of the store.
        """
        words = ["", "1:", "abc:x", "nan:x", "-1", "[]", "[1]", "{}", "[" * 10_000, "9" * 40, "x:" + "9" * 40]
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada"), Join(space, EVERYONE, 1, "ada")])
            for cursor in words:
                await self.raises_bad_cursor(store.members(space, "r", cursor=cursor))
                await self.raises_bad_cursor(store.rooms(space, cursor=cursor))
                await self.raises_bad_cursor(store.connections(space, cursor=cursor))
            assert await self.raises_bad_cursor(store.members(space, "r", cursor="abc"))
            assert await self.raises_bad_cursor(store.rooms(space, cursor="abc"))
            assert await self.raises_bad_cursor(store.connections(space, cursor="abc"))

    @staticmethod
    async def raises_bad_cursor(page: Awaitable[object]) -> bool:
        """Return whether a page raises BadCursor. Any other exception is a failure."""
        try:
            await page
        except BadCursor:
            return True
        return False

    async def test_namespaces(self) -> None:
        """Namespaces with connections are listed, each once."""
        async with self.opened() as store:
            one, two = await self.begin(store), await self.begin(store)
            spaces = [self.namespace() for _ in range(3)]
            await store.apply(one, [Join(spaces[0], "r", 1), Join(spaces[0], "s", 1), Join(spaces[1], EVERYONE, 1)])
            await store.apply(two, [Join(spaces[1], "r", 1), Join(spaces[2], "r", 1)])
            assert Counter(space for space in await store.namespaces() if space in spaces) == Counter(spaces)
            await store.apply(one, [Leave(spaces[0], "r", 1), Leave(spaces[0], "s", 1), Leave(spaces[1], EVERYONE, 1)])
            assert {space for space in await store.namespaces() if space in spaces} == set(spaces[1:])
