"""hypercorn."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from ..connection.drain import drain
from ..delivery.tasks import start_task
from ..delivery.transport import Transport
from ..types import Send
from .features import Features, has

_STREAM = "app_put app_send context config send"

FEATURES: dict[str, Features] = {
    "hypercorn": {
        "hypercorn.protocol.ws_stream:WSStream": _STREAM,
        "hypercorn.protocol.h11:H11Protocol": "stream send stream_send",
        "hypercorn.asyncio.tcp_server:TCPServer": "writer protocol_send",
        "hypercorn.asyncio.worker_context:WorkerContext": "terminated",
    },
}
"""The attributes of hypercorn that this module uses."""

GRACE_SHARE = 0.8
"""The fraction of hypercorn's graceful_timeout that a drain may take."""

_watched: weakref.WeakKeyDictionary[Any, asyncio.Task[None]] = weakref.WeakKeyDictionary()


def recognise(send: Send) -> Transport | None:
    """Return the transport of a connection served by hypercorn, or None for another server's."""
    stream: Any = getattr(send, "__self__", None)
    if not has(stream, _STREAM) or not has(stream.context, "terminated"):
        return None
    protocol = stream.send.__self__
    # Over HTTP/2 other streams share the socket, so it must not be aborted.
    writer = protocol.send.__self__.writer if hasattr(protocol, "stream") else None
    return HypercornTransport(send, stream, writer)


def is_shutdown_hooked() -> bool:
    """Return True: each connection watches hypercorn's own shutdown event, so no signal handler is needed."""
    return True


class HypercornTransport(Transport):
    """A connection of hypercorn. Close codes and back-pressure work without wsrt, which can abort a stuck socket."""

    server = "hypercorn"
    preserves_close_codes = True
    has_back_pressure = True

    def __init__(self, send: Send, stream: Any, writer: Any) -> None:
        super().__init__(send)
        self._writer = writer
        if stream.context not in _watched:
            watching = _drain_at_shutdown(stream.context, stream.config.graceful_timeout)
            _watched[stream.context] = start_task(asyncio.get_running_loop(), watching)
        self.can_abort = writer is not None

    def abort(self) -> bool:
        if self._writer is None:
            return False
        self._writer.transport.abort()
        return True


async def _drain_at_shutdown(context: Any, graceful_timeout: float) -> None:
    """Wait for hypercorn's shutdown, then drain before the timeout at which it cancels its connections."""
    await context.terminated.wait()
    await drain(graceful_timeout * GRACE_SHARE)
