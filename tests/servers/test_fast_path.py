"""Prepared frames, frames of the server's own and ordinary sends share sockets: whole, in order, whatever blocks."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from tests.servers.conftest import WITH_RUNTIME, marks_of
from tests.support.client import dial, receive, request
from tests.support.processes import Server
from tests.support.raw import TEXT, connect
from wsrt.protocol.frame import Frame
from wsrt.servers.uvicorn import framed, preparation_for

pytestmark = pytest.mark.servers

FRAMES = 1500


@pytest.fixture(
    scope="module",
    params=[
        *((kind, True) for kind in WITH_RUNTIME),
        *(pytest.param((kind, False), marks=marks_of(kind)) for kind in WITH_RUNTIME),
    ],
    ids=str,
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind, fast_path = request.param
    wsrt = {
        "RATE": None,
        "OUTBOX_FRAMES": 100_000,
        "OUTBOX_BYTES": 100_000_000,
        "HEARTBEAT": 1,
        "FAST_PATH": fast_path,
    }
    with Server(kind, wsrt=wsrt, application="tests.apps.asgi:runtime") as process:
        yield process


@pytest.mark.parametrize("no_context_takeover", [False, True])
async def test_compression(server: Server, no_context_takeover: bool) -> None:
    """What is published to clients who negotiated compression can be read, with and without context take-over."""
    deflate = ClientPerMessageDeflateFactory(server_no_context_takeover=no_context_takeover)
    # A library, because it decompresses.
    members = [
        await dial(server.url("/chat/mixed/"), compression=None, extensions=[deflate], max_queue=None) for _ in range(3)
    ]
    members.append(await dial(server.url("/chat/mixed/")))
    answers = [await request(member, "echo", value=number) for number, member in enumerate(members)]
    assert [answer["data"]["value"] for answer in answers] == list(range(4))
    talker = await dial(server.url("/chat/"))
    burst = asyncio.create_task(request(talker, "burst", count=FRAMES, size=5000, room="mixed"))
    for member in members:
        for number in range(FRAMES):
            assert (await receive(member))["data"]["text"].rstrip(".") == str(number)
    await burst


async def test_socket_that_blocks_half_way(server: Server) -> None:
    """Publications, answers and pings to a client that stops reading for a while arrive whole and in order."""
    client = await connect(server.port, "/chat/mixed/", buffer=4096)
    client.event("echo", ref=-1)
    assert (await client.receive()).json["ref"] == -1
    talker = await dial(server.url("/chat/"))
    client.writer.transport.pause_reading()
    burst = asyncio.create_task(request(talker, "burst", count=FRAMES, size=5000, room="mixed"))
    for number in range(50):
        client.event("echo", ref=number)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    client.writer.transport.resume_reading()
    texts: list[int] = []
    refs: list[int] = []
    while len(texts) < FRAMES or len(refs) < 50:
        frame = await client.receive()
        if frame.opcode != TEXT:
            client.send(frame.payload, 0xA)
        elif "ref" in frame.json:
            refs.append(frame.json["ref"])
        else:
            texts.append(int(frame.json["data"]["text"].rstrip(".")))
    assert texts == list(range(FRAMES))
    assert refs == list(range(50))
    await burst


async def test_many_publishers(server: Server) -> None:
    """What several clients publish as fast as they can reaches everybody, each one's own in order."""
    talkers = [await dial(server.url("/chat/")) for _ in range(4)]
    members = [await connect(server.port, "/chat/busy/") for _ in range(40)]
    for member in members:
        member.event("echo", ref="in")
        while (await member.until(TEXT)).json.get("ref") != "in":
            pass
    bursts = [
        asyncio.create_task(request(talker, "burst", count=200, size=10 + 10 * number, room="busy"))
        for number, talker in enumerate(talkers)
    ]
    for member in members:
        seen: dict[int, list[int]] = {}
        for _ in range(200 * len(talkers)):
            text = (await member.until(TEXT)).json["data"]["text"]
            seen.setdefault(len(text), []).append(int(text.rstrip(".")))
        assert seen == {10 + 10 * number: list(range(200)) for number in range(len(talkers))}
    await asyncio.gather(*bursts)


def test_compressed_once() -> None:
    """Without context take-over a message is compressed once for all sockets with the same window; else for each."""
    frame = Frame("x" * 1000)
    bytes_of = [
        preparation_for([PerMessageDeflate(False, no_context_takeover, 15, bits)])
        for no_context_takeover, bits in [(True, 15), (True, 15), (True, 9), (False, 15)]
    ]
    assert bytes_of[3] is None
    first, second, small = (prepare(frame) for prepare in bytes_of[:3] if prepare is not None)
    assert first is second
    assert small is not first
    assert preparation_for([]) is framed
    for data, bits in [(first, 15), (small, 9)]:
        assert data[:2] == bytes([0xC1, len(data) - 2])
        # As RFC 7692, 7.2.2 has it.
        assert zlib.decompress(data[2:] + b"\0\0\xff\xff" + b"\x03\0", wbits=-bits) == b"x" * 1000
