"""
The Redis store beside a model: whatever nodes do, and however they die, counts, members and changes are the truth.

The model is told what happened and computes what must come of it, one operation after the other; a view is built of
nothing but the changes that the store returned, as another node would see them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.processes import RedisServer
from tests.support.report import note
from wsrt.presence.base import (
    EVERYONE,
    UNSET,
    Change,
    Count,
    Join,
    LeaseLost,
    Leave,
    MemberData,
    MemberRecord,
    NodeFacts,
)
from wsrt.presence.redis import RedisPresence
from wsrt.presence.redis import store as module

T = TypeVar("T")

Place = tuple[str, str]
Told = tuple[str, str | None, int, str | None]
"""A change without its version: kind, user, connections, data."""

PLACES: list[Place] = [("chat", "a"), ("chat", "b"), ("chat", "ab"), ("chata", "b"), ("chat", EVERYONE)]
USERS = ["ada", None, "bob", "eve", None, "3.c:{}\0"]
DATA: list[MemberData] = [None, '{"name": "x"}', UNSET, '{"name": "y"}']
NUMBERS = 14

LEAST_CHANGES = 100
"""For each example."""

seen: Counter[str] = Counter()
"""What happened in all runs."""


@dataclasses.dataclass
class Room:
    """What is true of a room."""

    members: dict[tuple[str, int], str | None] = dataclasses.field(default_factory=dict)
    data: dict[str | None, str | None] = dataclasses.field(default_factory=dict)

    def connections(self, user: str | None) -> int:
        return sum(1 for member in self.members.values() if member == user)

    def join(self, key: tuple[str, int], user: str | None, data: MemberData) -> Iterator[Told]:
        is_known, before = key in self.members, self.members.get(key)
        self.members[key] = user
        connections = self.connections(user)
        if not is_known or before != user:
            if connections == 1:
                self.data[user] = data if user is not None and data is not UNSET else None
                yield "joined", user, 1, self.data[user]
            elif user is None:
                yield "changed", None, connections, None
        if user is not None and data is not UNSET and self.data[user] != data:
            self.data[user] = data
            yield "changed", user, connections, data
        if is_known and before != user:
            yield from self._less(before)

    def leave(self, key: tuple[str, int]) -> Iterator[Told]:
        if key in self.members:
            yield from self._less(self.members.pop(key))

    def _less(self, user: str | None) -> Iterator[Told]:
        connections = self.connections(user)
        if not connections:
            del self.data[user]
            yield "left", user, 0, None
        elif user is None:
            yield "changed", None, connections, None

    def records(self) -> set[MemberRecord]:
        return {MemberRecord(user, self.connections(user), data) for user, data in self.data.items()}

    def count(self) -> Count:
        guests = self.connections(None)
        return Count(len(self.data) - bool(guests), guests, len(self.members))


class View:
    """A room as somebody sees it who hears of changes alone."""

    def __init__(self) -> None:
        self.version = 0
        self.highest = 0
        self.members: dict[str | None, str | None] = {}
        self.guests = 0

    def take(self, change: Change) -> None:
        user, is_here = change.user_id, change.user_id in self.members
        if self.members:
            assert change.version == self.version + 1, f"{change} after {self.version}"
        assert change.version > self.highest, f"{change} though {self.highest} was used"
        assert is_here == (change.kind != "joined"), f"{change}, but {'' if is_here else 'not '}here"
        assert (change.connections == 0) == (change.kind == "left"), change
        if user is None:
            assert change.connections != self.guests, change
            self.guests = change.connections
        elif change.kind == "changed":
            assert change.data != self.members[user], f"{change} changes nothing"
        if change.kind == "left":
            del self.members[user]
        else:
            self.members[user] = change.data
        self.highest = change.version
        self.version = change.version if self.members else 0


def decode(number: int) -> tuple[bool, Place, int, str | None, MemberData]:
    """Decode an integer: whether to join, the room, the connection, the user, and the data."""
    number, leaves = divmod(number, 3)
    number, place = divmod(number, len(PLACES))
    number, connection = divmod(number, NUMBERS)
    # One connection in four is of another user than before.
    data, shift = divmod(number, 4)
    user = USERS[(connection + shift // 3) % len(USERS)]
    return leaves != 0, PLACES[place], connection, user, DATA[data % len(DATA)]


OPERATIONS = st.binary(min_size=24, max_size=240).map(
    lambda drawn: [int.from_bytes(drawn[at : at + 2], "big") for at in range(0, len(drawn) - 1, 2)]
)
PICK = st.integers(0, 59)


class Presence(RuleBasedStateMachine):
    """Nodes that write, die and are reaped, through one store and its scripts."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = RedisPresence(self.server.url, chunk=2, pace=1e6, partitions=2)
        self.rooms: dict[Place, Room] = {place: Room() for place in PLACES}
        self.views: dict[Place, View] = {place: View() for place in PLACES}
        self.ids, self.steps, self.turns = itertools.count(), itertools.count(), itertools.count()
        # Ids of nodes: whose lease holds, has ended, who are being reaped, and who were.
        self.alive: list[str] = []
        self.lapsed: list[str] = []
        self.dying: list[str] = []
        self.dead: list[str] = []

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()

    def run(self, work: Awaitable[T]) -> T:
        async def result() -> T:
            return await work

        return self.runner.run(result())

    # What happens.

    @initialize()
    def start(self) -> None:
        self.run(self.store._execute("FLUSHALL"))
        self.begin()
        self.begin()

    @precondition(lambda self: len(self.alive) < 4)
    @rule()
    def begin(self) -> None:
        node = f"node{next(self.ids)}"
        assert self.run(self.store.begin(NodeFacts(node, {}))).is_alive
        self.alive.append(node)

    @precondition(lambda self: self.alive)
    @rule(which=PICK, numbers=OPERATIONS)
    def write(self, which: int, numbers: list[int]) -> None:
        """Joins, leaves, further tabs, guests, other data, another user in the same connection; by several nodes."""
        for turn, start in enumerate(range(0, len(numbers), 12)):
            self.say(self.alive[(which + turn) % len(self.alive)], numbers[start : start + 12])

    @precondition(lambda self: self.alive)
    @rule(which=PICK, numbers=OPERATIONS)
    def write_and_lose_the_answer(self, which: int, numbers: list[int]) -> None:
        """The changes are lost: the version shows it, the room is loaded again, and the same state results."""
        node, operations = self.alive[which % len(self.alive)], list(self.operations(numbers))
        unheard = {place for place, _ in self.model(node, operations)}
        self.run(self.store.apply(node, [operation for operation, _ in operations]))
        for place in unheard:
            self.load(place)
        seen["answers lost"] += 1
        self.say(node, numbers)

    @precondition(lambda self: self.lapsed)
    @rule(which=PICK, numbers=OPERATIONS)
    def write_after_the_lease(self, which: int, numbers: list[int]) -> None:
        """Until it is reaped, a node may be fenced or not; if it is, nothing changes."""
        node = self.lapsed[which % len(self.lapsed)]
        before = {place: (dict(room.members), dict(room.data)) for place, room in self.rooms.items()}
        try:
            self.say(node, numbers)
        except LeaseLost:
            seen["fenced before the reaper"] += 1
            for place, (members, data) in before.items():
                self.rooms[place] = Room(members, data)

    @precondition(lambda self: self.dying or self.dead)
    @rule(which=PICK, numbers=OPERATIONS)
    def write_as_a_zombie(self, which: int, numbers: list[int]) -> None:
        zombies = self.dying + self.dead
        operations = [operation for operation, _ in self.operations(numbers)]
        with pytest.raises(LeaseLost):
            self.run(self.store.apply(zombies[which % len(zombies)], operations))
        seen["zombies fenced"] += 1

    @precondition(lambda self: len(self.alive) > 1 and len(self.lapsed + self.dying) < 6)
    @rule(which=PICK, numbers=OPERATIONS)
    def crash(self, which: int, numbers: list[int]) -> None:
        """A node says something, and then nothing more."""
        node = self.alive.pop(which % len(self.alive))
        self.say(node, numbers)
        self.run(self.store._execute("ZADD", self.store._keys.leases, "XX", 1, node))
        self.lapsed.append(node)
        seen["crashes"] += 1

    @precondition(lambda self: self.lapsed or self.dying)
    @rule(which=PICK)
    def come_back(self, which: int) -> None:
        """A new incarnation says all that the old one had said, before that is out."""
        former = self.lapsed + self.dying
        old = former[which % len(former)]
        self.begin()
        node = self.alive[-1]
        joins = [
            (Join(*place, number, user, room.data[user]), place)
            for place, room in self.rooms.items()
            for (of, number), user in room.members.items()
            if of == old
        ]
        self.take(self.run(self.store.apply(node, [join for join, _ in joins])), self.model(node, joins))

    @precondition(lambda self: (self.lapsed or self.dying or len(self.alive) > 2) and len(self.dying) < 8)
    @rule(which=PICK, chunks=st.integers(1, 4))
    def reap_and_die(self, which: int, chunks: int) -> None:
        """A reaper dies between two chunks, maybe a node that takes itself out; its claim ends."""
        node = self.victim(which, *(self.alive if len(self.alive) > 2 else ()))
        self.alive = [other for other in self.alive if other != node]
        if self.run(self._reap(node, chunks)):
            self.over(node)
        else:
            seen["reapers dead"] += 1
            self.lapsed = [other for other in self.lapsed if other != node]
            self.dying = sorted({*self.dying, node})
            self.run(self.store._execute("DEL", self.store._keys.claim(node)))
        for place, room in self.rooms.items():
            held = self.run(self.store.held(node, *place))
            for key in [key for key in room.members if key[0] == node and key[1] not in held]:
                list(room.leave(key))

    @precondition(lambda self: self.lapsed or self.dying)
    @rule(which=PICK)
    def reap(self, which: int) -> None:
        node = self.victim(which)
        assert self.run(self._reap(node))
        self.over(node)

    @precondition(lambda self: len(self.alive) > 2)
    @rule(which=PICK)
    def end(self, which: int) -> None:
        """A node reaps itself when it ends."""
        node = self.alive.pop(which % len(self.alive))
        assert self.run(self._reap(node))
        self.over(node)

    @rule()
    def beat(self) -> None:
        """All nodes renew their leases; rooms that they have left are taken out of their index."""
        for node in self.alive:
            beat = self.run(self.store.beat(NodeFacts(node, {})))
            assert beat.is_alive
            assert sorted(beat.expired) == sorted(self.lapsed + self.dying)
            assert (beat.next_expiry is None) == (len(self.alive) == 1)
        for node in (*self.lapsed, *self.dying, *self.dead):
            assert not self.run(self.store.beat(NodeFacts(node, {}))).is_alive

    # What comes of it.

    @invariant()
    def is_true(self) -> None:
        """After each step, rooms are what they should be; the lists are looked at in turn."""
        self.run(self._rooms_are_true())
        lists = self._list_of_rooms_is_true, self._list_of_connections_is_true, self._other_lists_are_true
        self.run(lists[next(self.steps) % len(lists)]())

    async def _rooms_are_true(self) -> None:
        assert await self.store.versions(PLACES) == [self.views[place].version for place in PLACES]
        for place, room in self.rooms.items():
            view = self.views[place]
            snapshot = await self.store.snapshot(*place, 100)
            assert (snapshot.version, snapshot.count) == (view.version, room.count())
            assert len(snapshot.members or ()) == len(room.data)
            assert set(snapshot.members or ()) == room.records()
            assert view.members == room.data
            assert view.guests == room.connections(None)

    async def _list_of_rooms_is_true(self) -> None:
        for namespace in ("chat", "chata"):
            page = await self.store.rooms(namespace)
            shown = {(room.namespace, room.room): room.count for room in page.items}
            assert shown == {
                place: room.count()
                for place, room in self.rooms.items()
                if room.members and place[0] == namespace and place[1] != EVERYONE
            }
            sizes = [count.users + count.guests for count in shown.values()]
            assert sizes == sorted(sizes, reverse=True)

    async def _list_of_connections_is_true(self) -> None:
        place = PLACES[next(self.turns) % len(PLACES)]
        page = await self.store.connections(*place)
        assert {connection.id: connection.user_id for connection in page.items} == {
            f"{node}-{number}": user for (node, number), user in self.rooms[place].members.items() if node in self.alive
        }

    async def _other_lists_are_true(self) -> None:
        inhabited = {place: room for place, room in self.rooms.items() if room.members}
        assert await self.store.counts(PLACES) == [self.rooms[place].count() for place in PLACES]
        assert await self.store.namespaces() == sorted({namespace for namespace, _ in inhabited})
        assert {record.id for record in await self.store.nodes()} == set(self.alive)
        assert sorted(await self.store.expired()) == sorted(self.lapsed + self.dying)
        for place in inhabited:
            page = await self.store.members(*place)
            assert set(page.items) == self.rooms[place].records()

    # Helpers.

    def operations(self, numbers: list[int]) -> Iterator[tuple[Join | Leave, Place]]:
        for number in numbers:
            joins, place, connection, user, data = decode(number)
            yield (Join(*place, connection, user, data) if joins else Leave(*place, connection)), place

    def model(self, node: str, operations: list[tuple[Join | Leave, Place]]) -> list[tuple[Place, Told]]:
        """Apply a node's operations to the model, and return the expected changes."""
        told: list[tuple[Place, Told]] = []
        for operation, place in operations:
            key = node, operation.connection
            if isinstance(operation, Join):
                changes = self.rooms[place].join(key, operation.user_id, operation.data)
            else:
                changes = self.rooms[place].leave(key)
            told += [(place, change) for change in changes]
        return told

    def say(self, node: str, numbers: list[int]) -> None:
        operations = list(self.operations(numbers))
        seen["operations"] += len(operations)
        expected = self.model(node, operations)
        self.take(self.run(self.store.apply(node, [operation for operation, _ in operations])), expected)

    def take(self, changes: list[Change], expected: list[tuple[Place, Told]]) -> None:
        assert expected == [
            ((change.namespace, change.room), (change.kind, change.user_id, change.connections, change.data))
            for change in changes
        ]
        self.show(changes)

    def show(self, changes: list[Change]) -> None:
        for change in changes:
            seen["changes"] += 1
            self.views[change.namespace, change.room].take(change)

    def load(self, place: Place) -> None:
        """Load a room again, as a node does that missed a change."""
        view, room = self.views[place], self.rooms[place]
        [version] = self.run(self.store.versions([place]))
        assert version != view.version or not room.members, "a change that was lost can't be detected"
        view.version, view.highest = version, max(view.highest, version)
        view.members, view.guests = dict(room.data), room.connections(None)

    def victim(self, which: int, *more: str) -> str:
        nodes = [*self.lapsed, *self.dying, *more]
        return nodes[which % len(nodes)]

    def over(self, node: str) -> None:
        """A node was reaped: nothing of it is left."""
        self.lapsed = [other for other in self.lapsed if other != node]
        self.dying = [other for other in self.dying if other != node]
        self.dead.append(node)
        for room in self.rooms.values():
            for key in [key for key in room.members if key[0] == node]:
                list(room.leave(key))
        seen["nodes reaped"] += 1

    async def _reap(self, node: str, chunks: int = 1000) -> bool:
        """Reap in chunks of two connections; return whether it came to the end."""
        reaper = self.store.reap(node)
        async for changes in reaper:
            self.show(changes)
            chunks -= 1
            if not chunks:
                await reaper.aclose()  # type: ignore[attr-defined]
                return False
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("examples", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_model(server: RedisServer, monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """Counts, members and connections are the truth, and so is what was built of the changes alone."""
    # Rooms leave the index with the next heartbeat, so that they come and go in it.
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    monkeypatch.setattr(Presence, "server", server, raising=False)
    seen.clear()
    # The same in each run; with WSRT_EXPLORE, another one each time, as long as one likes.
    explored = int(os.environ.get("WSRT_EXPLORE", "0"))
    run_state_machine_as_test(
        Presence,
        settings=settings(
            max_examples=explored or examples,
            stateful_step_count=40,
            derandomize=not explored,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    note("presence in Redis, beside a model", ", ".join(f"{count:,} {what}" for what, count in seen.items()))
    assert seen["changes"] >= examples * LEAST_CHANGES
