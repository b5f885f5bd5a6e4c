"""The heartbeat, without any time passing."""

from __future__ import annotations

import pytest

from wsrt.protocol.heartbeat import Beat, Heartbeat


def test_silence_is_pinged_then_closed() -> None:
    """A silent peer is pinged after the interval and given up after the time-out (S46, S48)."""
    heartbeat = Heartbeat(20, 10, now=0)
    assert heartbeat.tick(19) is Beat.WAIT
    assert heartbeat.tick(20) is Beat.PING
    assert heartbeat.due == 30
    assert heartbeat.tick(29) is Beat.WAIT
    assert heartbeat.tick(30) is Beat.TIMEOUT


def test_any_frame_answers_a_ping() -> None:
    """Whatever was received since the ping is life (S47)."""
    heartbeat = Heartbeat(20, 10, now=0)
    heartbeat.tick(20)
    heartbeat.last_received = 25
    assert heartbeat.tick(30) is Beat.WAIT
    assert heartbeat.due == 40


def test_one_silent_direction_is_enough() -> None:
    """A peer that sends but hears nothing is pinged: it waits for our frames."""
    heartbeat = Heartbeat(20, 10, now=0)
    heartbeat.last_received = 19
    assert heartbeat.tick(20) is Beat.PING


def test_busy_both_ways() -> None:
    """While frames go both ways nothing is pinged."""
    heartbeat = Heartbeat(20, 10, now=0)
    heartbeat.last_received, heartbeat.last_sent = 15, 18
    assert heartbeat.tick(20) is Beat.WAIT
    assert heartbeat.due == 35


def test_late_tick_closes_nobody() -> None:
    """After a standstill of our own, an open ping gets a new time-out (S49)."""
    heartbeat = Heartbeat(20, 10, now=0)
    heartbeat.tick(20)
    assert heartbeat.tick(33) is Beat.WAIT
    assert heartbeat.due == 43
    assert heartbeat.tick(43) is Beat.TIMEOUT


@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0])
def test_jitter_shortens_the_first_interval(jitter: float) -> None:
    """Jitter never lengthens a wait, and is over after the first ping (S48)."""
    heartbeat = Heartbeat(20, 10, now=0, jitter=jitter)
    assert heartbeat.due == 20 - 10 * jitter
    assert heartbeat.tick(heartbeat.due) is Beat.PING
    first = heartbeat.due - 10
    heartbeat.last_received = first + 1
    heartbeat.tick(first + 10)
    assert heartbeat.due == pytest.approx(first + 20)
