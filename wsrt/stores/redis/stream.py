"""
Many commands over one connection of redis-py: further ones are written while the answers to earlier ones are read.

A pipeline of redis-py packs all commands, then sends them, and then reads all answers, so that Redis and this process
wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import ResponseError

from ...delivery.tasks import start_task

WRITE_BYTES = 65_536
"""The number of bytes that are passed to the socket at a time."""


async def execute(client: Any, commands: Iterable[bytes], on_answer: Callable[[Any], None], *, seconds: float) -> None:
    """
    Execute commands in order.

    Nothing is sent twice: if the connection breaks, the rest isn't sent over another one.

    Args:
        client: A client of one server, as redis.asyncio has it.
        commands: The commands, as pack() returns them. They are taken as they are written.
        on_answer: Called with the result of each command in order, or with its ResponseError. If it raises, nothing
            further is sent.
        seconds: The time limit for the answers to commands that were written together, in seconds.

    Raises:
        redis.exceptions.ConnectionError, OSError: Some of the commands may have been executed.
    """
    connection = await client.connection_pool.get_connection()
    # A time limit for each read would cost as much as the read.
    limit, connection.socket_timeout = connection.socket_timeout, None
    written: asyncio.Queue[int] = asyncio.Queue()
    writing = start_task(asyncio.get_running_loop(), _write(connection, commands, written))
    try:
        while count := await written.get():
            async with asyncio.timeout(seconds):
                for _ in range(count):
                    try:
                        answer = await connection.read_response()
                    except ResponseError as error:
                        answer = error
                    on_answer(answer)
        await writing
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


async def _write(connection: Any, commands: Iterable[bytes], written: asyncio.Queue[int]) -> None:
    """Write commands, and put the number of those that are written together into a queue; 0 at the end."""
    try:
        batch: list[bytes] = []
        size = 0
        for command in commands:
            batch.append(command)
            size += len(command)
            if size >= WRITE_BYTES:
                await _send(connection, batch, written)
                batch, size = [], 0
                # Let the answers be read that have arrived.
                await asyncio.sleep(0)
        if batch:
            await _send(connection, batch, written)
    except BaseException:
        # The answers that the reader waits for never arrive.
        await connection.disconnect(nowait=True)
        raise
    finally:
        written.put_nowait(0)


async def _send(connection: Any, batch: list[bytes], written: asyncio.Queue[int]) -> None:
    if not connection.is_connected:
        # redis-py would connect again.
        raise ConnectionError("the connection was lost")
    # Before the await, which may last until the answers are read.
    written.put_nowait(len(batch))
    await connection.send_packed_command(batch, check_health=False)
