"""Steps: a server's own ``send`` is run at once up to where it suspends, and finished by a task if it does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

SERVERS = frozenset({"daphne", "hypercorn", "uvicorn", "wsrt"})
"""Packages whose ``send`` depends neither on the task nor on the context that calls it."""


def is_plain(send: Any) -> bool:
    """Return whether a ``send`` is a server's own, perhaps below the session middleware of Channels."""
    session = getattr(send, "__self__", None)
    if type(session).__module__ == "channels.sessions":
        send = getattr(session, "real_send", send)
    function = getattr(send, "func", send)
    return str(getattr(function, "__module__", "")).partition(".")[0] in SERVERS


class Remainder:
    """The rest of a coroutine that was begun."""

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
                step: Callable[[Any], Any] = self._rest.throw
                argument: Any = error
            else:
                step, argument = self._rest.send, value
            try:
                waits_for = step(argument)
            except StopIteration:
                return
