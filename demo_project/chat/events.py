"""What goes over the socket."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from wsrt import Event


class SendMessage(Event, name="message.send"):
    """A client says something."""

    text: str = Field(min_length=1, max_length=2000)


class MessageSent(Event, name="message.sent"):
    """Somebody said something; made from a row of the database."""

    id: int
    author: str
    text: str
    is_announcement: bool
    sent_at: datetime


class StartTyping(Event, name="typing.start"):
    """A client is writing."""


class Typing(Event, name="typing", overflow="drop"):
    """Somebody is writing. Whoever is behind can do without."""

    author: str


class OpenRoom(Event, name="room.open"):
    """A client opens a room, by a form."""

    name: str = Field(min_length=2, max_length=50)
    slug: str
    topic: str = Field(max_length=100)
    members_only: bool = False


class RoomOpened(Event, name="room.opened"):
    """There is a new room."""

    name: str
    slug: str
    topic: str
    members_only: bool


class Visitor(BaseModel):
    """What those in a room see of each other."""

    name: str
