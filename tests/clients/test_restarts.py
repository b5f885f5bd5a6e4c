"""A real server that is killed and started again, again and again, under clients that ask all the time."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import time
from typing import ClassVar, Self

import pytest

from tests.clients.toolchain import compiled
from tests.support.processes import Server
from tests.support.report import note
from wsrt.clients.runtime.python import Client, ClientError, Incoming, Outgoing, Sends, State, Timings

pytestmark = pytest.mark.servers

CLIENTS = 25
TIMEOUT = 5.0
SECONDS = 60


class Ask(Outgoing["Answer"]):
    value: int


class Answer(Incoming):
    value: int


class Count(Outgoing["Counted"]):
    pass


class Counted(Incoming):
    now: dict[str, int]
    most: dict[str, int]


class RestartingClient(Client):
    receives: ClassVar = {"answer": Answer, "counted": Counted}
    sends: ClassVar = {Ask: Sends("ask", {"answer": Answer}), Count: Sends("count", {"counted": Counted})}


class Asking:
    """A client that asks all the time, and what became of it."""

    def __init__(self, url: str) -> None:
        self.client = RestartingClient(url, timings=Timings(base=0.1, cap=1, minimum=0.05), on_error=self.fail)
        self.ended: collections.Counter[str] = collections.Counter()
        self.asked = 0
        self.longest = 0.0
        self.is_done = False

    def fail(self, error: Exception) -> None:
        self.ended[f"reported {error!r}"] += 1

    async def run(self) -> None:
        while not self.is_done:
            self.asked += 1
            begun = time.monotonic()
            try:
                # Every other one waits for a connection.
                reply = await self.client.request(Ask(value=self.asked), timeout=TIMEOUT, queue=self.asked % 2 == 0)
                self.ended["answered" if reply.value == self.asked else "answered wrongly"] += 1
            except ClientError as error:
                self.ended[type(error).__name__] += 1
            self.longest = max(self.longest, time.monotonic() - begun)
            await asyncio.sleep(0.02)


@dataclasses.dataclass
class Crowd:
    """What a crowd of clients tells: how many are open, the answers of each, how requests ended."""

    open: int
    answers: list[int]
    ended: dict[str, int]
    asked: int
    longest: float


class PythonCrowd:
    """Clients in Python, in this process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.everybody:
            await each.client.close()

    async def connect(self, url: str) -> None:
        self.everybody = [Asking(f"{url}?client={number}") for number in range(CLIENTS)]
        for each in self.everybody:
            await each.client.connect()
        self.tasks = [asyncio.create_task(each.run()) for each in self.everybody]

    async def look(self) -> Crowd:
        ended: collections.Counter[str] = collections.Counter()
        for each in self.everybody:
            ended.update(each.ended)
        return Crowd(
            open=sum(each.client.state is State.OPEN for each in self.everybody),
            answers=[each.ended["answered"] for each in self.everybody],
            ended=dict(ended),
            asked=sum(each.asked for each in self.everybody),
            longest=max(each.longest for each in self.everybody),
        )

    async def finish(self) -> Crowd:
        for each in self.everybody:
            each.is_done = True
        await asyncio.gather(*self.tasks)
        return await self.look()


class TypeScriptCrowd:
    """Clients in TypeScript, in a process of Node: typescript/restarts.ts."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def connect(self, url: str) -> None:
        pipe = asyncio.subprocess.PIPE
        command = [*compiled("restarts"), url, str(CLIENTS)]
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)

    async def look(self) -> Crowd:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return await self._read()

    async def finish(self) -> Crowd:
        assert self.process.stdin is not None
        self.process.stdin.close()
        last = await self._read()
        assert await self.process.wait() == 0
        return last

    async def _read(self) -> Crowd:
        assert self.process.stdout is not None
        return Crowd(**json.loads(await self.process.stdout.readline()))


@pytest.mark.parametrize(
    ("kind", "crowd", "restarts"),
    [
        ("daphne", TypeScriptCrowd, 5),
        ("uvicorn", PythonCrowd, 5),
        pytest.param("daphne", PythonCrowd, 10, marks=pytest.mark.slow),
        pytest.param("daphne", TypeScriptCrowd, 10, marks=pytest.mark.slow),
        pytest.param("uvicorn", PythonCrowd, 10, marks=pytest.mark.slow),
        pytest.param("uvicorn", TypeScriptCrowd, 10, marks=pytest.mark.slow),
    ],
)
async def test_restarts(kind: str, crowd: type[PythonCrowd] | type[TypeScriptCrowd], restarts: int) -> None:
    """Every client comes back after each restart, none twice, and each request is answered or rejected."""
    with Server(kind, application="tests.clients.asgi:application") as server:
        async with crowd() as clients:
            await clients.connect(server.url("/ask/"))
            await everybody(clients, server, [0] * CLIENTS)
            for restart in range(restarts):
                before = await clients.look()
                # Most die without a word; every fifth drains.
                await asyncio.to_thread(server.stop if restart % 5 == 4 else server.kill)
                await asyncio.to_thread(server.start)
                await everybody(clients, server, before.answers)
            last = await clients.finish()
    assert sum(last.ended.values()) == last.asked
    assert last.longest < TIMEOUT + 1
    assert set(last.ended) <= {"answered", "ConnectionLost", "RequestTimeout", "ConnectionError", "TimeoutError"}
    assert len(asyncio.all_tasks()) == 1
    note(
        f"Requests of {CLIENTS} clients over {restarts} restarts",
        f"{kind}, {crowd.__name__}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(last.ended.items())),
    )


async def everybody(clients: PythonCrowd | TypeScriptCrowd, server: Server, before: list[int]) -> None:
    """Wait until everybody is connected, once, and had a further answer."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await clients.look()
            if found.open == CLIENTS and all(now > then for now, then in zip(found.answers, before, strict=True)):
                break
            await asyncio.sleep(0.05)
    async with RestartingClient(server.url("/ask/?client=observer")) as observer:
        counted = await observer.request(Count())
    assert counted.now == counted.most == {str(number): 1 for number in [*range(CLIENTS), "observer"]}
