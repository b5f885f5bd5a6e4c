"""Steps: a coroutine is run at once up to where it suspends, and finished by a task if it does."""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # documented for those who extend asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

SERVERS = frozenset({"daphne", "hypercorn", "uvicorn", "wsrt"})
"""Packages whose ``send`` does not look who calls it."""


def is_plain(send: Any) -> bool:
    """Return whether a ``send`` is a server's own, perhaps below the session middleware of Channels."""
    session = getattr(send, "__self__", None)
    if type(session).__module__ == "channels.sessions":
        send = getattr(session, "real_send", send)
    function = getattr(send, "func", send)
    return str(getattr(function, "__module__", "")).partition(".")[0] in SERVERS


def begin(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> Step | None:
    """
    Run a coroutine up to where it suspends; return the rest of it, to be awaited, or None when it is done.

    What it raises is raised. It sees a current task of its own, whoever calls this: a time-out in it must not cancel
    the caller.
    """
    stand_in = StandIn()
    current = asyncio.current_task(loop)
    if current is not None:
        _leave_task(loop, current)
    _enter_task(loop, stand_in)  # type: ignore[arg-type]
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    finally:
        _leave_task(loop, stand_in)  # type: ignore[arg-type]
        if current is not None:
            _enter_task(loop, current)
    return Step(work, waits_for, stand_in)


class StandIn:
    """The current task of a step, and after that of the task which finishes it: ``asyncio.timeout`` cancels this."""

    __slots__ = ("__weakref__", "_is_cancelled", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    def begin(self) -> None:
        """The running task finishes the work."""
        self._task = asyncio.current_task()
        if self._is_cancelled and self._task is not None:
            self._task.cancel()

    def cancel(self, msg: Any = None) -> bool:
        self._is_cancelled = True
        return self._task.cancel(msg) if self._task is not None else True

    def uncancel(self) -> int:
        self._is_cancelled = False
        return self._task.uncancel() if self._task is not None else 0

    def cancelling(self) -> int:
        return self._task.cancelling() if self._task is not None else int(self._is_cancelled)

    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def get_name(self) -> str:
        return "wsrt-send"


class Step:
    """The rest of a coroutine that was begun."""

    __slots__ = ("_rest", "_stand_in", "_waits_for")

    def __init__(self, rest: Coroutine[Any, Any, None], waits_for: Any, stand_in: StandIn | None) -> None:
        self._rest = rest
        self._waits_for = waits_for
        self._stand_in = stand_in

    def __await__(self) -> Generator[Any, Any, None]:
        if self._stand_in is not None:
            self._stand_in.begin()
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                step: Callable[[Any], Any] = self._rest.throw
                argument: Any = error
            else:
                step, argument = self._rest.send, value
            try:
                waits_for = step(argument)
            except StopIteration:
                return
