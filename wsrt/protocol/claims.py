"""The claims of ``wsrt.resume``: the last position that a client has in the history of each of its rooms."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from ..types import MAX_EPOCH, MAX_OFFSET, Position


class Claims(dict[str, Position]):
    """
    The claims of one client, by room.

    Attributes:
        refused: The number of claims that aren't valid, or are too many.
    """

    refused: int = 0


def read_claims(frame: str | bytes, most: int) -> Claims:
    """
    Return the claims of a ``wsrt.resume`` frame. Invalid claims are left out and counted.

    Args:
        frame: The frame, which is an envelope.
        most: The maximum number of claims. Further ones are refused.
    """
    claims = Claims()
    # The envelope was read already, so this is an object.
    data = from_json(frame).get("data", {})
    if not isinstance(data, dict):
        claims.refused = 1
        return claims
    for room, value in data.items():
        position = _position(value) if len(claims) < most else None
        if position is None:
            claims.refused += 1
        else:
            claims[room] = position
    return claims


def _position(value: Any) -> Position | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    epoch, offset = value
    if not isinstance(epoch, str) or not 0 < len(epoch) <= MAX_EPOCH:
        return None
    if type(offset) is not int or not 0 <= offset <= MAX_OFFSET:
        return None
    return Position(epoch, offset)
