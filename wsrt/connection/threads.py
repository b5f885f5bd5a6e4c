"""Threads: where ``def`` handlers run, with database connections that are looked after at both ends."""

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
from .db import close_connections

T = TypeVar("T")

_caller: contextvars.ContextVar[CurrentThreadExecutor | None] = contextvars.ContextVar("_caller", default=None)
"""Runs functions in the thread that waits for the current task. None where no thread does."""


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
    close_connections()
    try:
        return function(*args)
    finally:
        close_connections()


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(conf.threads, thread_name_prefix="wsrt-handler")


after_fork_in_child(_pool.cache_clear)
