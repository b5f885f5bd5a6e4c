"""Types that all packages share: the callables of ASGI, values of the wire protocol, and the limits of a connection."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, TypedDict

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Application = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application. Channels, Starlette and asgiref each have their own types for its arguments."""

Middleware = Callable[[Any], Application]
"""A class or function that takes an ASGI application and returns one that wraps it."""

Ref = str | int
"""The reference by which a client matches an answer to its request. At most 64 characters."""

OnViolation = Literal["auto", "close", "report"]
"""The reaction to an invalid frame. "auto" closes plain clients, and reports an error to ``wsrt.v1`` clients."""

ConnectionLimitPolicy = Literal["refuse", "replace"]
"""What happens to a connection over the limit of its user: it is refused, or the user's oldest one is closed."""

RoomPresence = Literal["visible", "invisible", "off"]
"""
How a connection takes part in the presence of a room.

"visible": the other members see it. "invisible": it isn't a member, but sees the members. "off": it isn't a member, and
sees none.
"""

Overflow = Literal["close", "drop", "latest"]
"""
What happens to an event for a client whose outbox isn't empty.

"close" queues the event, and closes the connection with 1013 if the limits are exceeded. "drop" skips the client.
"latest" replaces the waiting event with the same key.
"""


History = bool | Literal["latest"]
"""
Whether publications of an event are kept for clients that were disconnected.

True keeps the last ones of each room. "latest" keeps the last one for each key.
"""


class FieldError(TypedDict):
    """One entry of ``errors`` in ``wsrt.error``."""

    loc: list[str | int]
    msg: str
    type: str


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """
    The limits of one connection, as defined by its consumer class and the settings when it was opened.

    Times are in seconds, and None switches a limit off. Sizes are in bytes of UTF-8.
    """

    heartbeat: float | None
    heartbeat_timeout: float | None
    setup_timeout: float | None
    max_payload: int
    max_values: int
    inbox_frames: int
    inbox_bytes: int
    outbox_frames: int
    outbox_bytes: int
    outbox_seconds: float
    on_violation: OnViolation
    max_violations: int
    max_rooms: int
    max_tasks: int
    max_connections_per_user: int | None
    connection_limit_policy: ConnectionLimitPolicy
    max_connections_per_address: int | None
    rate: str | None
    rate_burst: int
    rate_bytes: str | None
    fast_path: bool


MAX_EPOCH = 64
"""The maximum number of characters of an epoch."""

MAX_OFFSET = 2**53 - 1
"""The highest offset in the history of a room: the largest integer that every client can represent exactly."""

_POSITION = re.compile(rf"(?P<epoch>[!-9;-~]{{1,{MAX_EPOCH}}}):(?P<offset>[0-9]{{1,16}})")
"""The text of a position. An epoch consists of printable ASCII characters without ":"."""


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """
    A position in the history of a room.

    Attributes:
        epoch: The random id of the room's sequence of publications. It changes when the sequence is lost or starts
            again.
        offset: The number of a publication in the sequence. The first one has the number 1; 0 is the position before
            it.
    """

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """
        Return the position of a text such as "6f1c2e5a9b3d7f80:42", as str() writes it.

        Raises:
            ValueError: The text isn't a position, or its offset is higher than 2**53 - 1.
        """
        found = _POSITION.fullmatch(text)
        if found is None or (offset := int(found["offset"])) > MAX_OFFSET:
            raise ValueError(f"a position is written EPOCH:OFFSET, with an offset from 0 to {MAX_OFFSET}")
        return Position(found["epoch"], offset)

    def as_dict(self) -> dict[str, str | int]:
        """Return ``{"epoch": ..., "offset": ...}``, for JSON and for serializers."""
        return {"epoch": self.epoch, "offset": self.offset}

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


@dataclasses.dataclass(frozen=True, slots=True)
class Publication(Position):
    """The position of a publication in the history of its room."""
