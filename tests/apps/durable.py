"""A consumer whose rooms get durable publications, with history and without. tests.apps.durable_asgi serves it."""

from __future__ import annotations

from wsrt import Event, TypedEventConsumer, on


class Kept(Event, name="kept", history=True):
    text: str


class Passing(Event, name="passing"):
    text: str


class Ping(Event, name="ping"):
    pass


class DurableConsumer(TypedEventConsumer):
    """Joins the room that the path names."""

    namespace = "durable"
    out_events = (Kept, Passing)

    async def on_connect(self) -> None:
        await self.join(self.kwargs["room"])

    @on
    async def ping(self, event: Ping) -> None:
        """Answer that the connection has joined."""
