"""The sessions that were logged out a short time ago, as far as one node knows."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

from ..metrics import counters

REMEMBERED_SECONDS = 60.0
"""
How long a log-out is remembered, in seconds.

It has to be longer than a handshake takes from the moment in which middleware reads the session.
"""

MAX_REMEMBERED = 10_000
"""The number of hashes that are remembered. A log-out has one for each secret key of the project."""


class EndedSessions:
    """
    Remembers which sessions were logged out.

    A handshake may have read its session just before the log-out, and reach the node just after the command that closes
    the session's connections. Such a connection would otherwise stay open.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By hash, when it is forgotten. In the order in which they are forgotten.
        self._until: collections.OrderedDict[str, float] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, hashes: Iterable[str]) -> None:
        """Remember a session by the hashes of its key."""
        self._forget()
        until = self._clock() + REMEMBERED_SECONDS
        for each in hashes:
            self._until[each] = until
            self._until.move_to_end(each)
        while len(self._until) > MAX_REMEMBERED:
            self._until.popitem(last=False)
            counters.count("ended_sessions_forgotten")

    def includes(self, hashes: Iterable[str]) -> bool:
        """Return whether one of the hashes is that of a session that was logged out."""
        self._forget()
        return any(each in self._until for each in hashes)

    def _forget(self) -> None:
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
