"""What goes over the socket."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

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
