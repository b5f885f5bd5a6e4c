"""Trying failed publications again."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet

from .models import FailedPublication, WaitingPublication, partition_of
from .waking import wake_on_commit


def retry(failed: QuerySet[FailedPublication]) -> int:
    """
    Store failed publications again, behind those that wait, in the order in which they failed. Return their number.

    Args:
        failed: The failed publications.
    """
    using = failed.db
    with transaction.atomic(using=using):
        rows = list(failed.order_by("id"))
        # Another operator may have taken some of them at the same moment.
        taken = [row for row in rows if FailedPublication.objects.using(using).filter(pk=row.pk).delete()[0]]
        WaitingPublication.objects.using(using).bulk_create(
            WaitingPublication(partition=partition_of(row.realm, row.kind, row.name), **row.values()) for row in taken
        )
        wake_on_commit(using)
    return len(taken)
