"""Lists of handlers, called one after the other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Report = Callable[[Exception], None]
"""A function that receives errors that can't be raised to a caller."""

GRACE = 1.0
"""Seconds that a running handler gets when the client is closed."""


def is_cancelled() -> bool:
    """
    Return whether the current task was cancelled.

    A CancelledError may also come from another task or future that the current task awaits.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def cancelled_within(call: object, error: asyncio.CancelledError) -> Exception:
    """Return the error to report when application code raised CancelledError, but the current task wasn't cancelled."""
    problem = RuntimeError(f"{call} raised CancelledError: it awaited a cancelled task or future")
    problem.__cause__ = error
    return problem


class Listeners(Generic[P]):
    """
    Handlers of one kind, in the order in which they were added. An error in one doesn't stop the others.

    Args:
        report: Receives the errors that handlers raise.
        generation: Returns a number. When it changes during a call, the remaining handlers are skipped.
    """

    def __init__(self, report: Report, generation: Callable[[], int] = lambda: 0) -> None:
        self._report = report
        self._generation = generation
        self._entries: list[tuple[Callable[P, object]]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, handler: Callable[P, object]) -> Callable[[], None]:
        """Add a handler, sync or async. Return a function that removes it."""
        entry = (handler,)
        self._entries.append(entry)

        def remove() -> None:
            # By identity, because a handler may have been added twice.
            self._entries[:] = [other for other in self._entries if other is not entry]

        return remove

    async def call(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call all handlers, and await those that are async."""
        generation = self._generation()
        for entry in list(self._entries):
            if self._generation() != generation:
                return
            if not any(entry is other for other in self._entries):
                continue  # removed by a previous handler
            try:
                result = entry[0](*args, **kwargs)
                if inspect.isawaitable(result):
                    await result
            except asyncio.CancelledError as error:
                # Either this task was cancelled, or the handler awaited a task or future that was.
                if is_cancelled():
                    raise
                self._report(cancelled_within(entry[0], error))
            except Exception as error:
                self._report(error)


def needs_two_arguments(handler: Callable[..., object]) -> bool:
    """Return whether a handler has two required parameters."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False  # a builtin
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(each.kind in kinds and each.default is each.empty for each in parameters) == 2


def with_delivery(handler: Callable[..., object]) -> Callable[[Any, Any], object]:
    """Return a handler that takes an event and its delivery, and calls ``handler``, which may take the event only."""
    if needs_two_arguments(handler):
        return handler
    return lambda event, delivery: handler(event)
