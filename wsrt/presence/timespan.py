"""Spans of time on a clock that may be set back, as tests do that freeze and unfreeze it."""

from __future__ import annotations


class TimeSpan:
    """
    A span of time. It doesn't include times before its start, so it also ends when the clock is set back.

    Args:
        start: The start, in seconds of any clock.
        seconds: The length in seconds.
    """

    __slots__ = ("end", "start")

    def __init__(self, start: float = 0.0, seconds: float = 0.0) -> None:
        self.start = start
        self.end = start + seconds

    def includes(self, now: float) -> bool:
        """Return whether the time ``now`` is within the span."""
        return self.start <= now < self.end

    def left(self, now: float) -> float:
        """Return the number of seconds until the end of the span, or 0 if ``now`` isn't within it."""
        return self.end - now if self.includes(now) else 0.0
