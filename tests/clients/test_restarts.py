"""A real server that is killed and started again, again and again, under clients that ask all the time."""

from __future__ import annotations

import asyncio
import collections
import time
from typing import ClassVar

import pytest

from tests.support.processes import Server
from tests.support.report import note
from tests.support.waiting import aeventually
from wsrt.clients.python import Client, ClientError, Incoming, Outgoing, Sends, State, Timings

pytestmark = pytest.mark.servers

CLIENTS = 25
RESTARTS = 20
TIMEOUT = 5.0


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


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_restarts(kind: str) -> None:
    """Every client comes back after each restart, none twice, and each request is answered or rejected."""
    with Server(kind, application="tests.clients.asgi:application") as server:
        everybody = [Asking(server.url(f"/ask/?client={number}")) for number in range(CLIENTS)]
        for each in everybody:
            await each.client.connect()
        tasks = [asyncio.create_task(each.run()) for each in everybody]
        for restart in range(RESTARTS):
            before = [each.ended["answered"] for each in everybody]
            # Most die without a word; every fifth drains.
            await asyncio.to_thread(server.stop if restart % 5 == 4 else server.kill)
            await asyncio.to_thread(server.start)
            await aeventually(lambda: all(each.client.state is State.OPEN for each in everybody), "all to come back")
            await aeventually(
                lambda before=before: all(
                    each.ended["answered"] > count for each, count in zip(everybody, before, strict=True)
                ),
                "an answer for everybody",
            )
            counted = await everybody[0].client.request(Count())
            assert counted.now == counted.most == {str(number): 1 for number in range(CLIENTS)}
        for each in everybody:
            each.is_done = True
        await asyncio.gather(*tasks)
        for each in everybody:
            await each.client.close()
    total: collections.Counter[str] = collections.Counter()
    for each in everybody:
        assert sum(each.ended.values()) == each.asked
        assert each.longest < TIMEOUT + 1
        total.update(each.ended)
    assert set(total) <= {"answered", "ConnectionLost", "RequestTimeout"}
    assert len(asyncio.all_tasks()) == 1
    note(
        "Requests of 25 clients over 20 restarts", f"{kind}: " + ", ".join(f"{n} {k}" for k, n in sorted(total.items()))
    )
