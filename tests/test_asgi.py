"""The runtime around an application: its part in the lifespan of a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from wsrt.asgi import with_runtime


async def unaware(scope: Any, receive: Any, send: Any) -> None:
    """An application that doesn't know the scope."""
    raise ValueError(scope["type"])


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """An application whose part goes on after its last answer."""
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
    await asyncio.Event().wait()


@pytest.mark.parametrize("application", [unaware, endless])
async def test_lifespan_ends_with_its_last_answer(application: Any) -> None:
    """A server that cancels the task of the lifespan once it has the last answer, as hypercorn does, finds it done."""
    inbound = iter(["lifespan.startup", "lifespan.shutdown"])
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": next(inbound)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])
        if message["type"] == "lifespan.shutdown.complete":
            asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(with_runtime(application)({"type": "lifespan"}, receive, send))
    await asyncio.wait([task])
    assert not task.cancelled()
    assert task.exception() is None
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
