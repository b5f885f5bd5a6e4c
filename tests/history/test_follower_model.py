"""
A model of recovery, by seed: what clients get while everything that carries it fails.

Each client's sequence is the room's from its position on, in order and without duplicates after its check, or it was
told why not. When all is quiet again, every node and client is at the store's position, and nothing is left.
"""

from __future__ import annotations

import collections

import pytest

from tests.support.recovery import World
from tests.support.simulation import simulate
from wsrt.history import follower, log, memory

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


@pytest.mark.slow
def test_many_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for many more seeds."""
    for seed in range(SEEDS, MANY_SEEDS):
        check(seed, monkeypatch)
