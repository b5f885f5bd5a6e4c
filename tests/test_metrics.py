"""The counters."""

from __future__ import annotations

import pytest

from wsrt.metrics import WINDOW, Counters, quoted


def test_counts_all_and_logs_once_a_window(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry counts; the log has one line a window, with how many there were (D7)."""
    now = 1000.0
    monkeypatch.setattr("wsrt.metrics.time.monotonic", lambda: now)
    counters = Counters()
    for _ in range(5):
        counters.count("lost", "lost %s", "it")
    counters.count("silent")
    now += WINDOW
    counters.count("lost", "lost %s", "it")
    assert counters.snapshot() == {"lost": 6, "silent": 1}
    assert counters.nonzero(("never", "silent")) == {"silent": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "lost it",
        "lost it (5 times since this was last logged)",
    ]


def test_several_lines_a_window(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter may log several lines a window; the next window says how many there were."""
    now = 1000.0
    monkeypatch.setattr("wsrt.metrics.time.monotonic", lambda: now)
    counters = Counters()
    for number in range(5):
        counters.count("refused", "refused %d", number, lines=2)
        now += 1
    now += WINDOW - 5
    counters.count("refused", "refused %d", 5, lines=2)
    assert [record.getMessage() for record in caplog.records] == [
        "refused 0",
        "refused 1",
        "refused 5 (4 times since this was last logged)",
    ]


def test_forget_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What was forgotten is logged again."""
    counters = Counters()
    for _ in range(2):
        counters.count("lost", "lost")
        counters.forget_logged()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("value", ["\0" * 8000, ValueError("\0" * 8000), ["x" * 8000]])
def test_quoted(value: object) -> None:
    """What comes from outside is quoted in part, whatever becomes an escape; what is short is quoted as it is."""
    assert len(quoted(value)) <= 203
    assert quoted(value).endswith("...")
    assert quoted("a\nb") == "'a\\nb'"
    assert quoted("x" * 198) == repr("x" * 198)
