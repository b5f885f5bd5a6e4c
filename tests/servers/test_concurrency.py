"""Concurrent handlers on real servers."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.support.client import closed, dial, receive, send
from tests.support.processes import Server

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_concurrent_handlers(kind: str) -> None:
    """Frames behind a slow handler are answered before it; behind a full one they wait; a drain waits for answers."""
    with Server(kind, wsrt={"DRAIN_SECONDS": 30}, application="tests.apps.asgi:runtime") as server:
        ws = await dial(server.url("/chat/room/"))

        async def refs(number: int) -> list[str]:
            return [(await receive(ws, 30))["ref"] for _ in range(number)]

        await send(ws, "look", ref="slow", seconds=2)
        await send(ws, "look", ref="fast")
        await send(ws, "echo", ref="echo")
        answers = await refs(3)
        assert (set(answers[:2]), answers[2]) == ({"fast", "echo"}, "slow")

        await send(ws, "look", ref="first", seconds=0.5)
        await send(ws, "look", ref="second", seconds=1.5)
        await send(ws, "look", ref="waits")
        await send(ws, "echo", ref="behind")
        answers = await refs(4)
        assert answers[0] == "first"
        assert set(answers) == {"first", "second", "waits", "behind"}

        await send(ws, "look", ref="last", seconds=1)
        await send(ws, "echo", ref="started")
        assert await refs(1) == ["started"]
        server.signal(signal.SIGTERM)
        assert await refs(1) == ["last"]
        assert await closed(ws, 30) == (1001, "Server shutting down")
        assert server.process is not None
        await asyncio.to_thread(server.process.wait, 30)
        assert "Traceback" not in server.log()
