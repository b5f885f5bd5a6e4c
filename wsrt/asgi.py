"""The wrapper that serves the consumers alongside Django, with the server's capabilities and a graceful shutdown."""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import threading
from collections.abc import Iterable
from typing import Any

from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import Resolver404

from .close_codes import NOT_FOUND, Close, CloseCode
from .cluster.node import note_server
from .connection.drain import close_at_exit, drain, is_draining
from .delivery.transport import TRANSPORT
from .metrics import counters, quoted
from .servers import hook_shutdown, transport_of
from .types import Application, Message, Middleware, Receive, Scope, Send

__all__ = ["drain", "with_runtime"]

UNROUTED = "No WebSocket route matches"
"""The answer to a handshake whose path has no route. Under DEBUG, advice follows."""

TRY_LATER = Close(CloseCode.TRY_AGAIN_LATER, "Server shutting down")
"""The close for connections opened during a drain on servers that can't answer with 503."""


def with_runtime(application: Application, *, middleware: Iterable[Middleware] = ()) -> Application:
    """
    Wrap an ASGI application, so that it serves consumers and uses features of the server that ASGI doesn't offer.

        application = with_runtime(get_asgi_application())

    If the application is that of Django, the result serves the WebSocket routes of all consumers that have a ``path``,
    with the session, the user and the language of the handshake, if the project's pages have them. If the application
    has routers of its own, only their routes are served:

        application = with_runtime(ProtocolTypeRouter({...}))

    A handshake for a path without a route is answered with 404, or with a close if the server can't send a 404. The log
    names the path and the most similar route.

    This must be the outermost wrapper. Close codes and reasons, back-pressure, pings and the drain at shutdown then
    work on every supported server, as far as the server allows it. Other servers are treated as plain ASGI. The result
    also handles the lifespan scope if the application doesn't.

    Args:
        application: Django's application, or one that also serves WebSockets, such as a ProtocolTypeRouter.
        middleware: For Django's application only: the classes or functions that wrap the WebSocket routes, such as
            ``[DeviceMiddleware]``, the outermost first. When they run, the session, user and language are known.

    Raises:
        ImproperlyConfigured: Two consumers have the same path, or ``wsrt`` isn't in INSTALLED_APPS.
        TypeError: ``application`` is the function get_asgi_application, or ``middleware`` was given with an application
            that has WebSocket routes of its own.
    """
    # Imported here: the modules need Django's settings, and are needed when the application has been made with them.
    from .schema.routes import is_http_only

    given: Any = application
    if given is get_asgi_application:
        raise TypeError("get_asgi_application isn't called: write with_runtime(get_asgi_application())")
    middleware = tuple(middleware)
    if is_http_only(application):
        from .middleware import ConsumerRoutes

        consumers = ConsumerRoutes(middleware)
        application = ProtocolTypeRouter({"http": application, "lifespan": application, "websocket": consumers})
    elif middleware:
        raise TypeError(
            "middleware= is for the WebSocket routes that with_runtime() adds to get_asgi_application(). This "
            "application has WebSocket routes of its own: put the middleware around its URLRouter"
        )
    hook_shutdown()
    return Runtime(application)


class Runtime:
    """The application returned by with_runtime()."""

    middleware_names: tuple[str, ...] = ()
    """The names under which the runtime is listed with the middleware of a route: it isn't middleware."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._is_hooked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._hook()
        match scope["type"]:
            case "websocket" if TRANSPORT in (scope.get("extensions") or {}):
                # A runtime around this one has done the rest, and has replaced the server's send.
                await self._application(scope, receive, send)
            case "websocket":
                if is_draining():
                    await receive()
                    await _refuse(scope, send, 503, TRY_LATER, [(b"retry-after", b"1")])
                    return
                transport = transport_of(send)
                extensions = {**(scope.get("extensions") or {}), TRANSPORT: transport}
                try:
                    await self._application(
                        {**scope, "extensions": extensions}, transport.receiver(receive), transport.send
                    )
                except (ValueError, Resolver404) as error:
                    if not _is_unrouted(error):
                        raise
                    await self._refuse_unrouted(scope, send)
            case "lifespan":
                await _Lifespan(self._application).serve(scope, receive, send)
            case _:
                await self._application(scope, receive, send)

    def _hook(self) -> None:
        """Install the shutdown handling in the server's event loop, unless it is already installed."""
        if self._is_hooked:
            return
        self._is_hooked = True
        note_server()
        hook_shutdown(asyncio.get_running_loop())
        if threading.current_thread() is not threading.main_thread():
            # Under runserver with its reloader, the main thread exits without notifying this one.
            atexit.register(close_at_exit)

    async def _refuse_unrouted(self, scope: Scope, send: Send) -> None:
        """Answer a handshake whose path has no route. Under DEBUG, the answer says what to change."""
        from .schema.routes import advice, routes_of

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        hint = advice(path, routes_of(self._application))
        counters.count("handshakes_unrouted", "no WebSocket route matches %s: %s", quoted(path), hint)
        reason = f"{UNROUTED}: {hint}" if settings.DEBUG else UNROUTED
        await _refuse(scope, send, 404, dataclasses.replace(NOT_FOUND, reason=reason))


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


ROUTERS = frozenset({"channels.routing", "django.core.handlers.asgi"})
"""The modules whose applications raise an error for a WebSocket that they don't serve."""


def _is_unrouted(error: Exception) -> bool:
    """Return whether a router raised an error, because it has no application for the path or for WebSockets."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") in ROUTERS


async def _refuse(
    scope: Scope, send: Send, status: int, close: Close, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """
    Refuse a handshake: with an HTTP status if the server can, otherwise with a close frame.

    Args:
        scope: The scope of the handshake.
        send: The ``send`` of the server.
        status: The HTTP status.
        close: The close. Its reason is also the body of the HTTP response.
        headers: Further headers of the HTTP response.
    """
    if "websocket.http.response" in (scope.get("extensions") or {}):
        body = close.reason.encode()
        own = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "websocket.http.response.start", "status": status, "headers": [*headers, *own]})
        await send({"type": "websocket.http.response.body", "body": body})
        return
    transport = transport_of(send)
    await transport.send({"type": "websocket.accept"})
    await transport.send({"type": "websocket.close", "code": close.code, "reason": close.wire_reason})
