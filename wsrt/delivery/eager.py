"""
Eager sending: a server's own ``send`` is run immediately. Only if it suspends, a task finishes it.

This needs a ``send`` that doesn't depend on the task or the context of its caller. Only those of known servers qualify.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

SERVERS = frozenset({"daphne", "hypercorn", "uvicorn", "wsrt"})
"""The packages whose ``send`` doesn't depend on the task or the context of its caller."""


def is_plain(send: Any) -> bool:
    """Return whether ``send`` is a known server's own, or one that only Channels' session middleware has wrapped."""
    session = getattr(send, "__self__", None)
    if type(session).__module__ == "channels.sessions":
        send = getattr(session, "real_send", send)
    function = getattr(send, "func", send)
    if hasattr(function, "__wrapped__"):
        return False  # functools.wraps() gave it the module of the server's send
    return str(getattr(function, "__module__", "")).partition(".")[0] in SERVERS


class Remainder:
    """
    The remainder of a coroutine whose first step was run by ``send(None)``. Await it to finish the coroutine.

    Args:
        rest: The coroutine, which is suspended.
        waits_for: The object that it yielded when it was started, usually a future.
    """

    __slots__ = ("_rest", "_waits_for")

    def __init__(self, rest: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._rest = rest
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                # A cancellation of the awaiting task, for one. It belongs to the coroutine, as with a plain await.
                step: Callable[[Any], Any] = self._rest.throw
                argument: Any = error
            else:
                step, argument = self._rest.send, value
            try:
                waits_for = step(argument)
            except StopIteration:
                return
