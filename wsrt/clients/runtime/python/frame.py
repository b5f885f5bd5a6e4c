"""The envelope: what stands in a frame."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic_core import from_json, to_json

from .errors import InvalidFrame

SUBPROTOCOL = "wsrt.v1"

RESERVED = "wsrt."
"""Names of events that begin so are the protocol's own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """
    A decoded frame.

    Attributes:
        event: the name of the event.
        data: as it stands in JSON.
        ref: the request that it answers.
        room: the room, in a publication to exactly one.
        epoch, offset: its place in the room's history, if there is one.
        text: the frame.
    """

    event: str
    data: Any
    ref: str | int | None
    room: str | None
    epoch: str | None
    offset: int | None
    text: str


def decode(text: str) -> Frame:
    """
    Return what stands in a frame.

    Raises:
        InvalidFrame: it is no envelope.
    """
    try:
        found = from_json(text)
    except ValueError as error:
        raise InvalidFrame(f"not JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        raise InvalidFrame("not an envelope")
    room, epoch, offset = found.get("room"), found.get("epoch"), found.get("offset")
    return Frame(
        found["event"],
        found.get("data", {}),
        found.get("ref"),
        room if isinstance(room, str) else None,
        epoch if isinstance(epoch, str) else None,
        offset if isinstance(offset, int) else None,
        text,
    )


def encode(event: str, data: str = "{}", ref: str | int | None = None) -> str:
    """Return a frame; ``data`` is JSON already."""
    beside = "" if ref is None else f',"ref":{to_json(ref).decode()}'
    return f'{{"event":{to_json(event).decode()},"data":{data}{beside}}}'


def size_of(text: str) -> int:
    """Return the length in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
