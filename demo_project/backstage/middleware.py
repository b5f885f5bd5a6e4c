"""A slow network, for the connections that ask for it."""

from __future__ import annotations

import asyncio
from typing import Any

from wsrt.types import Receive, Scope, Send


def slow_down(scope: Scope) -> None:
    """Let each further message to this client take 0.3 s."""
    scope["demo.link"]["delay"] = 0.3


class SlowNetwork:
    """Middleware that delays the messages to slow connections. To wsrt they look like clients that don't read."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Routers copy the scope for the consumer. This dict stays the same.
        link = {"delay": 0.0}

        async def slow_send(message: Any) -> None:
            if link["delay"] and message["type"] == "websocket.send":
                await asyncio.sleep(link["delay"])
            await send(message)

        await self.application({**scope, "demo.link": link}, receive, slow_send)
