"""granian, whose sockets are managed in Rust."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from ..connection.drain import abort_drain, drain
from ..delivery.tasks import is_being_cancelled, start_task
from ..delivery.transport import Transport
from ..types import Message, Receive, Send
from .features import Features, has

_PROTOCOL = "send receive"

FEATURES: dict[str, Features] = {
    "granian": {
        "granian._granian:ASGIWebsocketProtocol": _PROTOCOL,
        "granian._signals:": "set_loop_signals",
    },
}
"""The attributes of granian that this module uses."""

RELAY_SECONDS = 1.0
"""A second signal within this time, in seconds, is the first one repeated by granian's main process."""


def recognise(send: Send) -> Transport | None:
    """Return the transport of a connection served by granian, or None for another server's."""
    protocol = getattr(send, "__self__", None)
    # The class is implemented in Rust, and its attributes are too few to recognise it by: the module is checked too.
    if type(protocol).__module__.partition(".")[0] != "granian" or not has(protocol, _PROTOCOL):
        return None
    return GranianTransport(send)


class GranianTransport(Transport):
    """A connection of granian, which sends close codes and reasons and applies back-pressure by itself."""

    server = "granian"
    preserves_close_codes = True
    has_back_pressure = True

    def __init__(self, send: Send) -> None:
        super().__init__(self._send)
        self._server_send = send
        # granian's future of the pending receive(). None if no receive() is pending.
        self._pending_receive: Any = None
        # The future that _close() cancelled. None before that.
        self._cancelled_receive: Any = None
        # Whether a close was started, and whether it has been sent or has failed.
        self._is_closing = False
        self._closed = asyncio.Event()

    def receiver(self, receive: Receive) -> Receive:
        async def receive_until_closed() -> Message:
            if not self._is_closing:
                self._pending_receive = receiving = receive()
                try:
                    return await receiving
                except asyncio.CancelledError:
                    # Any other cancellation is meant for the task, and must reach it.
                    if self._cancelled_receive is not receiving or is_being_cancelled():
                        raise
                finally:
                    self._pending_receive = None
            await self._closed.wait()
            return await receive()

        return receive_until_closed

    def _send(self, message: Message) -> Awaitable[None]:
        if message["type"] != "websocket.close" or self._is_closing:
            return self._server_send(message)
        return self._close(message)

    async def _close(self, message: Message) -> None:
        self._is_closing = True
        # Before 2.8.9, a pending receive() holds the socket, and the close would wait for the
        # client's next frame.
        if hasattr(self._pending_receive, "cancel"):
            self._cancelled_receive = self._pending_receive
            self._cancelled_receive.cancel()
        try:
            await self._server_send(message)
        finally:
            self._closed.set()


def hook_shutdown() -> None:
    """
    Put a drain before granian's own handling of SIGTERM and SIGINT in its workers.

    When granian receives a signal, it drops its sockets without a close frame, and calls lifespan.shutdown after that.
    granian has been imported when it loads the application, which calls this function. It looks up the patched function
    only when a worker starts to serve, so the patch is in time.
    """
    signals: Any = sys.modules.get("granian._signals")
    if not has(signals, "set_loop_signals") or is_shutdown_hooked():
        return
    set_loop_signals = signals.set_loop_signals

    @functools.wraps(set_loop_signals)
    def set_and_drain(loop: asyncio.AbstractEventLoop) -> Any:
        stop = set_loop_signals(loop)
        handler = _Handler(loop, stop.set)
        # On Windows add_signal_handler() isn't implemented, and granian's own handlers stay.
        with contextlib.suppress(NotImplementedError):
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, handler)
        return stop

    signals.set_loop_signals = set_and_drain


def is_shutdown_hooked() -> bool:
    """Return whether granian is loaded and its workers drain before they drop their sockets."""
    return hasattr(getattr(sys.modules.get("granian._signals"), "set_loop_signals", None), "__wrapped__")


class _Handler:
    """Drains at the first signal, then lets granian shut down. A later second signal aborts the drain."""

    def __init__(self, loop: asyncio.AbstractEventLoop, go_on: Callable[[], object]) -> None:
        self._loop = loop
        self._go_on = go_on
        # The loop's time of the first signal; None before it.
        self._since: float | None = None
        self._task: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        if self._since is None:
            self._since = self._loop.time()
            self._task = start_task(self._loop, self._end())
        elif self._loop.time() - self._since > RELAY_SECONDS:
            # Control-C and systemd signal every process, and the main process then signals its workers again.
            abort_drain()

    async def _end(self) -> None:
        try:
            await drain()
        finally:
            self._go_on()
