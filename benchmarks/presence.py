"""
Compare presence in Redis: server time, memory and steady traffic with a lease per node and with a lease per connection.

    python -m benchmarks.presence [--members 100000] [--rounds 5]

The comparison is with the usual design: a ZSET and a HASH for each room, and a refresh of every connection in every
room every 25 seconds. Both designs take turns on one Redis, which runs on the last core. The ratio of the medians is
reported.

Then the calls that block Redis for the longest are made, on a Redis with as many members in one room. SLOWLOG holds the
duration of each command, in real time. Where permitted, the benchmark gives Redis real-time priority on its core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.blocking import Crowd, Durations
from benchmarks.blocking import measure as measure_blocking
from benchmarks.processes import redis as redis_server
from wsrt.presence.base import EVERYONE, Join, Leave, NodeFacts
from wsrt.presence.redis import RedisPresence
from wsrt.presence.redis.store import OPERATIONS

RESULTS = Path(__file__).parent / "results"

NODES = 4
"""The number of nodes that the members are spread over."""

CONNECTIONS = 2000
"""The connections of the node whose traffic is counted. Each is in the namespace and in one of 100 rooms."""

BEATS_A_MINUTE = 60 / 9
"""A node renews its lease of 30 seconds every 8 to 10 seconds."""

REFRESHES_A_MINUTE = 60 / 25
"""The refreshes of each connection in each room, with a lease per connection."""

LIMIT_MS = 5.0
"""The limit for the duration of a command, in milliseconds, on a quiet machine."""

REPEATS = 5
"""How often each of the calls that block Redis for the longest is made."""

NAMES = {"ours": "lease a node", "ttl": "lease a connection"}

# The way in which Centrifugo's engine stores presence, without its count of users.
TTL_ADD = """
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
"""
TTL_REMOVE = """
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
"""
TTL_ALL = """
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '0', ARGV[1])
for _, member in ipairs(expired) do
  redis.call('HDEL', KEYS[2], member)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '0', ARGV[1])
return redis.call('HGETALL', KEYS[2])
"""


class TtlPresence:
    """A lease for each connection in each room."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def add(self, room: str, connection: int, info: str) -> None:
        """Add a connection to a room, or refresh it."""
        ends = int(time.time()) + 60
        await self._run(TTL_ADD, *self._keys(room), 60_000, ends, connection, info)

    async def add_all(self, joins: list[tuple[str, int, str]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        ends = int(time.time()) + 60
        await self._client.script_load(TTL_ADD)
        for room, connection, info in joins:
            pipeline.evalsha(_sha(TTL_ADD), 2, *self._keys(room), 60_000, ends, connection, info)
        await pipeline.execute()

    async def remove_all(self, leaves: list[tuple[str, int]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        await self._client.script_load(TTL_REMOVE)
        for room, connection in leaves:
            pipeline.evalsha(_sha(TTL_REMOVE), 2, *self._keys(room), connection)
        await pipeline.execute()

    async def remove(self, room: str, connection: int) -> None:
        await self._run(TTL_REMOVE, *self._keys(room), connection)

    async def count(self, room: str) -> int:
        return int(await self._client.zcount(self._keys(room)[0], int(time.time()), "+inf"))

    async def page(self, room: str) -> None:
        await self._client.hscan(self._keys(room)[1], 0, count=500)

    async def all(self, room: str) -> None:
        await self._run(TTL_ALL, *self._keys(room), int(time.time()))

    async def user_connections(self, room: str, connections: list[int]) -> None:
        await self._client.hmget(self._keys(room)[1], connections)

    def _keys(self, room: str) -> tuple[str, str]:
        return f"ttl:z:{room}", f"ttl:h:{room}"

    async def _run(self, script: str, *arguments: Any) -> Any:
        try:
            return await self._client.evalsha(_sha(script), 2, *arguments)
        except redis.ResponseError:
            return await self._client.eval(script, 2, *arguments)


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode()).hexdigest()


@dataclasses.dataclass
class Figures:
    """
    The results.

    Attributes:
        microseconds: The server time of each round in microseconds, by operation and design.
        memory: The number of bytes per member, by kind of room and design.
        steady: The commands and milliseconds per minute of an idle node, by design.
        slow: The number of wsrt's commands that took over a millisecond, by SLOWLOG.
        blocking: The slowest commands of the calls that block Redis for the longest.
        reaped: The work of removing a dead node.
        joins_per_second: The number of joins per second through one store.
    """

    microseconds: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    memory: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    steady: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    slow: int = 0
    blocking: dict[str, Durations] = dataclasses.field(default_factory=dict)
    reaped: dict[str, float] = dataclasses.field(default_factory=dict)
    joins_per_second: float = 0.0

    def put(self, operation: str, design: str, value: float) -> None:
        self.microseconds.setdefault(operation, {}).setdefault(design, []).append(value)


class Bench:
    """One run on one Redis."""

    def __init__(self, url: str, members: int, progress: Progress) -> None:
        self.client: Any = redis.Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=60)
        self.ours = RedisPresence(url, lease=3600, pace=1e6)
        self.ttl = TtlPresence(self.client)
        self.figures = Figures()
        self.progress = progress
        # The names and the number of members of the rooms, by kind.
        self.kinds: dict[str, tuple[list[str], int]] = {
            "50,000": (["large"], members // 2),
            "1,000": ([f"middle{n}" for n in range(10)], members // 100),
            "10": ([f"small{n}" for n in range(members // 25)], 10),
        }
        self.large = members // 2
        # Numbers from here on are unused.
        self.number = members * 2

    async def run(self, rounds: int) -> Figures:
        await self.client.config_set("slowlog-log-slower-than", 1000)
        await self.client.config_set("slowlog-max-len", 100_000)
        for node in range(NODES):
            await self.ours.begin(NodeFacts(f"node{node}", {}))
        await self.fill()
        task = self.progress.add_task("Operations", total=rounds)
        for _ in range(rounds):
            await self.operations()
            self.progress.advance(task)
        await self.steady()
        await self.reap()
        log = await self.client.slowlog_get(100_000)
        # Exclude the other design, and the commands that measure memory.
        ours = [str(entry["command"]) for entry in log if "wsrt{" in str(entry["command"])]
        self.figures.slow = sum(1 for command in ours if not command.startswith("MEMORY"))
        await self.ours.close()
        await self.client.aclose()
        return self.figures

    # Memory.

    async def fill(self) -> None:
        total = sum(len(rooms) * size for rooms, size in self.kinds.values())
        task = self.progress.add_task("Members", total=2 * total)
        seconds = 0.0
        for kind, (rooms, size) in self.kinds.items():
            joins = [
                (room, connection, user(connection), data(connection)) for room in rooms for connection in range(size)
            ]
            before = await self.memory()
            for part in batches(joins, 1000):
                began = time.perf_counter()
                for node in range(NODES):
                    operations = [Join("chat", r, n, u, d) for r, n, u, d in part if n % NODES == node]
                    await self.ours.apply(f"node{node}", operations)
                seconds += time.perf_counter() - began
                self.progress.advance(task, len(part))
            for part in batches(joins, 1000):
                await self.ttl.add_all([(r, n, info(u, d)) for r, n, u, d in part])
                self.progress.advance(task, len(part))
            after = await self.memory()
            self.figures.memory[f"rooms of {kind}"] = {
                design: (after[design] - before[design]) / len(joins) for design in NAMES
            }
        self.figures.joins_per_second = total / seconds

    async def memory(self) -> dict[str, int]:
        """Return the number of bytes of all keys, by design, without freed tables and buffers."""
        memory = {"ours": 0, "ttl": 0}
        async for page in self._keys():
            pipeline = self.client.pipeline(transaction=False)
            for key in page:
                pipeline.memory_usage(key, samples=0)
            for key, size in zip(page, await pipeline.execute(), strict=True):
                memory["ttl" if key.startswith("ttl:") else "ours"] += size or 0
        return memory

    async def _keys(self) -> AsyncIterator[list[str]]:
        cursor = None
        while cursor != 0:
            cursor, page = await self.client.scan(cursor or 0, count=1000)
            yield page

    # Server time.

    async def operations(self) -> None:
        """Measure each operation once, alternating between the designs."""
        ours, ttl = self.ours, self.ttl
        place = "chat", "large"
        times = 200
        numbers = range(self.number, self.number + times)
        self.number += times
        users = [user(n) for n in range(100)]

        async def join(number: int) -> None:
            await ours.apply("node0", [Join(*place, number, user(number), data(number))])

        async def further(number: int) -> None:
            await ours.apply("node1", [Join(*place, number, user(number), data(number))])

        async def leave(number: int) -> None:
            await ours.apply("node1", [Leave(*place, number)])

        async def leave_last(number: int) -> None:
            await ours.apply("node0", [Leave(*place, number)])

        async def add(number: int) -> None:
            await ttl.add("large", number, info(user(number), data(number)))

        async def remove(number: int) -> None:
            await ttl.remove("large", number)

        script = ("evalsha", "eval")
        await self.measure("join, a new user", "ours", join, numbers, script)
        await self.measure("join, a new user", "ttl", add, numbers, script)
        await self.measure("join, a further tab", "ours", further, numbers, script)
        await self.measure("join, a further tab", "ttl", add, numbers, script)
        await self.measure("leave, not the last tab", "ours", leave, numbers, script)
        await self.measure("leave, the last tab", "ours", leave_last, numbers, script)
        await self.measure("leave, the last tab", "ttl", remove, numbers, script)

        batch = range(self.number, self.number + OPERATIONS)
        rounds = range(20)

        async def many(_: int) -> None:
            await ours.apply("node0", [Join(*place, n, user(n), data(n)) for n in batch])
            await ours.apply("node0", [Leave(*place, n) for n in batch])

        async def many_ttl(_: int) -> None:
            await ttl.add_all([("large", n, info(user(n), data(n))) for n in batch])
            await ttl.remove_all([("large", n) for n in batch])

        await self.measure("join or leave in a batch", "ours", many, rounds, script, each=2 * OPERATIONS)
        await self.measure("join or leave in a batch", "ttl", many_ttl, rounds, script, each=2 * OPERATIONS)
        await self.measure("count of the largest room", "ours", lambda _: ours.counts([place]), rounds, ("hmget",))
        await self.measure("count of the largest room", "ttl", lambda _: ttl.count("large"), rounds, ("zcount",))
        await self.measure(
            "page of 500 of the largest room", "ours", lambda _: ours.members(*place), rounds, ("hscan", "hmget")
        )
        await self.measure("page of 500 of the largest room", "ttl", lambda _: ttl.page("large"), rounds, ("hscan",))
        await self.measure(
            "whole room of 1,000",
            "ours",
            lambda n: ours.snapshot("chat", f"middle{n % 10}", 1000),
            rounds,
            (*script, "hmget"),
        )
        await self.measure("whole room of 1,000", "ttl", lambda n: ttl.all(f"middle{n % 10}"), rounds, script)
        await self.measure(
            "which of 100 users are there", "ours", lambda _: ours.user_connections(*place, users), rounds, ("hmget",)
        )
        await self.measure("page of 500 rooms", "ours", lambda _: ours.rooms("chat"), rounds, (*script, "hmget"))
        await self.measure("page of 500 connections", "ours", lambda _: ours.connections(*place), rounds, ("hscan",))
        await self.measure(
            "connections of one user, a page",
            "ours",
            lambda n: ours.connections(*place, user_id=user(n), limit=1),
            rounds,
            script,
            each_call=True,
        )
        await self.measure(
            "heartbeat of a node",
            "ours",
            lambda n: ours.beat(NodeFacts(f"node{n % NODES}", {"pid": n})),
            rounds,
            script,
        )
        await self.measure(
            "refresh of a connection",
            "ttl",
            lambda n: ttl.add("large", n, info(user(n), data(n))),
            range(200),
            script,
        )

    async def measure(
        self,
        operation: str,
        design: str,
        act: Callable[[Any], Awaitable[Any]],
        turns: range,
        commands: tuple[str, ...],
        *,
        each: int = 1,
        each_call: bool = False,
    ) -> None:
        """Measure the time that Redis spends on ``commands``: per turn divided by ``each``, or per call."""
        await self.client.config_resetstat()
        for turn in turns:
            await act(turn)
        calls, spent = await self.spent(commands)
        self.figures.put(operation, design, spent / (calls if each_call else len(turns) * each))

    async def spent(self, commands: tuple[str, ...]) -> tuple[int, float]:
        """Return the number of calls of the commands, and the microseconds that Redis spent on them."""
        stats = await self.client.info("commandstats")
        found = [stats[f"cmdstat_{name}"] for name in commands if f"cmdstat_{name}" in stats]
        return sum(stat["calls"] for stat in found), sum(stat["usec"] for stat in found)

    # Traffic.

    async def steady(self) -> None:
        """Count the commands of a node with 2,000 connections while no connection opens or closes."""
        rooms = [("steady", f"r{n}") for n in range(100)]
        await self.ours.begin(NodeFacts("steady", {}))
        joins = [Join("steady", EVERYONE, n, user(n), None, '{"ip": "::1"}') for n in range(CONNECTIONS)]
        joins += [Join(*rooms[n % len(rooms)], n, user(n), data(n)) for n in range(CONNECTIONS)]
        await self.ours.apply("steady", joins)
        await self.client.config_resetstat()
        beats = 20
        for beat in range(beats):
            await self.ours.beat(NodeFacts("steady", {"beat": beat}))
            await self.ours.versions(rooms)
            # The node verifies one room at each heartbeat. It finds no difference.
            await self.ours.held("steady", *[("steady", EVERYONE), *rooms][beat])
        calls, spent = await self.spent(("evalsha", "eval", "hmget", "hscan"))
        self.figures.steady["ours"] = {
            "commands": calls / beats * BEATS_A_MINUTE,
            "ms": spent / 1000 / beats * BEATS_A_MINUTE,
        }
        said = [(f"steady:{EVERYONE}", n, info(user(n), "{}")) for n in range(CONNECTIONS)]
        said += [(f"steady:r{n % len(rooms)}", n, info(user(n), data(n))) for n in range(CONNECTIONS)]
        await self.ttl.add_all(said)
        await self.client.config_resetstat()
        await self.ttl.add_all(said)
        calls, spent = await self.spent(("evalsha",))
        self.figures.steady["ttl"] = {"commands": calls * REFRESHES_A_MINUTE, "ms": spent / 1000 * REFRESHES_A_MINUTE}

    # Death.

    async def reap(self) -> None:
        """Remove a dead node from all its rooms."""
        await self.client.config_resetstat()
        task = self.progress.add_task("Reaping", total=None)
        members, chunks = 0, 0
        async for changes in self.ours.reap("node2"):
            members, chunks = members + len(changes), chunks + 1
            self.progress.advance(task)
        _, spent = await self.spent(("evalsha", "eval", "hscan"))
        self.figures.reaped = {
            "members": members,
            "chunks": chunks,
            "ms_in_all": spent / 1000,
            "us_a_member": spent / members,
        }


def user(number: int) -> str:
    return f"{100_000 + number}"


def data(number: int) -> str:
    return json.dumps({"name": f"User number {number:06}", "color": "teal"})


def info(user_id: str, shown: str) -> str:
    return json.dumps({"user": user_id, "data": shown})


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def rows(figures: Figures) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the table: the quantity, its value for both designs, and their ratio."""
    for operation, designs in figures.microseconds.items():
        medians = {design: statistics.median(rounds) for design, rounds in designs.items()}
        yield f"{operation}, us", *_pair(medians, "{:,.1f}")
    for kind, bytes_a_member in figures.memory.items():
        yield f"memory a member, {kind}, bytes", *_pair(bytes_a_member, "{:,.0f}")
    steady = {design: values["commands"] for design, values in figures.steady.items()}
    yield f"commands a minute, {CONNECTIONS:,} connections", *_pair(steady, "{:,.0f}")
    busy = {design: values["ms"] for design, values in figures.steady.items()}
    yield f"server time a minute, {CONNECTIONS:,} connections, ms", *_pair(busy, "{:,.2f}")


def _pair(values: dict[str, float], form: str) -> tuple[str, str, str]:
    ours, ttl = (form.format(values[design]) if design in values else "" for design in NAMES)
    return ours, ttl, f"{values['ttl'] / values['ours']:,.2f}" if ours and ttl else ""


def show(figures: Figures, console: Console) -> None:
    table = Table(title="Presence in Redis")
    table.add_column("", no_wrap=True)
    for column in (*NAMES.values(), "ratio"):
        table.add_column(column, justify="right")
    for row in rows(figures):
        table.add_row(*row)
    console.print(table)
    reaped = figures.reaped
    console.print(
        f"A node of {reaped['members']:,} members was taken out in {reaped['chunks']:,} chunks, "
        f"{reaped['ms_in_all']:,.0f} ms in Redis in all, {reaped['us_a_member']:.1f} us a member."
    )
    console.print(f"{figures.joins_per_second:,.0f} joins a second through one store, in calls of up to {OPERATIONS}.")
    table = Table(title="The longest commands, ms in Redis by SLOWLOG")
    table.add_column("", no_wrap=True)
    table.add_column("command", no_wrap=True)
    table.add_column("half", justify="right")
    table.add_column("longest", justify="right")
    for row in blocking_rows(figures):
        table.add_row(*row)
    console.print(table)
    colour = "red" if max(took.longest for took in figures.blocking.values()) > LIMIT_MS else "green"
    console.print(f"[{colour}]{slowest(figures)}[/]")


def slowest(figures: Figures) -> str:
    """Return a sentence with the slowest command and the limit."""
    what, took = max(figures.blocking.items(), key=lambda item: item[1].longest)
    heaviest, heavy = max(figures.blocking.items(), key=lambda item: item[1].half)
    return (
        f"Slowest command by SLOWLOG: {took.longest:.2f} ms ({took.command}, {what}). The heaviest takes "
        f"{heavy.half:.2f} ms ({heavy.command}, {heaviest}). The limit is {LIMIT_MS:g} ms. Of the ordinary operations "
        f"above, {figures.slow:,} commands took over 1 ms."
    )


def blocking_rows(figures: Figures) -> Iterator[tuple[str, str, str, str]]:
    """Yield the calls that block Redis for the longest, their slowest commands, and median and maximum durations."""
    for what, took in figures.blocking.items():
        yield what, took.command, f"{took.half:.2f}", f"{took.longest:.2f}"


def keep(figures: Figures, members: int, version: str) -> None:
    """Write the figures, the table and the plot to benchmarks/results."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    RESULTS.mkdir(exist_ok=True)
    facts = {
        "members": members,
        "redis": version,
        "python": platform.python_version(),
        "ratio": {row[0]: float(row[3].replace(",", "")) for row in rows(figures) if row[3]},
        "microseconds": {
            operation: {design: [round(value, 2) for value in values] for design, values in designs.items()}
            for operation, designs in figures.microseconds.items()
        },
        "bytes_a_member": _rounded(figures.memory),
        "a_minute": _rounded(figures.steady),
        "longest_ms": {
            what: {"command": took.command, "half": round(took.half, 3), "longest": round(took.longest, 3)}
            for what, took in figures.blocking.items()
        },
        "reaped": {key: round(value, 2) for key, value in figures.reaped.items()},
        "joins_per_second": round(figures.joins_per_second),
    }
    (RESULTS / "presence.json").write_text(json.dumps(facts, indent=2) + "\n")
    lines = [f"| | {NAMES['ours']} | {NAMES['ttl']} | ratio |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(row)} |" for row in rows(figures)]
    lines += ["", "| ms in Redis, by SLOWLOG | command | half | longest |", "| --- | --- | ---: | ---: |"]
    lines += [f"| {' | '.join(row)} |" for row in blocking_rows(figures)]
    lines += ["", slowest(figures)]
    (RESULTS / "presence.md").write_text("\n".join(lines) + "\n")

    shown = [(row[0], float(row[3].replace(",", ""))) for row in reversed(list(rows(figures))) if row[3]]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    names, ratios = [name for name, _ in shown], [ratio for _, ratio in shown]
    colours = ["tab:green" if ratio >= 1 else "tab:red" for ratio in ratios]
    axes.barh(names, [ratio - 1 for ratio in ratios], left=1, color=colours)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("cost of a lease per connection, relative to a lease per node")
    for index, ratio in enumerate(ratios):
        axes.annotate(f" {ratio:,.2f}", (max(ratio, 1), index), va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.set_title(f"Presence of {members:,} members in Redis {version}", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(RESULTS / "presence.svg", metadata={"Date": None})


def _rounded(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {row: {column: round(value, 2) for column, value in cells.items()} for row, cells in table.items()}


async def measure(members: int, rounds: int, console: Console) -> tuple[Figures, str]:
    """Return the results of one run, and the version of Redis."""
    with redis_server() as url, redis_server() as other, Progress(console=console, transient=True) as progress:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        bench = Bench(url, members, progress)
        version = await prefer(bench.client)
        figures = await bench.run(rounds)
        figures.blocking = await blocking(other, members, progress)
        return figures, version


async def blocking(url: str, members: int, progress: Progress) -> dict[str, Durations]:
    """Return the durations of the slowest commands."""
    progress.add_task("Longest commands", total=None)
    client: Any = redis.Redis.from_url(url, socket_timeout=60)
    await prefer(client)
    crowd = Crowd(RedisPresence(url, lease=3600, pace=1e6), members)
    await crowd.fill()
    found = await measure_blocking(client, crowd, REPEATS)
    await crowd.store.close()
    await client.aclose()
    return found


async def prefer(client: Any) -> str:
    """Give Redis real-time priority on its core, if permitted, and return its version."""
    server = await client.info("server")
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(server["process_id"], os.SCHED_FIFO, os.sched_param(1))
    return str(server["redis_version"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.presence", description=__doc__.splitlines()[1])
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print the results without writing them")
    options = parser.parse_args()
    console = Console()
    figures, version = asyncio.run(measure(options.members, options.rounds, console))
    show(figures, console)
    if not options.dry:
        keep(figures, options.members, version)
        console.print(f"Written to {RESULTS.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
