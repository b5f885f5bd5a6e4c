"""The fast path and ordinary sends share sockets: whole frames, in order, whatever blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.servers.conftest import WITH_RUNTIME
from tests.support.client import dial, request
from tests.support.processes import Server
from tests.support.raw import TEXT, connect

pytestmark = pytest.mark.servers

FRAMES = 1500


@pytest.fixture(scope="module", params=WITH_RUNTIME)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    wsrt = {"RATE": None, "OUTBOX_FRAMES": 100_000, "OUTBOX_BYTES": 100_000_000, "HEARTBEAT": 1}
    with Server(request.param, wsrt=wsrt, application="tests.asgi:runtime") as process:
        yield process


@pytest.mark.parametrize("extensions", [None, "permessage-deflate"])
async def test_socket_that_blocks_half_way(server: Server, extensions: str | None) -> None:
    """Publications, answers and pings to a client that stops reading for a while arrive whole and in order."""
    if extensions is not None:
        # A library, because it decompresses.
        ws = await dial(server.url("/chat/mixed/"), compression="deflate", max_queue=None)
        talker = await dial(server.url("/chat/"))
        burst = asyncio.create_task(request(talker, "burst", count=FRAMES, size=5000, room="mixed"))
        answers = [await request(ws, "echo", value=number) for number in range(20)]
        await burst
        assert [answer["data"]["value"] for answer in answers] == list(range(20))
        return
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
        while (await member.receive()).json.get("ref") != "in":
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
