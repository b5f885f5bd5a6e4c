"""Daphne, which serves ASGI with Twisted and autobahn."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from ..connection.drain import abort_drain, drain, is_aborted
from ..delivery.transport import Transport, Writer
from ..types import Message, Send
from .features import Features, has

_PROTOCOL = (
    "handle_reply sendCloseFrame sendPing onPing onPong _sendAutoPing _perMessageCompress send_queue state transport "
    "STATE_OPEN"
)

CLOSE_SECONDS = 6.0
"""
How long autobahn waits for the client to answer a close frame, in seconds. Its own default is one second.

It is longer than the connection waits, which resets the socket then.
"""

FEATURES: dict[str, Features] = {
    "daphne": {
        "daphne.server:Server": "handle_reply kill_all_applications connections",
        "daphne.ws_protocol:WebSocketFactory": "failByDrop closeHandshakeTimeout",
        "daphne.ws_protocol:WebSocketProtocol": _PROTOCOL,
    },
}
"""The attributes of Daphne that this module uses."""


def recognise(send: Send) -> Transport | None:
    """Return the transport of a connection served by Daphne, or None for another server's."""
    if not isinstance(send, functools.partial) or getattr(send.func, "__name__", "") != "handle_reply":
        return None
    protocol = send.args[0]
    return DaphneTransport(send, protocol) if has(protocol, f"{_PROTOCOL} failByDrop closeHandshakeTimeout") else None


class _Producer:
    """A Twisted producer, notified when the transport's buffer is full and when it has drained."""

    def __init__(self, writable: asyncio.Event) -> None:
        self._writable = writable

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._writable.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._writable.set()

    def stopProducing(self) -> None:  # noqa: N802
        # The connection is lost. Wakes any waiting sender, which then sees that the connection is closed.
        self._writable.set()


class DaphneTransport(Transport):
    """
    A connection of Daphne. It adds what autobahn supports and Daphne itself doesn't expose: close codes with reasons,
    back-pressure, pings, and the abort of stuck sockets.
    """

    server = "daphne"
    preserves_close_codes = True
    has_back_pressure = True
    can_ping = True
    can_abort = True

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(self._send)
        self._reply = send
        self._protocol = protocol
        self._writable = asyncio.Event()
        self._writable.set()
        # Answer a frame that is too large or isn't UTF-8 with a close frame instead of a TCP reset.
        protocol.failByDrop = False
        protocol.closeHandshakeTimeout = CLOSE_SECONDS

    async def _send(self, message: Message) -> None:
        protocol = self._protocol
        if message["type"] == "websocket.send":
            if not self._writable.is_set():
                await self._writable.wait()
            if protocol.state != protocol.STATE_OPEN:
                raise ConnectionError("the connection is closed")
            # Daphne's own send does the same after handling HTTP messages.
            protocol.handle_reply(message)
        elif message["type"] == "websocket.close" and protocol.state == protocol.STATE_OPEN:
            if not self._writable.is_set():
                await self._writable.wait()
            # sendClose() refuses codes that RFC 6455 defines, such as 1001; sendCloseFrame() accepts every code.
            reason = message.get("reason") or ""
            protocol.sendCloseFrame(message.get("code", 1000), reason.encode() or None)
        else:
            await self._reply(message)
            if message["type"] == "websocket.accept":
                self._watch_back_pressure()

    def observe_pongs(self, on_pong: Callable[[], None]) -> None:
        protocol = self._protocol
        answer = protocol.onPing

        def on_ping(payload: bytes) -> None:
            on_pong()
            answer(payload)

        protocol.onPing = on_ping
        protocol.onPong = lambda payload: on_pong()
        # Disable Daphne's own keepalive, which resets clients that answer late.
        protocol._sendAutoPing = _nothing

    def ping(self) -> None:
        self._protocol.sendPing()

    def abort(self) -> bool:
        transport = self._protocol.transport
        if transport is None:
            return False
        transport.abortConnection()
        return True

    def prepared_writer(self) -> Writer | None:
        protocol = self._protocol
        transport = protocol.transport
        needed = "socket dataBuffer _tempDataBuffer connected disconnecting"
        # Compare the class: the TLS wrapper passes attribute access through to the plain socket's transport, and
        # writing to that socket would bypass the encryption.
        if type(transport).__module__ != "twisted.internet.tcp" or not has(transport, needed):
            return None
        if protocol._perMessageCompress is not None:
            return None
        put, is_open = transport.socket.send, protocol.STATE_OPEN

        def write(data: bytes) -> bool:
            if (
                transport.dataBuffer
                or transport._tempDataBuffer
                or protocol.send_queue
                or protocol.state != is_open
                or transport.disconnecting
                or not transport.connected
            ):
                return False
            try:
                sent = put(data)
            except OSError:
                return False  # the socket's buffer is full, or the connection is lost, which Twisted notices by itself
            if sent < len(data):
                transport.write(data[sent:])
            return True

        return _writer(write)

    def framing_writer(self) -> Writer | None:
        protocol, is_writable = self._protocol, self._writable.is_set
        put, is_open = protocol.transport.write, protocol.STATE_OPEN
        if protocol._perMessageCompress is not None:
            return None

        def write(data: bytes) -> bool:
            # Sends like autobahn's prepared messages, but without converting each octet for a debug log.
            if not is_writable() or protocol.send_queue or protocol.state != is_open:
                return False
            put(data)
            return True

        return _writer(write)

    def _watch_back_pressure(self) -> None:
        transport = self._protocol.transport
        if transport is None:
            return
        # Twisted's HTTP channel is still registered as the producer, although it no longer writes.
        transport.unregisterProducer()
        transport.registerProducer(_Producer(self._writable), True)


def _writer(write: Callable[[bytes], bool]) -> Writer:
    return Writer(
        lambda frame: write(frame.framed),
        lambda frames: write(b"".join([frame.framed for frame in frames])),
    )


def _nothing() -> None:
    """Do nothing."""


def hook_shutdown() -> None:
    """
    Drain connections before Daphne cancels its applications. A second signal ends the process at once.

    Daphne is already running when it loads the application, which calls this function. It looks up the patched method
    only when it shuts down, so the patch is in time.
    """
    server = _server()
    if not has(server, "kill_all_applications") or is_shutdown_hooked():
        return
    kill = server.kill_all_applications

    @functools.wraps(kill)
    def drain_and_kill(self: Any) -> Any:
        from twisted.internet.defer import Deferred  # installed, because it runs this server

        _end_at_the_second_signal()
        loop = asyncio.get_event_loop()
        drained = Deferred.fromFuture(asyncio.ensure_future(drain(), loop=loop))

        def end(_: Any) -> Any:
            if is_aborted():
                return None
            # A connection younger than a second may not have an application yet. Daphne would then cancel none at all.
            nothing = loop.create_future()
            nothing.set_result(None)
            for details in getattr(self, "connections", {}).values():
                details.setdefault("application_instance", nothing)
            return kill(self)

        return drained.addBoth(end)

    server.kill_all_applications = drain_and_kill


def is_shutdown_hooked() -> bool:
    """Return whether Daphne, if it is loaded, drains before it cancels its applications."""
    return hasattr(getattr(_server(), "kill_all_applications", None), "__wrapped__")


def _server() -> Any:
    return getattr(sys.modules.get("daphne.server"), "Server", None)


def _end_at_the_second_signal() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: abort_drain())
