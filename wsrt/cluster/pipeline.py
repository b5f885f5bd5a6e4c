"""A pipelined connection to Redis: commands don't wait for the answers to earlier commands."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from ..delivery.tasks import start_task
from ..stores.redis.packing import pack

CONNECT_SECONDS = 5.0
"""The time limit of connecting, including authentication, in seconds."""

CLOSE_SECONDS = 1.0
"""The time limit of closing, in seconds."""

BACKLOG_COMMANDS = 10_000
BACKLOG_BYTES = 32 * 1024 * 1024
"""The limits of the commands that wait to be written or answered, as a number and in bytes. More are refused."""

WRITE_BYTES = 65536
"""The number of bytes that are passed to the socket at a time."""

READ_BYTES = 65536
"""The number of bytes that are read from the socket at a time."""

Push = Callable[[bytes, bytes], Awaitable[object] | None]
"""Called with a message: the name of its channel and its data. Reading pauses while it awaits what this returns."""


class BacklogFull(Exception):
    """Raised when too many commands are waiting for Redis already. The command was not sent."""


class Answers:
    """
    The answers to several commands, for which their sender waits together.

    The commands have numbers from 0 on, in the order in which they are sent. A command that is settled before it is
    written is never sent.

    Args:
        count: The number of commands.
        in_order: Whether a command that fails settles the later ones, so that they don't overtake it when it is sent
            again.

    Attributes:
        errors: The errors of the commands that failed, by number.
        done: A future that is resolved when all commands are settled.
    """

    __slots__ = ("_in_order", "_is_settled", "_left", "done", "errors")

    def __init__(self, count: int, *, in_order: bool = False) -> None:
        self._is_settled = bytearray(count)
        self._left = count
        self._in_order = in_order
        self.errors: dict[int, BaseException] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not count:
            self.done.set_result(None)

    def is_settled(self, number: int) -> bool:
        """Return whether a command was answered, has failed, or isn't wanted any more."""
        return bool(self._is_settled[number])

    def settle(self, number: int, error: BaseException | None = None) -> None:
        """Note that a command was executed, or why it has failed. Only the first outcome counts."""
        if self._is_settled[number]:
            return
        self._is_settled[number] = 1
        self._left -= 1
        if error is not None:
            self.errors[number] = error
            if self._in_order:
                self.withdraw(ConnectionError("the command wasn't sent, because an earlier one failed"), number)
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def withdraw(self, error: BaseException, after: int = -1) -> None:
        """Let the commands after a number fail that aren't settled. Those that were written may be executed."""
        for number in range(after + 1, len(self._is_settled)):
            if not self._is_settled[number]:
                self._is_settled[number] = 1
                self._left -= 1
                self.errors[number] = error
        if not self._left and not self.done.done():
            self.done.set_result(None)


class _Command:
    """
    A command whose sender waits for the answer itself.

    Attributes:
        size: Its bytes.
        left: The number of its answers that haven't arrived: 1.
    """

    __slots__ = ("_answer", "_packed", "left", "size")

    def __init__(self, packed: bytes, answer: asyncio.Future[Any]) -> None:
        self._packed = packed
        self._answer = answer
        self.size = len(packed)
        self.left = 1

    def write(self) -> list[bytes]:
        """Return the bytes to write; none if the sender has withdrawn the command."""
        return [] if self._answer.done() else [self._packed]

    def settle(self, answer: Any) -> None:
        """Pass the answer on."""
        if self._answer.done():
            return  # its caller was cancelled
        if isinstance(answer, Exception):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)


class _Commands:
    """
    Commands that are written together.

    Args:
        packed: Each command, as Redis reads it.
        numbers: The number of each.
        answers: Where the answers go.

    Attributes:
        size: Their bytes.
        left: The number of answers that haven't arrived.
    """

    __slots__ = ("_answers", "_numbers", "_packed", "left", "size")

    def __init__(self, packed: list[bytes], numbers: list[int], answers: Answers) -> None:
        self._packed = packed
        self._numbers = numbers
        self._answers = answers
        self.size = sum(map(len, packed))
        self.left = len(packed)

    def write(self) -> list[bytes]:
        """Return the commands to write, without those that aren't wanted any more."""
        wanted = [place for place, number in enumerate(self._numbers) if not self._answers.is_settled(number)]
        packed = self._packed
        if len(wanted) < self.left:
            packed = [packed[place] for place in wanted]
            self._numbers = [self._numbers[place] for place in wanted]
            self.size, self.left = sum(map(len, packed)), len(packed)
        self._packed = []
        return packed

    def settle(self, answer: Any) -> None:
        """Pass the next answer on."""
        number = self._numbers[len(self._numbers) - self.left]
        self._answers.settle(number, answer if isinstance(answer, Exception) else None)


class Pipeline:
    """
    One connection, which is opened when there is a command to send, and reopened after it was lost.

    Commands are written and answered in the order of the calls. When the connection breaks, commands that were written
    fail, because Redis may or may not have executed them. The others are sent over the next connection.

    Args:
        pool: A connection pool of redis-py. It is only used to create connections; they don't return to the pool.
        on_push: Called with the messages of a subscribed connection. None for a connection whose commands are only
            PUBLISH and PING.
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
        self._queued: collections.deque[_Command | _Commands] = collections.deque()
        self._written: collections.deque[_Command | _Commands] = collections.deque()
        self._waiting = 0
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
            A future with the answer; without ``on_push``, its text as bytes. Cancelling it withdraws the command,
            unless it was written already.

        Raises:
            BacklogFull: Too many commands are waiting; this one was not sent.
            ConnectionError: The pipeline is closed.
        """
        if self._is_closed:
            raise ConnectionError("the connection to Redis was closed")
        packed = pack(*command)
        if not self._has_space(1, len(packed)):
            raise BacklogFull("too many commands are waiting for Redis")
        answer = self._loop.create_future()
        self._queue(_Command(packed, answer))
        return answer

    def request_all(self, packed: Sequence[bytes], numbers: Sequence[int], answers: Answers) -> int:
        """
        Send commands, without a future for each.

        Args:
            packed: The commands, as pack() returns them.
            numbers: The number of each.
            answers: Where the answers and errors go.

        Returns:
            How many were refused with BacklogFull.
        """
        if self._is_closed:
            for number in numbers:
                answers.settle(number, ConnectionError("the connection to Redis was closed"))
            return 0
        batch: list[bytes] = []
        batched: list[int] = []
        refused = size = 0
        for command, number in zip(packed, numbers, strict=True):
            if answers.is_settled(number):
                continue
            if not self._has_space(len(batch) + 1, size + len(command)):
                answers.settle(number, BacklogFull("too many commands are waiting for Redis"))
                refused += 1
                continue
            batch.append(command)
            batched.append(number)
            size += len(command)
            if size >= WRITE_BYTES:
                self._queue(_Commands(batch, batched, answers))
                batch, batched, size = [], [], 0
        if batch:
            self._queue(_Commands(batch, batched, answers))
        return refused

    def _has_space(self, commands: int, size: int) -> bool:
        return self._waiting + commands <= BACKLOG_COMMANDS and self._bytes + size <= BACKLOG_BYTES

    def _queue(self, commands: _Command | _Commands) -> None:
        self._waiting += commands.left
        self._bytes += commands.size
        self._queued.append(commands)
        self._wake.set()
        if not self._is_running:
            self._is_running = True
            self._spawn(self._run())

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
            commands = self._queued.popleft()
            self._forget_waiting(commands)
            packed = commands.write()
            if packed:
                # Without those that were withdrawn by their callers.
                self._waiting += len(packed)
                self._bytes += commands.size
                self._written.append(commands)
                batch += packed
                size += commands.size
        return batch

    def _forget_waiting(self, commands: _Command | _Commands) -> None:
        self._waiting -= commands.left
        self._bytes -= commands.size

    async def _read(self, connection: Any) -> None:
        if self._on_push is None:
            await self._read_lines(connection._reader)
        else:
            await self._read_messages(connection)

    async def _read_lines(self, reader: asyncio.StreamReader) -> None:
        """
        Read the answers of a connection without subscriptions, each of them one line: a number, PONG or an error.

        redis-py takes several times as long, because it reads them one by one.
        """
        from redis.exceptions import ResponseError

        rest = b""
        while data := await reader.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\r\n")
            for line in lines:
                answer = line[1:]
                self._settle(ResponseError(answer.decode("utf-8", "replace")) if line[:1] == b"-" else answer)
        raise ConnectionError("Redis has closed the connection")

    async def _read_messages(self, connection: Any) -> None:
        """Read the messages of subscriptions, and the answers between them."""
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
        commands = self._written[0]
        commands.settle(answer)
        commands.left -= 1
        self._waiting -= 1
        if not commands.left:
            self._written.popleft()
            self._bytes -= commands.size

    def _fail(self, queue: collections.deque[_Command | _Commands], error: BaseException) -> None:
        while queue:
            commands = queue.popleft()
            self._forget_waiting(commands)
            while commands.left:
                commands.settle(ConnectionError(f"{type(error).__name__}: {error}"))
                commands.left -= 1

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
