"""uvicorn, with any of its three implementations of WebSocket."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from ..delivery.transport import Transport, Write
from ..drain import drain, hurry
from ..types import Send


def recognise(send: Send) -> Transport | None:
    """Return the transport of a connection that uvicorn serves, else None."""
    protocol = getattr(send, "__self__", None)
    if protocol is None or not hasattr(protocol, "transport"):
        return None
    if hasattr(protocol, "asgi_send") and hasattr(protocol, "write_frame_sync") and hasattr(protocol, "pings"):
        return LegacyTransport(send, protocol)
    if not hasattr(protocol, "writable") or not hasattr(protocol, "handle_pong"):
        return None
    if hasattr(protocol.conn, "send_ping") and hasattr(protocol.conn, "data_to_send"):
        return SansIOTransport(send, protocol)
    if hasattr(protocol.conn, "send") and hasattr(protocol.conn, "events"):
        return WsprotoTransport(send, protocol)
    return None


class UvicornTransport(Transport):
    """What the three have in common."""

    server = "uvicorn"
    closes_as_told = True
    has_back_pressure = True
    can_ping = True
    can_abort = True

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send)
        self._protocol = protocol

    def abort(self) -> bool:
        transport = self._protocol.transport
        if transport is None:
            return False
        transport.abort()
        return True


class QueueTransport(UvicornTransport):
    """websockets-sansio and wsproto, which are built alike."""

    def watch(self, on_life: Callable[[], None]) -> None:
        protocol = self._protocol
        # Read when the handshake is accepted: no keepalive of uvicorn's own then, which closes late answerers.
        protocol.ping_interval = None
        for name in ("handle_ping", "handle_pong"):
            setattr(protocol, name, _after(getattr(protocol, name), on_life))

    def writer(self) -> Write | None:
        if not self._is_uncompressed():
            return None
        transport, is_writable = self._protocol.transport, self._protocol.writable.is_set
        is_closing, put = transport.is_closing, transport.write

        def write(data: bytes) -> bool:
            if is_writable() and not is_closing():
                put(data)
                return True
            return False

        return write

    def _is_uncompressed(self) -> bool:
        raise NotImplementedError  # pragma: no cover - each has its own


class SansIOTransport(QueueTransport):
    """``--ws websockets-sansio``."""

    server = "uvicorn (websockets-sansio)"

    def ping(self) -> None:
        connection = self._protocol.conn
        connection.send_ping(os.urandom(4))
        self._protocol.transport.write(b"".join(connection.data_to_send()))

    def _is_uncompressed(self) -> bool:
        return not self._protocol.conn.extensions


class WsprotoTransport(QueueTransport):
    """``--ws wsproto``."""

    server = "uvicorn (wsproto)"

    def ping(self) -> None:
        from wsproto.events import Ping  # there: it serves this connection

        self._protocol.transport.write(self._protocol.conn.send(Ping(payload=os.urandom(4))))

    def _is_uncompressed(self) -> bool:
        if not self._protocol.config.ws_per_message_deflate:
            return True
        headers = self._protocol.scope["headers"]
        return not any(name == b"sec-websocket-extensions" for name, _ in headers)


class LegacyTransport(UvicornTransport):
    """``--ws websockets``."""

    server = "uvicorn (websockets)"

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send, protocol)
        self._on_life: Callable[[], None] = _nothing

    def watch(self, on_life: Callable[[], None]) -> None:
        self._on_life = on_life
        self._protocol.ping_interval = None
        # What it answers pings of the peer with.
        self._protocol.pong = _after(self._protocol.pong, on_life)

    def ping(self) -> None:
        protocol = self._protocol
        payload = os.urandom(4)
        pong = protocol.loop.create_future()
        pong.add_done_callback(lambda _: self._on_life() if not pong.cancelled() and not pong.exception() else None)
        protocol.pings[payload] = (pong, 0.0)
        protocol.write_frame_sync(True, 0x9, payload)

    def writer(self) -> Write | None:
        protocol = self._protocol
        is_uncompressed: bool | None = None

        def write(data: bytes) -> bool:
            nonlocal is_uncompressed
            # The handshake may still be under way in a task of its own.
            if protocol.state.name != "OPEN" or protocol._paused or protocol.transport.is_closing():
                return False
            if is_uncompressed is None:
                is_uncompressed = not protocol.extensions
            if is_uncompressed:
                protocol.transport.write(data)
            return is_uncompressed

        return write


def _after(method: Callable[..., Any], then: Callable[[], None]) -> Callable[..., Any]:
    def both(*args: Any) -> Any:
        then()
        return method(*args)

    return both


def _nothing() -> None:
    """Nobody asked."""


def hook_shutdown(loop: asyncio.AbstractEventLoop) -> None:
    """
    Put a drain before uvicorn's own handling of SIGTERM and SIGINT; a second signal ends the process at once.

    Uvicorn closes every socket 1012 as soon as it is told, and calls lifespan.shutdown only after that.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        handle_exit = signal.getsignal(number)
        if getattr(handle_exit, "__name__", "") == "handle_exit" and callable(handle_exit):
            signal.signal(number, _Handler(loop, handle_exit))


class _Handler:
    def __init__(self, loop: asyncio.AbstractEventLoop, handle_exit: Callable[[int, Any], Any]) -> None:
        self._loop = loop
        self._handle_exit = handle_exit
        self._task: asyncio.Task[None] | None = None
        self._is_called = False

    def __call__(self, number: int, frame: Any) -> None:
        if self._is_called:
            hurry()
            self._handle_exit(number, frame)
            self._handle_exit(signal.SIGINT, frame)  # uvicorn's way to say: without waiting
            return
        self._is_called = True
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        self._task = self._loop.create_task(self._end(number))

    async def _end(self, number: int) -> None:
        try:
            await drain()
        finally:
            self._handle_exit(number, None)
