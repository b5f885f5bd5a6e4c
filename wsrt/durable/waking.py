"""
Waking workers: NOTIFY and LISTEN on PostgreSQL, polling on other databases.

A notification only shortens the wait. Workers poll as well, so a notification that is lost costs one interval.
"""

from __future__ import annotations

import logging
import select
import threading
import time
import weakref
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..metrics import counters

CHANNEL = "wsrt_durable"
"""The name of the notifications."""

SLICE_SECONDS = 0.25
"""The longest time in seconds until a listener notices that the worker should stop."""

RECONNECT_SECONDS = 5.0
"""The time between two attempts to listen, in seconds. Until then, the worker polls."""

logger = logging.getLogger("wsrt")


class _Commit:
    """The publications of one transaction. Attribute ``is_announced``: whether workers were woken for them."""

    __slots__ = ("is_announced",)

    def __init__(self) -> None:
        self.is_announced = False


# The current or last transaction of each database connection. A connection belongs to one thread.
_commits: weakref.WeakKeyDictionary[Any, _Commit] = weakref.WeakKeyDictionary()


def wake_on_commit(using: str) -> None:
    """
    Wake the workers when the open transaction has committed, or immediately.

    The notification isn't part of the transaction, because PostgreSQL lets transactions with a notification commit only
    one after the other.

    Args:
        using: The alias of the database.
    """
    connection = transaction.get_connection(using)
    if connection.vendor != "postgresql":
        return
    commit = _commits.get(connection)
    if commit is None or commit.is_announced:
        commit = _commits[connection] = _Commit()
    transaction.on_commit(lambda: _notify(connection, commit), using=using, robust=True)


def _notify(connection: BaseDatabaseWrapper, commit: _Commit) -> None:
    # Each publication has registered this, since those of a savepoint may be rolled back. The first one notifies.
    if commit.is_announced:
        return
    commit.is_announced = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
    except DatabaseError as error:
        # The publication is committed, and the next poll of a worker finds it.
        counters.count("durable_wakes_failed", "failed to wake the workers of durable publishing: %s", error)


class Waiter:
    """
    Waits between two polls of a worker: it sleeps for the interval, or until the worker should stop.

    Args:
        stopping: Set when the worker should stop.
        interval: The seconds between two polls.
    """

    def __init__(self, stopping: threading.Event, interval: float) -> None:
        self.stopping = stopping
        self.interval = interval

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the interval, or for a shorter time, but no longer than until the worker should stop."""
        self.stopping.wait(self.interval if seconds is None else seconds)

    def close(self) -> None:
        """Close connections."""


class Listener(Waiter):
    """
    Waits for a notification of PostgreSQL, at most for the interval. It has a connection of its own.

    Args:
        stopping: Set when the worker should stop.
        interval: The longest wait, in seconds.
        using: The alias of the database.
    """

    def __init__(self, stopping: threading.Event, interval: float, using: str) -> None:
        super().__init__(stopping, interval)
        self._using = using
        self._connection: BaseDatabaseWrapper | None = None
        self._retry_at = 0.0

    def wait(self, seconds: float | None = None) -> None:
        """Wait for a notification, at most for the interval, and only until the worker should stop."""
        if seconds is not None:
            super().wait(seconds)
            return
        if self._connection is None:
            self._start_listening()
            return
        deadline = time.monotonic() + self.interval
        try:
            while not self.stopping.is_set() and (left := deadline - time.monotonic()) > 0:
                if self._has_notification(self._connection.connection, min(left, SLICE_SECONDS)):
                    return
        except Exception as error:
            # What a driver raises for a broken connection depends on the driver.
            self._failed(error)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _start_listening(self) -> None:
        """Listen, and return at once, since something may have been stored before; or wait for a while."""
        left = self._retry_at - time.monotonic()
        if left > 0:
            super().wait(min(self.interval, left))
            return
        try:
            self._connection = self._listen()
        except Exception as error:
            self._failed(error)

    def _listen(self) -> BaseDatabaseWrapper:
        # A connection that isn't Django's own one of this thread, and doesn't come from a pool: it stays open.
        connection = connections.create_connection(self._using)
        options = {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "pool"}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options, "CONN_MAX_AGE": None}
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        return connection

    def _has_notification(self, raw: Any, seconds: float) -> bool:
        readable, _, _ = select.select([raw.fileno()], [], [], seconds)
        if not readable:
            return False
        if hasattr(raw, "pgconn"):  # psycopg 3
            raw.pgconn.consume_input()
            found = False
            while raw.pgconn.notifies() is not None:
                found = True
            return found
        raw.poll()  # psycopg2
        found = bool(raw.notifies)
        raw.notifies.clear()
        return found

    def _failed(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RECONNECT_SECONDS
        counters.count(
            "durable_listens_failed", "failed to listen for durable publications, polling instead: %s", error
        )
        try:
            self.close()
        except Exception:
            logger.debug("failed to close the connection that listens for notifications", exc_info=True)
            self._connection = None


def waiter(stopping: threading.Event, interval: float, using: str) -> Waiter:
    """Return a waiter that suits a database."""
    if connections[using].vendor == "postgresql":
        return Listener(stopping, interval, using)
    return Waiter(stopping, interval)
