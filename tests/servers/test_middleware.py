"""Middleware that wraps ``send``, on servers, below back-pressure."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.client import dial, request
from tests.support.processes import Server
from tests.support.raw import TEXT, RawClient, connect

pytestmark = pytest.mark.servers

COUNT = 400
SIZE = 20_000


async def numbers(client: RawClient) -> list[int]:
    return [int((await client.until(TEXT)).json["data"]["text"].rstrip(".")) for _ in range(COUNT)]


@pytest.mark.parametrize("application", ["tests.apps.traced:runtime", "tests.apps.traced:traced"])
@pytest.mark.parametrize("kind", ["daphne", "uvicorn-sansio", "uvicorn-wsproto", "hypercorn", "granian"])
async def test_context_of_the_recipient(kind: str, application: str) -> None:
    """Each message is sent in its recipient's context and in one task; a client that reads late loses nothing."""
    wsrt = {"RATE": None, "FAST_PATH": False, "OUTBOX_FRAMES": 10_000, "OUTBOX_BYTES": 100_000_000}
    with Server(kind, wsrt=wsrt, application=application) as server:
        late, quick = [await connect(server.port, "/chat/spans/", buffer=4096) for _ in range(2)]
        for client in (late, quick):
            client.event("echo", ref="in")
            assert (await client.receive()).json["ref"] == "in"
        talker = await dial(server.url("/chat/"))
        late.writer.transport.pause_reading()
        burst = asyncio.create_task(request(talker, "burst", count=COUNT, size=SIZE, room="spans"))
        assert await numbers(quick) == list(range(COUNT))
        late.writer.transport.resume_reading()
        assert await numbers(late) == list(range(COUNT))
        assert (await burst)["event"] == "wsrt.ok"
        assert "in the context of" not in server.log()
