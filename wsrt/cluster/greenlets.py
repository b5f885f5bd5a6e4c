"""
The background loop of a process whose threads are patched by gevent.

Under gevent, a ``threading.Thread`` is a greenlet in the same operating system thread. An event loop in one greenlet
would appear to run in all others too, and Django would refuse ORM calls there. This loop therefore runs in a native
thread, and a caller that waits for it lets other greenlets run.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import functools
import importlib
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..exceptions import WrongContext

T = TypeVar("T")

LOOKUPS = 4
"""Native threads for the calls that asyncio itself runs in threads, which are look-ups of host names."""


def are_patched() -> bool:
    """
    Return whether threads are greenlets in this process.

    Raises:
        WrongContext: The threads are patched by eventlet, which isn't supported.
    """
    # Looked up in sys.modules and never imported: a library that isn't loaded hasn't patched anything.
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise WrongContext(
            "eventlet has patched the threads of this process, so wsrt can't run an event loop in a thread: use "
            "gevent, threads or processes instead (gunicorn -k gevent or gthread, celery -P gevent, threads or prefork)"
        )
    gevent: Any = sys.modules.get("gevent.monkey")
    return gevent is not None and bool(gevent.is_module_patched("threading"))


def thread_pool(workers: int, name: str) -> concurrent.futures.ThreadPoolExecutor:
    """
    Return a pool of native threads for the event loop of this thread, even if threads are greenlets in this process.

    Args:
        workers: The maximum number of threads.
        name: The prefix of the threads' names. Threads of gevent have no names.
    """
    if are_patched():
        return _NativePool(workers)
    return concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix=name)


class _NativePool(concurrent.futures.ThreadPoolExecutor):
    """
    A pool of native threads whose futures are only touched by greenlets of the loop's thread.

    The locks of a future belong to gevent here, and its queues don't wake other threads. With the standard pool, the
    process would never exit.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._native = _gevent("threadpool").ThreadPool(workers)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        _gevent("").spawn(self._fulfil, future, functools.partial(function, *args, **kwargs))
        return future

    def _fulfil(self, future: concurrent.futures.Future[Any], function: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = self._native.apply(function)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)


class NativeLoop:
    """An event loop in a native thread, for a process that is patched by gevent."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        # Functions to be called by the loop. Calls made before the loop runs wait here: blocking until it runs would
        # block the hub of the calling thread, and with it all its greenlets.
        self._early: collections.deque[Callable[[], object]] = collections.deque()
        start_new_thread = _gevent("monkey").get_original("_thread", "start_new_thread")
        start_new_thread(self._serve, ())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run a coroutine and return its result. Other greenlets run in the meantime.

        The coroutine is cancelled if the calling greenlet is killed or its gevent.Timeout expires.
        """
        # The hub of the calling thread. Each native thread has its own hub.
        hub = _gevent("").get_hub()
        ended = _gevent("event").Event()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(work)
            tasks.append(task)
            # This runs in the native thread, where run_callback_threadsafe is the only safe way to reach the hub.
            task.add_done_callback(lambda _: hub.loop.run_callback_threadsafe(ended.set))

        # A hub without watchers treats a wait as a deadlock and raises, so give it one.
        alive = hub.loop.async_()
        alive.start(ended.set)
        self._call(begin)
        try:
            ended.wait()
        except BaseException:
            # The greenlet was killed or timed out. `begin` may not have run yet, but it runs before the cancellation:
            # the loop calls functions in order.
            self._call(lambda: tasks[0].cancel())
            raise
        finally:
            alive.stop()
            alive.close()
        return tasks[0].result()

    def _call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, after the functions that were passed before it."""
        self._early.append(function)
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._call_all)

    def _call_all(self) -> None:
        while self._early:
            self._early.popleft()()

    def _serve(self) -> None:
        # The selector uses the hub of this thread, whose greenlets run while the loop waits.
        loop = asyncio.SelectorEventLoop(_gevent("selectors").GeventSelector())
        loop.set_default_executor(_NativePool(LOOKUPS))
        self._loop = loop
        loop.call_soon(self._call_all)
        loop.run_forever()


def _gevent(name: str) -> Any:
    return importlib.import_module(f"gevent.{name}" if name else "gevent")
