from __future__ import annotations

from pydantic import BaseModel, Field

from wsrt import Event


class MoveCursor(Event, name="cursor.move"):
    """Sent by a client when its pointer moves. Positions are fractions of the board, so that screens may differ."""

    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)


class CursorMoved(Event, name="cursor.moved", overflow="latest", key="user_id"):
    """The pointer of another user has moved. A client that is behind receives only the latest position of each user."""

    user_id: str
    x: float
    y: float


class Person(BaseModel):
    """The data that people on a board see about each other."""

    name: str
