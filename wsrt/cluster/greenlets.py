"""
Greenlets: the background loop of a process whose threads gevent has patched.

Under gevent a ``threading.Thread`` is a greenlet of the same operating system thread. An event loop in one would seem
to run in every other one too, and Django would refuse the ORM there. Here the loop has a native thread, and a caller
that waits for it lets other greenlets run.
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
"""Native threads for what asyncio itself does in threads: it looks up host names."""


def are_patched() -> bool:
    """
    Return whether threads are greenlets in this process.

    Raises:
        WrongContext: they are, and it was eventlet that patched them, which is not supported.
    """
    # Looked up, never imported: what isn't loaded has patched nothing.
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise WrongContext(
            "eventlet has patched the threads of this process, in which wsrt can't run an event loop beside them: "
            "use gevent, threads or processes (gunicorn -k gevent or gthread, celery -P gevent, threads or prefork)"
        )
    gevent: Any = sys.modules.get("gevent.monkey")
    return gevent is not None and bool(gevent.is_module_patched("threading"))


def thread_pool(workers: int, name: str) -> concurrent.futures.ThreadPoolExecutor:
    """
    Return a pool of native threads for the event loop of this thread, also where threads are greenlets.

    Args:
        workers: The largest number of threads.
        name: What the names of the threads begin with; gevent's have none.
    """
    if are_patched():
        return _NativePool(workers)
    return concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix=name)


class _NativePool(concurrent.futures.ThreadPoolExecutor):
    """
    Native threads, with futures that only greenlets of the loop's thread touch.

    The locks of a future are gevent's here, and its queues don't wake another thread: those of a pool of greenlets
    would keep the process from ending.
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
    """An event loop in a native thread, below gevent."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        # What was asked for before the loop was there. Nobody waits for that: the hub must not stand still.
        self._early: collections.deque[Callable[[], object]] = collections.deque()
        start_new_thread = _gevent("monkey").get_original("_thread", "start_new_thread")
        start_new_thread(self._serve, ())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run a coroutine to its end and return its result; other greenlets run meanwhile.

        A caller that is killed, or whose gevent.Timeout fires, cancels the coroutine.
        """
        # The hub of the calling thread: each native thread has its own.
        hub = _gevent("").get_hub()
        ended = _gevent("event").Event()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(work)
            tasks.append(task)
            # From the native thread, only this reaches the hub.
            task.add_done_callback(lambda _: hub.loop.run_callback_threadsafe(ended.set))

        # A hub that watches nothing takes the wait for a deadlock.
        alive = hub.loop.async_()
        alive.start(ended.set)
        self._call(begin)
        try:
            ended.wait()
        except BaseException:
            self._call(lambda: tasks[0].cancel())
            raise
        finally:
            alive.stop()
            alive.close()
        return tasks[0].result()

    def _call(self, function: Callable[[], object]) -> None:
        """Have a function called in the loop, after those before it."""
        self._early.append(function)
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._call_all)

    def _call_all(self) -> None:
        while self._early:
            self._early.popleft()()

    def _serve(self) -> None:
        # With a hub of this thread, whose greenlets run while the loop waits.
        loop = asyncio.SelectorEventLoop(_gevent("selectors").GeventSelector())
        loop.set_default_executor(_NativePool(LOOKUPS))
        self._loop = loop
        loop.call_soon(self._call_all)
        loop.run_forever()


def _gevent(name: str) -> Any:
    return importlib.import_module(f"gevent.{name}" if name else "gevent")
