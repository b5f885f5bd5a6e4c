"""Pauses of namespaces whose channel layer or history doesn't accept publications."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 10.0
"""The first and the longest pause, in seconds. Each is twice as long as the one before."""


class Outages:
    """
    The namespaces to which the worker doesn't publish for a while after a failure.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By namespace: when it may be tried again, and the length of its pause.
        self._pauses: dict[str, tuple[float, float]] = {}

    @property
    def paused(self) -> list[str]:
        """The namespaces that must not be tried now."""
        now = self._clock()
        return [namespace for namespace, (until, _) in self._pauses.items() if until > now]

    def failed(self, namespace: str) -> None:
        """Pause a namespace, for longer than the last time."""
        _, last = self._pauses.get(namespace, (0.0, 0.0))
        pause = min(max(2 * last, FIRST_SECONDS), LONGEST_SECONDS)
        # Jitter, so that workers don't try again at the same moment.
        self._pauses[namespace] = self._clock() + pause * random.uniform(0.5, 1.0), pause  # noqa: S311

    def succeeded(self, namespace: str) -> None:
        """End the outage of a namespace."""
        self._pauses.pop(namespace, None)
