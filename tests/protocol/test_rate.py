"""The token bucket."""

from __future__ import annotations

import pytest

from wsrt.protocol.rate import TokenBucket, parse_byte_rate, parse_event_rate, parse_rate


@pytest.mark.parametrize(("text", "rate"), [("50/s", 50), ("300/m", 5), ("1800/h", 0.5), ("0.5/s", 0.5), (None, None)])
def test_parse(text: str | None, rate: float | None) -> None:
    """Frames a second, minute or hour."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "rate"), [("1M/s", 1_000_000), ("1.5K/s", 1500), ("6K/m", 100), ("200/s", 200), (None, None)]
)
def test_parse_bytes(text: str | None, rate: float | None) -> None:
    """Bytes, thousands or millions of them, a second, minute or hour."""
    assert parse_byte_rate(text) == rate


@pytest.mark.parametrize("text", ["1M", "1G/s", "1m/s", "1 M/s", "M/s", "0K/s", ""])
def test_wrong_bytes(text: str) -> None:
    """Anything else is an error that shows what is right."""
    with pytest.raises(ValueError, match="1M/s"):
        parse_byte_rate(text)


@pytest.mark.parametrize("text", ["50", "50K/s", "50/d", "-1/s", "/s", "0/s", "a/s", "50/s ", "٥/s"])
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


def test_many_tokens() -> None:
    """Tokens are taken together or not at all, and a debt is paid before anything else."""
    bucket = TokenBucket(10, 100, now=0)
    assert [bucket.take(0, 60), bucket.take(0, 60), bucket.take(0, 40)] == [True, False, True]
    bucket.charge(50)
    assert [bucket.take(5), bucket.take(5.2)] == [False, True]


def test_excused_time() -> None:
    """Frames that arrived while the process was suspended pass beyond the burst; then the limit applies again."""
    bucket = TokenBucket(2, 3, now=0)
    assert bucket.take(0, 3)
    bucket.excuse(10)
    assert [bucket.take(0) for _ in range(21)] == [True] * 20 + [False]
    assert [bucket.take(1000) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "expected"), [("2/s", (2, 2)), ("30/m", (0.5, 30)), ("0.5/s", (0.5, 1)), ("90/h", (0.025, 90))]
)
def test_parse_event_rate(text: str, expected: tuple[float, float]) -> None:
    """Of an event, a client may send at once as many as the text says, and at least one."""
    assert parse_event_rate(text) == pytest.approx(expected)
