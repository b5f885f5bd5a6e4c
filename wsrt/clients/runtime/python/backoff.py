"""The delays between attempts to connect: random, within a window that grows with each attempt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from .options import Timings
from .reconnect import Reconnect
from .state import Reason


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """
    The end of a connection, or of an attempt to connect.

    Attributes:
        reason: Why it ended.
        open_for: Seconds since the server's hello. None if there was no hello.
        retry_after: The delay in seconds that the server asked for in ``wsrt.closing``.
        later: What is added to the delay, in seconds.
    """

    reason: Reason
    open_for: float | None = None
    retry_after: float | None = None
    later: float = 0


class Backoff:
    """
    The number of attempts, and the delay before the next one.

    It uses full jitter, applied after the cap, so that clients that lost their server stay spread out however long it
    is unavailable.

    Args:
        timings: The options that determine the delays, in seconds.
        random: A function that returns a random number from 0 to 1.
    """

    def __init__(self, timings: Timings, random: Callable[[], float]) -> None:
        self._timings = timings
        self._random = random
        # The number of the latest scheduled retry; 0 if there was none.
        self.attempt = 0

    def reset(self) -> None:
        """Count attempts from 1 again."""
        self.attempt = 0

    def after(self, ending: Ending, reconnect: Reconnect) -> float:
        """Count an attempt and return the delay before it, in seconds."""
        timings = self._timings
        if ending.open_for is not None and ending.open_for >= timings.stable:
            self.reset()
        self.attempt += 1
        is_lost = ending.open_for is not None and ending.reason.kind in {"network", "dead"}
        if ending.retry_after is not None and reconnect is not Reconnect.AUTH:
            # The server has already spread its clients over a window.
            return ending.retry_after
        if is_lost and self.attempt == 1:
            return self._random() * timings.jump
        if reconnect is Reconnect.SPREAD:
            return timings.minimum + self._random() * max(timings.spread, self._window)
        return self.delay() + (timings.later if reconnect is Reconnect.LATER else ending.later)

    def delay(self) -> float:
        """Return the random delay of the current attempt."""
        return self._timings.minimum + self._random() * self._window

    @property
    def _window(self) -> float:
        # Limit the exponent: after a week of attempts the float would overflow.
        return min(self._timings.cap, self._timings.base * 2.0 ** min(self.attempt - 1, 60))
