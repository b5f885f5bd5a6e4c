"""A server that does what a test tells it, step by step: also what no decent server does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from tests.support.transports import close_accepted

SECONDS = 15.0

HELLO: dict[str, Any] = {
    "connection": "c-1",
    "heartbeat": 25,
    "heartbeat_timeout": 10,
    "max_payload": 65536,
    "server_time": 0.0,
    "schema": "0123456789abcdef",
}


class Peer:
    """One client, as the server sees it."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws
        self.came_at = time.monotonic()
        self.frames: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.seen: list[dict[str, Any]] = []
        # Set when the client is gone.
        self.gone = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()

    @property
    def offered(self) -> list[str]:
        """The subprotocols that the client offered."""
        assert self.ws.request is not None
        fields = self.ws.request.headers.get_all("Sec-WebSocket-Protocol")
        return [name.strip() for field in fields for name in field.split(",")]

    @property
    def token(self) -> str | None:
        """The token that it sent."""
        return next((name[7:] for name in self.offered if name.startswith("bearer.")), None)

    @property
    def ticket(self) -> str | None:
        """The ticket that it sent."""
        return next((name[7:] for name in self.offered if name.startswith("ticket.")), None)

    # What the client sends.

    async def receive(self, event: str | None = None, seconds: float = SECONDS) -> dict[str, Any]:
        """Return its next frame; with ``event`` the next of that kind, and those before it are dropped."""
        async with asyncio.timeout(seconds):
            while True:
                frame = await self.frames.get()
                if frame is None:
                    raise ConnectionError(f"the client is gone: {self.ws.close_code} {self.ws.close_reason}")
                if event is None or frame["event"] == event:
                    return frame

    async def receive_nothing(self, seconds: float = 0.3) -> None:
        """Check that no frame comes for a while."""
        with contextlib.suppress(TimeoutError):
            frame = await self.receive(seconds=seconds)
            raise AssertionError(f"unexpected: {frame}")

    async def left(self, seconds: float = SECONDS) -> int | None:
        """Wait until it is gone; return its close code, None where it gave none."""
        async with asyncio.timeout(seconds):
            await self.gone.wait()
        return self.ws.close_code

    # What the server sends.

    async def send(self, event: str, data: Any = None, **beside: Any) -> None:
        """Send a frame."""
        await self.ws.send(json.dumps({"event": event, "data": {} if data is None else data, **beside}))

    async def send_text(self, text: str) -> None:
        """Send what is perhaps no envelope."""
        await self.ws.send(text)

    async def hello(self, **over: Any) -> None:
        """Greet the client."""
        await self.send("wsrt.hello", {**HELLO, **over})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close as it should be done."""
        await self.ws.close(code, reason)

    async def close_empty(self) -> None:
        """Send a close frame without a code, which the client sees as 1005."""
        self.ws.protocol.send_close()
        self.ws.transport.write(b"".join(self.ws.protocol.data_to_send()))
        await self.left()

    def drop(self) -> None:
        """Cut the TCP connection, without a close frame."""
        self.ws.transport.abort()

    def freeze(self) -> None:
        """Neither read nor write from now on, and close nothing: the network has swallowed the link."""
        self.ws.transport.pause_reading()

    async def serve(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.ws:
                frame = json.loads(text)
                self.seen.append(frame)
                self.frames.put_nowait(frame)
        self.frames.put_nowait(None)
        self.gone.set()


@dataclasses.dataclass
class Handshake:
    """One attempt to connect."""

    at: float
    path: str


class ScriptedServer:
    """
    Accepts connections, and does nothing else by itself.

    Attributes:
        handshakes: every attempt, also those that were refused.
        most_open: how many connections were open at once, at most. One whose client has said goodbye is not
            open any more, though its TCP connection may take a moment longer.
        refuse: the HTTP status by which handshakes are refused; None to accept them.
        gate: handshakes wait for it.
        speaks: the subprotocol that it chooses, if it is offered.
        on_connect: what to do with each connection; None: tests take them with ``accept()``.
    """

    def __init__(self) -> None:
        self.port = 0
        self.handshakes: list[Handshake] = []
        self.peers: list[Peer] = []
        self.most_open = 0
        self.refuse: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.speaks: str | None = "wsrt.v1"
        self.on_connect: Callable[[Peer], Any] | None = None
        self._waiting: asyncio.Queue[Peer] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._process,
            select_subprotocol=self._select,
            compression=None,
            ping_interval=None,
            open_timeout=None,
            close_timeout=0.5,
            max_size=None,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        for peer in self.peers:
            peer.drop()
        self._server.close()
        await self._server.wait_closed()
        await close_accepted(self.port)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def accept(self, seconds: float = SECONDS) -> Peer:
        """Return the next connection, when it is open."""
        async with asyncio.timeout(seconds):
            return await self._waiting.get()

    async def greet(self, seconds: float = SECONDS, **over: Any) -> Peer:
        """Return the next connection, greeted; its resume is read."""
        peer = await self.accept(seconds)
        frame = await peer.receive()
        assert frame["event"] == "wsrt.resume"
        await peer.hello(**over)
        return peer

    async def no_client(self, seconds: float = 0.5) -> None:
        """Check that no client connects for some seconds."""
        before = len(self.handshakes)
        await asyncio.sleep(seconds)
        assert len(self.handshakes) == before

    async def _process(self, ws: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(Handshake(time.monotonic(), request.path))
        await self.gate.wait()
        return None if self.refuse is None else ws.respond(HTTPStatus(self.refuse), "no\n")

    def _select(self, ws: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
        return Subprotocol(self.speaks) if self.speaks in offered else None

    async def _serve(self, ws: ServerConnection) -> None:
        peer = Peer(ws)
        self.peers.append(peer)
        self.most_open = max(self.most_open, sum(peer.ws.state is State.OPEN for peer in self.peers))
        if self.on_connect is not None:
            asyncio.get_running_loop().create_task(self.on_connect(peer))
        else:
            self._waiting.put_nowait(peer)
        await peer.serve()
