"""
The closing of failed and old database connections around handlers, as Django closes them around requests.

Channels does this before every message, in the one thread that all ORM calls of async code share. Each message then
waits for that thread. Here the event loop examines the connections itself, and only uses the thread if one has to be
closed.
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
"""The age up to which a connection is not closed by a handler that didn't open it, whatever its CONN_MAX_AGE."""


class DatabaseCare:
    """
    Closes database connections for ``async def`` handlers: failed and old ones before a handler, and after it those
    that it has opened.

    They are connections of the thread that ``sync_to_async`` uses. The threads of ``def`` handlers close their own.
    """

    def __init__(self) -> None:
        # The connections of the thread when it was last used. The event loop only reads their attributes.
        self._connections: Sequence[Any] = ()
        # When a connection was opened or a handler failed, for the first time since the thread was last used. None if
        # there is nothing to do in the thread.
        self._dirty_since: float | None = None
        # The task that the thread has not started yet. Until then no other task is needed.
        self._queued: asyncio.Task[None] | None = None
        # The event loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        connection_created.connect(self._on_connection_created, dispatch_uid="wsrt.db")

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a handler or hook. Close connections that are due before it, and in the background after it."""
        await self.before_handler()
        try:
            return await work()
        finally:
            self.after_handler()

    async def before_handler(self) -> None:
        """Close connections that are due, so that the caller's next ORM call doesn't use them."""
        if self._is_due():
            await self._close_old()

    def mark(self) -> None:
        """Note that a connection may have failed or was opened: it is checked after the running handler."""
        if self._dirty_since is None:
            self._dirty_since = time.monotonic()

    def after_handler(self) -> None:
        """Close database connections that are due, in the background. Must be called in the event loop."""
        if self._dirty_since is not None:
            self._start_closing()

    def _is_due(self) -> bool:
        """Return whether connections have to be closed. With CONN_HEALTH_CHECKS, request a check of the others."""
        now = time.monotonic()
        is_due = self._dirty_since is not None and now - self._dirty_since > FRESH_SECONDS
        for connection in self._connections:
            if connection.connection is None or connection.in_atomic_block:
                continue
            if connection.health_check_enabled:
                # As at the start of a request: Django checks the connection before the next query.
                connection.health_check_done = False
            is_due = is_due or _is_old(connection, now)
        return is_due

    async def _close_old(self) -> None:
        """Close the connections that are due before the caller's next ORM call, without waiting for it."""
        self.mark()
        self._start_closing()
        # One turn of the loop starts the task, which queues its work in the thread. The thread works in order, so the
        # ORM calls of the caller come later.
        await asyncio.sleep(0)

    def _start_closing(self) -> None:
        loop, queued = asyncio.get_running_loop(), self._queued
        # A task of another loop may never end, because that loop may no longer run.
        if queued is None or queued.done() or queued.get_loop() is not loop:
            self._queued = start_task(loop, self._close_in_background())
            self._tasks.add(self._queued)
            self._queued.add_done_callback(self._tasks.discard)

    async def _close_in_background(self) -> None:
        while self._dirty_since is not None:
            self._dirty_since = None
            await sync_to_async(self._close_in_thread)()

    def _close_in_thread(self) -> None:
        # Connections that become due from now on may be missed here, so the next handler queues another task.
        self._queued = None
        close_connections()
        now = time.monotonic()
        # Some connections never close, such as those of SQLite in memory. They are left out to avoid trying again.
        self._connections = [
            connection
            for connection in connections.all(initialized_only=True)
            if connection.connection is None or connection.in_atomic_block or not _is_past_its_age(connection, now)
        ]

    def _on_connection_created(self, **kwargs: Any) -> None:
        self.mark()


def close_connections() -> None:
    """Close the connections of this thread that have failed or are too old. Does not raise."""
    try:
        close_old_connections()
    except Exception as error:
        # This isn't an error of the handler. The next handler tries again. (Test runners that block database access
        # also block closing the connections that another test left open.)
        counters.count("database_cleanups_failed", "database connections could not be closed: %r", error)


def call_with_connections(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in this thread. Close the thread's failed and old database connections before and after it."""
    close_connections()
    try:
        return function(*args)
    finally:
        close_connections()


def _is_old(connection: Any, now: float) -> bool:
    """Return whether Django would close or check a connection at the start of a request."""
    if connection.errors_occurred or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    if not _is_past_its_age(connection, now):
        return False
    # With CONN_MAX_AGE = 0 each connection is past its age at once. The handler that opened it closes it, so another
    # handler needn't use the thread for it.
    opened = connection.close_at - connection.settings_dict["CONN_MAX_AGE"]
    return bool(now - opened > FRESH_SECONDS)


def _is_past_its_age(connection: Any, now: float) -> bool:
    return connection.close_at is not None and bool(now >= connection.close_at)


database_care = DatabaseCare()
