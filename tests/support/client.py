"""A plain client on a real socket, that knows nothing of wsrt."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SECONDS = 15.0

opened: list[ClientConnection] = []


async def dial(url: str, *, extended: bool = False, **options: Any) -> ClientConnection:
    """Open a socket; ``extended`` offers the subprotocol."""
    options.setdefault("compression", None)
    if extended:
        options["subprotocols"] = ["wsrt.v1"]
    ws = await connect(url, max_size=None, **options)
    opened.append(ws)
    return ws


async def hang_up() -> None:
    """Cut every socket that the test left open. Those of another loop have ended with it."""
    for client in opened:
        if client.loop is asyncio.get_running_loop():
            client.transport.abort()
    opened.clear()
    await asyncio.sleep(0)


async def send(ws: ClientConnection, event: str, ref: Any = None, **data: Any) -> None:
    frame: dict[str, Any] = {"event": event, "data": data}
    if ref is not None:
        frame["ref"] = ref
    await ws.send(json.dumps(frame))


async def receive(ws: ClientConnection, seconds: float = SECONDS) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        frame: dict[str, Any] = json.loads(await ws.recv())
    return frame


async def request(ws: ClientConnection, event: str, **data: Any) -> dict[str, Any]:
    """Send a request and return its answer; what comes before it is dropped."""
    await send(ws, event, ref="r", **data)
    while True:
        frame = await receive(ws)
        if frame.get("ref") == "r":
            return frame


async def closed(ws: ClientConnection, seconds: float = SECONDS) -> tuple[int, str]:
    """Wait for the close; return its code and reason. Frames before it are dropped."""
    async with asyncio.timeout(seconds):
        try:
            while True:
                await ws.recv()
        except ConnectionClosed as error:
            if error.rcvd is None:
                return 1006, ""
            return error.rcvd.code, error.rcvd.reason
