"""Consumers of the test application."""

from __future__ import annotations

import asyncio
import collections
import sys
from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.core.exceptions import PermissionDenied
from django.http import Http404
from pydantic import BaseModel

from tests.apps.chat.events import (
    Burst,
    Bye,
    Crash,
    Draw,
    Echo,
    Echoed,
    Join,
    Kick,
    Large,
    Leave,
    Linger,
    Login,
    Look,
    Price,
    Rename,
    Said,
    Say,
    Slow,
    Typing,
    Whisper,
)
from wsrt import Closed, Refused, TypedEventConsumer, adisconnect, on, on_layer
from wsrt import addresses as to

hooks: collections.deque[tuple[str, Any]] = collections.deque(maxlen=2_000)
"""What hooks were called last, for tests in the same process and for the stats view."""


class ChatConsumer(TypedEventConsumer):
    """Does what it is asked; the query string says how its set-up goes."""

    namespace = "chat"
    out_events = (Said, Echoed, Typing, Price)

    async def authorize(self) -> bool:
        match self.query.get("authorize"):
            case "no":
                return False
            case "denied":
                raise PermissionDenied
            case "slow":
                await asyncio.sleep(60)
            case "error":
                raise RuntimeError("authorize failed")
        return True

    async def authorize_room(self, room: str) -> bool:
        # With "once" a room may be joined, and not kept when it is asked for again.
        return not room.startswith("secret") and not (self.query.get("rooms") == "once" and room in self.rooms)

    async def on_connect(self) -> None:
        hooks.append(("on_connect", self.id))
        match self.query.get("connect"):
            case "missing":
                raise Http404
            case "denied":
                raise PermissionDenied
            case "error":
                raise RuntimeError("on_connect failed")
            case "slow":
                await asyncio.sleep(60)
        if user := self.query.get("user"):
            await self.set_user_id(user)
        if room := self.kwargs.get("room"):
            await self.join(room)

    async def on_disconnect(self, closed: Closed) -> None:
        hooks.append(("on_disconnect", closed))
        sys.stdout.write(f"disconnected {(closed.code, closed.reason, closed.by)}\n")

    @on
    async def join_room(self, event: Join) -> None:
        await self.join(event.room)

    @on
    async def leave_room(self, event: Leave) -> None:
        await self.leave(event.room)

    @on
    async def say(self, event: Say) -> None:
        await self.publish_to_room(event.room, Said(text=event.text))

    @on
    async def whisper(self, event: Whisper) -> None:
        await self.publish_to_user(event.user, Said(text=event.text))

    @on
    async def login(self, event: Login) -> None:
        await self.set_user_id(event.user)

    @on
    async def echo(self, event: Echo) -> Echoed:
        return Echoed(value=event.value)

    @on
    async def draw(self, event: Draw) -> None: ...

    @on
    async def burst(self, event: Burst) -> None:
        for number in range(event.count):
            said = Said(text=f"{number}".ljust(event.size, "."))
            if event.room is None:
                await self.send(said)
            else:
                await self.publish_to_room(event.room, said)

    @on
    async def slow(self, event: Slow) -> Echoed:
        await asyncio.sleep(event.seconds)
        return Echoed(value="slow")

    @on(concurrent=2)
    async def look(self, event: Look) -> Echoed:
        await asyncio.sleep(event.seconds)
        return Echoed(value="looked")

    @on
    async def linger(self, event: Linger) -> None:
        self.create_task(self.lingering(event.seconds))

    async def lingering(self, seconds: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(seconds)
            sys.stdout.write("lingered\n")

    @on
    async def crash(self, event: Crash) -> None:
        match event.kind:
            case "error":
                raise RuntimeError("the handler failed")
            case "cancel":
                raise asyncio.CancelledError
            case "refused":
                raise Refused("teapot", "I am a teapot")

    @on
    async def bye(self, event: Bye) -> None:
        await self.send(Said(text="bye"))
        await self.close(event.code, event.reason)

    @on
    async def large(self, event: Large) -> None:
        await self.send(Said(text="x" * event.size))

    @on
    async def kick(self, event: Kick) -> None:
        await adisconnect(to.User(event.user), namespace="chat")

    @on
    async def typing(self, event: Typing) -> None:
        await self.broadcast(event)

    @on
    async def price(self, event: Price) -> None:
        await self.broadcast(event)


class Card(BaseModel):
    """What members of a room see of each other."""

    name: str


class HereConsumer(TypedEventConsumer):
    """Shows who is in its room."""

    namespace = "here"
    presence = Card
    name = ""

    async def on_connect(self) -> None:
        if user := self.query.get("user"):
            await self.set_user_id(user)
        self.name = self.query.get("name", "")
        await self.join(self.kwargs["room"])

    async def member(self, room: str) -> Card | None:
        return Card(name=self.name) if self.name else None

    async def on_presence_join(self, user: str | None, room: str) -> None:
        hooks.append(("on_presence_join", f"{user} {room}"))

    async def on_presence_leave(self, user: str | None, room: str) -> None:
        hooks.append(("on_presence_leave", f"{user} {room}"))

    @on
    async def rename(self, event: Rename) -> None:
        self.name = event.name
        await self.join(self.kwargs["room"])

    @on
    async def login(self, event: Login) -> None:
        await self.set_user_id(event.user)

    @on
    async def join_room(self, event: Join) -> None:
        await self.join(event.room)

    @on
    async def leave_room(self, event: Leave) -> None:
        await self.leave(event.room)


class QuietConsumer(TypedEventConsumer):
    """Is in the rooms of HereConsumer, and says nothing of its users."""

    namespace = "here"

    async def on_connect(self) -> None:
        await self.set_user_id(self.query["user"])
        await self.join(self.kwargs["room"])


class UnmannedConsumer(TypedEventConsumer):
    """Refuses, in a scope that may have no user."""

    namespace = "unmanned"

    async def authorize(self) -> bool:
        return False


class LayerConsumer(TypedEventConsumer):
    """Takes messages that are sent through the layer by hand."""

    namespace = "layer"
    out_events = (Said,)

    async def on_connect(self) -> None:
        await self.channel_layer.group_add("by-hand", self.channel_name)

    @on_layer("chat.message")
    async def chat_message(self, message: dict[str, Any]) -> None:
        await self.send(Said(text=message["text"]))


class PlainConsumer(AsyncJsonWebsocketConsumer):
    """An ordinary consumer of Channels, beside ours."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("by-hand", self.channel_name)
        await self.accept()

    async def receive_json(self, content: Any) -> None:
        await self.channel_layer.group_send("by-hand", {"type": "chat.message", "text": content["text"]})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"plain": event["text"]})
