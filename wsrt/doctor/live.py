"""Findings about a running server, examined by connecting to it as a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..asgi import UNROUTED
from ..close_codes import INVALID_MESSAGE_PAYLOAD
from . import proxies
from .finding import Finding, error, ok, warning

CLOSE_SECONDS = 2.0
"""How long a server may take to close the connection after an invalid frame, in seconds."""

HUNG_UP = 1006

ANSWERS = {
    403: "The handshake was refused: check ALLOWED_HOSTS, the allowed origins, and middleware.",
    404: "The path has no WebSocket route, or isn't served by ASGI: see manage.py wsrt_routes and the server's log.",
    500: "The application failed: see the log of the server.",
    502: "The proxy can't reach the server.",
    503: "The server is shutting down.",
}
"""The usual cause of each HTTP status that answers a handshake."""


async def examine(url: str) -> Iterator[Finding]:
    """Open a WebSocket, send an invalid frame, and return findings about the responses."""
    try:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidStatus
    except ImportError:
        return iter([warning(url, "not tried: the package websockets is not installed", "pip install websockets")])
    begun = time.perf_counter()
    try:
        socket = await connect(url, ping_interval=None, compression="deflate")
    except InvalidStatus as problem:
        status = problem.response.status_code
        advice = ANSWERS.get(status, "See the logs of the server and of any proxy in front of it.")
        return iter([error(url, f"the handshake was answered with {status}", advice, status=status)])
    took = (time.perf_counter() - begun) * 1000
    try:
        headers = socket.response.headers if socket.response is not None else {}
        server = headers.get("Server", "")
        extensions = [extension.name for extension in socket.protocol.extensions]
        with contextlib.suppress(ConnectionClosed):  # a refused connection is closed at once
            await socket.send("[]")
        close = await _close_of(socket)
    finally:
        socket.transport.abort()
    if close is not None and close[1].startswith(UNROUTED):
        # Daphne can't answer a handshake with an HTTP response.
        return iter([error(url, f"closed {close[0]} {close[1]}", ANSWERS[404], code=close[0], reason=close[1])])
    seen = f"{server or 'a server without a name'}, handshake in {took:.1f} ms"
    first = ok(url, seen, server=server or None, handshake_ms=round(took, 2))
    behind = proxies.answered(headers, server)
    return iter([first, *behind, compression(server, extensions), close_codes(close)])


async def _close_of(socket: Any) -> tuple[int, str] | None:
    """Return the close code and reason; None without a close, HUNG_UP for a close without a close frame."""
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
    """Return a finding about compression, which costs processor time for each message and client."""
    facts = {"extensions": list(extensions)}
    if "permessage-deflate" not in extensions:
        return ok("compression", "not negotiated", **facts)
    seen = "permessage-deflate is negotiated: each message is compressed for each client"
    if "uvicorn" in server.lower():
        advice = "Start uvicorn with --ws-per-message-deflate false, unless bandwidth costs more than processor time."
        return warning("compression", seen, advice, **facts)
    return ok("compression", seen, **facts)


def close_codes(close: tuple[int, str] | None) -> Finding:
    """Return a finding about close codes and reasons, from the close that an invalid frame or a refusal caused."""
    expected = INVALID_MESSAGE_PAYLOAD
    if close is None:
        advice = (
            "Check that the URL leads to a wsrt consumer, and that the application is wrapped in "
            "wsrt.asgi.with_runtime: without it, granian before 2.8.9 delays a close. A consumer with ON_VIOLATION "
            "'report' doesn't close either."
        )
        return warning("close codes", "no close after an invalid frame", advice)
    code, reason = close
    facts = {"code": code, "reason": reason}
    if code == HUNG_UP:
        advice = "Check that the URL leads to a wsrt consumer. If it does, see the server's log."
        return warning("close codes", "hung up without a close frame after an invalid frame", advice, **facts)
    if not reason:
        advice = (
            "Wrap the application in wsrt.asgi.with_runtime. If it is wrapped, see whether the server's log says that "
            "the server isn't recognised."
        )
        return warning(
            "close codes", f"{code} without a reason, instead of {expected.code} {expected.reason}", advice, **facts
        )
    return ok("close codes", f"{code} {reason}: code and reason arrived unchanged", **facts)
