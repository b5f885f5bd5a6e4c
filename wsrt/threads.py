"""
Threads: where ``def`` handlers run, and how database connections are looked after.

Channels closes old database connections before every message, in the one thread that all ORM calls share: a hop a
message, behind whatever that thread is doing. Here it happens only after handlers that opened a connection, once for
all that finished meanwhile, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import AsyncToSync, sync_to_async
from django.db import close_old_connections
from django.db.backends.signals import connection_created

from .conf import conf
from .delivery.ledger import ledger
from .delivery.tasks import start_task
from .forks import after_fork_in_child

CHECK_SECONDS = 30.0
"""How often persistent connections are checked for errors and age while handlers run."""


T = TypeVar("T")

_caller: contextvars.ContextVar[CurrentThreadExecutor | None] = contextvars.ContextVar("_caller", default=None)
"""Runs functions in the thread that waits for the current task. None where no thread does."""


class DatabaseCare:
    """Closes the database connections that handlers opened, as Django does at the end of a request."""

    def __init__(self) -> None:
        self._is_dirty = False
        # What cleans up at the moment, or did last. Held here: the loop does not keep its tasks alive.
        self._cleaning: asyncio.Task[None] | None = None
        self._checked_at = 0.0
        connection_created.connect(self._note, dispatch_uid="wsrt.threads")

    def mark(self) -> None:
        """Check the connections after the handler that runs: one of them may have failed."""
        self._is_dirty = True

    def after_handler(self) -> None:
        """Clean up in the background if there is reason to. Call it from the event loop."""
        loop, cleaning = asyncio.get_running_loop(), self._cleaning
        # One of another loop may never end: that loop may be gone.
        if cleaning is not None and not cleaning.done() and cleaning.get_loop() is loop:
            return
        now = time.monotonic()
        if self._is_dirty or (self._checked_at and now - self._checked_at > CHECK_SECONDS):
            self._is_dirty = True
            self._checked_at = now
            self._cleaning = start_task(loop, self._clean())

    def _note(self, **kwargs: Any) -> None:
        self._is_dirty = True

    async def _clean(self) -> None:
        while self._is_dirty:
            self._is_dirty = False
            await sync_to_async(_close_connections)()


database_care = DatabaseCare()


async def run_in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """
    Run a ``def`` handler in the pool, or in the thread of the test's transaction.

    Code that runs below ``async_to_sync`` (Django's async test methods) shares that caller's thread and connections.
    """
    function = _without_stop_iteration(function)
    caller = _caller.get()
    if caller is not None:
        # A def handler waits in its thread for what this is part of.
        call = functools.partial(contextvars.copy_context().run, function, *args)
        return await asyncio.get_running_loop().run_in_executor(caller, call)
    if getattr(AsyncToSync.executors, "current", None) is not None:
        return await sync_to_async(function)(*args)
    call = functools.partial(_with_connections, function)
    return await sync_to_async(call, thread_sensitive=False, executor=_pool())(*args)


def run_in_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """
    Run a coroutine in an event loop for code in a thread, and return its result.

    ``def`` hooks that it calls run in the waiting thread: its transaction is theirs, and a pool whose threads all wait
    is no dead-lock.

    Args:
        loop: runs in another thread.
        work: makes the coroutine, in the loop.
    """
    caller = CurrentThreadExecutor(None)

    async def run() -> T:
        _caller.set(caller)
        return await work()

    running = asyncio.run_coroutine_threadsafe(run(), loop)
    caller.run_until_future(running)
    return running.result()


def _without_stop_iteration(function: Callable[..., Any]) -> Callable[..., Any]:
    """A future cannot carry StopIteration: whoever awaits it would wait for ever."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except StopIteration as error:
            raise RuntimeError(f"{function.__qualname__} raised StopIteration") from error

    return call


def _with_connections(function: Callable[..., Any], *args: Any) -> Any:
    _close_connections()
    try:
        return function(*args)
    finally:
        _close_connections()


def _close_connections() -> None:
    try:
        close_old_connections()
    except Exception as error:
        # It is nobody's failure but the database's, and tried again after the next handler. (Test runners that forbid
        # the database to a test also forbid to close what the test before left open.)
        ledger.count("database_cleanups_failed", "database connections could not be closed: %r", error)


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(conf.threads, thread_name_prefix="wsrt-handler")


after_fork_in_child(_pool.cache_clear)
