"""Handlers: who is told, one after the other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
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

    def __init__(self, report: Report, generation: Callable[[], int] = lambda: 0) -> None:
        self._report = report
        self._generation = generation
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
        generation = self._generation()
        for entry in list(self._entries):
            if self._generation() != generation:
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


def needs_two_arguments(handler: Callable[..., object]) -> bool:
    """Return whether a handler has two parameters that it needs."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False  # a builtin
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(each.kind in kinds and each.default is each.empty for each in parameters) == 2


def with_delivery(handler: Callable[..., object]) -> Callable[[Any, Any], object]:
    """Return a handler that is called with an event and its delivery, whether it wants the second or not."""
    if needs_two_arguments(handler):
        return handler
    return lambda event, delivery: handler(event)
