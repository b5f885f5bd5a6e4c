"""A running server, seen by a client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..close_codes import INVALID_MESSAGE_PAYLOAD
from .finding import Finding, error, ok, warning

CLOSE_SECONDS = 2.0
"""How long a server may take to close after an invalid frame."""

HUNG_UP = 1006

ANSWERS = {
    403: "It was refused before it was accepted: see ALLOWED_HOSTS, the origin rule, and middleware.",
    404: "There is no such path, or it is not served by ASGI.",
    500: "The application failed, or has no such path: see the log of the server.",
    502: "The proxy does not reach the server.",
    503: "The server is going down.",
}
"""What a status in the place of a handshake mostly means."""


async def examine(url: str) -> Iterator[Finding]:
    """Open a WebSocket, send an invalid frame, and return what was seen."""
    try:
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus
    except ImportError:
        return iter([warning(url, "not tried: the package websockets is not installed", "pip install websockets")])
    begun = time.perf_counter()
    try:
        socket = await connect(url, ping_interval=None, compression="deflate")
    except InvalidStatus as problem:
        status = problem.response.status_code
        advice = ANSWERS.get(status, "See the log of the server, and of what stands before it.")
        return iter([error(url, f"the handshake was answered {status}", advice, status=status)])
    took = (time.perf_counter() - begun) * 1000
    try:
        server = socket.response.headers.get("Server", "") if socket.response is not None else ""
        extensions = [extension.name for extension in socket.protocol.extensions]
        await socket.send("[]")
        close = await _close_of(socket)
    finally:
        socket.transport.abort()
    seen = f"{server or 'a server without a name'}, handshake in {took:.1f} ms"
    first = ok(url, seen, server=server or None, handshake_ms=round(took, 2))
    return iter([first, compression(server, extensions), close_codes(close)])


async def _close_of(socket: Any) -> tuple[int, str] | None:
    """Return code and reason of the close that comes; None if none does, HUNG_UP if there is no frame."""
    from websockets.exceptions import ConnectionClosed

    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            while True:
                await socket.recv()
    except TimeoutError:
        return None
    except ConnectionClosed as closed:
        return (HUNG_UP, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)


def compression(server: str, extensions: Sequence[str]) -> Finding:
    """Return whether every message is compressed for every client."""
    facts = {"extensions": list(extensions)}
    if "permessage-deflate" not in extensions:
        return ok("compression", "not negotiated", **facts)
    seen = "permessage-deflate is negotiated: each message is compressed for each client"
    if "uvicorn" in server.lower():
        advice = "Start it with --ws-per-message-deflate false, unless traffic is dearer than processor time."
        return warning("compression", seen, advice, **facts)
    return ok("compression", seen, **facts)


def close_codes(close: tuple[int, str] | None) -> Finding:
    """Return whether codes and reasons arrive, by the close after an invalid frame, or a refusal that came before."""
    expected = INVALID_MESSAGE_PAYLOAD
    if close is None:
        advice = (
            "Is it a consumer of wsrt, below wsrt.asgi.with_runtime? Without that some servers hold a close back, as "
            "granian did before 2.8.9. With ON_VIOLATION 'report' a consumer does not close."
        )
        return warning("close codes", "no close after an invalid frame", advice)
    code, reason = close
    facts = {"code": code, "reason": reason}
    if code == HUNG_UP:
        advice = "Is it a consumer of wsrt? Then see the log of the server."
        return warning("close codes", "hung up without a close frame after an invalid frame", advice, **facts)
    if not reason:
        advice = "Wrap the application in wsrt.asgi.with_runtime; if it is, see the log for a server that is not known."
        return warning(
            "close codes", f"{code} without a reason, for {expected.code} {expected.reason}", advice, **facts
        )
    return ok("close codes", f"{code} {reason}, as it was sent", **facts)
