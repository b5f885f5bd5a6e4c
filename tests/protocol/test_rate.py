"""The token bucket."""

from __future__ import annotations

import pytest

from wsrt.protocol.rate import TokenBucket, parse_rate


@pytest.mark.parametrize(("text", "rate"), [("50/s", 50), ("300/m", 5), ("1800/h", 0.5), ("0.5/s", 0.5), (None, None)])
def test_parse(text: str | None, rate: float | None) -> None:
    """Frames a second, minute or hour."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["50", "50/d", "-1/s", "/s", "0/s", "a/s", "50/s ", "٥/s"])
def test_wrong(text: str) -> None:
    """Anything else is an error that shows what is right."""
    with pytest.raises(ValueError, match="50/s"):
        parse_rate(text)


def test_burst_then_rate() -> None:
    """A burst passes, then as much as time allows, never more than the burst."""
    bucket = TokenBucket(2, 3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(1000) for _ in range(4)] == [True, True, True, False]
