"""The runtime around an ASGI application: what the server can do, and an orderly end."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from .close_codes import Close, CloseCode
from .connection.drain import close_at_exit, drain, is_draining
from .connection.lifecycle import TRANSPORT
from .servers import hook_shutdown, transport_of
from .types import Message, Receive, Scope, Send

__all__ = ["drain", "with_runtime"]

TRY_LATER = Close(CloseCode.TRY_AGAIN_LATER, "Server shutting down")
"""For those who come during a drain, where they cannot be answered 503."""

Application = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application. Channels, Starlette and asgiref each have types of their own for what it is called with."""


def with_runtime(application: Application) -> Application:
    """
    Return an application, to be the outermost one, that gives consumers what their server can do beyond ASGI.

        application = with_runtime(ProtocolTypeRouter({...}))

    Close codes and reasons, back-pressure, pings and drain then hold on every server it knows; on others it changes
    nothing. Users start their server as before. It serves the lifespan scope itself where the application does not.
    """
    hook_shutdown()
    return Runtime(application)


class Runtime:
    """What with_runtime() returns."""

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
        """See to the end of the process, once in the loop that serves."""
        if self._is_hooked:
            return
        self._is_hooked = True
        hook_shutdown(asyncio.get_running_loop())
        if threading.current_thread() is not threading.main_thread():
            # As below runserver with its reloader: the main thread exits, and nobody tells this one.
            atexit.register(close_at_exit)


class _Lifespan:
    """Serves the lifespan scope, with the application's own part in it where it has one."""

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
                    # hypercorn cancels this task as soon as it has the answer: afterwards there is no time to wait.
                    await self._end(inner)
                await send(answer or {"type": f"{message['type']}.complete"})
                if is_last:
                    return
        finally:
            await self._end(inner)

    async def _end(self, inner: asyncio.Task[None]) -> None:
        """Cancel the application's own part, if it still runs, and wait for its end."""
        if not inner.done():
            inner.cancel()
            await asyncio.wait([inner])
        if not inner.cancelled():
            inner.exception()  # read, so that asyncio doesn't log it as never retrieved

    async def _run(self, scope: Scope) -> None:
        await self._application(scope, self._inbound.get, self._answers.put)

    async def _ask(self, inner: asyncio.Task[None], message: Message) -> Message | None:
        """Hand a message on; return the answer, or None of an application that does not know the scope."""
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
    """Refuse a connection that comes during the drain: 503 where the server can, else by a close frame."""
    await receive()
    if "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [(b"retry-after", b"1"), (b"content-length", b"0")]
        await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b""})
        return
    transport = transport_of(send)
    await transport.send({"type": "websocket.accept"})
    await transport.send({"type": "websocket.close", "code": TRY_LATER.code, "reason": TRY_LATER.reason})
