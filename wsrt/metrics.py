"""
The counters: what this process dropped, lost or refused, counted by name.

Nothing is dropped without an entry, and no entry floods the log: the first of each minute is logged, with the count of
those before it.
"""

from __future__ import annotations

import collections
import logging
import threading
import time

__all__ = ["Counters", "counters", "quoted"]

WINDOW = 60.0
"""Seconds between two log lines of one name."""

MAX_QUOTED = 200
"""Characters of anything from outside that the log quotes."""

logger = logging.getLogger("wsrt")


def quoted(value: object) -> str:
    """
    Return the ``repr`` of something from outside, with at most MAX_QUOTED of its characters.

    A header of 8 kB would be a line of 32 kB otherwise: whatever can't be printed becomes an escape.
    """
    # Cut before it is escaped as well, which takes time in proportion to the whole.
    text = repr(value[: MAX_QUOTED + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


class Counters:
    """Counters with a word in the log once a window. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        # By name: when the last line was logged, and the count at that time.
        self._logged: dict[str, tuple[float, int]] = {}

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def count(
        self, name: str, message: str | None = None, *args: object, level: int = logging.WARNING, times: int = 1
    ) -> None:
        """Add ``times`` to a counter; with a message, log it unless that was done within the window."""
        if not times:
            return
        with self._lock:
            self._counts[name] += times
            total = self._counts[name]
            if message is None:
                return
            now = time.monotonic()
            last, before = self._logged.get(name, (-WINDOW, 0))
            if now - last < WINDOW:
                return
            self._logged[name] = (now, total)
        if total - before > 1:
            message, args = f"{message} (%d times since this was last logged)", (*args, total - before)
        logger.log(level, message, *args)

    def snapshot(self) -> dict[str, int]:
        """Return all counters."""
        with self._lock:
            return dict(self._counts)

    def forget_logged(self) -> None:
        """Log the next entry of every name again."""
        with self._lock:
            self._logged.clear()


counters = Counters()
"""The counters of this process."""
