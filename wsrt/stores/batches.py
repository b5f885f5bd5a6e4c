"""Batches of a long list, so that no call is too large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in batches of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
