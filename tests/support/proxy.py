"""A TCP proxy that can fall silent without a word, as a lost network does."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class TcpProxy:
    """Forwards to a port; ``blackhole()`` forwards no more and closes nothing, ``restore()`` serves new connections."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._generation = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for writer in self._writers:
            writer.close()

    def blackhole(self) -> None:
        """Drop whatever the connections so far carry, for good; accept new ones and say nothing."""
        self._generation += 1
        self._is_open.clear()

    def restore(self) -> None:
        """Serve connections that are opened from now on."""
        self._is_open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        generation = self._generation
        if not self._is_open.is_set():
            return
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.append(upstream_writer)
        for source, sink in ((reader, upstream_writer), (upstream_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink, generation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, generation: int) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if generation != self._generation:
                    continue
                sink.write(data)
                await sink.drain()
        if generation == self._generation:
            sink.close()
