"""A WebSocket client for crowds: no library, no task a socket, and it can break its connection like a lost network."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from collections.abc import Callable

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA

CONNECT_SECONDS = 30.0
"""How long a handshake may take, in seconds."""


class Socket(asyncio.Protocol):
    """
    One connection.

    Args:
        on_text: Called with each text message.

    Attributes:
        opened: Resolved when the handshake is done. It fails with a ConnectionError.
        ended: Resolved when the connection has ended, with the close code of the server; 1006 if there was none.
    """

    def __init__(self, on_text: Callable[[bytes], object]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._on_text = on_text
        self._code = 1006
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def send(self, text: str) -> None:
        """Send a text message, unless the connection has ended."""
        self._send(TEXT, text.encode())

    def reset(self) -> None:
        """Break the connection: the server receives a reset, or nothing."""
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.opened.done():
            head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not separator:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.opened.set_exception(ConnectionError(f"refused: {head[:80]!r}"))
                self.reset()
                return
            self._buffer = bytearray(rest)
            self.opened.set_result(None)
            # What came with the answer is read when the caller has seen that the handshake is done.
            asyncio.get_running_loop().call_soon(self._read)
            return
        self._read()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("the server ended the connection"))
        if not self.ended.done():
            self.ended.set_result(self._code)

    # Private.

    def _read(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if start > len(buffer) or start + size > len(buffer):
                break
            self._take(buffer[at] & 0xF, bytes(buffer[start : start + size]))
            at = start + size
        del buffer[:at]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._on_text(payload)
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            if self._transport is not None:
                self._transport.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65_536:
            head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
        # The masking key is zero, which leaves the payload as it is.
        self._transport.write(head + b"\0\0\0\0" + payload)


async def connect(port: int, path: str, on_text: Callable[[bytes], object], *, subprotocol: str = "") -> Socket:
    """
    Open a connection to a server of this machine.

    Raises:
        OSError: The server refused it, or ended it, or did not answer in time.
    """
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        + (f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else "")
        + "\r\n"
    )
    async with asyncio.timeout(CONNECT_SECONDS):
        transport, opened = await asyncio.get_running_loop().create_connection(
            lambda: Socket(on_text), "127.0.0.1", port
        )
        try:
            transport.write(request.encode())
            await opened.opened
        except BaseException:
            opened.reset()
            raise
    return opened
