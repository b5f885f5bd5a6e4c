"""The consumer of the chat."""

from __future__ import annotations

import asyncio

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.shortcuts import aget_object_or_404

from demo_project.backstage.events import BeSlow, ServedBy, Tick
from demo_project.backstage.middleware import slow_down
from demo_project.backstage.servers import serving
from demo_project.chat.events import (
    CatchUp,
    MessageSent,
    Missed,
    OpenRoom,
    RoomActive,
    RoomOpened,
    SendMessage,
    StartTyping,
    Typing,
    Visitor,
)
from demo_project.chat.models import ACTIVITY, Message, Room
from demo_project.chat.people import is_member, may_read
from wsrt import RoomPresence, TypedEventConsumer, broadcast, on
from wsrt.addresses import Connection

PAGE = 50
"""The number of messages in one answer to a client that catches up."""


class ChatConsumer(TypedEventConsumer[User]):
    """A visitor's connection to one room."""

    namespace = "chat"
    path = "ws/rooms/<slug:slug>/"
    out_events = (MessageSent, Typing, RoomOpened, RoomActive, ServedBy, Tick)
    presence = Visitor

    async def on_connect(self) -> None:
        self.room = await aget_object_or_404(Room, slug=self.kwargs["slug"])
        await self.send(serving(self.scope))
        await self.join(self.room.slug)

    async def authorize_room(self, room: str) -> bool:
        return await may_read(self.user, room.removeprefix(ACTIVITY))

    @on
    async def send_message(self, event: SendMessage) -> None:
        message = await Message.objects.acreate(
            room=self.room, user=self.user, author=self.user.first_name, text=event.text
        )
        await self.publish_to_room(self.room.slug, MessageSent.model_validate(message))
        await self.publish_to_room(f"{ACTIVITY}{self.room.slug}", RoomActive(slug=self.room.slug))

    # These were the lines that the page shows. The rest of the demo follows.

    # A slow client is soon behind, and the middleware that makes it slow sees every frame.
    outbox_frames = 20
    fast_path = False

    # The list of rooms shows where something was said. Each page subscribes to the activity of the other rooms.
    subscriptions = (f"{ACTIVITY}<slug:slug>",)

    async def room_presence(self, room: str) -> RoomPresence:
        return "off" if room.startswith(ACTIVITY) else "visible"

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def member(self, room: str) -> Visitor:
        return Visitor(name=self.user.first_name, server=serving(self.scope).name)

    @on
    async def catch_up(self, event: CatchUp) -> Missed:
        after = Message.objects.filter(room=self.room, pk__gt=event.after)[: PAGE + 1]
        found = [MessageSent.model_validate(message) async for message in after]
        return Missed(messages=found[:PAGE], has_more=len(found) > PAGE)

    @on
    async def start_typing(self, event: StartTyping) -> None:
        typing = Typing(user_id=self.user.pk, author=self.user.first_name)
        await self.publish_to_others(self.room.slug, typing)

    @on
    def open_room(self, event: OpenRoom) -> RoomOpened:
        # A ValidationError is sent back as the answer; its field names are those of the form.
        if event.members_only and not is_member(self.user):
            raise ValidationError({"members_only": "Only members can open a members' room."})
        room = Room(**event.model_dump())
        room.full_clean()
        room.save()
        opened = RoomOpened.model_validate(room)
        broadcast(opened, namespace="chat")
        return opened

    @on
    async def be_slow(self, event: BeSlow) -> None:
        slow_down(self.scope)
        for number in range(1, 2 * self.outbox_frames + 1):
            await self.publish_to_audience(Connection(self.id), Tick(number=number))
            await asyncio.sleep(0.05)
