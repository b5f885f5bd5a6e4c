"""
Counters of everything that this process has dropped, lost or refused, by name.

Nothing is dropped without being counted. To keep the log short, a name is usually logged once a minute, together with
the number of times that it was counted since.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Iterable

__all__ = ["Counters", "counters", "quoted"]

CONNECTION_LIMITS = {
    "connections_refused_per_user": "MAX_CONNECTIONS_PER_USER",
    "connections_replaced": "MAX_CONNECTIONS_PER_USER",
    "connections_refused_per_address": "MAX_CONNECTIONS_PER_ADDRESS",
    "connections_refused_per_process": "MAX_CONNECTIONS",
    "setups_refused": "MAX_SETUPS",
    "handshakes_refused": "HANDSHAKE_RATE",
}
"""The counters of connections that were refused because of a limit, or replaced by newer ones, and its setting."""

LIMITS = {
    **CONNECTION_LIMITS,
    "setup_timeouts": "SETUP_TIMEOUT",
    "rates_exceeded": "RATE, RATE_BYTES, rate=",
    "inbox_overflows": "INBOX_FRAMES, INBOX_BYTES",
    "outbox_overflows": "OUTBOX_FRAMES, OUTBOX_BYTES, OUTBOX_SECONDS",
    "rooms_over_limit": "MAX_ROOMS",
    "keys_over_limit": "join(key=)",
    "tasks_over_limit": "MAX_TASKS",
    "tickets_over_limit": "TICKET_RATE",
}
"""The counters of limits that were reached, and where each limit is set."""

LIMIT_PROBLEMS = ("limits_unavailable", "proxies_untrusted", "addresses_missing")
"""The counters of limits that may not work as intended."""

WINDOW = 60.0
"""The seconds within which a counter logs at most one line, unless count() sets another limit."""

MAX_QUOTED = 200
"""The maximum number of characters of external input that the log quotes."""

logger = logging.getLogger("wsrt")


def quoted(value: object) -> str:
    """
    Return the ``repr`` of external input, truncated to MAX_QUOTED characters.

    Otherwise a header of 8 kB could become a line of 32 kB, because unprintable characters are escaped.
    """
    # Truncate before escaping, too, which takes time in proportion to the length.
    text = repr(value[: MAX_QUOTED + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


class Counters:
    """
    Counters of what was dropped, refused or failed. Safe to call from any thread.

    A counter with a message logs at most one line within WINDOW seconds, unless count() sets another limit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        # By name: the beginning of the current window, the number of log lines in it, and the count at the last one.
        self._logged: dict[str, tuple[float, int, int]] = {}

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def count(
        self,
        name: str,
        message: str | None = None,
        *args: object,
        level: int = logging.WARNING,
        times: int = 1,
        lines: int = 1,
    ) -> None:
        """
        Add to a counter, and log a message unless the counter was logged often enough within the last WINDOW seconds.

        Args:
            name: The name of the counter.
            message: The message, with placeholders for ``args``; None to log nothing.
            args: The arguments of the message.
            level: The log level.
            times: The number to add.
            lines: The maximum number of messages that are logged within WINDOW seconds.
        """
        if not times:
            return
        with self._lock:
            self._counts[name] += times
            total = self._counts[name]
            if message is None:
                return
            now = time.monotonic()
            begun, logged, before = self._logged.get(name, (-WINDOW, 0, 0))
            if now - begun >= WINDOW:
                begun, logged = now, 0
            if logged >= lines:
                return
            self._logged[name] = (begun, logged + 1, total)
        if total - before > 1:
            message, args = f"{message} (%d times since this was last logged)", (*args, total - before)
        logger.log(level, message, *args)

    def snapshot(self) -> dict[str, int]:
        """Return the values of all counters by name."""
        with self._lock:
            return dict(self._counts)

    def nonzero(self, names: Iterable[str]) -> dict[str, int]:
        """Return the values of some counters, without those that are 0."""
        return {name: count for name in names if (count := self._counts[name])}

    def forget_logged(self) -> None:
        """Forget when counters were logged: the next message of each is logged even within WINDOW seconds."""
        with self._lock:
            self._logged.clear()


counters = Counters()
"""The counters of this process."""
