# ruff: noqa: S101 - these are tests
"""
A test suite for presence stores, for the ones in this package and for those of other authors.

    class TestMyStore(PresenceStoreContract):
        async def make_store(self, lease: float = 30.0) -> PresenceStore:
            return MyStore("...", lease=lease)

Run it with pytest and pytest-asyncio in auto mode. To see the compared values in failures, call
``pytest.register_assert_rewrite("wsrt.presence.contract")`` in ``conftest.py``. Alternatively, mix the class into
``unittest.IsolatedAsyncioTestCase``.

Tests that apply only to stores with versions, or to stores that give places, are skipped for other stores. The tests
use only the public interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, ClassVar, TypeVar
from unittest import SkipTest

from .base import (
    EVERYONE,
    PLACES,
    UNSET,
    BadCursor,
    Change,
    Claim,
    ConnectionRecord,
    Count,
    Join,
    LeaseLost,
    Leave,
    MemberRecord,
    NodeFacts,
    Page,
    PresenceStore,
    RoomRecord,
)

__all__ = ["NASTY_NAMES", "PresenceStoreContract"]

T = TypeVar("T")

NASTY_NAMES = (
    "a",
    "A",
    "b",
    "ab",
    "a:b",
    "b:a",
    "1.a",
    "a{b}",
    "}{",
    "{}",
    "a b",
    " ",
    "%",
    "%20",
    "%s",
    "_",
    "*?[x]",
    "a/../b",
    "\\",
    "<b>&\"'",
    "line\nbreak",
    "\r\n\t",
    "\0\x1f\x7f",
    "Zo\u00eb",
    "Zoe\u0308",
    "\U0001f600",
    "\ud800",
    "x" * 500,
    "x" * 501,
    "1",
    "01",
    "-1",
    "None",
    "null",
    "guests",
)
"""Names that collide or break if a store builds its keys carelessly."""

SECONDS = 30.0
"""The number of seconds that a test waits for a condition."""


class PresenceStoreContract:
    """
    The guarantees of every presence store, as tests.

    Subclass it and override ``make_store()``. While the tests run, nothing else may use the same backend.
    """

    short_lease: ClassVar[float] = 1.0
    """
    The lease in seconds for tests that wait for its end.

    It must be long enough for a few writes on a busy machine.
    """

    sorts_rooms: ClassVar[bool] = True
    """Whether the store returns the largest rooms first."""

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        """
        Override to return a new instance for the same backend, as another process would create it.

        The tests close it.
        """
        raise NotImplementedError("override make_store()")

    async def expire(self, store: PresenceStore, node: str) -> None:
        """Wait until the lease of a node has ended. It was begun with ``short_lease``."""
        await self.until(lambda: self.is_gone(store, node), "the lease to end")

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

    # Several nodes.

    async def test_nodes_count_together(self) -> None:
        """A user with connections to two nodes counts once, and leaves when the last of these connections ends."""
        async with self.opened() as one, self.opened() as two:
            first, second, space = await self.begin(one), await self.begin(two), self.namespace()
            await one.apply(first, [Join(space, "r", 1, "ada"), Join(space, "r", 2)])
            changes = await two.apply(second, [Join(space, "r", 1, "ada"), Join(space, "r", 2), Join(space, "r", 3)])
            for store in (one, two):
                assert await self.count(store, space) == Count(1, 3, 5)
                assert await self.members(store, space) == {"ada": 2, None: 3}
                assert await store.user_connections(space, "r", ["ada"]) == [2]
            changes += await one.apply(first, [Leave(space, "r", 1), Leave(space, "r", 2)])
            assert await self.count(two, space) == Count(1, 2, 3)
            changes += await two.apply(second, [Leave(space, "r", number) for number in (1, 2, 3)])
            assert await self.count(one, space) == Count(0, 0, 0)
            if one.is_versioned:
                assert self.summary(changes) == [
                    ("changed", None, 2),
                    ("changed", None, 3),
                    ("changed", None, 2),
                    ("left", "ada", 0),
                    ("changed", None, 1),
                    ("left", None, 0),
                ]

    async def test_same_numbers_on_two_nodes(self) -> None:
        """Connections to different nodes may have the same number."""
        async with self.opened() as store:
            one, two, space = await self.begin(store), await self.begin(store), self.namespace()
            await store.apply(one, [Join(space, "r", 1, "ada"), Join(space, "r", 2, "ada")])
            await store.apply(two, [Join(space, "r", 1, "grace")])
            assert await store.held(one, space, "r") == {1, 2}
            assert await store.held(two, space, "r") == {1}
            await store.apply(two, [Leave(space, "r", 1), Leave(space, "r", 2)])
            assert await self.members(store, space) == {"ada": 2}

    async def test_another_instance(self) -> None:
        """What one instance has written is seen by another one, even after the first was closed."""
        async with self.opened() as reader:
            async with self.opened(ends_nodes=False) as writer:
                node, space = await self.begin(writer, {"host": "h"}), self.namespace()
                await writer.apply(node, [Join(space, "r", 1, "ada", '"x"'), Join(space, EVERYONE, 1, "ada")])
            assert await self.members(reader, space) == {"ada": 1}
            assert (await reader.snapshot(space, "r", 5)).members == (MemberRecord("ada", 1, '"x"'),)
            assert [record.room for record in (await reader.rooms(space)).items] == ["r"]
            assert [record.id for record in (await reader.connections(space)).items] == [f"{node}-1"]
            assert await reader.held(node, space, "r") == {1}
            assert space in await reader.namespaces()
            assert [record.facts for record in await reader.nodes() if record.id == node] == [{"host": "h"}]
            await self.remove_node(reader, node)

    async def test_concurrent_writers(self) -> None:
        """
        After concurrent writes of several nodes, the counts are right, and the changes have contiguous versions.
        """
        async with self.opened() as one, self.opened() as two:
            space = self.namespace()
            nodes = [(store, await self.begin(store)) for store in (one, two, one)]
            joined: dict[str, dict[int, str | None]] = {}
            changes: list[Change] = []

            async def write(store: PresenceStore, node: str, dice: random.Random) -> None:
                mine = joined.setdefault(node, {})
                for _ in range(12):
                    operations: list[Join | Leave] = []
                    for number in dice.sample(range(8), 3):
                        user = dice.choice(["ada", "grace", None])
                        if number in mine:
                            del mine[number]
                            operations.append(Leave(space, "r", number))
                        else:
                            mine[number] = user
                            operations.append(Join(space, "r", number, user))
                    changes.extend(await store.apply(node, operations))

            await asyncio.gather(*(write(*node, random.Random(seed)) for seed, node in enumerate(nodes)))  # noqa: S311
            expected = Counter(user for mine in joined.values() for user in mine.values())
            assert await self.members(two, space) == expected
            if one.is_versioned:
                self.assert_consistent(changes, set(expected))

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

    # Leases.

    async def test_nodes(self) -> None:
        """Nodes are listed with their last facts and the remaining time of their lease."""
        async with self.opened(lease=20) as store:
            node = await self.begin(store, {"host": "h", "pid": 1, "lag_ms": 0.5})
            (found,) = [record for record in await store.nodes() if record.id == node]
            assert found.facts == {"host": "h", "pid": 1, "lag_ms": 0.5}
            beat = await store.beat(NodeFacts(node, {"host": "other"}))
            assert beat.is_alive
            (found,) = [record for record in await store.nodes() if record.id == node]
            assert found.facts == {"host": "other"}
            assert 10 < found.lease <= 20.5

    async def test_heartbeats_renew_the_lease(self) -> None:
        """Heartbeats keep a node alive beyond its first lease."""
        async with self.opened(self.short_lease) as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada")])
            until = time.monotonic() + 2 * self.short_lease
            while time.monotonic() < until:
                assert (await store.beat(NodeFacts(node, {}))).is_alive
                await asyncio.sleep(self.short_lease / 10)
            assert await store.apply(node, [Join(space, "r", 1, "ada")]) == []
            assert await self.members(store, space) == {"ada": 1}

    async def test_unknown_node(self) -> None:
        """A node that never began a lease can't write."""
        async with self.opened() as store:
            node = self.node()
            assert not (await store.beat(NodeFacts(node, {}))).is_alive
            await self.assert_fenced(store, node)
            assert not (await store.beat(NodeFacts(node, {}))).is_alive
            assert await self.is_gone(store, node)

    async def test_ended_lease(self) -> None:
        """A node whose lease has ended can never write again, and isn't listed."""
        async with self.opened(self.short_lease) as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada")])
            await self.expire(store, node)
            await self.assert_fenced(store, node)
            assert not (await store.beat(NodeFacts(node, {}))).is_alive
            await self.assert_fenced(store, node)
            assert await self.is_gone(store, node)

    async def test_connections_after_the_lease(self) -> None:
        """Connections of a node whose lease has ended aren't listed, even before it is reaped."""
        async with self.opened() as alive, self.opened(self.short_lease) as dying:
            dead, space = await self.begin(dying), self.namespace()
            await dying.apply(dead, [Join(space, EVERYONE, 1, "ada"), Join(space, "r", 1, "ada")])
            node = await self.begin(alive)
            await alive.apply(node, [Join(space, EVERYONE, 1, "ada"), Join(space, "r", 1, "ada")])
            await self.expire(alive, dead)
            for user in (None, "ada"):
                for room in (EVERYONE, "r"):
                    found = await alive.connections(space, room, user_id=user)
                    assert [record.node for record in found.items] == [node]

    async def test_expired_nodes_are_reported(self) -> None:
        """
        The answer to a heartbeat names other expired nodes until they are reaped, and the time of the next expiry.
        """
        async with self.opened() as alive, self.opened(self.short_lease) as dying:
            node = await self.begin(alive)
            dead = await self.begin(dying)
            beat = await alive.beat(NodeFacts(node, {}))
            assert beat.next_expiry is not None
            assert 0 < beat.next_expiry <= self.short_lease
            assert dead not in beat.expired
            await self.expire(alive, dead)
            beat = await alive.beat(NodeFacts(node, {}))
            assert dead in beat.expired
            assert node not in beat.expired
            another = self.node()
            beat = await alive.begin(NodeFacts(another, {}))
            assert beat.is_alive
            assert dead in beat.expired
            assert beat.next_expiry is not None
            assert beat.next_expiry > self.short_lease
            await self.remove_node(alive, another)
            await self.remove_node(alive, dead)
            beat = await alive.beat(NodeFacts(node, {}))
            assert dead not in beat.expired
            assert beat.next_expiry is None

    async def test_many_expired_nodes(self) -> None:
        """The answer to a heartbeat names at most 16 expired nodes. After these were reaped, it names the rest."""
        # A store may forget a node some leases after its end, which a slow machine needs to reap 16 of them.
        async with self.opened() as alive, self.opened(3 * self.short_lease) as dying:
            node = await self.begin(alive)
            dead = {await self.begin(dying) for _ in range(18)}
            for one in dead:
                await self.expire(alive, one)
            beat = await alive.beat(NodeFacts(node, {}))
            assert len(set(beat.expired)) == len(beat.expired) == 16
            assert len(await alive.expired()) <= 16
            for one in beat.expired:
                await self.remove_node(alive, one)
            beat = await alive.beat(NodeFacts(node, {}))
            assert set(beat.expired) < dead
            assert len(beat.expired) == 2

    async def test_readers_reap_expired_nodes(self) -> None:
        """After the lease has ended, a reader that reaps the nodes in expired() sees nothing of the dead node."""
        async with self.opened() as reader, self.opened(self.short_lease) as dying:
            node, space = await self.begin(dying), self.namespace()
            await dying.apply(node, [Join(space, "r", 1, "ada"), Join(space, EVERYONE, 1, "ada"), Join(space, "r", 2)])
            await self.expire(reader, node)
            for dead in await reader.expired():
                await self.remove_node(reader, dead)
            assert await reader.counts([(space, "r"), (space, EVERYONE)]) == [Count(0, 0, 0)] * 2
            assert (await reader.snapshot(space, "r", 5)).members == ()
            assert await self.members(reader, space) == {}
            assert await reader.user_connections(space, "r", ["ada"]) == [0]
            assert await self.rooms(reader, space) == []
            assert (await reader.connections(space)).items == ()
            assert space not in await reader.namespaces()

    # Reaping.

    async def test_reap(self) -> None:
        """Reaping removes all connections of a node and no others. The node can't write again, and isn't listed."""
        async with self.opened() as one, self.opened() as two:
            first, second, space = await self.begin(one), await self.begin(two), self.namespace()
            await one.apply(first, [Join(space, f"r{n}", n, "ada") for n in range(40)])
            await one.apply(first, [Join(space, "r1", 50, "grace"), Join(space, "r1", 51), Join(space, "r1", 52)])
            await two.apply(second, [Join(space, "r1", 1, "ada", '"x"'), Join(space, "r1", 2)])
            changes = await self.remove_node(one, first)
            for store in (one, two):
                assert await self.members(store, space, "r1") == {"ada": 1, None: 1}
                assert await self.rooms(store, space) == [RoomRecord(space, "r1", Count(1, 1, 2))]
                assert await store.held(first, space, "r1") == set()
                assert await store.held(second, space, "r1") == {1, 2}
            if one.is_versioned:
                reaped = {(change.room, *what) for change, what in zip(changes, self.summary(changes), strict=True)}
                assert {what for what in reaped if what[0] != "r1"} == {
                    (f"r{n}", "left", "ada", 0) for n in range(40) if n != 1
                }
                assert ("r1", "left", "grace", 0) in reaped
                guests = [what for what in self.summary(changes) if what[1] is None]
                assert guests[-1] == ("changed", None, 1)
                assert not [what for what in reaped if what[0] == "r1" and what[2] == "ada"]
            await self.assert_fenced(one, first)
            assert not (await one.beat(NodeFacts(first, {}))).is_alive
            assert await self.is_gone(two, first)
            assert not await self.is_gone(two, second)

    async def test_reap_an_expired_node(self) -> None:
        """Any instance can reap an expired node, and gets the changes for users who have left."""
        async with self.opened() as alive, self.opened(self.short_lease) as dying:
            dead, space = await self.begin(dying), self.namespace()
            joins = [Join(space, "r", 1, "ghost"), Join(space, "r", 2, "ada"), Join(space, "r", 3)]
            changes = await dying.apply(dead, joins)
            node = await self.begin(alive)
            changes += await alive.apply(node, [Join(space, "r", 1, "ada")])
            await self.expire(alive, dead)
            reaped = await self.remove_node(alive, dead)
            assert await self.members(alive, space) == {"ada": 1}
            assert dead not in await alive.expired()
            await self.assert_fenced(dying, dead)
            if alive.is_versioned:
                assert set(self.summary(reaped)) == {("left", "ghost", 0), ("left", None, 0)}
                self.assert_consistent(changes + reaped, {"ada"})

    async def test_reap_again(self) -> None:
        """Reaping a node again, or an unknown node, has no effect."""
        async with self.opened() as store:
            node, other, space = await self.begin(store), await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", 1, "ada")])
            await store.apply(other, [Join(space, "r", 1, "grace")])
            await self.remove_node(store, node)
            version = await store.versions([(space, "r")])
            assert await self.remove_node(store, node) == []
            assert await self.remove_node(store, self.node()) == []
            assert await self.members(store, space) == {"grace": 1}
            assert await store.versions([(space, "r")]) == version

    async def test_reap_a_large_node(self) -> None:
        """Reaping removes a node with many connections completely. Each user who has left is one change."""
        async with self.opened() as store:
            node, space = await self.begin(store), self.namespace()
            await store.apply(node, [Join(space, "r", n, f"u{n}") for n in range(1200)])
            await store.apply(node, [Join(space, f"own{n}", n, f"u{n}") for n in range(200)])
            changes = await self.remove_node(store, node)
            assert await self.count(store, space) == Count(0, 0, 0)
            assert await self.rooms(store, space) == []
            assert space not in await store.namespaces()
            if store.is_versioned:
                left = Counter((change.kind, change.room, change.user_id) for change in changes)
                assert left == Counter(
                    [("left", "r", f"u{n}") for n in range(1200)] + [("left", f"own{n}", f"u{n}") for n in range(200)]
                )

    async def test_reaper_dies(self) -> None:
        """If a reaper dies, another one completes its work."""
        async with self.opened() as one, self.opened() as two:
            node, space = await self.begin(one), self.namespace()
            changes = await one.apply(node, [Join(space, f"r{n % 50}", n, f"u{n}") for n in range(1300)])
            reaper = one.reap(node)
            changes += await anext(reaper)
            await reaper.aclose()  # type: ignore[attr-defined]
            await self.assert_fenced(one, node)

            async def is_reaped() -> bool:
                changes.extend(await self.remove_node(two, node))
                return not await self.rooms(two, space)

            # The claim of the first reaper may have to end before.
            await self.until(is_reaped, "another reaper")
            assert space not in await two.namespaces()
            assert await self.is_gone(two, node)
            if two.is_versioned:
                self.assert_all_consistent(changes)

    async def test_concurrent_reapers(self) -> None:
        """Two concurrent reapers together return each change once."""
        async with self.opened() as one, self.opened() as two:
            node, space = await self.begin(one), self.namespace()
            changes = await one.apply(node, [Join(space, "r", n, f"u{n}") for n in range(1200)])
            for reaped in await asyncio.gather(self.remove_node(one, node), self.remove_node(two, node)):
                changes += reaped
            assert await self.count(two, space) == Count(0, 0, 0)
            if two.is_versioned:
                self.assert_consistent(changes, set())

    async def test_node_with_a_new_id(self) -> None:
        """If a node writes everything under a new id and reaps the old one, there is no change."""
        async with self.opened() as store:
            old, space = await self.begin(store), self.namespace()
            joins = [Join(space, "r", n, f"u{n}", f'"{n}"') for n in range(5)]
            await store.apply(old, [*joins, Join(space, EVERYONE, 1, "u1", None, '{"a":1}')])
            version = await store.versions([(space, "r")])
            new = await self.begin(store, id=f"{old}.1")
            changes = await store.apply(new, [*joins, Join(space, EVERYONE, 1, "u1", None, '{"a":1}')])
            changes += await self.remove_node(store, old)
            if store.is_versioned:
                assert changes == []
                assert await store.versions([(space, "r")]) == version
            assert await self.records(store, space) == {MemberRecord(f"u{n}", 1, f'"{n}"') for n in range(5)}
            assert await self.count(store, space) == Count(5, 0, 5)
            (found,) = (await store.connections(space)).items
            assert found == ConnectionRecord(f"{new}-1", space, "u1", new, '{"a":1}')

    async def test_late_writes_of_a_reaped_node(self) -> None:
        """Late writes of a reaped node have no effect, neither on its own connections nor on those of its successor."""
        async with self.opened() as one, self.opened() as two:
            old, space = await self.begin(one), self.namespace()
            await one.apply(old, [Join(space, "r", 1, "ada"), Join(space, "r", 2, "grace")])
            new = await self.begin(two)
            await two.apply(new, [Join(space, "r", 1, "ada")])
            await self.remove_node(two, old)
            for operations in ([Leave(space, "r", 1)], [Join(space, "r", 1, "eve")], [Join(space, "s", 3)]):
                await self.assert_fenced(one, old, operations)
            assert await self.members(two, space) == {"ada": 1}
            assert await two.held(new, space, "r") == {1}
            assert [record.room for record in await self.rooms(two, space)] == ["r"]

    # Places. Only for stores that give them.

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

    # Helpers.

    @contextlib.asynccontextmanager
    async def placing(self) -> AsyncIterator[PresenceStore]:
        """A store that gives places. Skips the test for any other."""
        async with self.opened() as store:
            if not store.gives_places:
                raise SkipTest("the store doesn't give places")
            yield store

    def claims(self, *, replaces: bool = False) -> Callable[..., Claim]:
        """Return a function that claims one of two places of a user."""
        space = self.namespace()

        def claim(number: int, limit: int | None = 2) -> Claim:
            return Claim(space, f"{PLACES}user:ada", number, limit, replaces)

        return claim

    def leave(self, claim: Claim) -> Leave:
        return Leave(claim.namespace, claim.room, claim.connection)

    async def decide(self, store: PresenceStore, node: str, *claims: Claim) -> list[tuple[bool, tuple[str, ...]]]:
        """Return whether each claim got a place, and which connections it replaced."""
        return [(decision.is_given, decision.replaced) for decision in await store.decide(node, claims)]

    @contextlib.asynccontextmanager
    async def opened(self, lease: float = 30.0, *, ends_nodes: bool = True) -> AsyncIterator[PresenceStore]:
        """Yield a store. Afterwards, reap the nodes whose lease was begun through it, and close it."""
        store = await self.make_store(lease)
        begun = self._begun()[store] = []
        try:
            yield store
        finally:
            try:
                for node in begun if ends_nodes else ():
                    await self.remove_node(store, node)
            finally:
                await store.close()

    def _begun(self) -> dict[PresenceStore, list[str]]:
        """Return the ids of the nodes whose lease was begun, by store."""
        known: dict[PresenceStore, list[str]] = self.__dict__.setdefault("_nodes_of_stores", {})
        return known

    def node(self) -> str:
        """Return the id of a new node."""
        return secrets.token_hex(12)

    def namespace(self) -> str:
        """Return a namespace that no other test uses."""
        return f"n-{secrets.token_hex(6)}"

    async def begin(self, store: PresenceStore, facts: dict[str, Any] | None = None, id: str | None = None) -> str:
        """Begin the lease of a node. Return its id."""
        node = id or self.node()
        beat = await store.begin(NodeFacts(node, facts or {}))
        assert beat.is_alive
        assert node not in beat.expired
        self._begun()[store].append(node)
        return node

    def needs_versions(self, store: PresenceStore) -> None:
        if not store.is_versioned:
            raise SkipTest("this store doesn't have versions")

    def summary(self, changes: Iterable[Change]) -> list[tuple[str, str | None, int]]:
        """Return kind, user and connections of changes."""
        return [(change.kind, change.user_id, change.connections) for change in changes]

    async def count(self, store: PresenceStore, namespace: str, room: str = "r") -> Count:
        (found,) = await store.counts([(namespace, room)])
        return found

    async def records(self, store: PresenceStore, namespace: str, room: str = "r") -> set[MemberRecord]:
        """Return the members of a small room. Check that a page and a snapshot agree."""
        page = await store.members(namespace, room)
        snapshot = await store.snapshot(namespace, room, len(page.items))
        assert page.next is None
        assert Counter(page.items) == Counter(snapshot.members)
        return set(page.items)

    async def members(self, store: PresenceStore, namespace: str, room: str = "r") -> dict[str | None, int]:
        """Return the number of connections of each member of a small room."""
        return {member.user_id: member.connections for member in await self.records(store, namespace, room)}

    async def rooms(self, store: PresenceStore, namespace: str, *, limit: int = 500) -> list[RoomRecord]:
        """Return all rooms. Check that their counts are those of counts()."""
        found = await self.pages(store.rooms, namespace, limit=limit)
        assert await store.counts([(namespace, record.room) for record in found]) == [record.count for record in found]
        return found

    async def pages(
        self,
        read: Callable[..., Awaitable[Page[T]]],
        *args: Any,
        between: Callable[[int], Awaitable[None]] | None = None,
        **options: Any,
    ) -> list[T]:
        """Return the items of all pages. ``between`` is called after each page with its number."""
        found: list[T] = []
        cursor: str | None = None
        for step in range(1000):
            page = await read(*args, cursor=cursor, **options)
            found += page.items
            cursor = page.next
            if cursor is None:
                return found
            if between is not None and step < 20:
                await between(step)
        raise AssertionError("the pages never end")

    async def remove_node(self, store: PresenceStore, node: str) -> list[Change]:
        """Reap a node. Return the changes."""
        return [change async for changes in store.reap(node) for change in changes]

    async def is_gone(self, store: PresenceStore, node: str) -> bool:
        return node not in {record.id for record in await store.nodes()}

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until the condition is true. Fail after SECONDS."""
        deadline = time.monotonic() + SECONDS
        while not await condition():
            assert time.monotonic() < deadline, f"waited {SECONDS:g} s for {what}"
            await asyncio.sleep(0.05)

    async def assert_fenced(
        self, store: PresenceStore, node: str, operations: list[Join] | list[Leave] | None = None
    ) -> None:
        """Check that a node can't write, and that the attempt has no effect."""
        space = self.namespace()
        try:
            await store.apply(node, operations or [Join(space, "late", 1, "zombie")])
        except LeaseLost:
            assert await self.count(store, space, "late") == Count(0, 0, 0)
        else:
            raise AssertionError(f"{node} was allowed to write")

    def assert_all_consistent(self, changes: list[Change]) -> None:
        """Check the changes of several rooms, which must end up empty. See assert_consistent()."""
        for room in {change.room for change in changes}:
            self.assert_consistent([change for change in changes if change.room == room], set())

    def assert_consistent(self, changes: list[Change], members: set[str | None]) -> None:
        """Check that the changes of one room have contiguous versions and result in ``members``."""
        present: set[str | None] = set()
        version = 0
        for change in sorted(changes, key=lambda change: change.version):
            if present:
                assert change.version == version + 1, f"{change} after version {version}"
            assert change.version > version
            version = change.version
            assert (change.user_id in present) == (change.kind != "joined"), f"{change}, members: {present}"
            if change.kind == "left":
                present.remove(change.user_id)
            else:
                present.add(change.user_id)
        assert present == members
