"""Handlers: who is told, one after the other."""

from __future__ import annotations

import asyncio
import collections
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Report = Callable[[Exception], None]
"""What is told of errors that have no caller."""

GRACE = 1.0
"""Seconds that a running handler gets when the client is closed."""


class Listeners(Generic[P]):
    """Handlers of one kind, in the order in which they were added; an error of one does not stop the others."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._entries: list[tuple[Callable[P, object]]] = []

    def add(self, handler: Callable[P, object]) -> Callable[[], None]:
        """Add a handler, sync or async; return what removes it."""
        entry = (handler,)
        self._entries.append(entry)

        def remove() -> None:
            # By identity: one handler may have been added twice.
            self._entries[:] = [other for other in self._entries if other is not entry]

        return remove

    async def call(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call all of them, and wait for those that are async."""
        for entry in list(self._entries):
            if not any(entry is other for other in self._entries):
                continue  # removed by the one before
            try:
                result = entry[0](*args, **kwargs)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                self._report(error)


def takes_two(handler: Callable[..., object]) -> bool:
    """Return whether a handler has two parameters that it needs."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False  # a builtin
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(each.kind in kinds and each.default is each.empty for each in parameters) == 2


class Dispatcher:
    """
    Calls handlers in the order of what happened, in a task of its own: the socket is read while a handler waits.

    Args:
        limit: how much may wait for handlers; ``until_room()`` tells whoever reads the socket.
    """

    def __init__(self, limit: int, report: Report) -> None:
        self._limit = limit
        self._report = report
        self._waiting: collections.deque[Callable[[], Awaitable[None]]] = collections.deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to call handlers."""
        self._is_ending = False
        self._task = asyncio.create_task(self._run(), name="wsrt-client-handlers")

    @property
    def is_current(self) -> bool:
        """Whether the caller is a handler."""
        return self._task is not None and asyncio.current_task() is self._task

    @property
    def has_room(self) -> bool:
        """Whether no handler is behind."""
        return self._has_room.is_set()

    def post(self, call: Callable[[], Awaitable[None]]) -> None:
        """Let something be told."""
        self._waiting.append(call)
        self._changed.set()
        if len(self._waiting) >= self._limit:
            self._has_room.clear()

    async def until_room(self) -> None:
        """Wait while too much waits for handlers."""
        await self._has_room.wait()

    def clear(self) -> None:
        """Forget what was not told yet."""
        self._waiting.clear()
        self._has_room.set()

    async def end(self, grace: float | None) -> None:
        """Tell what there is to tell, and end; after ``grace`` seconds by force."""
        task, self._is_ending = self._task, True
        self._changed.set()
        if task is None:
            return
        try:
            await asyncio.wait({task}, timeout=grace)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _run(self) -> None:
        while True:
            while self._waiting:
                call = self._waiting.popleft()
                if len(self._waiting) < self._limit:
                    self._has_room.set()
                try:
                    await call()
                except Exception as error:
                    self._report(error)
            if self._is_ending:
                return
            self._changed.clear()
            await self._changed.wait()


class Stream(Generic[T]):
    """
    Events one by one, for ``async for``; ends when the client is closed, and goes on over reconnects.

    It holds the latest ``limit`` events for a reader that is behind; what is dropped is counted.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._items: collections.deque[T] = collections.deque()
        self._limit = limit
        self._changed = asyncio.Event()
        self._is_closed = False
        self.dropped = 0

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._is_closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()

    def put(self, item: T) -> None:
        """Hand over an event."""
        if self._is_closed:
            return
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """End it, after what waits."""
        self._is_closed = True
        self._changed.set()


def with_delivery(handler: Callable[..., object]) -> Callable[[Any, Any], object]:
    """Return a handler that is called with an event and its delivery, whether it wants the second or not."""
    if takes_two(handler):
        return handler
    return lambda event, delivery: handler(event)
