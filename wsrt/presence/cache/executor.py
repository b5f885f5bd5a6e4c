"""
The threads in which the cache store calls Django's cache.

Cache backends block, even in their asynchronous methods. So each operation of the store runs as one function in a
thread, with few round trips to the cache in it. ``sync_to_async`` isn't used: it copies the caller's context, and
Django would then create a backend, with connections of its own, for each task. Here each thread has one backend.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from django.core.cache import caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.db import close_old_connections

from ...cluster.greenlets import thread_pool
from ...delivery.jitter import jittered
from ...stores.batches import batches
from ..base import BadCursor, StoreUnavailable

T = TypeVar("T")

THREADS = 4
"""Threads for each event loop. Further operations wait."""

GET = 500
"""Keys read in one call: databases limit the number of parameters of a query."""

SET = 100
"""Values written in one call."""

TRIES = 4
"""Attempts to write a value to the database cache, which hides errors."""


class SerialQueue:
    """A queue of writes that must run one after the other. It stores the last one, for which the next one waits."""

    def __init__(self) -> None:
        self.last: concurrent.futures.Future[Any] | None = None


class CacheExecutor:
    """
    Runs functions that use one of Django's caches, for one event loop.

    Args:
        alias: The cache's alias in ``CACHES``.
        timeout: The number of seconds after which a caller stops waiting. The thread continues: it can't be stopped.
    """

    def __init__(self, alias: str, timeout: float) -> None:
        self._alias = alias
        self._timeout = timeout
        self._threads = thread_pool(THREADS, "wsrt-presence")
        # If all threads hang in the cache, callers wait here and not in the thread pool's queue. That queue is
        # unbounded, and work would stay in it after its caller has timed out.
        self._free = asyncio.Semaphore(THREADS)
        self._is_closed = False
        # The backend of each thread.
        self._local = threading.local()

    async def run(self, work: Callable[[Access], T], queue: SerialQueue | None = None) -> T:
        """
        Call a function in a thread.

        Args:
            work: The function. It gets the cache and returns the result.
            queue: The queue of writes that this one belongs to. It starts after the previous one has ended, even if the
                caller of that one has timed out.

        Returns:
            The result of the function.

        Raises:
            StoreUnavailable: The cache failed or didn't answer in time, or the store was closed.
        """
        try:
            async with asyncio.timeout(self._timeout):
                # A TimeoutError here or below means that nothing is known about the write: it may still happen.
                if queue is not None and queue.last is not None and not queue.last.done():
                    await asyncio.wrap_future(queue.last)
                await self._free.acquire()
                future = self._submit(work)
                if queue is not None:
                    queue.last = future
                outcome = await asyncio.wrap_future(future)
        except TimeoutError as late:
            raise StoreUnavailable(f"the cache {self._alias!r} didn't answer within {self._timeout:g} s") from late
        return outcome()

    def _submit(self, work: Callable[[Access], T]) -> concurrent.futures.Future[Callable[[], T]]:
        """
        Start work in a free thread.

        The caller holds the semaphore, which is released when the thread has finished.
        """
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            # RuntimeError: the loop was closed in the meantime. Then no caller waits for the semaphore.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._free.release)

        if self._is_closed:
            self._free.release()
            raise StoreUnavailable(f"presence in the cache {self._alias!r} was closed")
        future = self._threads.submit(self._work, work)
        future.add_done_callback(free)
        return future

    def close(self) -> None:
        """End the threads when they have finished. Each closes its backend, and with it its connections."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work(self, work: Callable[[Access], T]) -> Callable[[], T]:
        """
        Run work in this thread.

        Returns:
            A function that returns the result or raises the error. A future with an exception would be logged as never
            retrieved when its caller has timed out.
        """
        try:
            # The cache may be in a database. Django checks its connections at both ends of a request, so do the same.
            close_old_connections()
            try:
                result = work(Access(self._alias, self._cache()))
            finally:
                close_old_connections()
        except Exception as error:
            return functools.partial(self._fail, error)
        return lambda: result

    def _cache(self) -> Any:
        """Return this thread's cache backend."""
        cache = caches[self._alias]
        if getattr(self._local, "cache", None) is not cache:
            self._local.cache, self._local.closing = cache, _Closing(cache)
        return cache

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, StoreUnavailable | BadCursor):
            raise error
        raise StoreUnavailable(f"the cache {self._alias!r} failed: {type(error).__name__}: {error}") from error


class _Closing:
    """Closes a backend when its thread ends and drops its local data. Clients of memcached need to be closed."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __del__(self) -> None:
        self._cache.close()


class Access:
    """The cache, as used within one thread. All values are strings."""

    def __init__(self, alias: str, cache: Any) -> None:
        self._alias = alias
        self._cache = cache

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the values that exist, by key."""
        found: dict[str, str] = {}
        for batch in batches(list(keys), GET):
            found |= self._cache.get_many(batch)
        return found

    def set(self, values: Mapping[str, str], seconds: int) -> None:
        """
        Write values in the given order.

        Args:
            values: The values by key.
            seconds: The time after which the cache drops them.

        Raises:
            StoreUnavailable: The cache rejected some of them.
        """
        for batch in batches(list(values), SET):
            part = {key: values[key] for key in batch}
            failed = self._cache.set_many(part, seconds)
            if isinstance(self._cache, BaseDatabaseCache):
                failed = self._rewrite_missing(part, seconds)
            if failed:
                longest = max(map(len, part.values()))
                raise StoreUnavailable(
                    f"the cache {self._alias!r} rejected {len(failed)} of {len(part)} values; the longest of all "
                    f"has {longest} characters"
                )

    def add(self, key: str, value: str, seconds: int) -> bool:
        """Write a value unless the key exists. Return whether it was written."""
        # Read it back: when the row of an expired value exists, the database cache lets two concurrent calls succeed.
        return bool(self._cache.add(key, value, seconds)) and self._cache.get(key, value) == value

    def delete(self, keys: Iterable[str]) -> None:
        for batch in batches(list(keys), GET):
            self._cache.delete_many(batch)

    def _rewrite_missing(self, values: Mapping[str, str], seconds: int) -> list[str]:
        """
        Write values again that a write has lost, as the database cache hides errors.

        Returns:
            The keys of those that could not be written.
        """
        missing = dict(values)
        for _ in range(TRIES):
            found = self.get(missing)
            missing = {key: text for key, text in missing.items() if found.get(key) != text}
            if not missing:
                break
            time.sleep(jittered(0.05, 0))  # writers that collided shouldn't collide again
            self._cache.set_many(missing, seconds)
        return list(missing)
