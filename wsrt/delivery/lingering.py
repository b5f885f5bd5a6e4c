"""The sockets that wsrt has closed, until their peers have taken what is still buffered."""

from __future__ import annotations

import asyncio

from .transport import Transport

LINGER_SECONDS = 12.0
"""Seconds after which a socket that we closed is aborted. Servers take less time for the closing handshake."""


class Lingering:
    """
    The closed sockets of one node.

    Some servers report the disconnect as soon as they have sent the close frame, and then wait until the peer has read
    what they still buffer and has ended TLS. They don't exit before that. So a socket is aborted after LINGER_SECONDS,
    and at the end of a drain.

    Args:
        loop: The node's loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timers: dict[Transport, asyncio.TimerHandle] = {}
        self._deadline: float | None = None

    def add(self, transport: Transport) -> None:
        """Abort a socket that was closed when its time is over."""
        ends = self._loop.time() + LINGER_SECONDS
        self._abort_at(transport, ends if self._deadline is None else min(ends, self._deadline))

    def end_by(self, deadline: float) -> None:
        """
        Abort all sockets by a point in time, and those that are added later, too.

        Args:
            deadline: The time of the loop.
        """
        self._deadline = deadline
        for transport, timer in list(self._timers.items()):
            if timer.when() > deadline:
                timer.cancel()
                self._abort_at(transport, deadline)

    def _abort_at(self, transport: Transport, when: float) -> None:
        self._timers[transport] = self._loop.call_at(when, self._abort, transport)

    def _abort(self, transport: Transport) -> None:
        del self._timers[transport]
        transport.abort()
