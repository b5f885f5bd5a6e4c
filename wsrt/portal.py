"""The portal: one background event loop a process, by which synchronous code reaches the channel layer."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """
    An event loop in a daemon thread, started at first use.

    A loop for each call (``async_to_sync``) would open a connection to Redis for each call. After a fork the child
    makes its own: threads are not inherited, and sockets must not be shared.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result; blocks the calling thread."""
        return asyncio.run_coroutine_threadsafe(work, self._running_loop()).result()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="wsrt-portal", daemon=True).start()
                self._loop = loop
            return self._loop


portal = Portal()


def _reset() -> None:
    global portal
    portal = Portal()


os.register_at_fork(after_in_child=_reset)
