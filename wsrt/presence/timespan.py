"""Spans of time, by a clock that somebody may set back: tests freeze clocks, and thaw them."""

from __future__ import annotations


class TimeSpan:
    """
    A time that begins, and is over after some seconds. It is over, too, when the clock shows a time before it began.

    Args:
        start: when it begins, in seconds of any clock.
        seconds: how long it is.
    """

    __slots__ = ("end", "start")

    def __init__(self, start: float = 0.0, seconds: float = 0.0) -> None:
        self.start = start
        self.end = start + seconds

    def includes(self, now: float) -> bool:
        """Return whether a time is within it."""
        return self.start <= now < self.end

    def left(self, now: float) -> float:
        """Return the number of seconds until its end; 0 where it is over."""
        return self.end - now if self.includes(now) else 0.0
