"""Random spreading of times, so that nodes and clients don't all act at the same moment."""

from __future__ import annotations

import random

__all__ = ["jittered"]


def jittered(seconds: float, least: float = 0.5, most: float = 1.0) -> float:
    """
    Return a random time between ``least * seconds`` and ``most * seconds``.

    Args:
        seconds: The time, in seconds.
        least: The smallest factor.
        most: The greatest factor.
    """
    return seconds * random.uniform(least, most)  # noqa: S311 - nothing secret depends on it
