"""Calls that must be awaited. While DEBUG is True, a call that is never awaited, and so does nothing, is reported."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import markcoroutinefunction

from ..metrics import counters

__all__ = ["Call", "must_be_awaited", "report_calls", "reported"]

P = ParamSpec("P")
T = TypeVar("T")

LINES = 10
"""How many calls are logged within the window of the counter."""

_is_reporting = False

# The warnings that were issued, by their line. Python shows each line once.
_warned: dict[Any, Any] = {}


def report_calls(is_reporting: bool) -> None:
    """Set whether calls that are never awaited are reported. This costs about a microsecond for each call."""
    global _is_reporting
    _is_reporting = is_reporting


def reported(coroutine: Coroutine[Any, Any, T], name: str) -> Coroutine[Any, Any, T]:
    """
    Return the coroutine of a call, so that it is reported if it is never awaited.

    Args:
        coroutine: The coroutine, which has not been started.
        name: The function as the application calls it, such as "self.send".
    """
    return Call(coroutine, name) if _is_reporting else coroutine


def must_be_awaited(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate an ``async def``, so that its calls are reported if they are never awaited."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return reported(function(*args, **kwargs), function.__name__)

    # asgiref's async_to_sync() warns about any other function.
    return markcoroutinefunction(call)


class Call(Coroutine[Any, Any, T]):
    """
    A coroutine that is logged if it is dropped without ever being awaited.

    Python itself issues a RuntimeWarning then. It names a function inside of wsrt, and Daphne's ``runserver`` doesn't
    show warnings.
    """

    __slots__ = ("__name__", "_coroutine", "_is_awaited", "_line", "_path")

    def __init__(self, coroutine: Coroutine[Any, Any, T], name: str) -> None:
        self.__name__ = name
        self._coroutine = coroutine
        self._is_awaited = False
        frame = _caller()
        self._path = frame.f_code.co_filename
        self._line = frame.f_lineno

    def __await__(self) -> Generator[Any, Any, T]:
        self._is_awaited = True
        return self._coroutine.__await__()

    # A task drives its coroutine with these methods.

    def send(self, value: Any) -> Any:
        self._is_awaited = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._is_awaited = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._is_awaited = True
        self._coroutine.close()

    def __del__(self) -> None:
        if self._is_awaited or sys.is_finalizing():
            return
        # Otherwise Python would also issue its own warning.
        self._coroutine.close()
        name = self.__name__
        problem = f"{name}() was never awaited, so it did nothing: write `await {name}(...)`"
        counters.count("calls_never_awaited", "%s:%d: %s", self._path, self._line, problem, lines=LINES)
        warnings.warn_explicit(problem, RuntimeWarning, self._path, self._line, registry=_warned)


def _caller() -> FrameType:
    """Return the frame of the code that called wsrt."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("wsrt."):
        frame = frame.f_back
    return frame
