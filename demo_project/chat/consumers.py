"""The consumer of the chat."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.shortcuts import aget_object_or_404

from demo_project.chat.events import MessageSent, OpenRoom, RoomOpened, SendMessage, StartTyping, Typing, Visitor
from demo_project.chat.models import Message, Room
from demo_project.chat.people import is_member
from wsrt import TypedEventConsumer, broadcast, on


class ChatConsumer(TypedEventConsumer):
    """A visitor's connection to one room."""

    namespace = "chat"
    path = "ws/rooms/<slug:slug>/"
    out_events = (MessageSent, Typing, RoomOpened)
    presence = Visitor

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def authorize_room(self, room: str) -> bool:
        return not self.room.members_only or await sync_to_async(is_member)(self.user)

    async def on_connect(self) -> None:
        self.room = await aget_object_or_404(Room, slug=self.kwargs["slug"])
        await self.join(self.room.slug)

    async def member(self, room: str) -> Visitor:
        return Visitor(name=self.user.first_name)

    @on
    async def send_message(self, event: SendMessage) -> None:
        message = await Message.objects.acreate(
            room=self.room, user=self.user, author=self.user.first_name, text=event.text
        )
        await self.publish_to_room(self.room.slug, MessageSent.model_validate(message))

    @on
    async def start_typing(self, event: StartTyping) -> None:
        await self.publish_to_others(self.room.slug, Typing(author=self.user.first_name))

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
