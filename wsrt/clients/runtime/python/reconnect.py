"""Policy: whether to come back after a connection, and when. No clock, no loop."""

from __future__ import annotations

import enum

from .close_codes import CLOSE_CODES


class Reconnect(enum.Enum):
    """What to do after a close."""

    NEVER = "never"
    BACKOFF = "backoff"
    SPREAD = "spread"  # over the window that the server hinted
    AUTH = "auth"  # refresh the credentials first
    LATER = "later"


OUTDATED = frozenset({1007, 1008, 4007, 4008})
"""Codes by which a server refuses what it does not know. It knew it when this client was generated, and may again."""


def reconnect_for(code: int | None, text: str = "", *, outdated: bool = False) -> Reconnect:
    """Return what to do after this code and reason, also after codes that are not in the table."""
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
