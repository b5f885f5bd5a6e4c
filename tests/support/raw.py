"""A WebSocket client on a bare socket, which can omit what a library does automatically."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import ssl
import struct
from types import TracebackType
from typing import Any, Self

opened: list[RawClient] = []

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


@dataclasses.dataclass(frozen=True)
class RawFrame:
    """A frame as it was received."""

    opcode: int
    payload: bytes

    @property
    def close(self) -> tuple[int, str]:
        """Code and reason of a close frame."""
        if len(self.payload) < 2:
            return 1005, ""
        return struct.unpack("!H", self.payload[:2])[0], self.payload[2:].decode()

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class RawClient:
    """Sends and reads frames one by one, and answers nothing unless told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.loop = asyncio.get_running_loop()
        opened.append(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    def send(self, payload: bytes | str, opcode: int = TEXT, *, fin: bool = True) -> None:
        """Send a masked frame (RFC 6455, 5.3); the mask is zero, which is allowed."""
        data = payload.encode() if isinstance(payload, str) else payload
        head = bytes([(0x80 if fin else 0) | opcode])
        if len(data) < 126:
            head += bytes([0x80 | len(data)])
        elif len(data) < 65_536:
            head += b"\xfe" + len(data).to_bytes(2, "big")
        else:
            head += b"\xff" + len(data).to_bytes(8, "big")
        self.writer.write(head + b"\0\0\0\0" + data)

    def event(self, name: str, ref: Any = None, **data: Any) -> None:
        frame = {"event": name, "data": data}
        self.send(json.dumps(frame if ref is None else {**frame, "ref": ref}))

    async def receive(self, seconds: float = 15) -> RawFrame:
        """Return the next frame; raises ConnectionError at the end of the stream."""
        async with asyncio.timeout(seconds):
            try:
                first, second = await self.reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    size = int.from_bytes(await self.reader.readexactly(2), "big")
                elif size == 127:
                    size = int.from_bytes(await self.reader.readexactly(8), "big")
                return RawFrame(first & 0x0F, await self.reader.readexactly(size))
            except asyncio.IncompleteReadError as error:
                raise ConnectionError("the server hung up") from error

    async def until(self, opcode: int, seconds: float = 15) -> RawFrame:
        """Return the next frame of a kind; drops others."""
        async with asyncio.timeout(seconds):
            while True:
                frame = await self.receive(seconds)
                if frame.opcode == opcode:
                    return frame


async def hang_up() -> None:
    """Cut every socket that the test left open. Those of another loop have ended with it."""
    for client in opened:
        if client.loop is asyncio.get_running_loop():
            client.writer.transport.abort()
    opened.clear()
    await asyncio.sleep(0)


async def connect(
    port: int,
    path: str,
    *,
    subprotocol: str | None = None,
    extensions: str | None = None,
    tls: ssl.SSLContext | None = None,
    buffer: int | None = None,
) -> RawClient:
    """Open a socket; ``buffer`` is how many bytes asyncio reads ahead of the test."""
    options: dict[str, Any] = {} if buffer is None else {"limit": buffer}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, **options)
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    if subprotocol is not None:
        head.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if extensions is not None:
        head.append(f"Sec-WebSocket-Extensions: {extensions}")
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    async with asyncio.timeout(15):
        status = await reader.readline()
        while (await reader.readline()).strip():
            pass
    if b" 101 " not in status:
        writer.transport.abort()
        raise ConnectionError(f"refused: {status!r}")
    return RawClient(reader, writer)
