"""A registry of values that belong to one event loop each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from .forks import after_fork_in_child

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """
    One value for each event loop of this process, created when it is first asked for.

    Values of closed loops are dropped when the next one is created. A forked child starts without any: the loops of its
    parent don't run in it.

    Args:
        create: Called in the running loop; returns its value.
    """

    def __init__(self, create: Callable[[], T]) -> None:
        self._create = create
        # By the id of the loop. The loop is kept too, because an id is reused once its object is gone.
        self._values: dict[int, tuple[asyncio.AbstractEventLoop, T]] = {}
        after_fork_in_child(self._values.clear)

    def get(self) -> T:
        """Return the value of the running loop, created if necessary."""
        loop = asyncio.get_running_loop()
        known = self._values.get(id(loop))
        if known is None or known[0] is not loop:
            # Copied, because other threads may add the values of their own loops in the meantime.
            for key, (other, _) in list(self._values.items()):
                if other.is_closed():
                    self._values.pop(key, None)
            known = self._values[id(loop)] = (loop, self._create())
        return known[1]

    def find(self) -> T | None:
        """Return the value of the running loop; None if none was created."""
        loop = asyncio.get_running_loop()
        known = self._values.get(id(loop))
        return known[1] if known is not None and known[0] is loop else None

    def all(self) -> list[T]:
        """Return the values of all loops that aren't closed, whichever thread runs them."""
        return [value for loop, value in list(self._values.values()) if not loop.is_closed()]
