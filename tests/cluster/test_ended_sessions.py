"""The sessions that were logged out a short time ago."""

from __future__ import annotations

from wsrt.cluster.ended_sessions import MAX_REMEMBERED, REMEMBERED_SECONDS, EndedSessions
from wsrt.metrics import counters


def test_forgotten_after_a_while() -> None:
    """A session is remembered by each of its hashes, for as long as a handshake may take since it read the session."""
    now = 0.0
    ended = EndedSessions(lambda: now)
    ended.add(["old", "new"])
    assert ended.includes(["new"])
    assert ended.includes(["another", "old"])
    assert not ended.includes([])
    assert not ended.includes(["another"])
    now = REMEMBERED_SECONDS / 2
    ended.add(["old"])
    now = REMEMBERED_SECONDS
    assert not ended.includes(["new"])
    assert ended.includes(["old"])
    now *= 2
    ended.add(["another"])
    assert len(ended) == 1


def test_bounded() -> None:
    """No more than MAX_REMEMBERED are remembered. The oldest are forgotten, and counted."""
    before = counters["ended_sessions_forgotten"]
    ended = EndedSessions(lambda: 0.0)
    for number in range(MAX_REMEMBERED + 2):
        ended.add([str(number)])
    assert len(ended) == MAX_REMEMBERED
    assert not ended.includes(["0", "1"])
    assert ended.includes(["2"])
    assert counters["ended_sessions_forgotten"] == before + 2
