"""
Storm: clients of one room that lose their connections all the time, while processes and connections of the servers die.

    python -m benchmarks.storm [--clients 1000] [--messages 120] [--check]

Two uvicorn processes share Redis. Each client's socket is reset after about 15 seconds, and comes back about 2 seconds
later, to either process. Messages are published at 2 a second. After a third of them one process is killed with
SIGKILL, after two thirds the other one loses its subscriptions in Redis. Then two messages are lost that no further one
follows: one with the subscriptions, and one silently, as the channel layer may lose it.

The same storm is repeated with python-socketio, if it is installed. Its server doesn't keep messages for absent
clients, so what counts there is the share of the messages that arrived.

--check fails if a client of wsrt didn't get every message, once and in order, and writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import platform
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio as redis_client
from rich.console import Console
from rich.table import Table

from benchmarks import storm_figure
from benchmarks.processes import redis, server
from benchmarks.sockets import Socket, connect
from tests.support.ports import free_port
from wsrt.history.base import Append
from wsrt.history.redis import RedisHistory

RESULTS = Path(__file__).parent / "results"

ROOM = ("kept", "all")
"""The realm and name of the room of benchmarks.applications.kept."""

TEXT = "x" * 100

AT_ONCE = 50
"""The most handshakes of the clients that are under way at a time, at the beginning."""

PATIENCE = 60.0
"""How long the last messages may take after the storm, in seconds."""

PUBLISHED = {"delivered": 0.8455, "p99": 4.58}
"""
What others have published for such a storm, with 10,000 clients on other machines: the share that Socket.IO delivered,
and the 99th percentile of the replay of its connection state recovery, in seconds.
"""


@dataclasses.dataclass
class Weather:
    """
    How bad a storm is.

    Attributes:
        clients: The number of clients.
        messages: The number of messages that are published while the sockets are reset.
        every: The seconds between two messages.
        stay: The average time after which a socket is reset, in seconds.
        away: The average time until its client comes back, in seconds.
        seed: The seed of the random numbers.
    """

    clients: int = 1000
    messages: int = 120
    every: float = 0.5
    stay: float = 15.0
    away: float = 2.0
    seed: int = 1


@dataclasses.dataclass
class Outcome:
    """
    What became of a storm.

    Attributes:
        expected: The number of messages that all clients together should have received.
        delivered: The number of messages that they have received, each counted once for each client.
        whole: The number of clients that have received every message, once and in order.
        duplicates: The number of messages that the clients' check has dropped.
        not_recovered: How often a client was told that it can't get what it has missed.
        resets: The number of sockets that were reset.
        replays: The seconds from a client's claim to the last message that it had missed, where there was one.
        missed: The number of messages of each replay.
        delay_cut: The seconds until all clients had a message that was lost with the subscriptions. None if not tried.
        delay_silent: The same for one that was lost silently.
    """

    expected: int = 0
    delivered: int = 0
    whole: int = 0
    duplicates: int = 0
    not_recovered: int = 0
    resets: int = 0
    replays: list[float] = dataclasses.field(default_factory=list)
    missed: list[int] = dataclasses.field(default_factory=list)
    delay_cut: float | None = None
    delay_silent: float | None = None

    @property
    def ratio(self) -> float:
        return self.delivered / self.expected


class Client:
    """
    A client that comes back whenever its connection ends.

    Attributes:
        numbers: The numbers of the messages that it has received, in order of arrival.
        is_joined: Set while it is in the room.
    """

    subprotocol = ""
    path = "/"

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.numbers: list[int] = []
        self.is_joined = asyncio.Event()
        self.socket: Socket | None = None

    async def open(self, port: int) -> Socket:
        self.socket = await connect(port, self.path, self.receive, subprotocol=self.subprotocol)
        self.greet()
        return self.socket

    def greet(self) -> None:
        """Send what a client sends first."""

    def publish(self, n: int) -> None:
        """Publish a message."""
        raise NotImplementedError

    def receive(self, frame: bytes) -> None:
        """Take a frame of the server."""
        raise NotImplementedError

    def send(self, text: str) -> None:
        if self.socket is not None:
            self.socket.send(text)


class WsrtClient(Client):
    """A client that claims its position, and drops what it has received already."""

    subprotocol = "wsrt.v1"

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.position: tuple[str, int] | None = None
        self._claimed_at = 0.0
        self._to_come = 0

    def greet(self) -> None:
        claims = {} if self.position is None else {ROOM[1]: self.position}
        self._claimed_at, self._to_come = time.perf_counter(), 0
        self.send(json.dumps({"event": "wsrt.resume", "data": claims}))

    def publish(self, n: int) -> None:
        self.send(json.dumps({"event": "number", "data": {"n": n, "text": TEXT}}))

    def receive(self, frame: bytes) -> None:
        message = json.loads(frame)
        if message["event"] == "numbered":
            self._take(message)
        elif message["event"] == "wsrt.joined":
            self._note_joined(message["data"])

    def _note_joined(self, data: dict[str, Any]) -> None:
        if data.get("recovered"):
            self._to_come = data["count"]
            if self._to_come:
                self.outcome.missed.append(self._to_come)
        else:
            self.outcome.not_recovered += "recovered" in data
            self.position = (data["epoch"], data["offset"])
        self.is_joined.set()

    def _take(self, message: dict[str, Any]) -> None:
        if self._to_come:
            self._to_come -= 1
            if not self._to_come:
                self.outcome.replays.append(time.perf_counter() - self._claimed_at)
        position = (message["epoch"], message["offset"])
        if self.position is not None and self.position[0] == position[0] and self.position[1] >= position[1]:
            self.outcome.duplicates += 1
            return
        self.position = position
        self.numbers.append(message["data"]["n"])


class SocketioClient(Client):
    """A client of python-socketio, over the transport that has the fewest round trips."""

    path = "/socket.io/?EIO=4&transport=websocket"

    def publish(self, n: int) -> None:
        self.send("42" + json.dumps(["number", {"n": n, "text": TEXT}]))

    def receive(self, frame: bytes) -> None:
        if frame.startswith(b"42"):
            event, data = json.loads(frame[2:])
            if event == "numbered":
                self.numbers.append(data["n"])
        elif frame.startswith(b"40"):
            self.is_joined.set()
        elif frame.startswith(b"0"):
            self.send("40")
        elif frame == b"2":
            self.send("3")


class Storm:
    """
    One storm.

    Args:
        weather: How bad it is.
        make: Makes a client.
        servers: The two processes, by port. The first one dies.
        redis_url: The address of Redis.
    """

    def __init__(
        self,
        weather: Weather,
        make: Callable[[Outcome], Client],
        servers: dict[int, subprocess.Popen[bytes]],
        redis_url: str,
    ) -> None:
        self.weather = weather
        self.outcome = Outcome()
        self._servers = servers
        self._doomed, self._survivor = servers
        self._ports = [*servers]
        self._redis_url = redis_url
        self._random = random.Random(weather.seed)
        self._clients = [make(self.outcome) for _ in range(weather.clients)]
        self._publisher = make(Outcome())
        self._is_calm = asyncio.Event()
        self._is_over = False
        self._published = 0

    async def run(self) -> Outcome:
        turn = asyncio.Semaphore(AT_ONCE)
        tasks = [asyncio.create_task(self._live(client, turn)) for client in self._clients]
        try:
            await self._publisher.open(self._survivor)
            for client in [self._publisher, *self._clients]:
                await client.is_joined.wait()
            await self._rage()
            self._is_calm.set()
            await self._until_all_have(self._published)
            if isinstance(self._publisher, WsrtClient):
                self.outcome.delay_cut = await self._lose(cuts=True)
                self.outcome.delay_silent = await self._lose(cuts=False)
        finally:
            self._is_over = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in [self._publisher, *self._clients]:
                if client.socket is not None:
                    client.socket.reset()
        expected = list(range(self._published))
        self.outcome.expected = len(expected) * len(self._clients)
        for client in self._clients:
            self.outcome.delivered += len(set(client.numbers))
            self.outcome.whole += client.numbers == expected
        return self.outcome

    async def _live(self, client: Client, turn: asyncio.Semaphore) -> None:
        while not self._is_over:
            try:
                async with turn if not client.is_joined.is_set() else contextlib.nullcontext():
                    socket = await client.open(self._random.choice(self._ports))
                    if not client.is_joined.is_set():
                        joined = asyncio.ensure_future(client.is_joined.wait())
                        await asyncio.wait({joined, socket.ended}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            except OSError:  # the process has been killed
                await asyncio.sleep(self._random.uniform(0.1, 0.5))
                continue
            await asyncio.wait({socket.ended}, timeout=self._around(self.weather.stay))
            if not socket.ended.done():
                if self._is_calm.is_set():
                    await socket.ended
                    continue
                self.outcome.resets += 1
                socket.reset()
            await asyncio.sleep(self._around(self.weather.away))

    async def _rage(self) -> None:
        """Publish, and break processes and subscriptions on the way."""
        begun = time.perf_counter()
        for number in range(self.weather.messages):
            if number == self.weather.messages // 3:
                self._servers[self._doomed].kill()
                self._ports.remove(self._doomed)
            if number == self.weather.messages * 2 // 3:
                await self._cut()
            await asyncio.sleep(max(0.0, begun + number * self.weather.every - time.perf_counter()))
            self._publisher.publish(number)
            self._published += 1

    async def _lose(self, *, cuts: bool) -> float:
        """Lose the last message before a silence; return the seconds until all clients have it nevertheless."""
        store = RedisHistory(self._redis_url)
        data = json.dumps({"n": self._published, "text": TEXT})
        # What the channel layer has lost is in the history, and nowhere else.
        await store.append([Append(ROOM, secrets.token_hex(8), "numbered", data, None, None)])
        begun = time.perf_counter()
        self._published += 1
        if cuts:
            await self._cut()
        await store.close()
        await self._until_all_have(self._published)
        return time.perf_counter() - begun

    async def _cut(self) -> None:
        """Break the connections to Redis over which the servers receive publications."""
        async with redis_client.from_url(self._redis_url) as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def _until_all_have(self, number: int) -> None:
        """Wait until every client has a number of messages, or none has received another one for a while."""
        deadline, before = time.perf_counter() + PATIENCE, -1
        while time.perf_counter() < deadline:
            received = sum(len(client.numbers) for client in self._clients)
            if received >= number * len(self._clients):
                return
            if isinstance(self._publisher, SocketioClient):
                # What is missing never comes. Clients that are away come back, and get nothing.
                if received == before:
                    return
                before = received
                await asyncio.sleep(2 * self.weather.away)
            await asyncio.sleep(0.05)

    def _around(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.5, 1.5)


@contextlib.contextmanager
def _two_servers(application: str, redis_url: str) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    with contextlib.ExitStack() as stack:
        yield {
            port: stack.enter_context(server("uvicorn", application, port, redis_url, core=None))
            for port in (free_port(), free_port())
        }


def run_wsrt(weather: Weather) -> Outcome:
    """Run a storm with wsrt."""
    with redis() as url, _two_servers("applications:kept", url) as servers:
        return asyncio.run(_run(weather, WsrtClient, servers, url))


def run_socketio(weather: Weather) -> Outcome | None:
    """Run a storm with python-socketio. Return None if it isn't installed."""
    if importlib.util.find_spec("socketio") is None:
        return None
    with redis() as url, _two_servers("socketio_application:application", url) as servers:
        return asyncio.run(_run(weather, SocketioClient, servers, url))


async def _run(weather: Weather, make: Callable[[Outcome], Client], servers: Any, redis_url: str) -> Outcome:
    return await Storm(weather, make, servers, redis_url).run()


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of values, of which there are at least two."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def facts(weather: Weather, outcome: Outcome, beside: Outcome | None) -> dict[str, Any]:
    """Return the results of a run, as they are kept."""
    return {
        **dataclasses.asdict(weather),
        "python": platform.python_version(),
        "resets": outcome.resets,
        "expected": outcome.expected,
        "delivered": outcome.delivered,
        "clients_without_a_gap": outcome.whole,
        "duplicates_dropped": outcome.duplicates,
        "not_recovered": outcome.not_recovered,
        "replays": len(outcome.replays),
        "messages_a_replay": round(statistics.mean(outcome.missed or [0]), 1),
        "replay_seconds": {f"p{percent}": round(percentile(outcome.replays, percent), 4) for percent in (50, 95, 99)},
        "replay_percentiles": [round(percentile(outcome.replays, percent), 4) for percent in range(1, 100)],
        "delay_of_the_last_message": {
            "lost_with_the_subscriptions": round(outcome.delay_cut or 0.0, 2),
            "lost_silently": round(outcome.delay_silent or 0.0, 2),
        },
        "python_socketio": None
        if beside is None
        else {"expected": beside.expected, "delivered": beside.delivered, "of_expected": round(beside.ratio, 4)},
        "published_by_others_on_other_machines": {
            "socket_io_delivered": PUBLISHED["delivered"],
            "socket_io_recovery_p99_seconds": PUBLISHED["p99"],
        },
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the results."""
    table = Table(title=f"{found['clients']} clients, {found['messages']} messages, {found['resets']} resets")
    table.add_column("", no_wrap=True)
    for column in ("delivered", "replay p50", "p95", "p99"):
        table.add_column(column, justify="right", no_wrap=True)
    replay = found["replay_seconds"]
    table.add_row(
        "wsrt",
        f"{found['delivered'] / found['expected']:.2%}",
        *(f"{replay[name] * 1000:,.0f} ms" for name in ("p50", "p95", "p99")),
    )
    beside = found["python_socketio"]
    table.add_row("python-socketio", "not installed" if beside is None else f"{beside['of_expected']:.2%}", "", "", "")
    table.add_row("Socket.IO, as published", f"{PUBLISHED['delivered']:.2%}", "", "", "")
    table.add_row("its recovery, as published", "100.00%", "", "", f"{PUBLISHED['p99'] * 1000:,.0f} ms")
    console.print(table)
    delays = found["delay_of_the_last_message"]
    console.print(
        f"The last message before a silence, lost with the subscriptions: after "
        f"{delays['lost_with_the_subscriptions']} s; lost silently: after {delays['lost_silently']} s. "
        "What others have published was measured on other machines, with 10,000 clients."
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__.splitlines()[1])
    for field in dataclasses.fields(Weather):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    parser.add_argument("--check", action="store_true", help="fail if anything was lost, and write nothing")
    options = vars(parser.parse_args())
    checks = options.pop("check")
    weather = Weather(**options)
    console = Console()
    outcome = run_wsrt(weather)
    found = facts(weather, outcome, None if checks else run_socketio(weather))
    show(found, console)
    if checks:
        return int(outcome.whole < weather.clients)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "storm.json").write_text(json.dumps(found, indent=2) + "\n")
    storm_figure.FIGURE.write_text(storm_figure.draw(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
