"""Handlers: who is told, one after the other."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Report = Callable[[Exception], None]
"""What is told of errors that have no caller."""

GRACE = 1.0
"""Seconds that a running handler gets when the client is closed."""


def is_cancelled() -> bool:
    """Return whether the current task itself was cancelled: a CancelledError may also come from one that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def cancelled_within(call: object, error: asyncio.CancelledError) -> Exception:
    """Return what is reported where a call of the application raised CancelledError by itself."""
    problem = RuntimeError(f"{call} awaited what was cancelled")
    problem.__cause__ = error
    return problem


class Listeners(Generic[P]):
    """
    Handlers of one kind, in the order in which they were added; an error of one does not stop the others.

    Args:
        era: a number; when it changes, those that a call has yet to come to are not called any more.
    """

    def __init__(self, report: Report, era: Callable[[], int] = lambda: 0) -> None:
        self._report = report
        self._era = era
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
        era = self._era()
        for entry in list(self._entries):
            if self._era() != era:
                return
            if not any(entry is other for other in self._entries):
                continue  # removed by the one before
            try:
                result = entry[0](*args, **kwargs)
                if inspect.isawaitable(result):
                    await result
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                self._report(cancelled_within(entry[0], error))
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
        on_lost: called when that task has ended by itself, as when somebody cancels it: no handler is called any more.
    """

    def __init__(self, limit: int, report: Report, on_lost: Callable[[], None]) -> None:
        self._limit = limit
        self._report = report
        self._on_lost = on_lost
        # Calls, and whether they outlive clear().
        self._waiting: collections.deque[tuple[Callable[[], Awaitable[None]], bool]] = collections.deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        # How many want the socket to be read, whatever waits.
        self._hurries = 0
        self._era = 0
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to call handlers."""
        self._is_ending = False
        self._begin()

    def era(self) -> int:
        """Return how often ``clear()`` was called."""
        return self._era

    @property
    def is_current(self) -> bool:
        """Whether the caller is a handler."""
        return self._task is not None and not self._task.done() and asyncio.current_task() is self._task

    @property
    def has_room(self) -> bool:
        """Whether no handler is behind, or somebody is in a hurry."""
        return self._has_room.is_set()

    def post(self, call: Callable[[], Awaitable[None]], *, keep: bool = False) -> None:
        """Let something be told; with ``keep`` also after ``clear()``."""
        self._waiting.append((call, keep))
        self._changed.set()
        self._look()

    async def until_room(self) -> None:
        """Wait while too much waits for handlers, and nobody is in a hurry."""
        await self._has_room.wait()

    @contextlib.contextmanager
    def hurry(self) -> Iterator[None]:
        """Within, there is room for whatever comes: what the caller waits for may be behind it."""
        self._hurries += 1
        self._look()
        try:
            yield
        finally:
            self._hurries -= 1
            self._look()

    def clear(self) -> None:
        """Forget what was not told yet, but for what is to be kept."""
        self._era += 1
        self._waiting = collections.deque(entry for entry in self._waiting if entry[1])
        self._look()

    async def end(self, grace: float | None) -> None:
        """
        Tell what there is to tell, and end; after ``grace`` seconds by force.

        What still waits behind a handler that was ended by force is told then, within GRACE.
        """
        self._is_ending = True
        self._changed.set()
        for seconds in (grace, GRACE):
            task = self._task
            if task is None or task.done():
                if not self._waiting:
                    return
                task = self._begin()
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _begin(self) -> asyncio.Task[None]:
        # Anew: events belong to the loop in which they were waited for.
        self._changed, self._has_room = asyncio.Event(), asyncio.Event()
        self._look()
        self._task = asyncio.create_task(self._run(), name="wsrt-client-handlers")
        self._task.add_done_callback(self._ended)
        return self._task

    def _look(self) -> None:
        if len(self._waiting) < self._limit or self._hurries:
            self._has_room.set()
        else:
            self._has_room.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is self._task and not self._is_ending:
            self._on_lost()

    async def _run(self) -> None:
        while True:
            while self._waiting:
                call, _ = self._waiting.popleft()
                self._look()
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
