"""
The executor: a cache of Django as the cache store uses it.

Backends block, whatever their asynchronous methods say, so everything that a caller wants is done in a thread, at once:
one hop, with few round trips in it. The hop is not asgiref's, which would carry the caller's context along and with it
a backend, and connections, for each task; here they belong to the thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from django.core.cache import caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.db import close_old_connections

from ...cluster.greenlets import thread_pool
from ...delivery.jitter import jittered
from ..base import BadCursor, StoreUnavailable

T = TypeVar("T")

THREADS = 4
"""For each event loop; what finds them busy waits."""

GET = 500
"""Keys that are asked for at a time: databases limit what one query may name."""

SET = 100
"""PagedDocuments that are written at a time."""

TRIES = 4
"""Attempts to write to a database that loses writes."""


class SerialQueue:
    """Makes writes that must not overtake each other wait for their turn."""

    def __init__(self) -> None:
        self.last: concurrent.futures.Future[Any] | None = None


class CacheExecutor:
    """
    Django's cache, for one event loop.

    Args:
        alias: in ``CACHES``.
        timeout: seconds that a caller waits. The thread goes on, as nothing can stop it.
    """

    def __init__(self, alias: str, timeout: float) -> None:
        self._alias = alias
        self._timeout = timeout
        self._threads = thread_pool(THREADS, "wsrt-presence")
        # While the cache keeps all threads hanging, callers wait here and not in the executor's queue: it has no bound,
        # and nothing leaves it when a caller gives up.
        self._free = asyncio.Semaphore(THREADS)
        self._is_closed = False
        # Of each thread.
        self._local = threading.local()

    async def run(self, work: Callable[[Access], T], queue: SerialQueue | None = None) -> T:
        """
        Call a function in a thread.

        Args:
            queue: Work of one queue runs in order, even after its caller has given up waiting.

        Raises:
            StoreUnavailable: the cache failed, or did not answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                if queue is not None and queue.last is not None and not queue.last.done():
                    await asyncio.wrap_future(queue.last)
                await self._free.acquire()
                future = self._submit(work)
                if queue is not None:
                    queue.last = future
                outcome = await asyncio.wrap_future(future)
        except TimeoutError as late:
            raise StoreUnavailable(f"the cache {self._alias!r} did not answer in {self._timeout:g} s") from late
        return outcome()

    def _submit(self, work: Callable[[Access], T]) -> concurrent.futures.Future[Callable[[], T]]:
        """Give work to a thread that is free; when it is done, the next caller has its turn."""
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            # A loop that was closed has no callers.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._free.release)

        if self._is_closed:
            self._free.release()
            raise StoreUnavailable(f"presence in the cache {self._alias!r} was closed")
        future = self._threads.submit(self._work, work)
        future.add_done_callback(free)
        return future

    def close(self) -> None:
        """Let the threads go, and with them their connections."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work(self, work: Callable[[Access], T]) -> Callable[[], T]:
        """Return what returns the result, or raises: nobody may be there any more to take an error."""
        try:
            # The cache may be in a database, whose connections are looked after here as at both ends of a request.
            close_old_connections()
            try:
                result = work(Access(self._alias, self._cache()))
            finally:
                close_old_connections()
        except Exception as error:
            return functools.partial(self._fail, error)
        return lambda: result

    def _cache(self) -> Any:
        """Return the thread's backend."""
        cache = caches[self._alias]
        if getattr(self._local, "cache", None) is not cache:
            self._local.cache, self._local.closing = cache, _Closing(cache)
        return cache

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, StoreUnavailable | BadCursor):
            raise error
        raise StoreUnavailable(f"the cache {self._alias!r} failed: {type(error).__name__}: {error}") from error


class _Closing:
    """Closes a backend at the end of its thread: nobody else knows when that is, and clients of memcached need it."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __del__(self) -> None:
        self._cache.close()


class Access:
    """The cache, within a thread. All values are strings."""

    def __init__(self, alias: str, cache: Any) -> None:
        self._alias = alias
        self._cache = cache

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """Return what there is, by key."""
        found: dict[str, str] = {}
        for batch in _batches(list(keys), GET):
            found |= self._cache.get_many(batch)
        return found

    def set(self, documents: Mapping[str, str], seconds: int) -> None:
        """
        Write values in the order in which they are given.

        Raises:
            StoreUnavailable: not all were taken.
        """
        for batch in _batches(list(documents), SET):
            part = {key: documents[key] for key in batch}
            failed = self._cache.set_many(part, seconds)
            if isinstance(self._cache, BaseDatabaseCache):
                failed = self._make_sure(part, seconds)
            if failed:
                longest = max(map(len, part.values()))
                raise StoreUnavailable(
                    f"the cache {self._alias!r} did not take {len(failed)} of {len(part)} documents, which have up to "
                    f"{longest} characters"
                )

    def add(self, key: str, value: str, seconds: int) -> bool:
        """Write a value unless there is one; return whether it is there now, and was not there before."""
        # The database cache lets two of them in, where the row of one before has expired.
        return bool(self._cache.add(key, value, seconds)) and self._cache.get(key, value) == value

    def delete(self, keys: Iterable[str]) -> None:
        for batch in _batches(list(keys), GET):
            self._cache.delete_many(batch)

    def _make_sure(self, documents: Mapping[str, str], seconds: int) -> list[str]:
        """Return the keys of what was not written: the database cache keeps its errors for itself."""
        missing = dict(documents)
        for _ in range(TRIES):
            found = self.get(missing)
            missing = {key: text for key, text in missing.items() if found.get(key) != text}
            if not missing:
                break
            time.sleep(jittered(0.05, 0))  # writers that collided shouldn't collide again
            self._cache.set_many(missing, seconds)
        return list(missing)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
