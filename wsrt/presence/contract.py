# ruff: noqa: S101 - these are tests
"""
The contract of a presence store, as tests: for ours, and for authors of others.

    class TestMyStore(PresenceStoreContract):
        async def make_store(self, lease: float = 30.0) -> PresenceStore:
            return MyStore("...", lease=lease)

Run with pytest and pytest-asyncio in its auto mode. Nothing is asserted of how a store does it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from typing import Any

from .store import (
    EVERYONE,
    Change,
    Count,
    Fenced,
    Join,
    Leave,
    MemberRecord,
    NodeFacts,
    Page,
    PresenceStore,
)

__all__ = ["PresenceStoreContract"]

NASTY_NAMES = (
    "a:b",
    "a{b}",
    "{}",
    "a b",
    "%20",
    "a/../b",
    "<b>&\"'",
    "line\nbreak",
    "\x00\x1f",
    "*?[x]",
    "Zoë",
    "😀",
    "x" * 500,
    "1",
    "01",
)

SHORT_LEASE = 0.6
"""Seconds: long enough to write under it on a busy machine, short enough to wait for its end."""


class PresenceStoreContract:
    """What every store promises; subclass it, and say how a store is made."""

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        """Return another instance for the same place, as another process would make it. It is closed by the tests."""
        raise NotImplementedError("say how a store is made")

    # A node and what it says.

    def node(self) -> str:
        """Return the id of a new node."""
        return secrets.token_hex(12)

    def namespace(self) -> str:
        """Return a namespace that no other test uses."""
        return f"n-{secrets.token_hex(6)}"

    async def begin(self, store: PresenceStore, node: str | None = None) -> str:
        node = node or self.node()
        beat = await store.begin(NodeFacts(node, {"host": "h", "pid": 1}))
        assert beat.is_alive
        return node

    async def members(self, store: PresenceStore, namespace: str, room: str = "r") -> dict[str | None, int]:
        page = await store.members(namespace, room)
        assert page.next is None
        return {member.user_id: member.connections for member in page.items}

    async def all_of(self, read: Any, *args: Any, limit: int, **kwargs: Any) -> list[Any]:
        """Read all pages."""
        found: list[Any] = []
        page: Page[Any] = await read(*args, limit=limit, **kwargs)
        for _ in range(1000):
            found += page.items
            if page.next is None:
                return found
            page = await read(*args, limit=limit, cursor=page.next, **kwargs)
        raise AssertionError("the pages never end")

    # Joining and leaving.

    async def test_tabs_of_a_user(self) -> None:
        """Several connections are one member, who comes with the first and goes with the last; a Leave twice is one."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        changes = await store.apply(node, [Join(space, "r", number, "ada") for number in (1, 2, 3)])
        assert [(change.kind, change.user_id, change.connections) for change in changes] == [("joined", "ada", 1)]
        assert await self.members(store, space) == {"ada": 3}
        assert await store.counts([(space, "r"), (space, "empty")]) == [Count(1, 0, 3), Count(0, 0, 0)]
        assert await store.apply(node, [Leave(space, "r", 1), Leave(space, "r", 1), Leave(space, "r", 2)]) == []
        assert await self.members(store, space) == {"ada": 1}
        changes = await store.apply(node, [Leave(space, "r", 3), Leave(space, "r", 3), Leave(space, "r", 99)])
        assert [(change.kind, change.user_id, change.connections) for change in changes] == [("left", "ada", 0)]
        assert await self.members(store, space) == {}
        await store.close()

    async def test_said_again(self) -> None:
        """A Join that is said again changes nothing."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        join = Join(space, "r", 1, "ada", '"x"', '{"a":1}')
        await store.apply(node, [join])
        assert await store.apply(node, [join, join]) == []
        assert await self.members(store, space) == {"ada": 1}
        await store.close()

    async def test_guests(self) -> None:
        """Guests are one member whose connections are told, each time."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        changes = await store.apply(node, [Join(space, "r", number) for number in (1, 2)])
        assert [(change.kind, change.user_id, change.connections) for change in changes] == [
            ("joined", None, 1),
            ("changed", None, 2),
        ]
        await store.apply(node, [Join(space, "r", 3, "ada")])
        assert await store.counts([(space, "r")]) == [Count(1, 2, 3)]
        changes = await store.apply(node, [Leave(space, "r", 1), Leave(space, "r", 2)])
        assert [(change.kind, change.connections) for change in changes] == [("changed", 1), ("left", 0)]
        await store.close()

    async def test_data(self) -> None:
        """The last word about a user counts; the same word again is no change; it goes with the user."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        await store.apply(node, [Join(space, "r", 1, "ada", '"one"')])
        assert await store.apply(node, [Join(space, "r", 2, "ada", '"one"')]) == []
        changes = await store.apply(node, [Join(space, "r", 2, "ada", '"two"')])
        assert [(change.kind, change.data, change.connections) for change in changes] == [("changed", '"two"', 2)]
        page = await store.members(space, "r")
        assert page.items == (MemberRecord("ada", 2, '"two"'),)
        await store.apply(node, [Leave(space, "r", 1), Leave(space, "r", 2), Join(space, "r", 3, "ada")])
        page = await store.members(space, "r")
        assert page.items == (MemberRecord("ada", 1, None),)
        await store.close()

    async def test_another_user_on_a_connection(self) -> None:
        """A connection that belongs to another user now counts for that one."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        await store.apply(node, [Join(space, "r", 1, "ada")])
        changes = await store.apply(node, [Join(space, "r", 1, "grace")])
        assert {(change.kind, change.user_id) for change in changes} == {("left", "ada"), ("joined", "grace")}
        assert await self.members(store, space) == {"grace": 1}
        await store.close()

    async def test_versions(self) -> None:
        """Each change has the version after the one before; an empty room has none, and never goes back."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        changes: list[Change] = []
        for number in range(5):
            changes += await store.apply(node, [Join(space, "r", number, f"u{number}"), Join(space, "s", number)])
        changes = [change for change in changes if change.room == "r"]
        if not store.is_versioned:
            assert {change.version for change in changes} == {0}
            assert await store.versions([(space, "r")]) == [0]
            await store.close()
            return
        first = changes[0].version
        assert [change.version for change in changes] == list(range(first, first + 5))
        assert await store.versions([(space, "r"), (space, "empty")]) == [first + 4, 0]
        assert (await store.snapshot(space, "r", 10)).version == first + 4
        last = (await store.apply(node, [Leave(space, "r", number) for number in range(5)]))[-1].version
        assert await store.versions([(space, "r")]) == [0]
        (again,) = await store.apply(node, [Join(space, "r", 9, "u9")])
        assert again.version > last
        await store.close()

    async def test_order(self) -> None:
        """Operations count in their order, also within one call."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        changes = await store.apply(
            node,
            [
                Join(space, "r", 1, "ada"),
                Leave(space, "r", 1),
                Join(space, "r", 2, "grace"),
                Join(space, "r", 1, "ada"),
            ],
        )
        kinds = [(change.kind, change.user_id) for change in changes]
        assert kinds == [("joined", "ada"), ("left", "ada"), ("joined", "grace"), ("joined", "ada")]
        assert await self.members(store, space) == {"ada": 1, "grace": 1}
        await store.close()

    async def test_many_at_once(self) -> None:
        """A crowd is written in one call."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        await store.apply(node, [Join(space, f"r{number % 7}", number, f"u{number}") for number in range(700)])
        assert await store.counts([(space, f"r{number}") for number in range(7)]) == [Count(100, 0, 100)] * 7
        assert await store.held(node, space, "r3") == set(range(3, 700, 7))
        assert await store.held(node, space, "empty") == set()
        await store.close()

    # Names.

    async def test_nasty_names(self) -> None:
        """Any string is a name, and no two meet."""
        store, spaces = await self.make_store(), [self.namespace() + name for name in NASTY_NAMES]
        node = await self.begin(store)
        for space in spaces[:4]:
            await store.apply(node, [Join(space, room, number, room) for number, room in enumerate(NASTY_NAMES)])
        for space in spaces[:4]:
            for name in NASTY_NAMES:
                assert await self.members(store, space, name) == {name: 1}
            rooms = await store.rooms(space)
            assert {record.room for record in rooms.items} == set(NASTY_NAMES)
        await store.apply(node, [Join(space, "r", 1) for space in spaces])
        assert set(spaces) <= set(await store.namespaces())
        assert await store.user_connections(spaces[0], NASTY_NAMES[0], NASTY_NAMES) == [1] + [0] * (
            len(NASTY_NAMES) - 1
        )
        await store.close()

    # Reading.

    async def test_snapshot(self) -> None:
        """A room comes whole where it has at most so many members, else as a count."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        await store.apply(node, [Join(space, "r", number, f"u{number}") for number in range(4)])
        await store.apply(node, [Join(space, "r", 9)])
        whole = await store.snapshot(space, "r", 5)
        assert whole.members is not None
        assert {member.user_id for member in whole.members} == {"u0", "u1", "u2", "u3", None}
        large = await store.snapshot(space, "r", 3)
        assert large.members is None
        assert whole.count == large.count == Count(4, 1, 5)
        empty = await store.snapshot(space, "empty", 3)
        assert (empty.members, empty.count, empty.version) == ((), Count(0, 0, 0), 0)
        await store.close()

    async def test_pages_of_members(self) -> None:
        """All pages together have everybody who stays, also while others come and go."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        stay = {f"stay{number}" for number in range(60)}
        await store.apply(node, [Join(space, "r", number, user) for number, user in enumerate(sorted(stay))])
        await store.apply(node, [Join(space, "r", 100 + number, f"go{number}") for number in range(20)])
        page = await store.members(space, "r", limit=10)
        seen = {member.user_id for member in page.items}
        step = 0
        while page.next is not None:
            await store.apply(node, [Leave(space, "r", 100 + step), Join(space, "r", 200 + step, f"new{step}")])
            step += 1
            page = await store.members(space, "r", cursor=page.next, limit=10)
            seen |= {member.user_id for member in page.items}
        assert stay <= seen
        found = await self.all_of(store.members, space, "r", limit=10, search="STAY5")
        assert {member.user_id for member in found} == {"stay5", *(f"stay{number}" for number in range(50, 60))}
        await store.close()

    async def test_pages_of_rooms(self) -> None:
        """All rooms with their counts, without EVERYONE; a room that is empty is gone."""
        store, space = await self.make_store(), self.namespace()
        node = await self.begin(store)
        joins = [Join(space, EVERYONE, 1, "ada")]
        joins += [Join(space, f"Room {number}", n, f"u{n}") for number in range(1, 31) for n in range(number % 4 + 1)]
        await store.apply(node, joins)
        found = await self.all_of(store.rooms, space, limit=7)
        assert {record.room: record.count.users for record in found} == {
            f"Room {number}": number % 4 + 1 for number in range(1, 31)
        }
        found = await self.all_of(store.rooms, space, limit=7, search="room 3")
        assert {record.room for record in found} == {"Room 3", "Room 30"}
        await store.apply(node, [Leave(space, "Room 4", 0)])
        assert "Room 4" not in {record.room for record in await self.all_of(store.rooms, space, limit=7)}
        assert await self.all_of(store.rooms, self.namespace(), limit=7) == []
        await store.close()

    async def test_pages_of_connections(self) -> None:
        """The connections of a room, of a user, with the details that EVERYONE has."""
        store, space = await self.make_store(), self.namespace()
        one, two = await self.begin(store), await self.begin(store)
        for node in (one, two):
            await store.apply(node, [Join(space, EVERYONE, n, f"u{n % 2}", None, f'{{"n":{n}}}') for n in range(10)])
            await store.apply(node, [Join(space, "r", n, f"u{n % 2}") for n in range(5)])
        found = await self.all_of(store.connections, space, limit=3)
        assert {(record.id, record.node, record.user_id, record.details) for record in found} == {
            (f"{node}-{n}", node, f"u{n % 2}", f'{{"n":{n}}}') for node in (one, two) for n in range(10)
        }
        found = await self.all_of(store.connections, space, "r", limit=3)
        assert {record.id: record.details for record in found} == {
            f"{node}-{n}": f'{{"n":{n}}}' for node in (one, two) for n in range(5)
        }
        found = await self.all_of(store.connections, space, limit=3, user_id="u1")
        assert {record.id for record in found} == {f"{node}-{n}" for node in (one, two) for n in range(1, 10, 2)}
        await store.close()

    # Nodes and their leases.

    async def test_nodes(self) -> None:
        """Nodes are listed with what they said last, and for how long it holds."""
        store = await self.make_store(lease=20)
        node = await self.begin(store)
        beat = await store.beat(NodeFacts(node, {"host": "other", "lag_ms": 3}))
        assert beat.is_alive
        (found,) = [record for record in await store.nodes() if record.id == node]
        assert found.facts == {"host": "other", "lag_ms": 3}
        assert 15 < found.lease <= 20
        await self.take_out(store, [node])
        assert node not in {record.id for record in await store.nodes()}
        await store.close()

    async def test_unknown_node(self) -> None:
        """A node that never began, or was taken out, is fenced."""
        store, space = await self.make_store(), self.namespace()
        assert not (await store.beat(NodeFacts(self.node(), {}))).is_alive
        await self.assert_fenced(store, self.node(), space)
        node = await self.begin(store)
        await self.take_out(store, [node])
        assert not (await store.beat(NodeFacts(node, {}))).is_alive
        await self.assert_fenced(store, node, space)
        await store.close()

    async def test_lease_that_ended(self) -> None:
        """After its lease a node is fenced, its connections are not shown, and once reaped, nothing is left of them."""
        store, space = await self.make_store(lease=SHORT_LEASE), self.namespace()
        dead = await self.begin(store)
        begun = time.monotonic()
        await store.apply(
            dead, [Join(space, "r", 1, "ghost"), Join(space, EVERYONE, 1, "ghost"), Join(space, "r", 2, "ada")]
        )
        alive_store = await self.make_store(lease=30)
        alive = await self.begin(alive_store)
        await alive_store.apply(alive, [Join(space, "r", 1, "ada"), Join(space, EVERYONE, 1, "ada")])
        await asyncio.sleep(max(0.0, begun + 1.5 * SHORT_LEASE - time.monotonic()))
        await self.assert_fenced(store, dead, space)
        assert not (await store.beat(NodeFacts(dead, {}))).is_alive
        assert dead not in {record.id for record in await alive_store.nodes()}
        shown = await alive_store.connections(space)
        assert {record.node for record in shown.items} == {alive}
        beat = await alive_store.beat(NodeFacts(alive, {}))
        told = await self.take_out(alive_store, {*beat.expired, *await alive_store.expired(), dead})
        assert await self.members(alive_store, space) == {"ada": 1}
        if alive_store.is_versioned:
            assert [(change.kind, change.user_id) for change in told if change.room == "r"] == [("left", "ghost")]
        assert await self.take_out(alive_store, [dead]) == []
        await store.close()
        await alive_store.close()

    async def test_new_id_of_a_node(self) -> None:
        """A node that writes everything under a new id, and takes the old one out, tells nobody of it."""
        store, space = await self.make_store(), self.namespace()
        old = await self.begin(store)
        joins = [Join(space, "r", number, f"u{number}", '"x"') for number in range(5)]
        await store.apply(old, joins)
        new = await self.begin(store)
        changes = await store.apply(new, joins)
        changes += await self.take_out(store, [old])
        if store.is_versioned:
            assert changes == []
        assert await self.members(store, space) == {f"u{number}": 1 for number in range(5)}
        await store.close()

    async def test_taken_out_by_itself(self) -> None:
        """A node that ends takes everything along; what others hold stays."""
        store, space = await self.make_store(), self.namespace()
        one, two = await self.begin(store), await self.begin(store)
        await store.apply(one, [Join(space, f"r{number}", number, "ada") for number in range(40)])
        await store.apply(two, [Join(space, "r1", 1, "ada")])
        await self.take_out(store, [one])
        rooms = await store.rooms(space)
        assert [(record.room, record.count.connections) for record in rooms.items] == [("r1", 1)]
        await self.take_out(store, [two])
        assert space not in await store.namespaces()
        await store.close()

    async def test_another_instance(self) -> None:
        """What one process writes another one sees, where the store is shared."""
        writer, space = await self.make_store(), self.namespace()
        reader = await self.make_store()
        node = await self.begin(writer)
        await writer.apply(node, [Join(space, "r", 1, "ada", '"x"')])
        assert await self.members(reader, space) == {"ada": 1}
        assert (await reader.snapshot(space, "r", 5)).members == (MemberRecord("ada", 1, '"x"'),)
        assert node in {record.id for record in await reader.nodes()}
        await writer.close()
        await reader.close()

    # For the tests.

    async def assert_fenced(self, store: PresenceStore, node: str, space: str) -> None:
        try:
            await store.apply(node, [Join(space, "late", 1, "zombie")])
        except Fenced:
            assert await store.counts([(space, "late")]) == [Count(0, 0, 0)]
        else:
            raise AssertionError(f"{node} was allowed to write")

    async def take_out(self, store: PresenceStore, nodes: Iterable[str]) -> list[Change]:
        """Reap nodes; return what that changed."""
        changes: list[Change] = []
        for node in nodes:
            async for chunk in store.reap(node):
                changes += chunk
        return changes
