"""A client that sends what it is told, and reads what comes."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

QUIET = 0.5
"""Seconds after which nothing more is expected."""


class Peer:
    """
    One connection.

    Attributes:
        hello: the data of the server's hello, where the fixture has read it.
        seconds: how long the server may take for whatever it does.
    """

    def __init__(self, ws: ClientConnection, seconds: float) -> None:
        self.ws = ws
        self.seconds = seconds
        self.hello: dict[str, Any] = {}

    @classmethod
    async def dial(cls, url: str, subprotocols: list[str], headers: dict[str, str], seconds: float) -> Self:
        ws = await connect(
            url,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            additional_headers=headers,
            max_size=None,
            ping_interval=None,
        )
        return cls(ws, seconds)

    async def send(self, event: str, data: Any = None, **beside: Any) -> None:
        """Send an envelope."""
        await self.ws.send(json.dumps({"event": event, "data": {} if data is None else data, **beside}))

    async def send_raw(self, frame: str | bytes) -> None:
        """Send anything."""
        await self.ws.send(frame)

    async def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """Return the next frame, which has to be an envelope in a text message."""
        async with asyncio.timeout(seconds or self.seconds):
            text = await self.ws.recv()
        assert isinstance(text, str), "the server sends text"
        frame = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
        assert isinstance(frame, dict)
        assert isinstance(frame["event"], str)
        return frame

    async def until(self, event: str) -> dict[str, Any]:
        """Return the next frame with an event; others are passed over, and pings answered."""
        async with asyncio.timeout(self.seconds):
            while (frame := await self._next())["event"] != event:
                pass
        return frame

    async def answer(self, ref: Any) -> dict[str, Any]:
        """Return the frame that carries a ref."""
        async with asyncio.timeout(self.seconds):
            while (frame := await self._next()).get("ref") != ref:
                pass
        return frame

    async def request(self, event: str, data: Any = None, ref: Any = "r-1", **beside: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        await self.send(event, data, ref=ref, **beside)
        return await self.answer(ref)

    async def rest(self) -> list[dict[str, Any]]:
        """Return the frames that arrive until the connection is quiet, except those of the heartbeat."""
        frames = []
        try:
            while True:
                frame = await self.receive(QUIET)
                if frame["event"] == "wsrt.ping":
                    await self.send("wsrt.pong")
                else:
                    frames.append(frame)
        except TimeoutError:
            return frames

    async def closed(self, seconds: float | None = None) -> tuple[int, str]:
        """Wait for the close; return its code and reason. Stock Daphne's numbers are given as what they stand for."""
        async with asyncio.timeout(seconds or self.seconds):
            try:
                while True:
                    await self.ws.recv()
            except ConnectionClosed as error:
                if error.rcvd is None:
                    return 1006, ""
                code = error.rcvd.code
                return (code - 3000 if 4001 <= code <= 4014 else code), error.rcvd.reason

    async def is_alive(self) -> bool:
        """Return whether the server still answers."""
        return (await self.request("surely.unknown", ref="alive?"))["event"] == "wsrt.error"

    async def cut(self) -> None:
        """End it without a word."""
        self.ws.transport.abort()
        await self.ws.wait_closed()

    async def _next(self) -> dict[str, Any]:
        frame = await self.receive()
        if frame["event"] == "wsrt.ping":
            await self.send("wsrt.pong")
        return frame
