"""
Many commands over one connection of redis-py: further ones are written while the answers to earlier ones are read.

A pipeline of redis-py packs all commands, then sends them, and then reads all answers, so that Redis and this process
wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from redis.exceptions import ResponseError

from ...delivery.tasks import start_task

WRITE_BYTES = 65_536
"""The number of bytes that are passed to the socket at a time."""


async def execute(client: Any, commands: Iterable[bytes], count: int, *, bulk: int, seconds: float) -> list[Any]:
    """
    Execute commands in order, and return their results and errors.

    Nothing is sent twice: if the connection breaks, the rest isn't sent over another one.

    Args:
        client: A client of one server, as redis.asyncio has it.
        commands: The commands, as pack() returns them. They are taken as they are written.
        count: Their number.
        bulk: The number of answers that have to arrive within ``seconds``.
        seconds: The time limit, in seconds.

    Raises:
        redis.exceptions.ConnectionError, OSError: Some of the commands may have been executed.
    """
    connection = await client.connection_pool.get_connection()
    # A time limit for each read would cost as much as the read.
    limit, connection.socket_timeout = connection.socket_timeout, None
    writing = start_task(asyncio.get_running_loop(), _write(connection, commands))
    try:
        answers: list[Any] = []
        for start in range(0, count, bulk):
            async with asyncio.timeout(seconds):
                for _ in range(start, min(start + bulk, count)):
                    try:
                        answers.append(await connection.read_response())
                    except ResponseError as error:
                        answers.append(error)
        await writing
        return answers
    except BaseException as error:
        # Also on CancelledError. The next user of the connection would get the answers that weren't read.
        await connection.disconnect(nowait=True)
        problem = await _end(writing)
        if problem is not None and isinstance(error, Exception):
            raise problem from None
        raise
    finally:
        connection.socket_timeout = limit
        await client.connection_pool.release(connection)


async def _end(writing: asyncio.Task[None]) -> BaseException | None:
    """End the writer, and return the error because of which no further answers have come."""
    if not writing.done():
        writing.cancel()
        await asyncio.wait([writing])
    return None if writing.cancelled() else writing.exception()


async def _write(connection: Any, commands: Iterable[bytes]) -> None:
    try:
        batch: list[bytes] = []
        size = 0
        for command in commands:
            batch.append(command)
            size += len(command)
            if size >= WRITE_BYTES:
                await _send(connection, batch)
                batch, size = [], 0
                # Let the answers be read that have arrived.
                await asyncio.sleep(0)
        if batch:
            await _send(connection, batch)
    except BaseException:
        # The answers that the reader waits for never arrive.
        await connection.disconnect(nowait=True)
        raise


async def _send(connection: Any, batch: list[bytes]) -> None:
    if not connection.is_connected:
        # redis-py would connect again.
        raise ConnectionError("the connection was lost")
    await connection.send_packed_command(batch, check_health=False)
