"""
A model of recovery, by seed: what clients get while everything that carries it fails.

Each client's sequence is the room's from its position on, in order and without duplicates after its check, or it was
told why not. When all is quiet again, every node and client is at the store's position, and nothing is left.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import pytest

from tests.support.recovery import World
from tests.support.simulation import simulate
from wsrt.delivery.hub import Hub
from wsrt.history import follower, log, memory
from wsrt.history.base import Reading
from wsrt.history.follower import Follower
from wsrt.history.log import RoomLog, Verdict
from wsrt.history.memory import MemoryHistory
from wsrt.types import Position

SEEDS = 10
MANY_SEEDS = 500


def run(seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    """Run the model with limits so small that they are reached."""
    worlds: list[World] = []

    async def work() -> None:
        worlds.append(World(seed))
        await worlds[0].run()

    with monkeypatch.context() as patch:
        patch.setattr(memory, "_state", memory._state)
        for module in (follower, log):
            patch.setattr(module, "REPLAY_MESSAGES", 15)
            patch.setattr(module, "REPLAY_BYTES", 2_000)
        patch.setattr(follower, "LOG_BYTES", 3_000)
        patch.setattr(follower, "SETTLE_SECONDS", 3.0)
        patch.setattr(follower, "CHECK_SECONDS", 10.0)
        patch.setattr(follower, "WAITING_MESSAGES", 12)
        simulate(work, seed, eager=seed % 2 == 1)
    return worlds[0]


def check(seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    world = run(seed, monkeypatch)
    assert not world.problems, f"seed {seed}"
    return world


def test_nothing_is_lost_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients get everything in order or are told, whatever the store, the layer and the nodes do."""
    ops, counts = 0, collections.Counter[str]()
    for seed in range(SEEDS):
        world = check(seed, monkeypatch)
        ops += world.ops
        counts.update(world.counts)
    assert ops >= 10_000
    # Clients were told each of these.
    assert all(counts[told] for told in ("recovered", "epoch", "trimmed", "too_many", "late")), counts


@pytest.mark.parametrize("seed", [18, 51, 55, 347])
def test_found_seeds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for seeds beyond the first ones that failed once."""
    check(seed, monkeypatch)


@pytest.mark.slow
def test_many_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for many more seeds."""
    for seed in range(SEEDS, MANY_SEEDS):
        check(seed, monkeypatch)


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
    "the node checks no positions": (Follower, "_check", _do_nothing),
    "the node trusts offsets": (RoomLog, "judge", _trust_offsets),
    "the node passes duplicates on": (RoomLog, "judge", _no_duplicates),
    "the hub doesn't hold rooms": (Hub, "hold", lambda hub, subscriber, room: None),
    "a restart isn't announced": (Follower, "_announce", lambda node, room, frame: None),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model finds each of these defects."""
    monkeypatch.setattr(*MUTANTS[mutant])
    assert any(run(seed, monkeypatch).problems for seed in range(SEEDS))
