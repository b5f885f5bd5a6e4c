"""The chat."""

from __future__ import annotations

from django.shortcuts import aget_object_or_404

from demo_project.chat.events import MessageSent, SendMessage, StartTyping, Typing
from demo_project.chat.models import Message, Room
from demo_project.chat.people import is_member
from wsrt import TypedEventConsumer, on


class ChatConsumer(TypedEventConsumer):
    """One visitor in one room."""

    namespace = "chat"
    out_events = (MessageSent, Typing)

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def authorize_room(self, room: str) -> bool:
        return not self.room.members_only or await is_member(self.user)

    async def on_connect(self) -> None:
        self.room = await aget_object_or_404(Room, slug=self.kwargs["slug"])
        await self.join(self.room.slug)

    @on
    async def send_message(self, event: SendMessage) -> None:
        message = await Message.objects.acreate(
            room=self.room, user=self.user, author=self.user.first_name, text=event.text
        )
        await self.publish_to_room(self.room.slug, MessageSent.model_validate(message))

    @on
    async def start_typing(self, event: StartTyping) -> None:
        await self.publish_to_others(self.room.slug, Typing(author=self.user.first_name))
