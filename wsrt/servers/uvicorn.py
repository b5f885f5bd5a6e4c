"""uvicorn, with each of its three WebSocket implementations."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..connection.drain import abort_drain, drain
from ..delivery.tasks import start_task
from ..delivery.transport import Transport, Writer
from ..protocol.frame import Frame
from ..types import Send
from .features import Features, has

# Before 0.52.1, uvicorn had no pause_writing with websockets-sansio: it never cleared ``writable``, and buffered
# without limit.
_QUEUE = "transport writable pause_writing conn config scope ping_interval handle_ping handle_pong"
_SANSIO = "send_ping send_text data_to_send extensions state"
_WSPROTO = "send events state"
_EVENTS = "Ping TextMessage"
_LEGACY = "asgi_send write_frame_sync pings pong transport loop state extensions ping_interval _paused"
_FRAMES = "Frame Opcode"

FEATURES: dict[str, Features] = {
    "uvicorn (websockets-sansio)": {
        "uvicorn.server:Server": "handle_exit",
        "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol": _QUEUE,
        "websockets.server:ServerProtocol": _SANSIO,
    },
    "uvicorn (websockets)": {
        "uvicorn.server:Server": "handle_exit",
        "uvicorn.protocols.websockets.websockets_impl:WebSocketProtocol": _LEGACY,
        "websockets.frames:": _FRAMES,
    },
    "uvicorn (wsproto)": {
        "uvicorn.server:Server": "handle_exit",
        "uvicorn.protocols.websockets.wsproto_impl:WSProtocol": _QUEUE,
        "wsproto:WSConnection": _WSPROTO,
        "wsproto.events:": _EVENTS,
    },
}
"""The attributes of each implementation that this module uses."""

Preparation = Callable[[Frame], bytes]
"""A function that returns the bytes of a message as they are sent on the wire."""


def recognise(send: Send) -> Transport | None:
    """Return the transport of a connection served by uvicorn, or None for another server's."""
    protocol: Any = getattr(send, "__self__", None)
    if has(protocol, _LEGACY) and has(sys.modules.get("websockets.frames"), _FRAMES):
        return LegacyTransport(send, protocol)
    if not has(protocol, _QUEUE):
        return None
    if has(protocol.conn, _SANSIO):
        return SansIOTransport(send, protocol)
    if has(protocol.conn, _WSPROTO) and has(sys.modules.get("wsproto.events"), _EVENTS):
        return WsprotoTransport(send, protocol)
    return None


class UvicornTransport(Transport):
    """The base class of the three transports for uvicorn."""

    server = "uvicorn"
    preserves_close_codes = True
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
    """The base for websockets-sansio and wsproto, which have the same structure."""

    def observe_pongs(self, on_pong: Callable[[], None]) -> None:
        protocol = self._protocol
        # uvicorn reads this when it accepts the handshake. Without it, there is no keepalive of uvicorn's own, which
        # closes connections of clients that answer late.
        protocol.ping_interval = None
        for name in ("handle_ping", "handle_pong"):
            setattr(protocol, name, _after(getattr(protocol, name), on_pong))

    def prepared_writer(self) -> Writer | None:
        prepare = self._preparation()
        if prepare is None:
            return None
        return self._writer(lambda frames: b"".join([prepare(frame) for frame in frames]), prepare)

    def framing_writer(self) -> Writer | None:
        encode = self._framing()
        return self._writer(encode, lambda frame: encode((frame,)))

    def _writer(self, encode_many: Callable[[Sequence[Frame]], bytes], encode: Callable[[Frame], bytes]) -> Writer:
        protocol, connection = self._protocol, self._protocol.conn
        is_open = connection.state
        transport, is_writable = protocol.transport, protocol.writable.is_set
        is_closing, put = transport.is_closing, transport.write

        def one(frame: Frame) -> bool:
            if is_writable() and not is_closing() and connection.state is is_open:
                put(encode(frame))
                return True
            return False

        def many(frames: Sequence[Frame]) -> bool:
            if is_writable() and not is_closing() and connection.state is is_open:
                put(encode_many(frames))
                return True
            return False

        return Writer(one, many)

    def _preparation(self) -> Preparation | None:
        """Return the function that encodes a message once for all sockets like this; None if they can't share bytes."""
        raise NotImplementedError  # pragma: no cover - each has its own

    def _framing(self) -> Callable[[Sequence[Frame]], bytes]:
        """Return the function that encodes messages as the server itself would."""
        raise NotImplementedError  # pragma: no cover - each has its own


class SansIOTransport(QueueTransport):
    """A connection of ``--ws websockets-sansio``."""

    server = "uvicorn (websockets-sansio)"

    def ping(self) -> None:
        connection = self._protocol.conn
        connection.send_ping(os.urandom(4))
        self._protocol.transport.write(b"".join(connection.data_to_send()))

    def _preparation(self) -> Preparation | None:
        return preparation_for(self._protocol.conn.extensions)

    def _framing(self) -> Callable[[Sequence[Frame]], bytes]:
        connection = self._protocol.conn
        send, take = connection.send_text, connection.data_to_send

        def encode(frames: Sequence[Frame]) -> bytes:
            for frame in frames:
                send(frame.payload)
            return b"".join(take())

        return encode


class WsprotoTransport(QueueTransport):
    """A connection of ``--ws wsproto``."""

    server = "uvicorn (wsproto)"

    def ping(self) -> None:
        from wsproto.events import Ping  # installed, because it serves this connection

        self._protocol.transport.write(self._protocol.conn.send(Ping(payload=os.urandom(4))))

    def _preparation(self) -> Preparation | None:
        offered = any(name == b"sec-websocket-extensions" for name, _ in self._protocol.scope["headers"])
        is_compressed = offered and self._protocol.config.ws_per_message_deflate
        return None if is_compressed else framed

    def _framing(self) -> Callable[[Sequence[Frame]], bytes]:
        from wsproto.events import TextMessage  # installed, because it serves this connection

        send = self._protocol.conn.send
        return lambda frames: b"".join([send(TextMessage(data=frame.text)) for frame in frames])


class LegacyTransport(UvicornTransport):
    """A connection of ``--ws websockets``."""

    server = "uvicorn (websockets)"

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send, protocol)
        self._on_pong: Callable[[], None] = _nothing

    def observe_pongs(self, on_pong: Callable[[], None]) -> None:
        self._on_pong = on_pong
        self._protocol.ping_interval = None
        # websockets calls this method to answer the client's pings, which are signs of life too.
        self._protocol.pong = _after(self._protocol.pong, on_pong)

    def ping(self) -> None:
        protocol = self._protocol
        payload = os.urandom(4)
        pong = protocol.loop.create_future()
        pong.add_done_callback(lambda _: self._on_pong() if not pong.cancelled() and not pong.exception() else None)
        protocol.pings[payload] = (pong, 0.0)
        protocol.write_frame_sync(True, 0x9, payload)

    def prepared_writer(self) -> Writer | None:
        # The handshake may still be running in its own task, so the negotiated extensions are read for each message.
        def encode(frames: Sequence[Frame]) -> bytes | None:
            prepare = preparation_for(self._protocol.extensions)
            return None if prepare is None else b"".join([prepare(frame) for frame in frames])

        return self._writer(encode)

    def framing_writer(self) -> Writer | None:
        from websockets.frames import Frame as WireFrame  # installed, because it serves this connection
        from websockets.frames import Opcode

        def encode(frames: Sequence[Frame]) -> bytes:
            extensions = self._protocol.extensions
            wire = [WireFrame(Opcode.TEXT, frame.payload) for frame in frames]
            return b"".join([frame.serialize(mask=False, extensions=extensions) for frame in wire])

        return self._writer(encode)

    def _writer(self, encode: Callable[[Sequence[Frame]], bytes | None]) -> Writer:
        protocol = self._protocol

        def many(frames: Sequence[Frame]) -> bool:
            if protocol.state.name != "OPEN" or protocol._paused or protocol.transport.is_closing():
                return False
            data = encode(frames)
            if data is None:
                return False
            protocol.transport.write(data)
            return True

        return Writer(lambda frame: many((frame,)), many)


framed: Preparation = operator.attrgetter("framed")


def preparation_for(extensions: Sequence[Any]) -> Preparation | None:
    """Return the function that encodes messages for the negotiated extensions; None if sockets can't share bytes."""
    match extensions:
        case []:
            return framed
        case [extension] if getattr(extension, "local_no_context_takeover", False):
            bits = extension.local_max_window_bits
            return lambda frame: frame.deflated(bits)
    return None


def _after(method: Callable[..., Any], then: Callable[[], None]) -> Callable[..., Any]:
    def both(*args: Any) -> Any:
        then()
        return method(*args)

    return both


def _nothing() -> None:
    """Do nothing."""


def hook_shutdown(loop: asyncio.AbstractEventLoop) -> None:
    """
    Put a drain before uvicorn's own handling of SIGTERM and SIGINT; a second signal ends the process at once.

    When uvicorn receives a signal, it closes every socket with 1012, and calls lifespan.shutdown only after that.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        handle_exit = signal.getsignal(number)
        if getattr(handle_exit, "__name__", "") == "handle_exit" and callable(handle_exit):
            signal.signal(number, _Handler(loop, handle_exit))


def is_shutdown_hooked() -> bool:
    """Return whether uvicorn drains before it handles SIGTERM. Call it in the main thread."""
    return isinstance(signal.getsignal(signal.SIGTERM), _Handler)


class _Handler:
    def __init__(self, loop: asyncio.AbstractEventLoop, handle_exit: Callable[[int, Any], Any]) -> None:
        self._loop = loop
        self._handle_exit = handle_exit
        self._task: asyncio.Task[None] | None = None
        self._is_called = False

    def __call__(self, number: int, frame: Any) -> None:
        if self._is_called:
            abort_drain()
            self._handle_exit(number, frame)
            self._handle_exit(signal.SIGINT, frame)  # makes uvicorn exit without waiting
            return
        self._is_called = True
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        self._task = start_task(self._loop, self._end(number))

    async def _end(self, number: int) -> None:
        try:
            await drain()
        finally:
            self._handle_exit(number, None)
