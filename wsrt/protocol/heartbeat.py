"""
The heartbeat of one connection: when to ping, and when to give up.

Time is an argument, in seconds of a clock that doesn't advance while the process stands still. Otherwise peers would
time out because the process has not read their frames.
"""

from __future__ import annotations

import enum


class Beat(enum.Enum):
    """The result of a tick."""

    WAIT = "wait"
    PING = "ping"
    TIMEOUT = "timeout"


class Heartbeat:
    """
    Decides when to ping the peer and when it is gone.

    Any received frame counts as the answer to a ping; sent frames don't prove anything. Whether a ping was answered
    depends only on the order of calls, not on the clock, whose resolution can be as coarse as 1 ms (with uvloop).

    A ping is due when either direction was silent for ``interval``, because the client also waits for frames from
    the server. A peer that is gone is detected within ``interval + timeout``.

    Args:
        interval: The silence before a ping, in seconds.
        timeout: How long a ping may stay unanswered, in seconds.
        now: The time at which the connection was opened.
        jitter: 0 to 1. It shortens the first interval, so that connections opened together are not pinged together.

    Attributes:
        last_received: When a frame was last received.
        last_sent: When a frame was last sent.
        pinged_at: When the ping that is still unanswered was sent; None if there is none.
        due: When to call tick() next.
    """

    def __init__(self, interval: float, timeout: float, now: float, jitter: float = 0.0) -> None:
        self.interval = interval
        self.timeout = timeout
        self.last_received = now
        self.last_sent = now

        self.pinged_at: float | None = None
        # Subtracted from the first interval only.
        self._head_start = interval * jitter / 2
        self.due = now + interval - self._head_start

    def receive(self, now: float) -> None:
        """Record a received frame, which also answers a ping if one is unanswered."""
        self.last_received = now
        self.pinged_at = None

    def tick(self, now: float) -> Beat:
        """Return the action that is due now. Call this method again at ``due``."""
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
        # An answer is only noticed at a tick. If ticks were further apart than the interval, the next ping would be
        # late.
        self.due = min(pinged_at + self.timeout, now + self.interval)
