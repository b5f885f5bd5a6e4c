"""The background event loop of a process, on which synchronous code runs coroutines. Like anyio's BlockingPortal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from . import greenlets
from .forks import after_fork_in_child

T = TypeVar("T")


class BackgroundLoop:
    """
    An event loop in a daemon thread, started when it is first used.

    ``async_to_sync`` would create a loop for each call, and with it a connection to Redis. A forked child starts a loop
    of its own: threads are not inherited, and sockets must not be shared.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: ThreadLoop | greenlets.NativeLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run a coroutine and return its result. Blocks the calling thread, or under gevent the calling greenlet.

        Args:
            work: The coroutine. It is closed if the loop can't be started.

        Raises:
            WrongContext: eventlet has patched the threads of this process.
        """
        try:
            loop = self._running_loop()
        except BaseException:
            work.close()
            raise
        return loop.run(work)

    def _running_loop(self) -> ThreadLoop | greenlets.NativeLoop:
        with self._lock:
            if self._loop is None:
                # Checked here and not at import, because gunicorn and Celery may patch threads after the import.
                self._loop = greenlets.NativeLoop() if greenlets.are_patched() else ThreadLoop()
            return self._loop


class ThreadLoop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="wsrt-background-loop", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


_background_loop = BackgroundLoop()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on this process's background loop and return its result. See BackgroundLoop.run()."""
    return _background_loop.run(work)


def _reset() -> None:
    global _background_loop
    _background_loop = BackgroundLoop()


after_fork_in_child(_reset)
