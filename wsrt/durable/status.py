"""The state of durable publishing that operators see: the waiting and the failed publications, and the workers."""

from __future__ import annotations

import dataclasses
import datetime

from django.db.models import Count, Max, Min
from django.utils import timezone

from .models import FailedPublication, WaitingPublication, Worker

ALIVE_SECONDS = 60.0
"""The time in seconds after which a worker that hasn't reported is considered to have ended."""

LATE_SECONDS = 60.0
"""The age in seconds beyond which a waiting publication is reported as a problem."""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """
    The state of durable publishing in one database.

    Attributes:
        waiting: The number of publications that wait.
        oldest: The age of the oldest of them, in seconds. 0 if there are none.
        failed: The number of failed publications.
        workers: The number of running workers.
        last_seen: The time since a worker last reported, in seconds. None if no worker has ever reported.
    """

    waiting: int
    oldest: float
    failed: int
    workers: int
    last_seen: float | None

    @property
    def is_late(self) -> bool:
        """Whether publications wait for too long."""
        return self.oldest > LATE_SECONDS


def read_status(using: str) -> Status:
    """
    Return the state of durable publishing in a database.

    Raises:
        django.db.Error: The database didn't answer, or its tables don't exist.
    """
    now = timezone.now()
    waiting = WaitingPublication.objects.using(using).aggregate(count=Count("*"), oldest=Min("created"))
    last = Worker.objects.using(using).aggregate(seen=Max("seen"))["seen"]
    alive = Worker.objects.using(using).filter(seen__gte=now - datetime.timedelta(seconds=ALIVE_SECONDS))
    return Status(
        waiting=waiting["count"],
        oldest=0.0 if waiting["oldest"] is None else max(0.0, (now - waiting["oldest"]).total_seconds()),
        failed=FailedPublication.objects.using(using).count(),
        workers=alive.count(),
        last_seen=None if last is None else max(0.0, (now - last).total_seconds()),
    )
