"""The application of the test servers below middleware that wraps ``send``, as tracing and correlation ids do."""

from __future__ import annotations

import contextvars

import anyio

from tests.apps.asgi import application
from wsrt.asgi import with_runtime
from wsrt.types import Message, Receive, Scope, Send

span: contextvars.ContextVar[str | None] = contextvars.ContextVar("span", default=None)
path: contextvars.ContextVar[str | None] = contextvars.ContextVar("path", default=None)


async def traced(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep a context variable and a cancel scope around each message; those of another connection are an error."""
    path.set(scope.get("path"))

    async def send_in_span(message: Message) -> None:
        if path.get() != scope.get("path"):
            raise RuntimeError(f"{scope.get('path')} is sent in the context of {path.get()}")
        token = span.set("send")
        try:
            with anyio.CancelScope():
                await send(message)
        finally:
            span.reset(token)

    await application(scope, receive, send_in_span)


runtime = with_runtime(traced)
