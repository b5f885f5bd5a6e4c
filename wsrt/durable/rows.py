"""
Publishing the rows that wait, in order, and deleting them.

A worker claims a partition, reads all rows of the partition that it can see, and publishes them in the order of their
ids. If the transaction of row A committed before row B was stored, A has a lower id than B, and a worker that sees B
also sees A, unless A is already published and deleted. So A is published before B. A row that becomes visible later
than rows with higher ids isn't missed, because workers don't continue after the last id that they have seen.

Workers don't wait for the oldest open transaction. To do so, they would have to compare the ids of transactions. But a
transaction may get its id long before it stores a row, so rows would be published in the wrong order, and every long
transaction would delay all others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from django.db import connections, transaction
from django.utils import timezone

from ..cluster.batch import Outcome, send_all_from_sync
from ..cluster.in_process import unreachable_layer
from ..cluster.outgoing import Outgoing
from ..cluster.sending import send_from_sync
from ..exceptions import BackplaneUnavailable
from ..metrics import counters, quoted
from ..signals import publication_failed
from ..stores.batches import batches
from .claims import claims_of
from .models import FailedPublication, Row, WaitingPublication
from .outages import Outages
from .restoring import Restorer

BATCH = 2000
"""The maximum number of rows that are published and deleted together."""

BATCH_BYTES = 8_388_608
"""The size of a batch beyond which no further events are read into it, in bytes of ASCII."""

CHUNK = 250
"""The number of rows that are read from the database at a time."""

DELETED = 1000
"""The maximum number of rows that one statement deletes. Oracle accepts no more."""

MAX_ERROR = 2000
"""The maximum number of characters of an error that are stored."""

Failure = tuple[Row, Exception]
"""A publication that can't be published, and the error."""

logger = logging.getLogger("wsrt")


class RowPublisher:
    """
    Publishes the waiting publications of one database, and deletes their rows.

    Args:
        using: The alias of the database.
        batch: The maximum number of rows that are published and deleted together.
        stopping: When it is set, run() returns after the current batch.
    """

    def __init__(self, using: str, *, batch: int = BATCH, stopping: threading.Event | None = None) -> None:
        self.using = using
        self.outages = Outages()
        self._batch = batch
        self._stopping = threading.Event() if stopping is None else stopping
        self._claims = claims_of(using)
        # Where the next round begins, so that a busy partition doesn't delay the others.
        self._next = 0

    def run(self) -> int:
        """
        Publish until no row is left that can be published now.

        Returns:
            The number of published rows. These rows are deleted, like those that were moved to the failed publications.

        Raises:
            django.db.Error: The database failed. Rows that were published before that are published again.
        """
        published, went_on = 0, True
        while went_on:
            went_on = False
            for numbers in batches(self._partitions(), self._claims.at_once):
                if self._stopping.is_set():
                    return published
                self._next = numbers[-1] + 1
                done, found = self._publish_partitions(numbers)
                published += done
                went_on = went_on or found
        return published

    # Private. The tests of crashes end the process at each of these steps.

    def _partitions(self) -> list[int]:
        """Return the partitions with rows that may be published now, beginning where the last round ended."""
        rows = WaitingPublication.objects.using(self.using).exclude(namespace__in=self.outages.paused)
        numbers = rows.order_by().values_list("partition", flat=True).distinct()
        return sorted(numbers, key=lambda number: (number < self._next, number))

    def _publish_partitions(self, numbers: Sequence[int]) -> tuple[int, bool]:
        """Publish a batch of some partitions; return the number of published rows, and whether any were handled."""
        with self._claims.claim(numbers) as claimed:
            if not claimed:
                return 0, False
            rows = self._read(claimed)
            published, failed = self._publish(rows)
            self._delete(published, failed)
        self._report(failed)
        return len(published), bool(published or failed)

    def _read(self, numbers: Sequence[int]) -> list[Row]:
        waiting = WaitingPublication.objects.using(self.using).filter(partition__in=numbers)
        ordered = waiting.exclude(namespace__in=self.outages.paused).order_by("id").values_list(*Row._fields)
        rows: list[Row] = []
        size = 0
        for values in ordered[: self._batch].iterator(chunk_size=CHUNK):
            row = Row._make(values)
            rows.append(row)
            size += len(row.data)
            if size >= BATCH_BYTES:
                break
        return rows

    def _publish(self, rows: Sequence[Row]) -> tuple[list[Row], list[Failure]]:
        """Publish rows in order; return those that were published, and those that can't be with their errors."""
        restored: list[tuple[Row, Outgoing]] = []
        failed: list[Failure] = []
        restorer = Restorer()
        for row in rows:
            try:
                restored.append((row, restorer.restore(row)))
            except Exception as error:
                failed.append((row, error))
        names = {row.namespace for row, _ in restored}
        unreachable = {namespace: alias for namespace in names if (alias := unreachable_layer(namespace))}
        for namespace, alias in unreachable.items():
            self._delayed(
                namespace,
                f"the channel layer {alias!r} doesn't reach other processes, and this one holds no connections",
            )
        sendable = [(row, outgoing) for row, outgoing in restored if row.namespace not in unreachable]
        published: list[Row] = []
        delayed: dict[str, Exception] = {}
        for (row, _), outcome in zip(sendable, _send([outgoing for _, outgoing in sendable]), strict=True):
            if isinstance(outcome, BackplaneUnavailable):
                delayed.setdefault(row.namespace, outcome)
            elif isinstance(outcome, Exception):
                failed.append((row, outcome))
            else:
                published.append(row)
        for namespace, problem in delayed.items():
            self._delayed(namespace, problem)
        for namespace in {row.namespace for row in published} - delayed.keys():
            self.outages.succeeded(namespace)
        return published, failed

    def _delayed(self, namespace: str, problem: object) -> None:
        self.outages.failed(namespace)
        counters.count(
            "durable_delayed", "publications of the namespace %r wait in the database: %s", namespace, problem
        )

    def _delete(self, published: Sequence[Row], failed: Sequence[Failure]) -> None:
        now = timezone.now()
        with transaction.atomic(using=self.using):
            if failed:
                stored = WaitingPublication.objects.using(self.using).in_bulk([row.id for row, _ in failed])
                FailedPublication.objects.using(self.using).bulk_create(
                    FailedPublication(**stored[row.id].values(), failed=now, error=_description(error))
                    for row, error in failed
                    if row.id in stored
                )
            done = [row.id for row in published] + [row.id for row, _ in failed]
            self._delete_rows(done)

    def _delete_rows(self, ids: Sequence[int]) -> None:
        connection = connections[self.using]
        quote = connection.ops.quote_name
        table, column = quote(WaitingPublication._meta.db_table), quote("id")
        with connection.cursor() as cursor:
            for part in batches(ids, DELETED):
                # The numbers are in the text: for each parameter, Django and the driver take as long as sending takes.
                numbers = ", ".join([f"{number:d}" for number in part])
                cursor.execute(f"DELETE FROM {table} WHERE {column} IN ({numbers})")  # noqa: S608  # only numbers

    def _report(self, failed: Sequence[Failure]) -> None:
        for row, error in failed:
            counters.count(
                "durable_failed",
                "couldn't publish the event %s for %s %s of the namespace %r, and moved it to the failed publications: "
                "%s",
                quoted(row.event),
                row.kind,
                quoted(row.name),
                row.namespace,
                error,
                level=logging.ERROR,
            )
            try:
                audience = row.audience
            except ValueError:
                continue  # the name of its room isn't valid any more
            publication_failed.send_robust(
                sender=None,
                namespace=row.namespace,
                tenant=row.tenant or None,
                audience=audience,
                event=row.event,
                error=error,
            )


def _send(outgoings: Sequence[Outgoing]) -> Sequence[Outcome | Exception]:
    """Send publications as one batch, and return the outcome of each. After one that fails no later one is sent."""
    try:
        return send_all_from_sync(outgoings, in_order=True)
    except Exception:
        logger.exception("failed to send a batch of durable publications, sending them one by one")
        return _send_one_by_one(outgoings)


def _send_one_by_one(outgoings: Sequence[Outgoing]) -> list[Outcome | Exception]:
    """Find the publications with which sending raises something unexpected."""
    outcomes: list[Outcome | Exception] = []
    down: BackplaneUnavailable | None = None
    for outgoing in outgoings:
        try:
            outcomes.append(send_from_sync(outgoing) if down is None else down)
        except BackplaneUnavailable as error:
            down = error
            outcomes.append(error)
        except Exception as error:
            outcomes.append(error)
    return outcomes


def _description(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_ERROR]
