"""Announcements, which a view and a management command publish."""

from __future__ import annotations

from django.db import transaction

from demo_project.chat.events import MessageSent, RoomActive
from demo_project.chat.models import ACTIVITY, Message, Room
from wsrt import publish_to_room


def announce(room: Room, author: str, text: str) -> Message:
    """Store an announcement, and publish it when the transaction commits."""
    with transaction.atomic():
        message = Message.objects.create(room=room, author=author, text=text, is_announcement=True)
        publish_to_room(room.slug, MessageSent.model_validate(message), namespace="chat")
        publish_to_room(f"{ACTIVITY}{room.slug}", RoomActive(slug=room.slug), namespace="chat")
    return message
