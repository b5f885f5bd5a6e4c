"""What a client does after a close, by close code and reason."""

from __future__ import annotations

import enum

from .close_codes import CLOSE_CODES


class Reconnect(enum.Enum):
    """What the client does after a close."""

    NEVER = "never"
    BACKOFF = "backoff"
    SPREAD = "spread"  # at a random time within a window
    AUTH = "auth"  # with new credentials
    LATER = "later"  # with backoff, after 5 s or more


OUTDATED = frozenset({1007, 1008, 4007, 4008})
"""Codes of a server that rejects an unknown event or unexpected data. After a deploy, another server may accept it."""


def reconnect_for(code: int | None, text: str = "", *, outdated: bool = False) -> Reconnect:
    """
    Return the reconnect policy after a close, also for codes that are not in the table.

    Args:
        code: The close code, or None if there was no close frame.
        text: The reason in the close frame.
        outdated: Whether the server's events differ from the client's. The client then also reconnects after codes
            that usually mean that it sent something invalid.
    """
    if outdated and code in OUTDATED:
        return Reconnect.BACKOFF
    found: str | None = None
    for known, fallback, reason, reconnect in CLOSE_CODES:
        if code in (known, fallback):
            if reason == text:
                return Reconnect(reconnect)
            found = found or reconnect
    if found is not None:
        return Reconnect(found)
    if code is not None and (code in {1002, 1003, 1010} or 4750 <= code <= 4999):
        return Reconnect.NEVER
    return Reconnect.BACKOFF
