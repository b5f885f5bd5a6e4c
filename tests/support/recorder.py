"""A consumer that records its calls, and runs a function of the test in its handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import Field

from wsrt import (
    Closed,
    Event,
    RootEvent,
    TypedEventConsumer,
    on,
)
from wsrt.testing import connect


class Number(Event, name="number"):
    value: int = 0


class Text(Event, name="text"):
    text: str = Field(max_length=100)
    note: str | None = None


class Tags(RootEvent[list[str]], name="tags"):
    pass


class Go(Event, name="go"):
    pass


class Undeclared(Event, name="undeclared"):
    pass


class Recorder(TypedEventConsumer):
    """Records what happens; a test gives it what is to be done."""

    namespace = "unit"
    out_events = (Number, Text, Tags)

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.seen: list[Any] = []
        self.todo: Callable[[Any], Any] | None = None

    async def on_disconnect(self, closed: Closed) -> None:
        self.seen.append((closed, self.rooms, self.user_id))

    @on
    async def number(self, event: Number) -> None:
        self.seen.append(event.value)

    @on
    async def go(self, event: Go) -> Number | Text | Tags | None:
        return await self.todo(self) if self.todo else None


async def do(client: Any, todo: Callable[[Any], Any]) -> Any:
    """Have the consumer's handler do something, and return its answer."""
    client.consumer.todo = todo
    return await client.request(Go())


class Gate(Recorder):
    """Waits in on_connect until the test opens the gate."""

    gate: asyncio.Event
    rate = None

    async def on_connect(self) -> None:
        await self.join("lobby")
        await self.send(Text(text="snapshot"))
        await self.gate.wait()
        self.seen.append("connected")


async def enter_gate(application: Any) -> tuple[Any, asyncio.Task[Any]]:
    client = connect(application)
    entering = asyncio.create_task(client.__aenter__())
    while not client._frames:
        await asyncio.sleep(0)
    return client, entering
