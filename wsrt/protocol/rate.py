"""The inbound rate: a token bucket. Time is an argument, in seconds of any clock."""

from __future__ import annotations

import re

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_rate(rate: str | None) -> float | None:
    """
    Return frames per second for "50/s", "300/m" or "1000/h"; None for no limit.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if rate is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)/([smh])", rate, re.ASCII)
    if match is None or not float(match[1]):
        raise ValueError(f'a rate is a number above 0 with "/s", "/m" or "/h", such as "50/s", not {rate!r}')
    return float(match[1]) / SECONDS[match[2]]


class TokenBucket:
    """
    Lets ``burst`` frames through at once, and ``rate`` a second in the long run.

    Args:
        rate: tokens a second.
        burst: how many tokens it holds; it begins full.
        now: the time.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
