"""Bursts of publications in one process: from threads and commits, to clients that read slowly or not at all."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from wsrt import Event, TypedEventConsumer, apublish_to_room, on, publish_to_room
from wsrt.cluster import in_process as module
from wsrt.delivery import mailbox
from wsrt.exceptions import BackplaneUnavailable
from wsrt.testing import Client, connect

NAMESPACE = "bursts"
COUNT = 3000


class Number(Event, name="number"):
    n: int


class Both(Event, name="both"):
    pass


class Reader(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Number,)

    async def on_connect(self) -> None:
        await self.join("all")

    @on
    async def both(self, event: Both) -> None:
        await self.publish_to_room("all", Number(n=-1))
        await self.send(Number(n=-2))


class Paced:
    """A consumer below a ``send`` that takes some turns of the loop, or never ends."""

    def __init__(self, turns: int | None) -> None:
        self.turns = turns

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def paced(message: Any) -> None:
            if message["type"] == "websocket.send":
                if self.turns is None:
                    await asyncio.Event().wait()
                for _ in range(self.turns or 0):
                    await asyncio.sleep(0)
            await send(message)

        await Reader()(scope, receive, paced)


async def numbers(client: Client, count: int) -> list[int]:
    return [(await client.receive_json())["data"]["n"] for _ in range(count)]


def publish(count: int) -> None:
    for n in range(count):
        publish_to_room("all", Number(n=n), namespace=NAMESPACE)


@pytest.mark.django_db(transaction=True)
async def test_commit_with_many_publications() -> None:
    """A commit with thousands of publications closes no client that reads, and each gets them in order."""

    def commit() -> None:
        with transaction.atomic():
            publish(COUNT)

    async with connect(Paced(3)) as slow, connect(Reader) as quick:
        await sync_to_async(commit)()
        assert await numbers(quick, COUNT) == list(range(COUNT))
        assert await numbers(slow, COUNT) == list(range(COUNT))


async def test_client_that_does_not_read() -> None:
    """In a burst a client that reads nothing is closed, and the others get everything."""
    async with connect(Paced(None)) as stuck, connect(Reader) as quick:
        await asyncio.to_thread(publish, COUNT)
        assert await numbers(quick, COUNT) == list(range(COUNT))
        # Its close frame would wait behind the frame that it doesn't take.
        await stuck.assert_closed(1006)


async def test_loop_behind_threads() -> None:
    """What the loop itself publishes doesn't overtake what threads published, nor does a direct send overtake that."""
    async with connect(Reader) as client:
        # More than one turn takes, from a thread that is not waited for.
        publishing = asyncio.create_task(asyncio.to_thread(publish, 2000))
        await numbers(client, 1)
        await client.send(Both())
        await publishing
        await apublish_to_room("all", Number(n=-3), namespace=NAMESPACE)
        rest = await numbers(client, 2002)
        assert [n for n in rest if n >= 0] == list(range(1, 2000))
        assert [n for n in rest if n < 0] == [-1, -2, -3]
        assert rest[-1] == -3


async def test_loop_that_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that publishes more than fits into a loop that is busy gets an error, and the process stays bounded."""
    monkeypatch.setattr(module, "ACT_SECONDS", 0.01)
    monkeypatch.setattr(mailbox, "FRAMES", 10)

    def publish_all() -> int:
        for n in range(COUNT):
            try:
                publish_to_room("all", Number(n=n), namespace=NAMESPACE, on_commit=False)
            except BackplaneUnavailable:
                return n
        raise AssertionError("no bound")

    async with connect(Reader) as client:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            # Blocks the loop: nothing is taken until the thread has given up.
            assert pool.submit(publish_all).result(10) == 10
        assert await numbers(client, 11) == list(range(11))
