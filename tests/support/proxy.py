"""A TCP proxy that stages a bad network: distance, silence, broken connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

from tests.support.transports import close_accepted


class TcpProxy:
    """
    Forwards to a port.

    ``blackhole()`` forwards no more and closes nothing, ``restore()`` serves new connections, ``reset()`` breaks those
    that are open.

    Args:
        target: the port.
        latency: seconds of a round trip, half of them each way. Order is kept, and nothing waits for what is before it.
    """

    def __init__(self, target: int, latency: float = 0) -> None:
        self.target = target
        self.latency = latency
        self.port = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._is_closed = False
        self._generation = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address of a Redis behind the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        await close_accepted(self.port)

    def blackhole(self) -> None:
        """Drop whatever the connections so far carry, for good; accept new ones and say nothing."""
        self._generation += 1
        self._is_open.clear()

    def restore(self) -> None:
        """Serve connections that are opened from now on."""
        self._is_open.set()

    def reset(self) -> None:
        """Break all connections, as a peer that has crashed does."""
        self._generation += 1
        for writer in self._writers:
            connection = writer.get_extra_info("socket")
            if connection is not None and not writer.is_closing():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        generation = self._generation
        if not self._is_open.is_set():
            return
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target)
        if self._is_closed:
            upstream_writer.transport.abort()
            return
        self._writers.append(upstream_writer)
        for source, sink in ((reader, upstream_writer), (upstream_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink, generation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, generation: int) -> None:
        loop = asyncio.get_running_loop()

        def write(data: bytes) -> None:
            if generation == self._generation and not sink.is_closing():
                sink.write(data)

        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self.latency:
                    loop.call_later(self.latency / 2, write, data)
                else:
                    write(data)
                    await sink.drain()
        if generation == self._generation:
            loop.call_later(self.latency / 2, sink.close)
