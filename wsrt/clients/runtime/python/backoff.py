"""The delays between attempts to connect: random, in a window that grows with each attempt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from .options import Timings
from .reconnect import Reconnect
from .state import Reason


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
