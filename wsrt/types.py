"""Types shared by all floors: what ASGI calls us with, what stands on the wire, the limits of one connection."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, TypedDict

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Ref = str | int
"""What a client marks a request with; the answer carries it. At most 64 characters."""

OnViolation = Literal["auto", "close", "report"]
"""What an invalid frame costs: "auto" closes plain clients and reports to ``wsrt.v1`` clients."""

Overflow = Literal["close", "drop", "latest"]
"""What happens to an event for a client that is behind: close 1013, skip it, or replace the waiting one."""


class FieldError(TypedDict):
    """One entry of ``errors`` in ``wsrt.error``."""

    loc: list[str | int]
    msg: str
    type: str


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """
    The limits of one connection, as its consumer class and the settings had them when it was opened.

    Times are seconds, None switches off; sizes are bytes of UTF-8.
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
    rate: str | None
    rate_burst: int
    rate_bytes: str | None
    fast_path: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Publication:
    """Where a publication stands in the history of its room."""

    epoch: str
    offset: int
