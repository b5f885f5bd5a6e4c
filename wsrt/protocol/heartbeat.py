"""
The heartbeat of one connection: when to ping, when to give up.

Time is an argument, in seconds of a clock that doesn't advance while the process stands still: a peer is not to
blame for what was not read.
"""

from __future__ import annotations

import enum


class Beat(enum.Enum):
    """What to do at a tick."""

    WAIT = "wait"
    PING = "ping"
    TIMEOUT = "timeout"


class Heartbeat:
    """
    Tells from the last frames whether the peer is to be asked, or is gone.

    Whether a ping was answered depends on the order of events alone: a pong that arrives within the resolution of the
    clock (1 ms with uvloop) counts like any other. Only received frames are life (any of them, S47).

    A ping is due when either direction was silent for ``interval``: a client waits for our frames as we wait for its
    own. A peer that is gone is found within ``interval + timeout``.

    Args:
        interval: seconds of silence before a ping.
        timeout: seconds that a ping may stay unanswered.
        now: the time at which the connection was opened.
        jitter: 0 to 1; shortens the first interval, so that connections opened together are not pinged together.
    """

    def __init__(self, interval: float, timeout: float, now: float, jitter: float = 0.0) -> None:
        self.interval = interval
        self.timeout = timeout
        self.last_received = now
        self.last_sent = now

        # When the open ping was sent. None while there is none, or once anything was received after it.
        self.pinged_at: float | None = None
        # Subtracted from the first wait only.
        self._head_start = interval * jitter / 2
        # When tick() wants to be called next.
        self.due = now + interval - self._head_start

    def receive(self, now: float) -> None:
        """Note that the peer was heard of, which answers an open ping."""
        self.last_received = now
        self.pinged_at = None

    def tick(self, now: float) -> Beat:
        """Return what is to be done now; call it again at ``due``."""
        if self.pinged_at is not None:
            if now >= self.pinged_at + self.timeout:
                return Beat.TIMEOUT
            self._wait_for_answer(self.pinged_at, now)
            return Beat.WAIT
        self.due = min(self.last_received, self.last_sent) + self.interval - self._head_start
        if now < self.due:
            return Beat.WAIT
        self._head_start = 0.0
        self.pinged_at = self.last_sent = now
        self._wait_for_answer(now, now)
        return Beat.PING

    def _wait_for_answer(self, pinged_at: float, now: float) -> None:
        # An answer is seen at a tick. If those were further apart than the interval, the next ping would be late.
        self.due = min(pinged_at + self.timeout, now + self.interval)
