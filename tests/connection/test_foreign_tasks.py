"""Connections under task factories and middleware of other libraries."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.eager import eager_task_factory
from wsrt import Event, TypedEventConsumer, apublish_to_room, on
from wsrt.testing import connect
from wsrt.types import Message, Receive, Scope, Send

NAMESPACE = "foreign-tasks"


class Number(Event, name="number"):
    n: int


class Say(Event, name="say"):
    n: int


class Slow(Event, name="slow"):
    n: int


class Leave(Event, name="leave"):
    pass


class Numbers(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Number,)

    async def on_connect(self) -> None:
        await self.join("all")
        self.running = self.most = 0

    @on
    async def say(self, event: Say) -> Number:
        return Number(n=event.n)

    @on
    async def slow(self, event: Slow) -> Number:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return Number(n=event.n)

    @on
    async def go_away(self, event: Leave) -> None:
        await self.close(4500, "bye")


@pytest_asyncio.fixture
async def eager() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task_factory)
    yield
    loop.set_task_factory(None)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("event", [Say, Slow])
async def test_eager_task_factory(event: type[Say] | type[Slow]) -> None:
    """Below an eager task factory every request is answered, in order, by one handler at a time."""
    async with connect(Numbers) as client:
        for number in range(5):
            await client.send(event(n=number), ref=str(number))
        answers = [await client.receive_json() for _ in range(5)]
        assert [answer["ref"] for answer in answers] == list("01234")
        assert client.consumer.most <= 1
        await apublish_to_room("all", Number(n=9), namespace=NAMESPACE)
        assert await client.receive(Number) == Number(n=9)
        await client.send(Leave())
        await client.assert_closed(4500)


@pytest.mark.usefixtures("eager")
async def test_eager_task_factory_and_the_end() -> None:
    """Below an eager task factory a connection leaves no task and nothing in the node."""
    async with connect(Numbers):
        pass  # the node's own tasks stay
    before = asyncio.all_tasks()
    async with connect(Numbers) as client:
        await client.request(Say(n=1))
        handler = client.consumer._connection
    assert handler.closed is not None
    assert handler.node.hub.subscribers == {}
    assert not {task for task in asyncio.all_tasks() - before if not task.done()}


owner: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="none")
span: contextvars.ContextVar[str | None] = contextvars.ContextVar("span", default=None)


class Tracing:
    """ASGI middleware that keeps a ContextVar around ``send``, which is slow: what tracing does below back-pressure."""

    def __init__(self, consumer: TypedEventConsumer, name: str) -> None:
        self.consumer = consumer
        self.name = name
        self.owners: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner.set(self.name)

        async def traced(message: Message) -> None:
            self.owners.append(owner.get())
            token = span.set(self.name)
            try:
                for _ in range(3):
                    await asyncio.sleep(0)
                await send(message)
            finally:
                span.reset(token)

        await self.consumer(scope, receive, traced)


@pytest.mark.parametrize("factory", [None, eager_task_factory], ids=["lazy", "eager"])
async def test_middleware_that_keeps_context_variables(factory: Any) -> None:
    """Middleware around send runs in the recipient's context, whatever task publishes, and closes no connection."""
    asyncio.get_running_loop().set_task_factory(factory)
    traces = [Tracing(Numbers(), name) for name in ("ada", "bob")]
    async with connect(traces[0]) as ada, connect(traces[1]) as bob:
        owner.set("publisher")
        for number in range(3):
            await apublish_to_room("all", Number(n=number), namespace=NAMESPACE)
        for client in (ada, bob):
            frames = [await client.receive_json() for _ in range(3)]
            assert [frame["data"]["n"] for frame in frames] == [0, 1, 2]
            await client.assert_silent()
    for trace in traces:
        assert set(trace.owners) == {trace.name}
    assert owner.get() == "publisher"
