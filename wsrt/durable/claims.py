"""
Claims: the right to publish to the audiences of a partition, which one worker at a time has.

Workers claim partitions and not rows. Two workers that took neighbouring rows of one room could publish them in the
wrong order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar

from django.core.files import locks
from django.db import connections, transaction

from .models import PARTITIONS, Partition


class Claims:
    """
    Claims by locks on rows. A transaction holds the lock, so the lock ends if the worker is killed.

    Args:
        using: The alias of the database.

    Attributes:
        at_once: The maximum number of partitions that a worker claims at once. It leaves others for other workers.
    """

    at_once: ClassVar[int] = 16

    def __init__(self, using: str) -> None:
        self.using = using
        self._exist = False

    @contextlib.contextmanager
    def claim(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """
        Open a transaction and claim partitions in it. The transaction is committed when the block ends.

        The transaction must see what others commit after it has claimed, so its isolation must not be stricter than
        READ COMMITTED.

        Args:
            numbers: The numbers of the partitions.

        Yields:
            The numbers of the partitions that were claimed. Other workers have claimed the rest.
        """
        self._create()
        connection = connections[self.using]
        is_outermost = not connection.in_atomic_block
        with transaction.atomic(using=self.using):
            if connection.vendor == "postgresql" and is_outermost:
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            can_skip = connection.features.has_select_for_update_skip_locked
            rows = Partition.objects.using(self.using).select_for_update(skip_locked=can_skip)
            # In one order, so that workers that have to wait for each other don't do so in a circle.
            yield [row.number for row in rows.filter(number__in=numbers).order_by("number")]

    def _create(self) -> None:
        """Create the rows that don't exist yet, which no worker has locked."""
        if self._exist:
            return
        rows = Partition.objects.using(self.using)
        missing = set(range(PARTITIONS)) - set(rows.values_list("number", flat=True))
        if missing:
            rows.bulk_create([Partition(number=number) for number in sorted(missing)], ignore_conflicts=True)
        self._exist = True


class FileClaims(Claims):
    """
    Claims for SQLite, which has no locks on rows: a lock on a file beside the database, for all partitions together.

    A transaction would lock the database for all writers while the worker publishes. The operating system releases the
    lock of a worker that is killed.
    """

    at_once = PARTITIONS

    @contextlib.contextmanager
    def claim(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Lock the file. The block doesn't run in a transaction. See Claims.claim()."""
        path = _lock_file(connections[self.using].settings_dict["NAME"])
        if path is None:  # a database in memory, which no other process sees
            yield [*numbers]
            return
        with path.open("ab") as file, _locked(file) as is_locked:
            yield [*numbers] if is_locked else []


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[bool]:
    is_locked = locks.lock(file, locks.LOCK_EX | locks.LOCK_NB)
    try:
        yield is_locked
    finally:
        if is_locked:
            locks.unlock(file)


def _lock_file(name: object) -> Path | None:
    text = str(name)
    if not text or text == ":memory:" or "mode=memory" in text:
        return None
    return Path(f"{text.removeprefix('file:').partition('?')[0]}-wsrt-durable")


def claims_of(using: str) -> Claims:
    """Return the claims that suit a database."""
    return Claims(using) if connections[using].features.has_select_for_update else FileClaims(using)
