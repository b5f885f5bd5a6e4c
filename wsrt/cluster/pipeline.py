"""A pipelined connection to Redis: commands don't wait for the answers to earlier commands."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..delivery.tasks import start_task

CONNECT_SECONDS = 5.0
"""The time limit of connecting, including authentication, in seconds."""

CLOSE_SECONDS = 1.0
"""The time limit of closing, in seconds."""

BACKLOG_COMMANDS = 10_000
BACKLOG_BYTES = 32 * 1024 * 1024
"""The limits of the commands that wait to be written or answered, as a number and in bytes. More are refused."""

WRITE_BYTES = 65536
"""The number of bytes that are passed to the socket at a time."""

Push = Callable[[bytes, bytes], Awaitable[object] | None]
"""Called with a message: the name of its channel and its data. Reading pauses while it awaits what this returns."""


class BacklogFull(Exception):
    """Raised when too many commands are waiting for Redis already. The command was not sent."""


class _Command:
    __slots__ = ("answer", "packed")

    def __init__(self, packed: bytes, answer: asyncio.Future[Any]) -> None:
        self.packed = packed
        self.answer = answer


class Pipeline:
    """
    One connection, which is opened when there is a command to send, and reopened after it was lost.

    Commands are written and answered in the order of the calls. When the connection breaks, commands that were written
    fail, because Redis may or may not have executed them. The others are sent over the next connection.

    Args:
        pool: A connection pool of redis-py. It is only used to create connections; they don't return to the pool.
        on_push: Called with the messages of a subscribed connection.
        on_lost: Called with the error when an established connection has ended.
    """

    def __init__(
        self, pool: Any, on_push: Push | None = None, on_lost: Callable[[BaseException], None] | None = None
    ) -> None:
        self._pool = pool
        self._on_push = on_push
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        # In the order of the calls: commands to be written, and commands that Redis hasn't answered yet.
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
            A future with the answer. Cancelling it withdraws the command, unless it was written already.

        Raises:
            BacklogFull: Too many commands are waiting; this one was not sent.
            ConnectionError: The pipeline is closed.
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
        """Close the connection, even if it is dead. Commands without an answer fail."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            # A task may be stuck in a dead socket; after the time limit it is left to the loop.
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for commands in (self._written, self._queued):
            self._fail(commands, ConnectionError("the connection to Redis was closed"))

    async def _run(self) -> None:
        # The error that waiting commands get if this task is cancelled by other code.
        reason: BaseException = ConnectionError("the task of the connection to Redis was cancelled")
        try:
            # New commands may be queued during every await. One queued after the last check of this condition finds
            # _is_running False, because nothing is awaited between the check and the end, and starts another task.
            while self._queued:
                try:
                    connection = await self._connect()
                except Exception as error:
                    # Fail what is queued instead of retrying: the callers decide how long they wait.
                    reason = error
                    return
                try:
                    reason = await self._serve(connection)
                finally:
                    # Also on CancelledError, from close() or from other code.
                    self._fail(self._written, reason)
                    if self._on_lost is not None and not self._is_closed:
                        self._on_lost(reason)
        finally:
            # Either nothing is queued, or connecting failed, or this task was cancelled. In the latter cases the queued
            # commands would never be written.
            self._is_running = False
            self._fail(self._queued, reason)

    async def _connect(self) -> Any:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        connection = self._pool.make_connection()
        # No retries here: they would add up to the time limits of the callers.
        connection.retry = Retry(NoBackoff(), 0)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()
        except BaseException:
            await _disconnect(connection)
            raise
        # An idle subscription isn't an error. Dead connections are detected by commands that get no answer.
        connection.socket_timeout = None
        return connection

    async def _serve(self, connection: Any) -> BaseException:
        """Write and read until the connection ends; return the error that ended it."""
        # Commands may have been queued before the connection existed.
        self._wake.set()
        halves = [self._spawn(self._write(connection)), self._spawn(self._read(connection))]
        try:
            done, _ = await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for half in halves:
                half.cancel()
            await _disconnect(connection)
        # Neither task returns: it ended with an error, or was cancelled by other code.
        ended = done.pop()
        return (None if ended.cancelled() else ended.exception()) or ConnectionError("the connection was cancelled")

    async def _write(self, connection: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next_batch():
                # Raises what the socket raises, and waits while Redis doesn't read. The commands of the batch count as
                # written from here on, even if only a part of them reaches the socket.
                await connection.send_packed_command(batch, check_health=False)

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._queued and size < WRITE_BYTES:
            command = self._queued.popleft()
            if command.answer.done():
                self._bytes -= len(command.packed)  # withdrawn by its caller
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
                # An error is the answer to one command, and the connection stays usable. Other errors end it.
                self._settle(error)
                continue
            if isinstance(answer, list) and answer[0] == b"message":
                pause = None if self._on_push is None else self._on_push(answer[1], answer[2])
                if pause is not None:
                    # Back-pressure: nothing is read in the meantime, answers neither.
                    await pause
            else:
                self._settle(answer)

    def _settle(self, answer: Any) -> None:
        command = self._written.popleft()
        self._bytes -= len(command.packed)
        if command.answer.done():
            return  # its caller was cancelled
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
        # In an empty context. Otherwise the task would run in the context of the first caller.
        task = start_task(self._loop, work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Mark the exception as retrieved: when both tasks of a connection fail, only one error is reported.
            task.exception()


async def _disconnect(connection: Any) -> None:
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)


def _pack(command: tuple[str | bytes, ...]) -> bytes:
    """Return a command in the form that Redis reads: an array of byte strings."""
    parts = [part.encode() if isinstance(part, str) else part for part in command]
    return b"*%d\r\n%b" % (len(parts), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
