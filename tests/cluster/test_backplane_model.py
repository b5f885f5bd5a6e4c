"""The backplane under cancellation at any step and a layer that is down, slow, swallowed and back, by seed."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.support import simulation
from tests.support.simulation import Redis, StoringLayer, pubsub_layer
from wsrt import BackplaneUnavailable
from wsrt.addresses import CONTROL_GROUP, node_group
from wsrt.cluster.backplane import Backplane

SEEDS = 500
FEW_SEEDS = 200
PARTS = 2
CLIENTS = 8
ROOMS = 5
TROUBLE_SECONDS = 45.0
CALM_SECONDS = 60.0

StoringLikeCore = type("StoringLikeCore", (StoringLayer,), {"__module__": "channels_redis.core"})

FOUND = [("pubsub", 1231), ("other", 3236)]
"""Seeds that failed once."""

LAYERS: dict[str, Any] = {"pubsub": pubsub_layer, "core": StoringLikeCore, "other": StoringLayer}


class World:
    """One node, its clients and what happens to them."""

    def __init__(self, kind: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.redis = Redis(self.rng)
        self.kind = kind
        self.heard: list[Any] = []
        self.plane = Backplane("default", "n1", self._hear)
        # By group: how many clients hold it.
        self.held: dict[str, int] = {}

    async def _hear(self, message: dict[str, Any]) -> None:
        self.heard.append(message["number"])

    def make_layer(self) -> Any:
        return LAYERS[self.kind](self.redis)

    def members(self) -> dict[str, int]:
        """Return the number of channels in each group."""
        if self.kind != "pubsub":
            return {group: len(channels) for group, channels in self.redis.groups.items() if channels}
        names = [name.decode() for connection in self.redis.connections for name in connection.subscribed]
        assert self.plane._line is not None
        return {name: names.count(name) for name in names if name != self.plane._line.channel}

    async def client(self) -> None:
        """Hold a room for a while, over and over; give up at any step."""
        loop = asyncio.get_running_loop()
        while loop.time() < TROUBLE_SECONDS:
            room = f"room{self.rng.randrange(ROOMS)}"
            joining = asyncio.create_task(self.plane.acquire(room))
            await self.cancel_sometimes(joining)
            try:
                await joining
            except (BackplaneUnavailable, asyncio.CancelledError):
                await asyncio.sleep(self.rng.uniform(0, 1))
                continue
            self.held[room] = self.held.get(room, 0) + 1
            await asyncio.sleep(self.rng.expovariate(0.5))
            self.held[room] -= 1
            self.plane.release(room)

    async def cancel_sometimes(self, task: asyncio.Task[Any]) -> None:
        if self.rng.random() < 0.3:
            # After any number of steps of the loop, so at any await.
            for _ in range(self.rng.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()
        elif self.rng.random() < 0.3:
            asyncio.get_running_loop().call_later(self.rng.uniform(0, 6), task.cancel)

    async def trouble(self) -> None:
        """Let the layer fail in every way, and cancel tasks of the node's own."""
        loop = asyncio.get_running_loop()
        while loop.time() < TROUBLE_SECONDS:
            await asyncio.sleep(self.rng.expovariate(0.2))
            match self.rng.randrange(6):
                case 0:
                    self.redis.enter("down")
                    self.redis.restart()
                case 1:
                    self.redis.enter("hole")
                case 2:
                    self.redis.enter("slow")
                case 3:
                    self.redis.restart()
                case 4:
                    task = self.rng.choice(
                        sorted(self.plane._tasks, key=lambda task: (len(task.get_name()), task.get_name())) or [None]
                    )
                    if task is not None:
                        task.cancel()
            if self.rng.random() < 0.6:
                await asyncio.sleep(self.rng.expovariate(0.2))
                self.redis.enter("up")
        self.redis.enter("up")

    async def run(self) -> None:
        clients = [asyncio.create_task(self.client()) for _ in range(CLIENTS)]
        await asyncio.gather(self.trouble(), *clients)
        await self.plane.acquire("kept") if await self._works() else None
        await asyncio.sleep(CALM_SECONDS)
        await self.check()

    async def _works(self) -> bool:
        """Let a last client try until the layer is back."""
        for _ in range(60):
            try:
                await self.plane.acquire("last")
            except BackplaneUnavailable:
                await asyncio.sleep(1)
            else:
                self.plane.release("last")
                return True
        raise AssertionError("no join works any more")

    async def check(self) -> None:
        assert self.plane.is_up
        own = {CONTROL_GROUP, node_group("n1")}
        assert self.members() == dict.fromkeys({*own, "kept"}, 1), "memberships"
        assert self.plane.groups == ["kept"]
        assert not self.plane._memberships.strays
        publisher = self.make_layer()
        for number, group in enumerate([*sorted(own), "kept"]):
            await publisher.group_send(group, {"type": "x", "number": number})
        await asyncio.sleep(1)
        assert self.heard[-3:] == [0, 1, 2], "deaf"
        assert self.plane._tasks == {self.plane._receiver, self.plane._supervisor}, "tasks"


def check(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        world = World(kind, seed)
        with simulation.installed(monkeypatch, world.make_layer):
            await world.run()
        for task in world.plane._tasks:
            task.cancel()

    try:
        simulation.simulate(run, seed, eager=seed % 2 == 1)
    except BaseException as error:
        error.add_note(f"layer {kind}, seed {seed}")
        raise


@pytest.mark.parametrize("part", range(PARTS))
def test_trouble_leaves_no_trace(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However joins are cancelled and the layer fails, the node hears again, in its groups alone, with no task more."""
    kinds = list(LAYERS)
    for seed in range(part, FEW_SEEDS, PARTS):
        check(kinds[seed % len(kinds)], seed, monkeypatch)


@pytest.mark.parametrize(("kind", "seed"), FOUND)
def test_found_seeds(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for seeds beyond the range that once left a trace."""
    check(kind, seed, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYERS)
def test_trouble_on_every_layer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for each kind of layer, with more seeds."""
    for seed in range(3 * SEEDS):
        check(kind, seed, monkeypatch)
