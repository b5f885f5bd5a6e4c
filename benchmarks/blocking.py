"""
The presence commands that block Redis for the longest, timed within Redis.

Redis executes one command at a time, so no command may take long. SLOWLOG holds the duration of each. It includes
neither the network nor the client, but it does include the time that other processes took from Redis.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from wsrt.presence.base import EVERYONE, Join, Leave, NodeFacts
from wsrt.presence.redis import RedisPresence
from wsrt.presence.redis import store as module

NODES = 4
"""The number of nodes that the members are spread over."""

DETAILS = json.dumps({"since": 1.5e9, "consumer": "ChatConsumer", "address": "::1", "user_agent": "x" * 100})
DATA = json.dumps({"name": "Ada", "color": "teal"})
LARGE_DATA = json.dumps("x" * 4000)
"""The largest data that a member may have."""

COMPACT = 480
"""The size of a room that Redis stores as a single string (a listpack), and scans for every access."""

LONG_NAME = "x" * 500

OWN = "SLOWLOG", "INFO", "CONFIG"
"""Commands of the benchmark itself."""


class Case(NamedTuple):
    """
    A call that is expensive for Redis.

    Attributes:
        name: The name of the case in the results.
        act: Makes the call. Its argument is a number that no earlier call was given.
        prepare: Prepares the data, before each call.
    """

    name: str
    act: Callable[[int], Awaitable[object]]
    prepare: Callable[[int], Awaitable[object]] | None = None


class Durations(NamedTuple):
    """
    How long commands of one kind took, in milliseconds within Redis.

    Attributes:
        low: The first quartile. For commands that do equal work, it is their duration on a quiet machine.
        half: The median.
        longest: The maximum.
        command: The kind of command.
    """

    low: float
    half: float
    longest: float
    command: str

    @classmethod
    def of(cls, command: str, taken: Sequence[float]) -> Durations:
        ordered = sorted(taken)
        return cls(ordered[len(ordered) // 4], ordered[len(ordered) // 2], ordered[-1], command)


SCRIPTS = {script.sha: script for script in module.SCRIPTS}
"""The scripts by their SHA-1."""


def kind_of(command: str | bytes) -> str:
    """Return the name of a Redis command, and of its script if it runs one."""
    words = (command.decode(errors="replace") if isinstance(command, bytes) else command).split()
    return f"{words[0]} {SCRIPTS[words[1]].name}" if words[0] == "EVALSHA" else words[0]


async def taken_by(client: Any, act: Awaitable[object]) -> dict[str, list[float]]:
    """Return the durations in milliseconds of the commands that ``act`` executes, by kind, as recorded in SLOWLOG."""
    await client.execute_command("SLOWLOG RESET")
    await act
    taken: dict[str, list[float]] = {}
    for entry in await client.slowlog_get(100_000):
        kind = kind_of(entry["command"])
        if kind not in OWN:
            taken.setdefault(kind, []).append(entry["duration"] / 1000)
    return taken


class Crowd:
    """
    A Redis full of members, and the most expensive calls on it.

    Args:
        store: The store of presence in that Redis.
        members: The number of members of the largest room. Each is also in the room of everyone.
    """

    def __init__(self, store: RedisPresence, members: int) -> None:
        self.store = store
        self._members = members
        self._compact = [f"compact{number}" for number in range(module.OPERATIONS)]
        self._many = [f"many{number}" for number in range(members // 5)]

    async def fill(self) -> None:
        """Add the members to the Redis, which must be empty."""
        for node in range(NODES):
            name = f"node{node}"
            await self.store.begin(NodeFacts(name, {}))
            numbers = range(node, self._members, NODES)
            await self._fill(name, "large", numbers, DATA)
            await self._fill(name, EVERYONE, numbers)
        await self._fill("node0", "thousand", range(1000), LARGE_DATA)
        for room in self._compact:
            await self._fill("node0", room, range(COMPACT), DATA)
        await self._apply("node0", [Join("many", room, 1, "ada") for room in self._many])
        await self._apply("node0", [Join("long", f"{number}{LONG_NAME}", 1, "ada") for number in range(1000)])

    def cases(self) -> Iterator[Case]:
        """Yield the most expensive calls of each kind."""
        yield Case("joins in new rooms with long names", self._join_new_rooms)
        yield Case("joins and leaves in rooms of hundreds", self._come_and_go)
        yield Case("others in the same connections", self._change_users, self._join_compact)
        yield Case("rooms with long names put into an index", self._index_rooms)
        yield Case("rooms taken out of an index", self._beat, self._idle_rooms)
        yield Case("whole room of 1,000 with 4 kB each", lambda _: self.store.snapshot("crowd", "thousand", 1000))
        yield Case("page of 1,000 members", lambda _: self.store.members("crowd", "large", limit=1000))
        yield Case("page of 1,000 with 4 kB each", lambda _: self.store.members("crowd", "thousand", limit=1000))
        yield Case("search among members", lambda _: self.store.members("crowd", "large", search="no-such-user"))
        yield Case("page of 1,000 connections", lambda _: self.store.connections("crowd", limit=1000))
        yield Case("connections of one user", lambda _: self.store.connections("crowd", user_id="user1", limit=1))
        yield Case("second page of 1,000 rooms of one size", self._page_of_rooms)
        yield Case("page of 1,000 rooms with long names", lambda _: self.store.rooms("long", limit=1000))
        yield Case("which of 1,000 users are there", self._user_connections)
        yield Case("versions of 1,000 rooms", lambda _: self.store.versions([("many", n) for n in self._many[:1000]]))
        yield Case("comparing the room of everyone", lambda _: self.store.held("node1", "crowd", EVERYONE))
        yield Case("dead node with many in a few rooms", self._reap, self._die_in_a_few_rooms)
        yield Case("dead node with many rooms", self._reap, self._die_in_many_rooms)
        yield Case("dead node with many in rooms of hundreds", self._reap, self._die_in_compact_rooms)

    # Writing.

    async def _join_new_rooms(self, turn: int) -> None:
        joins = [Join("new", f"{turn}.{n}{LONG_NAME}", n, f"user{n}", LARGE_DATA) for n in range(2 * module.OPERATIONS)]
        await self._apply("node2", joins)
        await self._apply("node2", [Leave(join.namespace, join.room, join.connection) for join in joins])

    async def _join_compact(self, turn: int) -> None:
        await self._change_users(turn, "first")

    async def _come_and_go(self, turn: int) -> None:
        await self._join_compact(turn)
        await self._apply("node2", [Leave("crowd", room, self._number(turn)) for room in self._compact])

    async def _change_users(self, turn: int, user: str = "second") -> None:
        number = self._number(turn)
        joins = [Join("crowd", room, number, f"{user}{number}", LARGE_DATA) for room in self._compact]
        await self._apply("node2", joins)

    async def _index_rooms(self, turn: int) -> None:
        store = self.store
        await store._index_rooms("node3", store._known("node3"), [f"{turn}.{n}{LONG_NAME}" for n in range(1000)])

    async def _idle_rooms(self, turn: int) -> None:
        await self._index_rooms(turn)
        known = self.store._known("node3")
        known.note_connections(dict.fromkeys(known.rooms, 0), -1e9)

    async def _beat(self, _: int) -> None:
        await self.store.beat(NodeFacts("node3", {}))

    # Reading.

    async def _page_of_rooms(self, _: int) -> None:
        first = await self.store.rooms("many", limit=50)
        await self.store.rooms("many", limit=1000, cursor=first.next)

    async def _user_connections(self, _: int) -> None:
        await self.store.user_connections("crowd", "large", [f"user{number}" for number in range(1000)])

    # Death.

    async def _die_in_a_few_rooms(self, turn: int) -> None:
        dead, first = await self._begin_to_die(turn), self._number(turn)
        large, others = min(5000, self._members // 2), self._members // 2
        await self._fill(dead, "large", range(first, first + large), LARGE_DATA)
        await self._fill(dead, "large", range(first + large, first + others), DATA)
        await self._fill(dead, EVERYONE, range(first, first + others))

    async def _die_in_many_rooms(self, turn: int) -> None:
        dead = await self._begin_to_die(turn)
        await self._apply(dead, [Join("crowd", f"{turn}.{n}", n, f"user{n}", DATA) for n in range(self._members // 20)])

    async def _die_in_compact_rooms(self, turn: int) -> None:
        dead = await self._begin_to_die(turn)
        for room in self._compact:
            await self._fill(dead, room, range(self._number(turn), self._number(turn) + 30), LARGE_DATA)

    async def _begin_to_die(self, turn: int) -> str:
        await self.store.begin(NodeFacts(f"dead{turn}", {}))
        return f"dead{turn}"

    async def _reap(self, turn: int) -> None:
        async for _ in self.store.reap(f"dead{turn}"):
            pass

    # Helpers.

    def _number(self, turn: int) -> int:
        """Return the first of many numbers that no connection has used."""
        return 2 * self._members * (turn + 1)

    async def _fill(self, node: str, room: str, numbers: Sequence[int], data: str | None = None) -> None:
        details = DETAILS if room == EVERYONE else None
        await self._apply(node, [Join("crowd", room, n, f"user{n}", data, details) for n in numbers])

    async def _apply(self, node: str, operations: Sequence[Join | Leave]) -> None:
        for start in range(0, len(operations), 4000):
            await self.store.apply(node, operations[start : start + 4000])


async def measure(client: Any, crowd: Crowd, repeats: int) -> dict[str, Durations]:
    """Return the durations of the slowest kind of command of each case."""
    # Record all commands, not only slow ones.
    await client.config_set("slowlog-log-slower-than", 0)
    await client.config_set("slowlog-max-len", 100_000)
    for script in SCRIPTS.values():
        await client.script_load(script.text)
    found: dict[str, Durations] = {}
    turns = itertools.count()
    for name, act, prepare in crowd.cases():
        taken: dict[str, list[float]] = {}
        for turn in itertools.islice(turns, repeats):
            if prepare is not None:
                await prepare(turn)
            for kind, durations in (await taken_by(client, act(turn))).items():
                taken.setdefault(kind, []).extend(durations)
        found[name] = max(Durations.of(kind, durations) for kind, durations in taken.items())
    return found
