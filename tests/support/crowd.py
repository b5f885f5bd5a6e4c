"""A crowd: thousands of plain clients on real sockets, in a thread beside a test that is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.asyncio.client import ClientConnection, connect

from tests.support.client import closed

T = TypeVar("T")

AT_ONCE = 100
"""Handshakes that are under way at a time."""


class Crowd:
    """Sockets by whatever the test calls them; those that are left at the end are cut."""

    def __init__(self) -> None:
        self.sockets: dict[Any, ClientConnection] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crowd", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 180) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def come(self, urls: dict[Any, str]) -> None:
        """Open a socket for each name."""
        self.run(self._come(urls))

    def leave(self, names: Iterable[Any]) -> None:
        """Close sockets with 1000."""
        self.run(self._leave(list(names)))

    def closes(self, names: Iterable[Any]) -> list[tuple[int, str]]:
        """Wait until the server closes sockets, and return the codes and reasons."""
        return self.run(self._closes([self.sockets.pop(name) for name in names]))

    async def _come(self, urls: dict[Any, str]) -> None:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(name: Any, url: str) -> None:
            async with turn:
                # Its keepalive would be a task a socket; the server has a heartbeat.
                self.sockets[name] = await connect(url, compression=None, ping_interval=None, open_timeout=60)

        await asyncio.gather(*(one(name, url) for name, url in urls.items()))

    async def _leave(self, names: list[Any]) -> None:
        sockets = [self.sockets.pop(name) for name in names]
        await asyncio.gather(*(socket.close() for socket in sockets))

    async def _hang_up(self) -> None:
        sockets = list(self.sockets.values())
        self.sockets.clear()
        for socket in sockets:
            socket.transport.abort()
        await asyncio.gather(*(socket.wait_closed() for socket in sockets))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _closes(self, sockets: list[ClientConnection]) -> list[tuple[int, str]]:
        return await asyncio.gather(*(closed(socket) for socket in sockets))
