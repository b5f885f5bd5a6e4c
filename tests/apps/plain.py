"""An ASGI application without wsrt and Django, to observe the behaviour of the server itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

CHUNK = "x" * 65_536
MOST = 100
"""How many chunks are sent to a client that reads nothing: more than the buffers of the system take."""

sent = 0


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve WebSockets that do what their frames ask for, and tell by HTTP how many chunks were sent."""
    match scope["type"]:
        case "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
        case "http":
            body = json.dumps({"sent": sent}).encode()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            )
            await send({"type": "http.response.body", "body": body})
        case _ if scope["path"] == "/refused":
            await _refuse(scope, receive, send)
        case _:
            await _serve(receive, send)


async def _refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close"})


async def _serve(receive: Any, send: Any) -> None:
    global sent
    await receive()
    await send({"type": "websocket.accept"})
    # A server may keep the socket while the application reads from it, and wsrt always does.
    asked = asyncio.ensure_future(receive())
    while (message := await asyncio.shield(asked))["type"] == "websocket.receive":
        asked = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        match (message.get("text") or "").split():
            case ["close", code, reason]:
                await send({"type": "websocket.close", "code": int(code), "reason": reason})
            case ["flood"]:
                for _ in range(MOST):
                    await send({"type": "websocket.send", "text": CHUNK})
                    sent += 1
