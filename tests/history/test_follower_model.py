"""
A model of recovery: what clients get while everything that carries it fails.

Each client's sequence is the room's from its position on, in order and without duplicates after its check, or it was
told why not. When all is quiet again, every node and client is at the store's position, and nothing is left.

Hypothesis draws what happens: the same in each run. The slow test draws other things each time, as much of it as
WSRT_EXPLORE says, and shortens what fails.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.eager import eager_task_factory
from tests.support.recovery import ROOMS, VALUED, Client, Fault, Way, World
from tests.support.report import note
from tests.support.simulation import SimulatedLoop, simulate
from wsrt.delivery.hub import Hub
from wsrt.history import checks, followed, follower, log, memory
from wsrt.history.base import Reading
from wsrt.history.checks import Checks
from wsrt.history.follower import Follower
from wsrt.history.log import RoomLog, Verdict
from wsrt.history.memory import MemoryHistory
from wsrt.types import Position

EXAMPLES = 100
STEPS = 50

seen: Counter[str] = Counter()
"""What happened in all runs."""

ROOM = st.sampled_from(["a", "a", "a", VALUED, VALUED, *ROOMS])
WAYS = st.lists(st.sampled_from(["arrives", "arrives", "lost", "twice", "late"]), max_size=6)
FAULTS = st.lists(st.sampled_from([None, "command", "answer"]), max_size=4)
PAUSE = st.sampled_from([0.0, 0.0, 0.002, 0.02, 0.2, 1.0])
"""How long things go on after something was begun, in seconds."""

CLIENT = st.integers(0, World.CLIENTS - 1)
NODE = st.integers(0, World.NODES - 1)
RARELY = st.sampled_from([False, False, False, True])


class Recovery(RuleBasedStateMachine):
    """The cluster, and all that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=SimulatedLoop)
        self.saved: tuple[Any, Any] | None = None

    @initialize(
        seed=st.integers(0, 1000),
        is_eager=st.booleans(),
        nodes=st.lists(NODE, min_size=World.CLIENTS, max_size=World.CLIENTS),
        before=st.sampled_from([0, 10, 20]),
    )
    def begin(self, seed: int, is_eager: bool, nodes: list[int], before: int) -> None:
        if is_eager:
            self.runner.get_loop().set_task_factory(eager_task_factory)
        random.seed(seed)

        async def world() -> World:
            return World(seed)

        self.world = self.runner.run(world())
        for client, node in enumerate(nodes):
            self.connect(client, node, [*ROOMS, VALUED], 0.0, True, False, 0.02)
        for room in (*ROOMS, VALUED):
            self.publish(room, "x", before, True, True, [], 0.2)

    def do(self, pause: float, what: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Begin something, and let things go on for a number of seconds."""

        async def done() -> None:
            result = what(*arguments, **options)
            if asyncio.iscoroutine(result):
                self.world.spawn(result)
            await asyncio.sleep(pause)

        self.runner.run(done())

    def client(self, client: int) -> Client:
        return self.world.clients[client]

    @invariant()
    def nothing_is_wrong(self) -> None:
        seen["operations"] += 1
        assert not self.world.problems

    def teardown(self) -> None:
        with self.runner as runner:
            if not hasattr(self, "world"):
                return
            if not self.world.problems:
                runner.run(self.world.end())
            problems = list(self.world.problems)
            if problems:
                runner.run(self.world.abandon())
        seen.update(self.world.counts)
        assert not problems

    # Rules.

    @rule(
        room=ROOM,
        key=st.sampled_from("xyz"),
        count=st.sampled_from([1, 1, 1, 2, 10, 40]),
        is_kept=st.sampled_from([True, True, True, False]),
        is_idempotent=st.booleans(),
        ways=WAYS,
        pause=PAUSE,
    )
    def publish(
        self, room: str, key: str, count: int, is_kept: bool, is_idempotent: bool, ways: list[Way], pause: float
    ) -> None:
        """A process publishes some events, one after the other."""
        self.do(pause, self._publish, room, key, count, is_kept, is_idempotent, ways)
        seen["operations"] += count

    async def _publish(
        self, room: str, key: str, count: int, is_kept: bool, is_idempotent: bool, ways: Sequence[Way]
    ) -> None:
        for number in range(count):
            some = ways[number * World.NODES :]
            await self.world.publish(
                room,
                key=key if room == VALUED else None,
                is_kept=is_kept,
                is_idempotent=is_idempotent,
                ways=some,
            )

    @rule(
        client=CLIENT,
        node=NODE,
        rooms=st.lists(st.sampled_from([*ROOMS, VALUED]), unique=True).map(lambda some: some or [*ROOMS, VALUED]),
        first=st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.9, 1.2, 3.0, None]),
        is_resume=st.sampled_from([True, True, True, False]),
        is_parallel=st.booleans(),
        pause=PAUSE,
    )
    def connect(
        self,
        client: int,
        node: int,
        rooms: list[str],
        first: float | None,
        is_resume: bool,
        is_parallel: bool,
        pause: float,
    ) -> None:
        """A client connects, perhaps before its previous connection has ended."""
        seen["operations"] += 1 + len(rooms)
        if (before := self.client(client).connection) is not None:
            self.do(0.0, before.cut, is_noticed=False)
        self.do(
            pause,
            self.client(client).connect,
            self.world.nodes[node],
            rooms,
            first=first,
            is_resume=is_resume,
            is_parallel=is_parallel,
        )

    @rule(
        client=CLIENT,
        node=NODE,
        room=ROOM,
        count=st.sampled_from([1, 5, 12, 20, 40]),
        is_resume=st.sampled_from([True, True, True, False]),
        pause=PAUSE,
    )
    def come_back(self, client: int, node: int, room: str, count: int, is_resume: bool, pause: float) -> None:
        """A client misses publications, and claims them in its first frame or too late."""
        self.cut(client, True, 0.0)
        self.publish(room, "y", count, True, True, [], 1.0)
        self.connect(client, node, [room], 0.0, is_resume, False, pause)

    @rule(client=CLIENT, is_noticed=st.booleans(), pause=PAUSE)
    def cut(self, client: int, is_noticed: bool, pause: float) -> None:
        self.do(pause, self.client(client).cut, is_noticed=is_noticed)

    @rule(pause=PAUSE)
    def cut_all(self, pause: float) -> None:
        for client in self.world.clients:
            self.do(0.0, client.cut)
        self.do(pause, bool)

    @rule(client=CLIENT, room=ROOM, leaves=st.booleans(), joins=st.booleans(), pause=PAUSE)
    def move(self, client: int, room: str, leaves: bool, joins: bool, pause: float) -> None:
        """A client leaves a room, joins it, or both at once."""
        if leaves:
            self.do(0.0, self.client(client).leave, room)
        if joins:
            self.do(0.0, self.client(client).join, room)
        self.do(pause, bool)

    @rule(client=CLIENT, lost=st.lists(ROOM, unique=True, max_size=2), pause=PAUSE)
    def recheck(self, client: int, lost: list[str], pause: float) -> None:
        self.do(pause, self.client(client).recheck, lost)

    @rule(seconds=st.sampled_from([0.2, 1.0, 5.0, 15.0, 45.0]))
    def wait(self, seconds: float) -> None:
        """Time passes: publications arrive, silent rooms are checked, entries become too old."""
        self.do(seconds, bool)

    @rule(faults=FAULTS)
    def lose_calls(self, faults: list[Fault]) -> None:
        """The next calls of the store are lost, or their answers are."""
        self.do(0.0, self.world.faults.extend, faults)

    @rule(seconds=st.sampled_from([0.1, 1.0, 8.0]), pause=PAUSE)
    def stop(self, seconds: float, pause: float) -> None:
        self.do(pause, self.world.stop, seconds)

    @rule(node=NODE, seconds=st.sampled_from([0.1, 0.5, 2.0]), pause=PAUSE)
    def deafen(self, node: int, seconds: float, pause: float) -> None:
        self.do(pause, self.world.deafen, self.world.nodes[node], seconds)

    @rule(node=NODE, pause=PAUSE)
    def kill(self, node: int, pause: float) -> None:
        self.do(pause, self.world.kill, self.world.nodes[node])

    @rule(room=st.sampled_from(ROOMS), back=st.integers(0, 5), pause=PAUSE)
    def forget(self, room: str, back: int, pause: float) -> None:
        self.do(pause, self.world.forget, room, back)

    @rule(room=ROOM, really=RARELY, pause=PAUSE)
    def purge(self, room: str, really: bool, pause: float) -> None:
        if really:
            self.do(pause, self.world.purge, room)

    @rule(really=RARELY, pause=PAUSE)
    def flush(self, really: bool, pause: float) -> None:
        if really:
            self.do(pause, self.world.flush)

    @rule()
    def save(self) -> None:
        """A replica has what there is now, and gets no more."""
        self.saved = self.world.save()

    @rule(lost=st.sampled_from([0, 1, 5, 20]), again=st.sampled_from([0, 1, 40, None, None]))
    def lose_writes(self, lost: int, again: int | None) -> None:
        """A replica takes over that has missed the last writes, and as many, or less or more, are made again."""
        saved, self.saved = self.saved or self.world.save(), None
        self.publish("a", "x", lost, True, True, [], 0.2)

        async def publish(lost: int) -> None:
            await self._publish("a", "x", lost if again is None else again, True, True, ())

        self.runner.run(self.world.restore(saved, publish))


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_state", memory._state)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make limits so small that they are reached."""
    for module in (follower, log):
        monkeypatch.setattr(module, "REPLAY_MESSAGES", 15)
        monkeypatch.setattr(module, "REPLAY_BYTES", 2_000)
    monkeypatch.setattr(follower, "LOG_BYTES", 3_000)
    monkeypatch.setattr(checks, "SETTLE_SECONDS", 3.0)
    monkeypatch.setattr(checks, "CHECK_SECONDS", 10.0)
    monkeypatch.setattr(followed, "WAITING_MESSAGES", 12)


def explore(examples: int, *, is_new: bool = False) -> None:
    """
    Run the model.

    Args:
        examples: How many clusters there are.
        is_new: Whether they are others each time, and what fails is shortened, which takes minutes.
    """
    run_state_machine_as_test(
        Recovery,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            derandomize=not is_new,
            phases=[Phase.generate, *([Phase.shrink] if is_new else [])],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_is_lost_in_silence(small: None) -> None:
    """Clients get everything in order or are told, whatever the store, the layer and the nodes do."""
    seen.clear()
    explore(EXAMPLES)
    counts = ", ".join(f"{count:,} {what}" for what, count in seen.items())
    note("Recovery, beside a model", counts)
    assert seen["operations"] >= 10_000
    # Clients were told each of these.
    assert all(seen[told] for told in ("recovered", "epoch", "trimmed", "too_many", "late")), counts


def test_hours_without_traffic() -> None:
    """A client that has missed nothing recovers, however long ago the last publication was; one that has is told."""
    hour = 3600.0

    class Patient(World):
        seconds, value_seconds = 300.0, 24 * hour

    async def work() -> None:
        world = Patient(1)
        client = world.clients[0]

        async def come_back(node: int, after: float) -> None:
            client.cut()
            await asyncio.sleep(after)
            await client.connect(world.nodes[node], ["a"])
            await asyncio.sleep(10)

        await client.connect(world.nodes[0], ["a"])
        for _ in range(3):
            await world.publish("a")
        # In the connection, then away, with nodes that know the room and that don't.
        await asyncio.sleep(2 * hour)
        await come_back(0, 0.1)
        await come_back(1, 0.1)
        await come_back(2, 20 * hour)
        assert world.counts["recovered"] == 3
        await world.publish("a")
        await asyncio.sleep(1)
        assert client.places["a"].offset == 4
        assert client.told == {}
        client.cut()
        await world.publish("a")
        await come_back(0, 20 * hour)
        assert client.told == {"a": "expired"}
        # A room that nobody uses for longer than the store keeps its epoch.
        await come_back(1, 25 * hour)
        assert client.told == {"a": "epoch"}
        assert world.counts["recovered"] == 3
        await world.end()
        assert not world.problems

    simulate(work, 1)


def test_a_client_ahead_of_its_room() -> None:
    """A client whose claim comes too late is told that its room has lost publications while nobody was in it."""

    async def work() -> None:
        world = World(1)
        client = world.clients[0]
        await client.connect(world.nodes[0], [VALUED])
        await world.publish(VALUED, key="x")
        saved = world.save()
        await world.publish(VALUED, key="y")
        await asyncio.sleep(1)
        assert client.places[VALUED].offset == 2
        client.cut()

        async def publish(lost: int) -> None:
            """Make nothing again."""

        await world.restore(saved, publish)
        await client.connect(world.nodes[1], [VALUED], is_resume=False)
        await asyncio.sleep(1)
        assert client.told == {VALUED: "late"}
        await world.end()
        assert not world.problems

    simulate(work, 1)


def test_a_join_that_fails_at_the_end() -> None:
    """A client whose connection ends while everything settles connects again: that isn't a failure of the server."""

    async def work() -> None:
        world = World(1)
        world.faults.extend(["command"] * 4)
        await world.clients[0].connect(world.nodes[0], is_parallel=True)
        while len(world.faults) == 4:
            await asyncio.sleep(0.0001)
        await world.end()
        assert not world.problems

    simulate(work, 1)


@pytest.mark.slow
def test_others(small: None) -> None:
    """The same holds for other clusters each time."""
    explore(int(os.environ.get("WSRT_EXPLORE", "500")), is_new=True)


# Mutants

_read, _judge = MemoryHistory.read, RoomLog.judge


async def _drop_one(store: Any, *arguments: Any, **limits: Any) -> Reading:
    reading = await _read(store, *arguments, **limits)
    return dataclasses.replace(reading, entries=reading.entries[:1] + reading.entries[2:])


async def _swap_two(store: Any, *arguments: Any, **limits: Any) -> Reading:
    reading = await _read(store, *arguments, **limits)
    return dataclasses.replace(reading, entries=reading.entries[1::-1] + reading.entries[2:])


async def _read_too_late(store: Any, room: Any, after: Position, **limits: Any) -> Reading:
    return await _read(store, room, Position(after.epoch, after.offset + 1), **limits)


async def _do_nothing(*arguments: Any) -> None:
    pass


def _no_heal(room: RoomLog, position: Position, id: str) -> Verdict:
    verdict = _judge(room, position, id)
    return Verdict.NEXT if verdict is Verdict.AHEAD else verdict


def _trust_offsets(room: RoomLog, position: Position, id: str) -> Verdict:
    verdict = _judge(room, position, id)
    return Verdict.DUPLICATE if verdict in (Verdict.CONFLICT, Verdict.OLD) else verdict


def _no_duplicates(room: RoomLog, position: Position, id: str) -> Verdict:
    verdict = _judge(room, position, id)
    return Verdict.UNKNOWN if verdict is Verdict.DUPLICATE else verdict


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "the store drops one": (MemoryHistory, "read", _drop_one),
    "the store swaps two": (MemoryHistory, "read", _swap_two),
    "the store reads after the wrong offset": (MemoryHistory, "read", _read_too_late),
    "the store forgets the epoch": (memory.secrets, "token_hex", lambda size: "same"),
    "the store trims one more than it says": (memory._Room, "floor", property(lambda room: max(0, room.trimmed - 1))),
    "the node doesn't heal": (RoomLog, "judge", _no_heal),
    "the node checks no positions": (Checks, "check", _do_nothing),
    "the node trusts offsets": (RoomLog, "judge", _trust_offsets),
    "the node passes duplicates on": (RoomLog, "judge", _no_duplicates),
    "the hub doesn't hold rooms": (Hub, "hold", lambda hub, subscriber, room: None),
    "a restart isn't announced": (Follower, "_announce", lambda node, room, frame: None),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what is under way when a problem is found
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model finds each of these defects."""
    monkeypatch.setattr(*MUTANTS[mutant])
    with pytest.raises(AssertionError):
        explore(EXAMPLES)
