"""The stores of one event loop, which are created when they are first used and closed with the loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, Protocol, TypeVar


class Store(Protocol):
    """A store of presence or history."""

    async def close(self) -> None:
        """Close its connections and threads."""


S = TypeVar("S", bound=Store)


class StoreOfLoop(Generic[S]):
    """
    The store of one event loop, and those of earlier settings.

    ``asyncio.run`` and ``async_to_sync`` shut down the loop's asynchronous generators before they close it. This class
    keeps such a generator suspended, whose ``finally`` closes the stores. Servers call close() instead.

    Args:
        make: Returns a new store for settings; None if they can't be used.
    """

    def __init__(self, make: Callable[[dict[str, Any]], S | None]) -> None:
        self._make = make
        self.settings: str | None = None
        self.store: S | None = None
        self._made: list[S] = []
        self._closing = self._close_at_the_end()
        # Run the generator to its yield, which registers it with the loop. It doesn't wait for anything, so the
        # coroutine ends at once.
        with contextlib.suppress(StopIteration):
            self._closing.__anext__().send(None)

    def use(self, settings: dict[str, Any]) -> S | None:
        """Return the store for these settings. It is created when they have changed."""
        text = repr(settings)
        if text != self.settings:
            self.settings, self.store = text, self._make(settings)
            if self.store is not None:
                self._made.append(self.store)
        return self.store

    async def close(self) -> None:
        """Close the stores."""
        for store in self._made:
            # An exception of one store must not keep the others open.
            with contextlib.suppress(Exception):
                await store.close()

    async def _close_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()
