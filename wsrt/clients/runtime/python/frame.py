"""Frames: encoding and decoding of events as JSON text."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic_core import from_json, to_json

from .errors import InvalidFrame
from .position import Position, position_of

SUBPROTOCOL = "wsrt.v1"

RESERVED = "wsrt."
"""The prefix of the protocol's own events."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """
    A decoded frame.

    Attributes:
        event: The event's name.
        data: The event's data, as decoded from JSON.
        ref: The reference of the request that the frame answers. None if it isn't an answer.
        room: The room that the event was published to. None if it wasn't published to a single room.
        epoch, offset: The event's position in the room's history. None if the server keeps no history.
        text: The frame's text.
    """

    event: str
    data: Any
    ref: str | int | None
    room: str | None
    epoch: str | None
    offset: int | None
    text: str

    @property
    def position(self) -> Position | None:
        """The event's position in the history of its room. None if there is none."""
        if self.room is None or self.epoch is None or self.offset is None:
            return None
        return Position(self.epoch, self.offset)


def decode(text: str) -> Frame:
    """
    Decode a frame.

    Raises:
        InvalidFrame: The text isn't a JSON object with the name of an event.
    """
    try:
        found = from_json(text)
    except ValueError as error:
        raise InvalidFrame(f"the server sent an invalid frame: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        raise InvalidFrame(f"the server sent an invalid frame: {text:.100}")
    room, position = found.get("room"), position_of(found)
    return Frame(
        found["event"],
        found.get("data", {}),
        found.get("ref"),
        room if isinstance(room, str) else None,
        None if position is None else position.epoch,
        None if position is None else position.offset,
        text,
    )


def encode(event: str, data: str = "{}", ref: str | int | None = None) -> str:
    """Return the text of a frame. ``data`` is JSON text."""
    suffix = "" if ref is None else f',"ref":{to_json(ref).decode()}'
    return f'{{"event":{to_json(event).decode()},"data":{data}{suffix}}}'


def size_of(text: str) -> int:
    """Return the length of a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
