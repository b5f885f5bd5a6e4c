"""Many commands over one connection of redis-py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio as redis
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from tests.support.processes import RedisServer
from tests.support.proxy import TcpProxy
from wsrt.stores.redis import stream
from wsrt.stores.redis.packing import pack


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest_asyncio.fixture(name="client")
async def _client(server: RedisServer) -> AsyncIterator[Any]:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    await client.flushall()
    yield client
    await client.aclose()


async def execute(client: Any, commands: Iterator[bytes], seconds: float = 30) -> list[Any]:
    answers: list[Any] = []
    await stream.execute(client, commands, answers.append, seconds=seconds)
    return answers


@given(st.lists(st.text() | st.binary() | st.integers()))
def test_pack(arguments: list[str | bytes | int]) -> None:
    """A command is packed as redis-py does it."""
    connection = redis.Connection()
    assert pack("ECHO", *arguments) == b"".join(connection.pack_command("ECHO", *arguments))


@pytest.mark.parametrize("length", [0, 9, 10, 511, 512, 513, 100_000])
def test_pack_a_long_string(length: int) -> None:
    """The length of a string is that of its bytes, also of long ones."""
    assert pack("é" * length, length) == b"*2\r\n$%d\r\n%b\r\n$%d\r\n%d\r\n" % (
        2 * length,
        "é".encode() * length,
        len(str(length)),
        length,
    )
    assert pack(b"x" * length) == b"*1\r\n$%d\r\n%b\r\n" % (length, b"x" * length)


def test_pack_a_surrogate() -> None:
    """Names that UTF-8 can't encode are packed like those of the other commands."""
    assert pack("\ud800") == b"*1\r\n$3\r\n\xed\xa0\x80\r\n"


async def test_results(client: Any) -> None:
    """Results come in order, whatever fails between them and however much is written."""
    commands = [pack("SET", "a", "x" * 1000), *(pack("INCR", f"n{number % 3}") for number in range(3000))]
    commands[1000] = pack("INCR", "a")
    answers = await execute(client, iter(commands))
    assert answers[0] == "OK"
    assert isinstance(answers[1000], ResponseError)
    assert [answer for answer in answers[1:] if isinstance(answer, int)][-3:] == [999, 1000, 1000]
    # The connection is used again.
    assert await execute(client, iter([pack("GET", "a")])) == ["x" * 1000]
    assert len(await client.client_list()) == 1


async def test_connection_that_breaks(server: RedisServer, client: Any) -> None:
    """What wasn't sent when the connection breaks is never sent, and the next call has another connection."""
    async with TcpProxy(server.port) as proxy:
        far = redis.Redis.from_url(proxy.url, decode_responses=True)
        written = 0

        def commands() -> Iterator[bytes]:
            nonlocal written
            for written in range(100_000):
                if written == 50_000:
                    proxy.reset()
                yield pack("INCR", "n")

        with pytest.raises((redis.ConnectionError, OSError)):
            await execute(far, commands())
        assert 50_000 <= written < 99_999
        count = int(await client.get("n"))
        assert count <= 60_000
        assert await execute(far, iter([pack("INCR", "n")])) == [count + 1]
        await far.aclose()


async def test_cancelled(server: RedisServer) -> None:
    """Answers that a cancelled call didn't read aren't taken for those of the next one."""
    async with TcpProxy(server.port, latency=0.2) as proxy:
        far = redis.Redis.from_url(proxy.url, decode_responses=True)
        await execute(far, iter([pack("PING")]))
        call = asyncio.create_task(execute(far, iter([pack("ECHO", "a")] * 100)))
        await asyncio.sleep(0.1)  # it is written, and not answered
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert await execute(far, iter([pack("ECHO", "b")])) == ["b"]
        await far.aclose()


async def test_silent_server(server: RedisServer) -> None:
    """A server that doesn't answer is given up after the time limit, even if it doesn't read either."""
    async with TcpProxy(server.port) as proxy:
        far = redis.Redis.from_url(proxy.url, decode_responses=True)
        await execute(far, iter([pack("PING")]))
        proxy.blackhole()
        commands = (pack("ECHO", "x" * 10_000) for _ in range(10_000))
        with pytest.raises(TimeoutError):
            await execute(far, commands, seconds=0.2)
        proxy.restore()
        assert await execute(far, iter([pack("PING")])) == ["PONG"]
        await far.aclose()


async def test_commands_that_raise(client: Any) -> None:
    """An error of the caller ends the call, and leaves no connection with unread answers."""

    def commands() -> Iterator[bytes]:
        yield pack("ECHO", "a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await execute(client, commands())
    assert await execute(client, iter([pack("ECHO", "b")])) == ["b"]


async def test_answers_that_are_refused(client: Any) -> None:
    """If the caller can't use an answer, nothing further is sent, and no connection is left with unread answers."""
    taken = 0

    def refuse(answer: Any) -> None:
        raise ZeroDivisionError

    def commands() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100_000):
            taken += 1
            yield pack("ECHO", "x" * 1000)

    with pytest.raises(ZeroDivisionError):
        await stream.execute(client, commands(), refuse, seconds=30)
    assert taken < 100_000
    assert await execute(client, iter([pack("ECHO", "b")])) == ["b"]


async def test_answers_while_writing(client: Any) -> None:
    """Answers are passed on while later commands aren't made yet."""
    answers: list[Any] = []
    ahead: list[int] = []

    def commands() -> Iterator[bytes]:
        # Together they don't fit into the buffers of the sockets.
        for number in range(10_000):
            ahead.append(number - len(answers))
            yield pack("ECHO", "x" * 4000)

    await stream.execute(client, commands(), answers.append, seconds=30)
    assert len(answers) == 10_000
    assert max(ahead) < 9_000


async def test_no_commands(client: Any) -> None:
    """Nothing is sent for nothing."""
    assert await execute(client, iter(())) == []
