"""Positions in the history of a room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

MAX_OFFSET = 2**53 - 1
"""The highest offset, which every client can represent exactly."""


class Position(NamedTuple):
    """
    A place in the history of a room.

    Attributes:
        epoch: The id of the room's sequence of publications.
        offset: The number of the publication in it.
    """

    epoch: str
    offset: int


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a value is a number of things, exactly."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OFFSET


def position_of(data: Mapping[str, Any]) -> Position | None:
    """Return the position in an object. None if it has none. An offset without an epoch isn't a position."""
    epoch, offset = data.get("epoch"), data.get("offset")
    return Position(epoch, offset) if isinstance(epoch, str) and is_count(offset) else None
