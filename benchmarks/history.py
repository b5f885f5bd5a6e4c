"""
Compare publishing with and without history: time and memory of Redis, and of large batches.

    python -m benchmarks.history [--rounds 5] [--publications 2000]

On the pub/sub layer, a publication without history is one PUBLISH, to the subscribers of so many nodes; on the core
layer of channels_redis, it is a script, and each node takes it from a list. With history, it is added to a stream
first: by XADD where one process publishes to a room often, and by a script elsewhere. The time is the processor time
that Redis spent, from INFO, so that other programs on the machine matter less. The kinds take turns on one Redis; the
ratio of the medians is reported. A bare XADD, with the PUBLISH after its answer or in the same pipeline, shows what any
history in Redis costs at least.

Then transactions publish 10,000 events each, without and with history, to 1, 100 and 10,000 rooms, in turn with a raw
pipeline that publishes the same bytes: benchmarks/batches.py.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import platform
import statistics
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from channels_redis.core import RedisChannelLayer
from rich.console import Console
from rich.table import Table

from benchmarks import batches
from benchmarks.processes import redis as redis_server
from wsrt.history.base import Append
from wsrt.history.redis import RedisHistory

RESULTS = Path(__file__).parent / "results"

DATA = json.dumps({"text": "x" * (200 - len('{"text": ""}'))})
"""The data of a publication: 200 bytes."""

NODES = 2
"""The subscribers to which Redis sends each publication."""

MORE_NODES = (4, 8)
"""Other numbers of them, for publications one at a time."""

BATCH = 100
"""Publications that are sent together."""

LARGE = 10_000
"""The publications of the room whose memory is measured."""

ROOMS = 5_000
"""The rooms that take turns where a process publishes to each rarely."""

RARELY = "with history, to 5,000 rooms in turn"

KINDS: dict[str, dict[str, str]] = {
    "without history": {},
    "with history": {},
    RARELY: {},
    "with history and an idempotency key": {"idempotency_key": "{}"},
    'with history="latest"': {"key": "{}"},
}

FLOORS = {
    "a bare XADD and then the PUBLISH": False,
    "a bare XADD and the PUBLISH in one pipeline": True,
}
"""The least that a history in Redis costs, and whether it takes one round trip."""

Ratios = dict[tuple[str, str, int], float]
"""The times of transactions, compared with a pipeline, by kind of events, way to publish and number of rooms."""


class Bench:
    """One run on one Redis."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(url, socket_timeout=60)
        self.store = RedisHistory(url, size=100, timeout=60)
        self.number = 0
        self.times: dict[str, list[float]] = {}
        self.bytes = 0.0

    async def run(self, rounds: int, publications: int) -> None:
        nodes: list[Any] = []
        readers: list[asyncio.Task[None]] = []
        await self.add_nodes(nodes, readers, NODES)
        for _ in range(rounds):
            for size, how in ((1, "one at a time"), (BATCH, f"{BATCH} together")):
                for kind, more in KINDS.items():
                    act = functools.partial(self.publish, kind, more, size)
                    taken = await self.measure(act, publications // size)
                    self.times.setdefault(f"{kind}, {how}", []).append(taken / size)
                for kind, is_one_trip in FLOORS.items():
                    act = functools.partial(self.publish_bare, is_one_trip, size)
                    taken = await self.measure(act, publications // size)
                    self.times.setdefault(f"{kind}, {how}", []).append(taken / size)
        for number in MORE_NODES:
            await self.add_nodes(nodes, readers, number)
            for _ in range(rounds):
                for kind in ("without history", "with history"):
                    taken = await self.measure(functools.partial(self.publish, kind, {}, 1), publications)
                    self.times.setdefault(f"{kind}, one at a time to {number} nodes", []).append(taken)
        for reader in readers:
            reader.cancel()
        for node in nodes:
            await node.aclose()
        await self.on_core_layer(rounds, publications // 10)
        await self.memory()
        await self.store.close()
        await self.client.aclose()

    async def add_nodes(self, nodes: list[Any], readers: list[asyncio.Task[None]], number: int) -> None:
        """Let further nodes subscribe, until there are so many."""
        while len(nodes) < number:
            node = self.client.pubsub()
            await node.subscribe("group")
            nodes.append(node)
            readers.append(asyncio.create_task(_read(node)))

    async def on_core_layer(self, rounds: int, publications: int) -> None:
        """Publish one at a time through the core layer, each after all nodes have received the one before."""
        host = {"address": self.store.location, "socket_timeout": None}
        sender, *nodes = (RedisChannelLayer(hosts=[host]) for _ in range(NODES + 1))
        received: asyncio.Queue[None] = asyncio.Queue()
        readers = []
        for node in nodes:
            channel = await node.new_channel()
            await node.group_add("core", channel)
            readers.append(asyncio.create_task(_receive(node, channel, received)))

        async def publish(kind: str) -> None:
            if kind != "without history":
                await self.store.append([self.publication(("bench", "a"), {})])
            await sender.group_send("core", {"type": "wsrt.publication", "data": DATA})
            for _ in nodes:
                await received.get()

        for _ in range(rounds):
            for kind in ("without history", "with history"):
                taken = await self.measure(functools.partial(publish, kind), publications)
                self.times.setdefault(f"{kind}, on the core layer", []).append(taken)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        for layer in (sender, *nodes):
            await layer.close_pools()

    async def measure(self, act: Callable[[], Awaitable[None]], times: int) -> float:
        """Return the processor time that Redis spends on a call, in microseconds."""
        before = await self.spent()
        for _ in range(times):
            await act()
        return (await self.spent() - before) / times

    async def spent(self) -> float:
        found = await self.client.info("cpu")
        return 1e6 * float(found["used_cpu_user_main_thread"] + found["used_cpu_sys_main_thread"])

    async def publish(self, kind: str, more: dict[str, str], count: int) -> None:
        """Publish as wsrt does: append all, then send all through the layer."""
        if kind != "without history":
            await self.store.append([self.publication(self.room(kind), more) for _ in range(count)])
        pipeline = self.client.pipeline(transaction=False)
        for _ in range(count):
            pipeline.publish("group", DATA)
        await pipeline.execute()

    async def publish_bare(self, is_one_trip: bool, count: int) -> None:
        """Add the data to a stream without a script, and publish it."""
        pipeline = self.client.pipeline(transaction=False)
        for _ in range(count):
            pipeline.xadd("bare", {"d": DATA}, maxlen=100)  # about so many
        if not is_one_trip:
            await pipeline.execute()
        for _ in range(count):
            pipeline.publish("group", DATA)
        await pipeline.execute()

    def room(self, kind: str) -> tuple[str, str]:
        return "bench", f"a{self.number % ROOMS}" if kind == RARELY else "a"

    def publication(self, room: tuple[str, str], more: dict[str, str]) -> Append:
        self.number += 1
        given = {name: form.format(self.number % 500 if name == "key" else self.number) for name, form in more.items()}
        return Append(room, f"{self.number:016x}", "message.sent", DATA, **given)

    async def memory(self) -> None:
        """Fill one room, and divide the memory of its entries."""
        full = RedisHistory(self.store.location, size=LARGE, prefix="memory", timeout=60)
        await full.append([self.publication(("bench", "a"), {}) for _ in range(LARGE)])
        keys = await self.client.keys("memory*entries*")
        self.bytes = sum([await self.client.memory_usage(key, samples=0) for key in keys]) / LARGE
        await full.close()


async def _read(node: Any) -> None:
    async for _ in node.listen():
        pass


async def _receive(layer: Any, channel: str, received: asyncio.Queue[None]) -> None:
    while True:
        await layer.receive(channel)
        received.put_nowait(None)


def rows(bench: Bench, ratios: Ratios) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table: the quantity, its value, and the ratio to the same without history."""
    medians = {kind: statistics.median(times) for kind, times in bench.times.items()}
    for kind, median in medians.items():
        base = medians[f"without history, {kind.rpartition(', ')[2]}"]
        yield f"{kind}, us of Redis", f"{median:.1f}", f"{median / base:.2f}"
    yield "memory of a publication of 200 bytes, bytes", f"{bench.bytes:.0f}", ""
    for (kind, way, rooms), ratio in ratios.items():
        what = f"{batches.PUBLICATIONS:,} publications of a transaction {kind}, {way}, {rooms:,} rooms"
        yield f"{what}, compared with a raw pipeline", "", f"{ratio:.2f}"


def keep(bench: Bench, ratios: Ratios, version: str) -> None:
    """Write the figures and the table to benchmarks/results."""
    facts = {
        "redis": version,
        "python": platform.python_version(),
        "nodes": NODES,
        "microseconds": {kind: [round(value, 2) for value in values] for kind, values in bench.times.items()},
        "bytes_a_publication": round(bench.bytes, 1),
        "times_a_raw_pipeline": {
            f"{kind}, {way}, {rooms} rooms": round(ratio, 2) for (kind, way, rooms), ratio in ratios.items()
        },
    }
    (RESULTS / "history.json").write_text(json.dumps(facts, indent=2) + "\n")
    lines = ["| | | ratio |", "| --- | ---: | ---: |", *(f"| {' | '.join(row)} |" for row in rows(bench, ratios))]
    (RESULTS / "history.md").write_text("\n".join(lines) + "\n")


def main(rounds: int, publications: int) -> None:
    with redis_server() as url:
        bench, version = asyncio.run(_run(url, rounds, publications))
        ratios = {(kind, way, number): ratio for kind, way, number, ratio in batches.measure(url, rounds)}
    table = Table("", "", "ratio", title="Publishing with history")
    for row in rows(bench, ratios):
        table.add_row(*row)
    Console().print(table)
    keep(bench, ratios, version)


async def _run(url: str, rounds: int, publications: int) -> tuple[Bench, str]:
    bench = Bench(url)
    version = (await bench.client.info("server"))["redis_version"]
    await bench.run(rounds, publications)
    return bench, version


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (%(default)s)")
    parser.add_argument("--publications", type=int, default=2000, help="publications of a round (%(default)s)")
    options = parser.parse_args()
    main(options.rounds, options.publications)
