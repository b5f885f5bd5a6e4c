"""Rate limits for inbound frames: token buckets, and the parsing of rates. Time is an argument, in seconds."""

from __future__ import annotations

import re

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
UNITS = {"": 1, "K": 1_000, "M": 1_000_000}


def parse_rate(rate: str | None) -> float | None:
    """
    Return the number of frames per second for a text such as "50/s", "300/m" or "1000/h"; None for None.

    Raises:
        ValueError: The text is not a rate.
    """
    return _parse(rate, ("",), "50/s")


def parse_event_rate(rate: str) -> tuple[float, float]:
    """
    Return the events per second for a text such as "2/s" or "10/m", and how many a client may send at once.

    A client may send the number in the text at once: 10 for "10/m".

    Raises:
        ValueError: The text is not a rate.
    """
    per_second = _parse(rate, ("",), "2/s")
    if per_second is None:
        raise ValueError("a rate must not be None")
    return per_second, max(1.0, per_second * SECONDS[rate[-1]])


def parse_byte_rate(rate: str | None) -> float | None:
    """
    Return the number of bytes per second for a text such as "1M/s", "500K/s" or "10M/m"; None for None.

    K means 1,000 and M means 1,000,000.

    Raises:
        ValueError: The text is not a rate.
    """
    return _parse(rate, ("", "K", "M"), "1M/s")


def _parse(rate: str | None, units: tuple[str, ...], example: str) -> float | None:
    if rate is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KM]?)/([smh])", rate, re.ASCII)
    if match is None or not float(match[1]) or match[2] not in units:
        number = "a number above 0, perhaps with K or M," if len(units) > 1 else "a number above 0"
        raise ValueError(f'a rate is {number} with "/s", "/m" or "/h", such as "{example}", not {rate!r}')
    return float(match[1]) * UNITS[match[2]] / SECONDS[match[3]]


class TokenBucket:
    """
    A token bucket: allows a burst at once, and ``rate`` tokens per second in the long run.

    Args:
        rate: The tokens per second.
        burst: The maximum number of tokens in the bucket, which starts full.
        now: The current time, in seconds.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take tokens, and return True; if there aren't enough, take none, and return False."""
        # Tokens that excuse() has added beyond the burst stay until they are taken.
        self._tokens = max(self._tokens, min(self._burst, self._tokens + (now - self._at) * self._rate))
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def excuse(self, seconds: float) -> None:
        """Add the tokens for a time during which the process was blocked. The frames of that time arrive at once."""
        self._tokens += seconds * self._rate

    def charge(self, tokens: float) -> None:
        """Take tokens even if there aren't enough. The number of tokens may become negative."""
        self._tokens -= tokens
