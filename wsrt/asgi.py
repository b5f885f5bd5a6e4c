"""The wrapper that gives an ASGI application the server's capabilities and a graceful shutdown."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from .close_codes import Close, CloseCode
from .connection.drain import close_at_exit, drain, is_draining
from .delivery.transport import TRANSPORT
from .servers import hook_shutdown, transport_of
from .types import Message, Receive, Scope, Send

__all__ = ["drain", "with_runtime"]

TRY_LATER = Close(CloseCode.TRY_AGAIN_LATER, "Server shutting down")
"""The close for connections opened during a drain on servers that can't answer with 503."""

Application = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application. Channels, Starlette and asgiref each have their own types for its arguments."""


def with_runtime(application: Application) -> Application:
    """
    Return the application wrapped so that consumers can use their server's capabilities beyond ASGI.

        application = with_runtime(ProtocolTypeRouter({...}))

    It must be the outermost wrapper. Close codes and reasons, back-pressure, pings and the drain at shutdown then work
    on every supported server, as far as the server allows; other servers are used as plain ASGI. The server is started
    as usual. The lifespan scope is served even if the application doesn't support it.

    Args:
        application: The ASGI application, such as a ProtocolTypeRouter.
    """
    hook_shutdown()
    return Runtime(application)


class Runtime:
    """The application returned by with_runtime()."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._is_hooked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._hook()
        match scope["type"]:
            case "websocket":
                if is_draining():
                    await _refuse(scope, receive, send)
                    return
                transport = transport_of(send)
                extensions = {**(scope.get("extensions") or {}), TRANSPORT: transport}
                scope = {**scope, "extensions": extensions}
                await self._application(scope, transport.receiver(receive), transport.send)
            case "lifespan":
                await _Lifespan(self._application).serve(scope, receive, send)
            case _:
                await self._application(scope, receive, send)

    def _hook(self) -> None:
        """Install the shutdown handling in the server's event loop, unless it is already installed."""
        if self._is_hooked:
            return
        self._is_hooked = True
        hook_shutdown(asyncio.get_running_loop())
        if threading.current_thread() is not threading.main_thread():
            # Under runserver with its reloader, the main thread exits without notifying this one.
            atexit.register(close_at_exit)


class _Lifespan:
    """Serves the lifespan scope, and passes it to the application if that supports it."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._inbound: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = asyncio.create_task(self._run(scope))
        try:
            while True:
                message = await receive()
                is_last = message["type"] == "lifespan.shutdown"
                if is_last:
                    await drain()
                answer = await self._ask(inner, message)
                if is_last:
                    # hypercorn cancels this task as soon as it has the answer, so the application's task must have
                    # ended before.
                    await self._end(inner)
                await send(answer or {"type": f"{message['type']}.complete"})
                if is_last:
                    return
        finally:
            await self._end(inner)

    async def _end(self, inner: asyncio.Task[None]) -> None:
        """Cancel the application's task if it is still running, and wait until it has ended."""
        if not inner.done():
            inner.cancel()
            await asyncio.wait([inner])
        if not inner.cancelled():
            inner.exception()  # read, so that asyncio doesn't log it as never retrieved

    async def _run(self, scope: Scope) -> None:
        await self._application(scope, self._inbound.get, self._answers.put)

    async def _ask(self, inner: asyncio.Task[None], message: Message) -> Message | None:
        """Pass a message to the application; return its answer, or None if it doesn't support the lifespan scope."""
        if inner.done():
            return None
        self._inbound.put_nowait(message)
        answer = asyncio.create_task(self._answers.get())
        await asyncio.wait({answer, inner}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            return None
        return answer.result()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a connection opened during the drain: with 503 if the server can, otherwise with a close frame."""
    await receive()
    if "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [(b"retry-after", b"1"), (b"content-length", b"0")]
        await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b""})
        return
    transport = transport_of(send)
    await transport.send({"type": "websocket.accept"})
    await transport.send({"type": "websocket.close", "code": TRY_LATER.code, "reason": TRY_LATER.reason})
