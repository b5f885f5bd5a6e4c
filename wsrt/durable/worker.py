"""The loop of the worker: it publishes what is stored, waits for more, and survives outages of the database."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import threading
import time
from collections.abc import Callable

from django.db import Error, connections
from django.utils import timezone

from ..metrics import counters
from .models import FailedPublication, Worker
from .rows import BATCH, RowPublisher
from .status import Status, read_status
from .waking import waiter

BEAT_SECONDS = 10.0
"""The time between two reports of a worker to the database, in seconds."""

PROGRESS_SECONDS = 60.0
"""The time between two lines of progress, in seconds."""

FORGET = datetime.timedelta(days=1)
"""How long a worker that doesn't report is remembered."""

LONGEST_PAUSE = 10.0
"""The longest pause after an error of the database, in seconds."""


class WorkerLoop:
    """
    A worker.

    Args:
        using: The alias of the database.
        interval: The time between two polls, in seconds. On PostgreSQL, a notification ends the wait earlier.
        batch: The maximum number of rows that are published and deleted together.
        keep_failed: How long failed publications are kept. None to keep them forever.
        progress: Called about once a minute with the number of publications since the last call, and the status.
    """

    def __init__(
        self,
        using: str,
        *,
        interval: float = 1.0,
        batch: int = BATCH,
        keep_failed: datetime.timedelta | None = None,
        progress: Callable[[int, Status], None] | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self.published = 0
        self._using = using
        self._interval = interval
        self._keep_failed = keep_failed
        self._progress = progress
        self._rows = RowPublisher(using, batch=batch, stopping=self.stopping)
        self._started = timezone.now()
        self._beat_at = self._progress_at = 0.0
        self._told = 0

    def run(self) -> None:
        """Publish until stop() is called. After an error of the database, count it, pause, and try again."""
        waiting = waiter(self.stopping, self._interval, self._using)
        pause = 0.0
        try:
            while not self.stopping.is_set():
                try:
                    published = self._work()
                except Error as error:
                    pause = min(max(2 * pause, 0.5), LONGEST_PAUSE)
                    counters.count(
                        "durable_database_errors", "the worker of durable publishing can't use its database: %s", error
                    )
                    self._disconnect()
                    waiting.wait(pause)
                    continue
                pause = 0.0
                if not published:
                    # Without listening during an outage: each attempt looks through everything that waits.
                    waiting.wait(self._interval if self._rows.outages.paused else None)
        finally:
            waiting.close()
            with contextlib.suppress(Error):
                self._beat(_name())
            self._disconnect()

    def run_once(self) -> int:
        """
        Publish the waiting publications, and return their number.

        Raises:
            django.db.Error: The database failed.
        """
        self.published += self._rows.run()
        self._beat(f"{socket.gethostname()[:200]}:once")
        return self.published

    def stop(self) -> None:
        """Make run() return after the batch that is being published. May be called from a signal handler."""
        self.stopping.set()

    # Private.

    def _work(self) -> int:
        connections[self._using].close_if_unusable_or_obsolete()
        if time.monotonic() >= self._beat_at:
            self._beat(_name())
            self._beat_at = time.monotonic() + BEAT_SECONDS
        published = self._rows.run()
        self.published += published
        if self._progress is not None and time.monotonic() >= self._progress_at:
            self._progress(self.published - self._told, read_status(self._using))
            self._told = self.published
            self._progress_at = time.monotonic() + PROGRESS_SECONDS
        return published

    def _beat(self, name: str) -> None:
        """Record that this worker runs, and delete what is too old."""
        now = timezone.now()
        workers = Worker.objects.using(self._using)
        facts = {"started": self._started, "seen": now, "published": self.published}
        workers.update_or_create(name=name, defaults=facts)
        workers.exclude(name=name).filter(seen__lt=now - FORGET).delete()
        if self._keep_failed is not None:
            old = FailedPublication.objects.using(self._using).filter(failed__lt=now - self._keep_failed)
            deleted, _ = old.delete()
            counters.count("durable_failed_deleted", "deleted failed publications that were too old", times=deleted)

    def _disconnect(self) -> None:
        # Closing a connection that is broken may fail.
        with contextlib.suppress(Exception):
            connections[self._using].close()


def _name() -> str:
    return f"{socket.gethostname()[:200]}:{os.getpid()}"
