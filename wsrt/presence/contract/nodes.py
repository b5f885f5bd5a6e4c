# ruff: noqa: S101 - these are tests
"""Tests of stores that several nodes share, of their leases, and of what happens to a node that has died."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from ..base import (
    EVERYONE,
    Change,
    ConnectionRecord,
    Count,
    Join,
    Leave,
    MemberRecord,
    NodeFacts,
    PresenceStore,
    RoomRecord,
)
from .support import StoreTests


class NodeTests(StoreTests):
    """Several nodes, their leases, and reaping."""

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
