"""A connection to Redis whose commands don't wait for each other's answers."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..delivery.tasks import start_task

CONNECT_SECONDS = 5.0
"""How long connecting may take, greetings included."""

CLOSE_SECONDS = 1.0
"""How long closing may take."""

BACKLOG_COMMANDS = 10_000
BACKLOG_BYTES = 32 * 1024 * 1024
"""Commands that may be waiting, to be written or to be answered. More are refused at once."""

WRITE_BYTES = 65536
"""How much is handed to the socket at a time."""

Push = Callable[[bytes, bytes], Awaitable[object] | None]
"""Takes a message: the name of its channel and its data. Reading pauses while it awaits what this returns."""


class BacklogFull(Exception):
    """Too many commands are waiting for Redis already; this one wasn't sent."""


class _Command:
    __slots__ = ("answer", "packed")

    def __init__(self, packed: bytes, answer: asyncio.Future[Any]) -> None:
        self.packed = packed
        self.answer = answer


class Pipeline:
    """
    One connection, opened when there is a command to send, and opened again when it was lost.

    Commands are written in the order of the calls, and answered in that order. Those that were written when the
    connection breaks fail, as nobody can know whether Redis carried them out; those that weren't go to the next one.

    Args:
        pool: of redis-py. It only makes connections; nothing else uses them.
        on_push: takes the messages of a connection that subscribes.
        on_lost: called with the error when a connection that worked has ended.
    """

    def __init__(
        self, pool: Any, on_push: Push | None = None, on_lost: Callable[[BaseException], None] | None = None
    ) -> None:
        self._pool = pool
        self._on_push = on_push
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        # In the order of the calls: what is to be written, and what Redis has yet to answer.
        self._queued: collections.deque[_Command] = collections.deque()
        self._written: collections.deque[_Command] = collections.deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False
        self._is_closed = False

    @property
    def is_used(self) -> bool:
        """Whether there is a connection, or one is being opened."""
        return self._is_running

    def request(self, *command: str | bytes) -> asyncio.Future[Any]:
        """
        Send a command.

        Returns:
            Its answer. Cancel it to have the command forgotten, unless it has been written.

        Raises:
            BacklogFull: nothing was sent.
            ConnectionError: the pipeline is closed.
        """
        if self._is_closed:
            raise ConnectionError("the connection to Redis was closed")
        packed = _pack(command)
        if len(self._queued) + len(self._written) >= BACKLOG_COMMANDS or self._bytes + len(packed) > BACKLOG_BYTES:
            raise BacklogFull("too many commands are waiting for Redis")
        answer = self._loop.create_future()
        self._bytes += len(packed)
        self._queued.append(_Command(packed, answer))
        self._wake.set()
        if not self._is_running:
            self._is_running = True
            self._spawn(self._run())
        return answer

    async def close(self) -> None:
        """Close the connection, however dead it is. What waits for an answer fails."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for commands in (self._written, self._queued):
            self._fail(commands, ConnectionError("the connection to Redis was closed"))

    async def _run(self) -> None:
        reason: BaseException = ConnectionError("the connection to Redis was given up")
        try:
            while self._queued:
                try:
                    connection = await self._connect()
                except Exception as error:
                    reason = error
                    return
                try:
                    reason = await self._serve(connection)
                finally:
                    self._fail(self._written, reason)
                    if self._on_lost is not None and not self._is_closed:
                        self._on_lost(reason)
        finally:
            # Somebody else may have cancelled this, or there is no connection to be had: nothing will be written.
            self._is_running = False
            self._fail(self._queued, reason)

    async def _connect(self) -> Any:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        connection = self._pool.make_connection()
        # The caller retries, who knows what it is waiting for.
        connection.retry = Retry(NoBackoff(), 0)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()
        except BaseException:
            await _disconnect(connection)
            raise
        # An idle subscription isn't an error. That a connection is dead is seen by commands that aren't answered.
        connection.socket_timeout = None
        return connection

    async def _serve(self, connection: Any) -> BaseException:
        """Write and read until the connection ends; return why it did."""
        self._wake.set()
        halves = [self._spawn(self._write(connection)), self._spawn(self._read(connection))]
        try:
            done, _ = await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for half in halves:
                half.cancel()
            await _disconnect(connection)
        # Neither half ends but by an error, or because somebody else cancelled it.
        ended = done.pop()
        return (None if ended.cancelled() else ended.exception()) or ConnectionError("the connection was given up")

    async def _write(self, connection: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next_batch():
                await connection.send_packed_command(batch, check_health=False)

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._queued and size < WRITE_BYTES:
            command = self._queued.popleft()
            if command.answer.done():
                self._bytes -= len(command.packed)  # its caller has given up
                continue
            self._written.append(command)
            batch.append(command.packed)
            size += len(command.packed)
        return batch

    async def _read(self, connection: Any) -> None:
        from redis.exceptions import ResponseError

        while True:
            try:
                answer = await connection.read_response(disable_decoding=True)
            except ResponseError as error:
                self._settle(error)
                continue
            if isinstance(answer, list) and answer[0] == b"message":
                pause = None if self._on_push is None else self._on_push(answer[1], answer[2])
                if pause is not None:
                    await pause
            else:
                self._settle(answer)

    def _settle(self, answer: Any) -> None:
        command = self._written.popleft()
        self._bytes -= len(command.packed)
        if command.answer.done():
            return
        if isinstance(answer, Exception):
            command.answer.set_exception(answer)
        else:
            command.answer.set_result(answer)

    def _fail(self, commands: collections.deque[_Command], error: BaseException) -> None:
        while commands:
            command = commands.popleft()
            self._bytes -= len(command.packed)
            if not command.answer.done():
                command.answer.set_exception(ConnectionError(f"{type(error).__name__}: {error}"))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # A context of its own: not that of whoever happened to be first.
        task = start_task(self._loop, work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: only the first of two halves that fail is reported


async def _disconnect(connection: Any) -> None:
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)


def _pack(command: tuple[str | bytes, ...]) -> bytes:
    """Return a command as Redis reads it: an array of byte strings."""
    parts = [part.encode() if isinstance(part, str) else part for part in command]
    return b"*%d\r\n%b" % (len(parts), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
