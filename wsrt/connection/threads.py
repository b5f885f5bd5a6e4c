"""The thread pool in which ``def`` handlers and hooks run, and the way back from a thread to the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import AsyncToSync, sync_to_async

from ..cluster.forks import after_fork_in_child
from ..conf import conf
from .db import call_with_connections

T = TypeVar("T")

_caller: contextvars.ContextVar[CurrentThreadExecutor | None] = contextvars.ContextVar("_caller", default=None)
"""Runs functions in the thread that waits for the current task. None if no thread waits for it."""


async def run_in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """
    Run a function in the pool, or in the thread that waits for the current task.

    Django's async test methods run below ``async_to_sync``. There the function runs in the thread of the test, which
    has the database connections and the transaction.

    If the calling task is cancelled, the function still runs to its end.

    Raises:
        Exception: Anything that the function raises.
        RuntimeError: The function raised StopIteration, which a future can't carry.
    """
    function = _without_stop_iteration(function)
    caller = _caller.get()
    if caller is not None:
        # A def handler called run_in_loop() and waits in its thread for the task that calls this.
        call = functools.partial(contextvars.copy_context().run, function, *args)
        return await asyncio.get_running_loop().run_in_executor(caller, call)
    if getattr(AsyncToSync.executors, "current", None) is not None:
        # Thread-sensitive: below async_to_sync, this is the thread that called it.
        return await sync_to_async(function)(*args)
    call = functools.partial(call_with_connections, function)
    return await sync_to_async(call, thread_sensitive=False, executor=_pool())(*args)


def run_in_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """
    Run a coroutine in an event loop, from another thread, and return its result.

    ``def`` hooks that the coroutine calls run in the waiting thread. They share its transaction, and there is no
    deadlock when all threads of the pool are waiting.

    Args:
        loop: The event loop, which runs in another thread.
        work: Creates the coroutine. Called in the loop.

    Raises:
        Exception: Anything that the coroutine raises.
    """
    caller = CurrentThreadExecutor(None)

    async def run() -> T:
        _caller.set(caller)
        return await work()

    running = asyncio.run_coroutine_threadsafe(run(), loop)
    # Runs the def hooks of the coroutine in this thread, until the coroutine has ended.
    caller.run_until_future(running)
    return running.result()


def _without_stop_iteration(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that raises RuntimeError instead of StopIteration, which a future can't hold."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except StopIteration as error:
            raise RuntimeError(f"{function.__qualname__} raised StopIteration") from error

    return call


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(conf.threads, thread_name_prefix="wsrt-handler")


after_fork_in_child(_pool.cache_clear)
