"""The events of the chat."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from wsrt import Event


class SendMessage(Event, name="message.send"):
    """Sent by a client to post a message."""

    text: str = Field(min_length=1, max_length=2000)


class MessageSent(Event, name="message.sent", history=True):
    """A message in the room, built from a database row."""

    id: int
    user_id: int | None
    author: str
    text: str
    is_announcement: bool
    sent_at: datetime


class CatchUp(Event, name="message.catch_up"):
    """Sent by a client that was away for longer than the history keeps, to get the messages after its last one."""

    after: int = Field(ge=0)


class Missed(Event, name="message.missed"):
    """The answer to CatchUp. If there are more messages, the client asks again."""

    messages: list[MessageSent]
    has_more: bool


class StartTyping(Event, name="typing.start"):
    """Sent by a client while its user types."""


class Typing(Event, name="typing", overflow="drop"):
    """A user is typing. Dropped for clients that read too slowly."""

    user_id: int
    author: str


class OpenRoom(Event, name="room.open"):
    """Sent by a client to create a room, with the fields of the form."""

    name: str = Field(min_length=2, max_length=50)
    slug: str
    topic: str = Field(max_length=100)
    members_only: bool = False


class RoomOpened(Event, name="room.opened"):
    """A room was created."""

    name: str
    slug: str
    topic: str
    members_only: bool


class RoomActive(Event, name="room.active", overflow="drop"):
    """Something was said in a room. For pages that show another room."""

    slug: str


class Visitor(BaseModel):
    """The data that members of a room see about each other."""

    name: str
    server: str
