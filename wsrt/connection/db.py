"""
Database connections of handlers, looked after as Django does at both ends of a request.

Channels does it before every message, in the one thread that all ORM calls share: a hop a message, behind whatever
that thread is doing. Here the event loop looks at the connections itself, and goes to that thread only where one has
to be closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created

from ..delivery.tasks import start_task
from ..metrics import counters

T = TypeVar("T")

FRESH_SECONDS = 1.0
"""How old a connection may be, whatever its CONN_MAX_AGE, before a handler has it closed that did not open it."""


class DatabaseCare:
    """
    Closes connections that failed or are too old before ``async`` handlers, and what they opened after them.

    Connections are those of the thread that ``sync_to_async`` uses; ``def`` handlers look after their own.
    """

    def __init__(self) -> None:
        # The connections of the thread, as they were when it was last there.
        self._connections: Sequence[Any] = ()
        # Since when there has been something to look after in the thread: a connection was opened, or a handler failed.
        self._dirty_since: float | None = None
        # What the thread has not come to yet. Nothing else needs to be queued meanwhile.
        self._queued: asyncio.Task[None] | None = None
        # The loop doesn't keep its tasks alive.
        self._tasks: set[asyncio.Task[None]] = set()
        connection_created.connect(self._note, dispatch_uid="wsrt.db")

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run handlers or hooks, with connections that work before, and none that has to be closed after."""
        if self._is_due():
            await self._close_old()
        try:
            return await work()
        finally:
            self.after_handler()

    def mark(self) -> None:
        """Have the connections looked after once the running handler ends: one of them may have failed."""
        if self._dirty_since is None:
            self._dirty_since = time.monotonic()

    def after_handler(self) -> None:
        """Look after the connections in the background, if there is reason to. Call it from the event loop."""
        if self._dirty_since is not None:
            self._begin()

    def _is_due(self) -> bool:
        """Return whether connections have to be closed; have the others checked where CONN_HEALTH_CHECKS says so."""
        now = time.monotonic()
        is_due = self._dirty_since is not None and now - self._dirty_since > FRESH_SECONDS
        for connection in self._connections:
            if connection.connection is None or connection.in_atomic_block:
                continue
            if connection.health_check_enabled:
                # As at the start of a request: the next query is preceded by a check, in its own thread.
                connection.health_check_done = False
            is_due = is_due or _is_old(connection, now)
        return is_due

    async def _close_old(self) -> None:
        """Close what has to be closed before the caller's next ORM call, without waiting for it."""
        self.mark()
        self._begin()
        # The thread takes its work in order: once the task has begun, the caller's own calls come after it.
        await asyncio.sleep(0)

    def _begin(self) -> None:
        loop, queued = asyncio.get_running_loop(), self._queued
        # One of another loop may never end: that loop may be gone.
        if queued is None or queued.done() or queued.get_loop() is not loop:
            self._queued = start_task(loop, self._close())
            self._tasks.add(self._queued)
            self._queued.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        while self._dirty_since is not None:
            self._dirty_since = None
            await sync_to_async(self._close_in_thread)()

    def _close_in_thread(self) -> None:
        # What comes due from now on may be missed.
        self._queued = None
        close_connections()
        now = time.monotonic()
        # Some never close, as those of SQLite in memory: there is no use in trying again.
        self._connections = [
            connection
            for connection in connections.all(initialized_only=True)
            if connection.connection is None or connection.in_atomic_block or not _is_past_its_age(connection, now)
        ]

    def _note(self, **kwargs: Any) -> None:
        self.mark()


def close_connections() -> None:
    """Close this thread's connections that failed or are too old."""
    try:
        close_old_connections()
    except Exception as error:
        # The database's failure, not the handler's; it is tried again after the next handler. (Test runners that
        # forbid a test the database also forbid closing what the test before left open.)
        counters.count("database_cleanups_failed", "database connections could not be closed: %r", error)


def _is_old(connection: Any, now: float) -> bool:
    """Return whether Django would close a connection, or look whether it works, at the start of a request."""
    if connection.errors_occurred or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    if not _is_past_its_age(connection, now):
        return False
    # One that is closed after each use is open for a moment, which is no reason to go to the thread: that of the
    # handler that opened it does.
    opened = connection.close_at - connection.settings_dict["CONN_MAX_AGE"]
    return bool(now - opened > FRESH_SECONDS)


def _is_past_its_age(connection: Any, now: float) -> bool:
    return connection.close_at is not None and bool(now >= connection.close_at)


database_care = DatabaseCare()
