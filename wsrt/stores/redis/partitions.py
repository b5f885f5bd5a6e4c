"""
The partitions over which rooms are spread, and the prefixes of their keys.

All keys of a partition have the same hash tag, so that they are in one slot of a Redis Cluster.
"""

from __future__ import annotations

import binascii
import functools
import itertools
import zlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..names import as_bytes
from ..options import require_number, require_text

T = TypeVar("T")

SLOTS = 16384
"""The hash slots of a Redis Cluster."""

MOST_PARTITIONS = 1024
"""The largest value of the option PARTITIONS. Listing rooms asks each partition."""


class Partitions:
    """
    The partitions of one store. Stores with different numbers of partitions have no common keys.

    Args:
        prefix: The prefix of all keys.
        count: The number of partitions. None for 16 in a cluster, else 1.
        cluster: Whether Redis is a cluster.

    Raises:
        ValueError: The prefix or the number isn't valid.
    """

    def __init__(self, prefix: str, count: int | None, *, cluster: bool) -> None:
        require_text("PREFIX", prefix)
        if set(prefix) & set("{}"):
            raise ValueError(f"PREFIX must not contain braces, which determine the slot of a key; {prefix!r} does")
        if count is None:
            count = 16 if cluster else 1
        most = MOST_PARTITIONS
        require_number("PARTITIONS", count, f"an integer from 1 to {most}", least=1, most=most, whole=True)
        self.prefix = prefix
        self.count = count
        self.bases = [f"{prefix}{{{tag}}}" for tag in _tags(count)]
        """The beginnings of the keys of each partition."""

    def number_of(self, field: str) -> int:
        """Return the number of a room's partition, from its name as field_of() returns it."""
        return 0 if self.count == 1 else zlib.crc32(as_bytes(field)) % self.count


@functools.cache
def _tags(partitions: int) -> tuple[str, ...]:
    """Return a hash tag for each partition, chosen so that the partitions are spread evenly over a cluster's slots."""
    tags: dict[int, str] = {}
    for number in itertools.count():
        tag = f"{partitions}.{number}"
        tags.setdefault(binascii.crc_hqx(tag.encode(), 0) % SLOTS * partitions // SLOTS, tag)
        if len(tags) == partitions:
            break
    return tuple(tags[part] for part in sorted(tags))


def by_part(items: Iterable[T], part_of: Callable[[T], int]) -> dict[int, list[T]]:
    """Return items by partition, in the original order within each."""
    parts: dict[int, list[T]] = {}
    for item in items:
        parts.setdefault(part_of(item), []).append(item)
    return parts
