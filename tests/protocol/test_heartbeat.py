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
    heartbeat.receive(25)
    assert heartbeat.tick(30) is Beat.WAIT
    assert heartbeat.due == 40


def test_answer_at_the_time_of_the_ping() -> None:
    """An answer counts when the clock reads the same as at the ping: clocks are coarse, and order is what matters."""
    heartbeat = Heartbeat(20, 10, now=0)
    assert heartbeat.tick(20) is Beat.PING
    heartbeat.receive(20)
    assert heartbeat.tick(30) is Beat.WAIT
    assert heartbeat.tick(40) is Beat.PING


def test_frame_at_the_time_of_the_ping_but_before_it() -> None:
    """What was received before a ping does not answer it, even if the clock reads the same."""
    heartbeat = Heartbeat(20, 10, now=0)
    heartbeat.receive(20)
    assert heartbeat.tick(20) is Beat.PING
    assert heartbeat.tick(30) is Beat.TIMEOUT


def test_timeout_longer_than_the_interval() -> None:
    """A ping is due an interval after the last answer, however long an answer may take."""
    heartbeat = Heartbeat(5, 12, now=0)
    assert heartbeat.tick(5) is Beat.PING
    heartbeat.receive(6)
    assert heartbeat.due == 10
    assert heartbeat.tick(10) is Beat.PING
    assert heartbeat.due == 15
    assert heartbeat.tick(15) is Beat.WAIT
    assert heartbeat.tick(20) is Beat.WAIT
    assert heartbeat.tick(22) is Beat.TIMEOUT


def test_one_silent_direction_is_enough() -> None:
    """A peer that sends but hears nothing is pinged: it waits for our frames."""
    heartbeat = Heartbeat(20, 10, now=0)
    heartbeat.receive(19)
    assert heartbeat.tick(20) is Beat.PING


def test_busy_both_ways() -> None:
    """While frames go both ways nothing is pinged."""
    heartbeat = Heartbeat(20, 10, now=0)
    heartbeat.receive(15)
    heartbeat.last_sent = 18
    assert heartbeat.tick(20) is Beat.WAIT
    assert heartbeat.due == 35


@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0])
def test_jitter_shortens_the_first_interval(jitter: float) -> None:
    """Jitter never lengthens a wait, and is over after the first ping (S48)."""
    heartbeat = Heartbeat(20, 10, now=0, jitter=jitter)
    assert heartbeat.due == 20 - 10 * jitter
    assert heartbeat.tick(heartbeat.due) is Beat.PING
    first = heartbeat.due - 10
    heartbeat.receive(first + 1)
    heartbeat.tick(first + 10)
    assert heartbeat.due == pytest.approx(first + 20)
