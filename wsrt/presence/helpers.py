"""Functions that several stores share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def as_bytes(text: str) -> bytes:
    """Return a name as bytes. Names may contain lone surrogates, which plain UTF-8 can't encode."""
    return text.encode("utf-8", "surrogatepass")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in batches of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
