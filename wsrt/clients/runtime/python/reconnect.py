"""Policy: whether to come back after a connection, and when. No clock, no loop."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from .close_codes import CLOSE_CODES
from .state import Reason


class Reconnect(enum.Enum):
    """What to do after a close."""

    NEVER = "never"
    BACKOFF = "backoff"
    SPREAD = "spread"  # over the window that the server hinted
    AUTH = "auth"  # refresh the credentials first
    LATER = "later"


OUTDATED = frozenset({1007, 1008, 4007, 4008})
"""Codes by which a server refuses what it does not know. It knew it when this client was generated, and may again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """
    Seconds.

    Attributes:
        base, cap, minimum: a retry comes after ``minimum + random(0, min(cap, base * 2 ** (attempt - 1)))``.
        jump: after an open connection was lost, the first retry comes after ``random(0, jump)``.
        later: is added where the server says that there were too many.
        spread: the window after a shutdown that hinted none.
        stable: how long a connection must be open until attempts count from 1 again.
        connect: from dialing to an open socket.
        hello: from an open socket to the server's hello.
        dead_after: silence after which a link is dead; None for what the server's hello says.
        idle: silence after which a server that sends no pings of its own gets one.
        probe: how long a ping of ours may stay unanswered.
        close: how long a server may take to answer a close.
    """

    base: float = 0.5
    cap: float = 20.0
    minimum: float = 0.2
    jump: float = 0.5
    later: float = 5.0
    spread: float = 5.0
    stable: float = 10.0
    connect: float = 5.0
    hello: float = 15.0
    dead_after: float | None = None
    idle: float = 25.0
    probe: float = 3.0
    close: float = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """
    How a connection, or the attempt at one, ended.

    Attributes:
        open_for: seconds from the server's hello; None if there was none.
        retry_after: seconds that the server asked for, by ``wsrt.closing``.
    """

    reason: Reason
    open_for: float | None = None
    retry_after: float | None = None


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


class Backoff:
    """
    Counts attempts, and says when the next one is due.

    Jitter is full and applied after the cap: a crowd that lost its server stays spread however long it is away.
    """

    def __init__(self, timings: Timings, random: Callable[[], float]) -> None:
        self._timings = timings
        self._random = random
        # The number of the retry that was scheduled last; 0 while there was none.
        self.attempt = 0

    def reset(self) -> None:
        """Let attempts count from 1 again."""
        self.attempt = 0

    def after(self, ending: Ending, reconnect: Reconnect) -> float:
        """Count an attempt; return after how many seconds it is due."""
        timings = self._timings
        if ending.open_for is not None and ending.open_for >= timings.stable:
            self.reset()
        self.attempt += 1
        is_lost = ending.open_for is not None and ending.reason.kind in {"network", "dead"}
        if ending.retry_after is not None and reconnect is not Reconnect.AUTH:
            # The server has spread its clients itself.
            return ending.retry_after
        if is_lost and self.attempt == 1:
            return self._random() * timings.jump
        if reconnect is Reconnect.SPREAD:
            return timings.minimum + self._random() * max(timings.spread, self._window)
        return self.delay() + (timings.later if reconnect is Reconnect.LATER else 0)

    def delay(self) -> float:
        """Return the random delay of the current attempt."""
        return self._timings.minimum + self._random() * self._window

    @property
    def _window(self) -> float:
        # The exponent is bounded: after a week a float would overflow.
        return min(self._timings.cap, self._timings.base * 2.0 ** min(self.attempt - 1, 60))
