# ruff: noqa: S101 - these are tests
"""Tests of joining and leaving, and of the versions and names of rooms."""

from __future__ import annotations

from collections import Counter
from unittest import SkipTest

from ...stores.nasty_names import NASTY_NAMES
from ..base import (
    EVERYONE,
    UNSET,
    Change,
    Count,
    Join,
    Leave,
    MemberRecord,
)
from .support import StoreTests


class MemberTests(StoreTests):
    """Joining, leaving, versions and names."""

    # Joining and leaving.

    async def test_join(self) -> None:
        """The first connection of a user causes a change "joined", which has all its fields set."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            (change,) = await store.apply(node, [Join(space, "r", 7, "ada", '{"a":1}')])
            expected = Change(space, "r", "joined", "ada", 1, '{"a":1}', change.version)
            assert change == expected
            assert bool(change.version) is store.is_versioned
            assert await self.records(store, space) == {MemberRecord("ada", 1, '{"a":1}')}
            assert await store.held(node, space, "r") == {7}

    async def test_leave(self) -> None:
        """When the last connection leaves, the change is a "left", and the user's data is removed."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 7, "ada", '"x"')])
            (change,) = await store.apply(node, [Leave(space, "r", 7)])
            assert (change.namespace, change.room) == (space, "r")
            assert self.summary([change]) == [("left", "ada", 0)]
            assert await self.records(store, space) == set()
            assert await store.held(node, space, "r") == set()

    async def test_no_operations(self) -> None:
        """An empty list of operations causes no change."""
        async with self.opened() as store:
            assert await store.apply(await self.begin(store), []) == []

    async def test_several_connections_of_a_user(self) -> None:
        """Several connections of a user are one member. Only the first join and the last leave are changes."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            changes = await store.apply(node, [Join(space, "r", number, "ada") for number in (1, 2, 3)])
            assert self.summary(changes) == [("joined", "ada", 1)]
            assert await self.members(store, space) == {"ada": 3}
            assert await self.count(store, space) == Count(1, 0, 3)
            assert await store.apply(node, [Leave(space, "r", 1), Leave(space, "r", 2)]) == []
            assert await self.members(store, space) == {"ada": 1}
            assert self.summary(await store.apply(node, [Leave(space, "r", 3)])) == [("left", "ada", 0)]

    async def test_repeated_join(self) -> None:
        """A repeated Join has no effect."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            joins = [Join(space, "r", 1, "ada", '"x"', '{"a":1}'), Join(space, "r", 2), Join(space, EVERYONE, 1, "ada")]
            await store.apply(node, joins)
            versions = await store.versions([(space, "r"), (space, EVERYONE)])
            assert await store.apply(node, joins + joins) == []
            assert await self.members(store, space) == {"ada": 1, None: 1}
            assert await self.count(store, space) == Count(1, 1, 2)
            assert await store.versions([(space, "r"), (space, EVERYONE)]) == versions

    async def test_repeated_leave(self) -> None:
        """A Leave has no effect if it is repeated, or if the number or the room is unknown."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada"), Join(space, "r", 2, "grace")])
            changes = await store.apply(node, [Leave(space, "r", 1), Leave(space, "r", 1), Leave(space, "r", 99)])
            assert self.summary(changes) == [("left", "ada", 0)]
            assert await store.apply(node, [Leave(space, "r", 1), Leave(space, "s", 2), Leave("other", "r", 2)]) == []
            assert await self.members(store, space) == {"grace": 1}

    async def test_guests(self) -> None:
        """All guests are one member, and each guest who joins or leaves is a change."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            changes = await store.apply(node, [Join(space, "r", 1), Join(space, "r", 2), Join(space, "r", 3, "ada")])
            assert self.summary(changes) == [("joined", None, 1), ("changed", None, 2), ("joined", "ada", 1)]
            assert await self.members(store, space) == {None: 2, "ada": 1}
            assert await self.count(store, space) == Count(1, 2, 3)
            changes = await store.apply(node, [Leave(space, "r", 1), Leave(space, "r", 2)])
            assert self.summary(changes) == [("changed", None, 1), ("left", None, 0)]
            assert await self.count(store, space) == Count(1, 0, 1)

    async def test_guests_have_no_data(self) -> None:
        """The data of guests is ignored."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            changes = await store.apply(node, [Join(space, "r", 1, None, '"x"'), Join(space, "r", 1, None, '"y"')])
            assert [(*each, change.data) for each, change in zip(self.summary(changes), changes, strict=True)] == [
                ("joined", None, 1, None)
            ]
            assert await self.records(store, space) == {MemberRecord(None, 1, None)}

    async def test_data_changes(self) -> None:
        """A member has the data that any connection of the user set last. Setting equal data isn't a change."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada", '"one"')])
            assert await store.apply(node, [Join(space, "r", 2, "ada", '"one"')]) == []
            changes = await store.apply(node, [Join(space, "r", 2, "ada", '"two"')])
            expected = Change(space, "r", "changed", "ada", 2, '"two"', changes[0].version)
            assert changes == [expected]
            assert await self.records(store, space) == {MemberRecord("ada", 2, '"two"')}
            changes = await store.apply(node, [Join(space, "r", 1, "ada", None)])
            assert [(change.kind, change.data) for change in changes] == [("changed", None)]
            assert await self.records(store, space) == {MemberRecord("ada", 2, None)}

    async def test_unset_data(self) -> None:
        """UNSET keeps the data that other connections of the user have set or will set."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            (joined,) = await store.apply(node, [Join(space, "r", 1, "ada", UNSET)])
            assert (joined.kind, joined.data) == ("joined", None)
            changes = await store.apply(node, [Join(space, "r", 2, "ada", '"two"')])
            assert [(change.kind, change.data) for change in changes] == [("changed", '"two"')]
            again = [Join(space, "r", number, "ada", UNSET) for number in (1, 2, 3)]
            assert await store.apply(node, again) == []
            assert await self.records(store, space) == {MemberRecord("ada", 3, '"two"')}
            # Also if the connection belonged to another user before.
            changes = await store.apply(node, [Join(space, "r", 4, "eve", '"eve"'), Join(space, "r", 4, "ada", UNSET)])
            assert set(self.summary(changes)) == {("joined", "eve", 1), ("left", "eve", 0)}
            assert await self.records(store, space) == {MemberRecord("ada", 4, '"two"')}

    async def test_unset_data_of_guests(self) -> None:
        """UNSET works for guests too."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            changes = await store.apply(node, [Join(space, "r", n, None, UNSET) for n in (1, 1, 2)])
            assert [(*each, change.data) for each, change in zip(self.summary(changes), changes, strict=True)] == [
                ("joined", None, 1, None),
                ("changed", None, 2, None),
            ]

    async def test_unset_data_on_another_node(self) -> None:
        """UNSET keeps the data that the user's connections to another node have set or will set."""
        async with self.opened() as one, self.opened() as two:
            first, second, space = await self.begin(one), await self.begin(two), self.namespace()
            await one.apply(first, [Join(space, "r", 1, "ada", '"one"'), Join(space, "s", 1, "ada", UNSET)])
            changes = await two.apply(second, [Join(space, "r", 1, "ada", UNSET)])
            assert changes == [] or not two.is_versioned
            changes = await two.apply(second, [Join(space, "s", 1, "ada", '"two"')])
            if two.is_versioned:
                assert [(*each, changes[0].data) for each in self.summary(changes)] == [("changed", "ada", 2, '"two"')]
            for store in (one, two):
                assert await self.records(store, space, "r") == {MemberRecord("ada", 2, '"one"')}
                assert await self.records(store, space, "s") == {MemberRecord("ada", 2, '"two"')}

    async def test_data_outlives_its_connection(self) -> None:
        """Data stays after the connection that set it has left, until the user has left."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            joins = [Join(space, "r", 1, "ada"), Join(space, "r", 2, "ada", '"two"'), Join(space, "r", 3, "ada", '"3"')]
            await store.apply(node, joins)
            assert await store.apply(node, [Leave(space, "r", 3)]) == []
            assert await self.records(store, space) == {MemberRecord("ada", 2, '"3"')}
            assert await store.apply(node, [Leave(space, "r", 2)]) == []
            assert await self.records(store, space) == {MemberRecord("ada", 1, '"3"')}
            await store.apply(node, [Leave(space, "r", 1), Join(space, "r", 4, "ada")])
            assert await self.records(store, space) == {MemberRecord("ada", 1, None)}

    async def test_data_after_its_node(self) -> None:
        """
        Data stays after the node that set it was reaped.

        Without versions, the data of the remaining nodes is used.
        """
        async with self.opened() as one, self.opened() as two:
            first, second, space = await self.begin(one), await self.begin(two), self.namespace()
            await one.apply(first, [Join(space, "r", 1, "ada", '"one"'), Join(space, "s", 1, "ada")])
            await two.apply(second, [Join(space, room, 1, "ada", '"two"') for room in ("r", "s")])
            await self.remove_node(two, second)
            for room, other in (("r", '"one"'), ("s", None)):
                data = '"two"' if one.is_versioned else other
                assert await self.records(one, space, room) == {MemberRecord("ada", 1, data)}

    async def test_data_of_two_nodes(self) -> None:
        """The data that was set last is used, whichever node set it."""
        async with self.opened() as one, self.opened() as two:
            first, second, space = await self.begin(one), await self.begin(two), self.namespace()
            await one.apply(first, [Join(space, "r", 1, "ada", '"one"')])
            changes = await two.apply(second, [Join(space, "r", 1, "ada", '"two"')])
            if two.is_versioned:
                assert [(*each, changes[0].data) for each in self.summary(changes)] == [("changed", "ada", 2, '"two"')]
            assert await self.records(one, space) == {MemberRecord("ada", 2, '"two"')}
            await one.apply(first, [Join(space, "r", 1, "ada", '"three"')])
            assert await self.records(two, space) == {MemberRecord("ada", 2, '"three"')}

    async def test_data_of_rooms(self) -> None:
        """Data is kept for each room, and removed when the user leaves."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada", '"r"'), Join(space, "s", 1, "ada", '"s"')])
            assert await self.records(store, space, "s") == {MemberRecord("ada", 1, '"s"')}
            await store.apply(node, [Leave(space, "r", 1)])
            await store.apply(node, [Join(space, "r", 2, "ada")])
            assert await self.records(store, space, "r") == {MemberRecord("ada", 1, None)}

    async def test_connection_changes_its_user(self) -> None:
        """A connection that changes its user counts only for the new user."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada", '"x"')])
            changes = await store.apply(node, [Join(space, "r", 1, "grace")])
            assert set(self.summary(changes)) == {("left", "ada", 0), ("joined", "grace", 1)}
            assert await self.members(store, space) == {"grace": 1}
            changes = await store.apply(node, [Join(space, "r", 1)])
            assert set(self.summary(changes)) == {("left", "grace", 0), ("joined", None, 1)}
            assert await self.count(store, space) == Count(0, 1, 1)
            assert await store.user_connections(space, "r", ["ada", "grace"]) == [0, 0]

    async def test_order(self) -> None:
        """Operations are applied in order, also within one call."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            changes = await store.apply(
                node,
                [
                    Join(space, "r", 1, "ada"),
                    Leave(space, "r", 1),
                    Join(space, "s", 1, "ada"),
                    Join(space, "r", 2, "grace"),
                    Leave(space, "s", 1),
                    Join(space, "r", 1, "ada", '"x"'),
                    Join(space, "r", 1, "ada", '"y"'),
                ],
            )
            assert [(change.room, *each) for change, each in zip(changes, self.summary(changes), strict=True)] == [
                ("r", "joined", "ada", 1),
                ("r", "left", "ada", 0),
                ("s", "joined", "ada", 1),
                ("r", "joined", "grace", 1),
                ("s", "left", "ada", 0),
                ("r", "joined", "ada", 1),
                ("r", "changed", "ada", 1),
            ]
            assert await self.records(store, space) == {MemberRecord("ada", 1, '"y"'), MemberRecord("grace", 1, None)}
            assert await self.members(store, space, "s") == {}

    async def test_many_operations(self) -> None:
        """One call may have many operations."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            users = [f"u{number}" for number in range(700)]
            changes = await store.apply(node, [Join(space, f"r{n % 7}", n, user) for n, user in enumerate(users)])
            assert [change.user_id for change in changes] == users
            assert await store.counts([(space, f"r{n}") for n in range(7)]) == [Count(100, 0, 100)] * 7
            assert await store.held(node, space, "r3") == set(range(3, 700, 7))
            changes = await store.apply(node, [Leave(space, f"r{n % 7}", n) for n in range(700)])
            assert [change.user_id for change in changes] == users
            assert await store.counts([(space, f"r{n}") for n in range(7)]) == [Count(0, 0, 0)] * 7

    async def test_large_room(self) -> None:
        """A room may have many members and guests."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            data = '"' + 200 * "x" + '"'
            await store.apply(node, [Join(space, "r", n, f"u{n % 2000}", data) for n in range(2200)])
            await store.apply(node, [Join(space, "r", 5000 + n) for n in range(300)])
            await store.apply(node, [Leave(space, "r", n) for n in range(100)])
            assert await self.count(store, space) == Count(2000, 300, 2400)
            users = [f"u{n}" for n in (0, 99, 100, 199, 200, 1999, 2000)]
            assert await store.user_connections(space, "r", users) == [1, 1, 2, 2, 1, 1, 0]
            snapshot = await store.snapshot(space, "r", 2001)
            assert snapshot.members is not None
            assert len(snapshot.members) == 2001
            assert {member.data for member in snapshot.members if member.user_id is not None} == {data}
            await store.apply(node, [Leave(space, "r", n) for n in range(2190)])
            await store.apply(node, [Leave(space, "r", 5000 + n) for n in range(300)])
            assert await self.members(store, space) == {f"u{n}": 1 for n in range(190, 200)}

    # Versions.

    async def test_versions(self) -> None:
        """Each change of a room raises its version by one. An empty room has version 0."""
        async with self.opened() as store:
            self.needs_versions(store)
            node, space = await self.begin(store), self.namespace()
            changes: list[Change] = []
            for number in range(5):
                changes += await store.apply(node, [Join(space, "r", number, f"u{number}"), Join(space, "s", number)])
            versions = [change.version for change in changes if change.room == "r"]
            assert versions == list(range(versions[0], versions[0] + 5))
            assert versions[0] > 0
            assert await store.versions([(space, "r"), (space, "empty"), ("absent", "r")]) == [versions[-1], 0, 0]
            assert (await store.snapshot(space, "r", 10)).version == versions[-1]
            assert (await store.snapshot(space, "r", 1)).version == versions[-1]
            await store.apply(node, [Leave(space, "r", number) for number in range(5)])
            assert await store.versions([(space, "r")]) == [0]

    async def test_versions_of_a_room_created_again(self) -> None:
        """A room that was emptied and created again has higher versions than before, so that readers notice."""
        async with self.opened() as store:
            self.needs_versions(store)
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada")])
            (left,) = await store.apply(node, [Leave(space, "r", 1)])
            (joined,) = await store.apply(node, [Join(space, "r", 1, "ada")])
            assert joined.version > left.version

    async def test_no_versions(self) -> None:
        """All versions of a store without versions are 0."""
        async with self.opened() as store:
            if store.is_versioned:
                raise SkipTest("this store has versions")
            node, space = await self.begin(store), self.namespace()
            changes = await store.apply(node, [Join(space, "r", 1, "ada"), Join(space, "r", 2), Leave(space, "r", 2)])
            assert {change.version for change in changes} == {0}
            assert await store.versions([(space, "r"), (space, "s")]) == [0, 0]
            assert (await store.snapshot(space, "r", 5)).version == 0

    # Names.

    async def test_nasty_names(self) -> None:
        """Any strings work as names of rooms and users, in all methods."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            names = list(NASTY_NAMES)
            await store.apply(node, [Join(space, name, number, name) for number, name in enumerate(names)])
            await store.apply(node, [Join(space, "r", number, name, '"x"') for number, name in enumerate(names)])
            for number, name in enumerate(names):
                assert await self.members(store, space, name) == {name: 1}
                assert await store.held(node, space, name) == {number}
                connections = await store.connections(space, "r", user_id=name)
                assert [(record.id, record.user_id) for record in connections.items] == [(f"{node}-{number}", name)]
            assert await store.counts([(space, name) for name in names]) == [Count(1, 0, 1)] * len(names)
            assert await store.user_connections(space, "r", names) == [1] * len(names)
            assert await self.members(store, space, "r") == dict.fromkeys(names, 1)
            assert Counter(record.room for record in await self.rooms(store, space, limit=3)) == Counter([*names, "r"])
            assert {member.user_id for member in await self.pages(store.members, space, "r", limit=3)} == set(names)
            changes = await store.apply(node, [Leave(space, "r", number) for number in range(len(names))])
            assert [change.user_id for change in changes] == names

    async def test_namespaces_and_rooms_are_distinct(self) -> None:
        """Different pairs of namespace and room are kept apart, whatever their names contain."""
        async with self.opened() as store:
            node, start = await self.begin(store), self.namespace()
            room_ids = [(start + space, room) for space in NASTY_NAMES[:18] for room in NASTY_NAMES[:18]]
            room_ids += [(start + name, name) for name in NASTY_NAMES[18:]]
            # Pairs that give the same string when joined.
            room_ids += [(start + ":", "x"), (start, ":x"), (start, "x"), (start + "x", "y"), (start + "xy", "z")]
            joins = [Join(*room_id, number, f"u{number}") for number, room_id in enumerate(room_ids)]
            changes = await store.apply(node, joins)
            assert [(change.namespace, change.room) for change in changes] == room_ids
            assert await store.counts(room_ids) == [Count(1, 0, 1)] * len(room_ids)
            for number, room_id in list(enumerate(room_ids))[::7]:
                assert await self.members(store, *room_id) == {f"u{number}": 1}
            spaces = {space for space, _ in room_ids}
            assert spaces <= set(await store.namespaces())
            for space in spaces:
                assert {record.room for record in await self.rooms(store, space)} == {
                    room for other, room in room_ids if other == space
                }
            await store.apply(node, [Leave(*room_id, number) for number, room_id in list(enumerate(room_ids))[1:]])
            assert [space for space in await store.namespaces() if space in spaces] == [room_ids[0][0]]

    async def test_users_named_like_guests(self) -> None:
        """No user id is mistaken for the guests."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            names: list[str | None] = ["None", "null", "guest", "guests", "g", "u", "c", "n", "0", " "]
            await store.apply(node, [Join(space, "r", number, name) for number, name in enumerate(names)])
            assert await self.count(store, space) == Count(len(names), 0, len(names))
            await store.apply(node, [Join(space, "r", 50)])
            assert await self.members(store, space) == {**dict.fromkeys(names, 1), None: 1}
