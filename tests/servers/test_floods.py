"""Clients that send too much, too large, or never an end: memory stays, others are served, the code is right."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.servers.conftest import WITH_RUNTIME
from tests.support.client import dial, request
from tests.support.processes import Server
from tests.support.raw import BINARY, CLOSE, RawClient, connect
from tests.support.report import Matrix

pytestmark = pytest.mark.servers

CONTINUATION = 0x0
WHAT_SERVERS_DO = Matrix("What servers do about frames that no application sees")

MEGABYTE = 1_000_000


@pytest.fixture(scope="module", params=WITH_RUNTIME)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param, application="tests.asgi:runtime") as process:
        yield process


async def ending(client: RawClient) -> int:
    """The code of the close frame; 1006 where the server hangs up without one."""
    try:
        return (await client.until(CLOSE)).close[0]
    except (ConnectionError, OSError):
        return 1006


async def with_a_witness(server: Server, flood: Callable[[], Awaitable[int]]) -> tuple[int, int]:
    """Run a flood; return its close code and by how many bytes the server grew. Another client is served meanwhile."""
    memory = server.worker.memory_info
    witness = await dial(server.url("/chat/"))
    await request(witness, "echo")
    before = memory().rss
    flooding = asyncio.create_task(flood())
    while not flooding.done():
        begun = time.monotonic()
        await request(witness, "echo")
        assert time.monotonic() - begun < 5
        await asyncio.sleep(0.1)
    grown = memory().rss - before
    await request(witness, "echo")
    await witness.close()
    return await flooding, grown


async def test_small_frames(server: Server) -> None:
    """A torrent of small frames goes over the rate, and is cut off."""

    async def flood() -> int:
        client = await connect(server.port, "/chat/")
        client.event("echo")
        frame = b"\x81\x90\0\0\0\0" + b'{"event":"echo"}'
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.writer.write(frame * 3000)
                await client.writer.drain()
        return await ending(client)

    code, grown = await with_a_witness(server, flood)
    assert code in (4429, 1006)  # whoever writes into a closed socket may be reset before it reads why
    assert grown < 16 * MEGABYTE


async def test_rate_is_told(server: Server) -> None:
    """A client that goes a little over the rate, and reads, is told 4429."""
    client = await connect(server.port, "/chat/")
    for _ in range(200):
        client.event("echo")
    assert (await client.until(CLOSE)).close == (4429, "Rate limit exceeded")


async def test_large_frames(server: Server) -> None:
    """Frames over max_payload: 1009."""

    async def flood() -> int:
        client = await connect(server.port, "/chat/")
        client.send(b"x" * 100_000)
        return await ending(client)

    code, grown = await with_a_witness(server, flood)
    assert (code, grown < 16 * MEGABYTE) == (1009, True)


async def test_huge_frame(server: Server) -> None:
    """A frame over the server's own limit holds nobody up, and memory stays; how it is answered is the server's own."""

    async def flood() -> int:
        client = await connect(server.port, "/chat/")
        # The length alone is enough to know.
        client.writer.write(b"\x82\xff" + (70 * MEGABYTE).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 100_000)
        await client.writer.drain()
        return await ending(client)

    async def flood_or_wait() -> int:
        try:
            async with asyncio.timeout(5):
                return await flood()
        except TimeoutError:
            return 0  # the server waits for the rest, up to its own limit

    code, grown = await with_a_witness(server, flood_or_wait)
    WHAT_SERVERS_DO.put("a huge frame", server.kind, str(code or "waits"))
    assert grown < 16 * MEGABYTE


async def test_message_without_an_end(server: Server) -> None:
    """Fragments without an end hold nobody up; the limit is the server's own."""

    async def flood() -> int:
        client = await connect(server.port, "/chat/")
        with contextlib.suppress(ConnectionError):
            client.send(b"x" * 1000, BINARY, fin=False)
            for _ in range(400):
                client.send(b"x" * 100_000, CONTINUATION, fin=False)
                await client.writer.drain()
        return await ending(client)

    code, grown = await with_a_witness(server, flood)
    WHAT_SERVERS_DO.put("40 MB in fragments", server.kind, f"{code}, {max(0, grown) / MEGABYTE:.0f} MB")


async def test_bad_utf8(server: Server) -> None:
    """Text that is not UTF-8 disturbs nobody else; how it is answered is the server's own."""

    async def fault() -> int:
        client = await connect(server.port, "/chat/")
        client.send(b'{"event":"\xff"}')
        return await ending(client)

    code, _ = await with_a_witness(server, fault)
    WHAT_SERVERS_DO.put("text that is not UTF-8", server.kind, str(code))


async def test_slow_handshakes(server: Server) -> None:
    """Handshakes that dawdle hold nobody up."""
    slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(50)]
    for _, writer in slow:
        writer.write(b"GET /chat/ HTTP/1.1\r\nHost: 127")
    ws = await dial(server.url("/chat/"))
    assert (await request(ws, "echo"))["event"] == "echoed"
    for _, writer in slow:
        writer.transport.abort()
    await ws.close()
