"""The partitions of rooms in Redis."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from wsrt.stores.names import field_of
from wsrt.stores.redis.partitions import Partitions, by_part


def test_partitions_are_spread() -> None:
    """Partitions lie evenly over the slots of a cluster."""
    partitions = Partitions("wsrt", None, cluster=True)
    slots = [key_slot(f"{base}:any".encode()) for base in partitions.bases]
    assert [slot // 1024 for slot in slots] == list(range(16))


def test_rooms_are_spread() -> None:
    """Each partition gets rooms, and a room is always in the same one."""
    partitions = Partitions("wsrt", 4, cluster=False)
    rooms = [field_of(("chat", f"room{number}")) for number in range(400)]
    parts = by_part(rooms, partitions.number_of)
    assert sorted(parts) == [0, 1, 2, 3]
    assert min(map(len, parts.values())) > 50
    assert parts == by_part(rooms, Partitions("other", 4, cluster=True).number_of)


def test_numbers_of_partitions_share_no_key() -> None:
    """Stores with different numbers of partitions have no common keys."""
    bases = [base for count in (1, 2, 3, 16) for base in Partitions("wsrt", count, cluster=False).bases]
    assert len(set(bases)) == 22


@pytest.mark.parametrize(
    ("prefix", "count"), [("", 1), ("a{b}", 1), (5, 1), ("wsrt", 0), ("wsrt", 1025), ("wsrt", 1.5), ("wsrt", True)]
)
def test_wrong_options(prefix: str, count: int) -> None:
    """A prefix that would set the slot, or a number out of bounds, is refused."""
    with pytest.raises(ValueError, match=r"PREFIX|PARTITIONS"):
        Partitions(prefix, count, cluster=False)
