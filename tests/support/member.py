"""A client of rooms with history: it claims its position when it comes back, and drops what it has received already."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection

from tests.support.client import dial, receive, send
from tests.support.processes import Server

SECONDS = 40.0


class Member:
    """
    A member of one room.

    Args:
        room: The room.
        path: The path of the consumer, to which the room is added.

    Attributes:
        position: Epoch and offset of what it received last. None before it has joined for the first time.
        numbers: What it has received, without duplicates.
        duplicates: The number of duplicates.
        unkept: What it has received without a position.
        told: The data of each ``wsrt.joined``.
    """

    def __init__(self, room: str, path: str = "/kept/") -> None:
        self.room = room
        self.path = f"{path}{room}/"
        self.position: list[Any] | None = None
        self.numbers: list[int] = []
        self.duplicates = 0
        self.unkept: list[int] = []
        self.told: list[dict[str, Any]] = []
        self.ws: ClientConnection | None = None

    async def come(self, server: Server, claims: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Connect, and return what the server says about the room.

        Args:
            server: The server.
            claims: What it claims instead of its position.
        """
        self.ws = await dial(server.url(self.path), extended=True, open_timeout=SECONDS)
        known = {} if self.position is None else {self.room: self.position}
        await send(self.ws, "wsrt.resume", **(known if claims is None else claims))
        before = len(self.told)
        while len(self.told) == before:
            await self.take()
        return self.told[-1]

    def cut(self) -> None:
        """Break the connection without a close."""
        if self.ws is not None:
            self.ws.transport.abort()

    async def until(self, *numbers: int) -> None:
        """Wait until it has received numbers, and nothing else so far."""
        async with asyncio.timeout(SECONDS):
            while len(self.numbers) < len(numbers):
                await self.take()
        assert tuple(self.numbers) == numbers

    async def until_told(self) -> dict[str, Any]:
        """Wait until the server says that the history starts again."""
        before = len(self.told)
        async with asyncio.timeout(SECONDS):
            while len(self.told) == before:
                await self.take()
        return self.told[-1]

    async def silence(self, seconds: float = 0.5) -> None:
        """Check that nothing of the room arrives before the answer to a request, and a while longer."""
        assert self.ws is not None
        numbers, duplicates = len(self.numbers), self.duplicates
        await send(self.ws, "ping", ref="silence")
        while (await self.take()).get("ref") != "silence":
            pass
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self.take()
        except TimeoutError:
            pass
        assert (len(self.numbers), self.duplicates) == (numbers, duplicates)

    async def take(self) -> dict[str, Any]:
        """Take the next frame."""
        assert self.ws is not None
        frame = await receive(self.ws, SECONDS)
        data = frame["data"]
        if frame["event"] == "wsrt.joined" and data["room"] == self.room:
            self.told.append(data)
            if not data.get("recovered"):
                self.position = [data["epoch"], data["offset"]]
        elif frame["event"] == "said" and "epoch" not in frame:
            assert "offset" not in frame
            self.unkept.append(data["n"])
        elif frame["event"] == "said":
            assert frame["room"] == self.room
            epoch, offset = frame["epoch"], frame["offset"]
            if self.position is not None and self.position[0] == epoch and self.position[1] >= offset:
                self.duplicates += 1
            else:
                self.position = [epoch, offset]
                self.numbers.append(data["n"])
        return frame


class Speaker:
    """Publishes numbers through a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ws: ClientConnection | None = None

    async def say(self, room: str, *numbers: int, size: int = 0) -> list[Any]:
        """Publish numbers, and return the position of the last one. What is refused is repeated."""
        return await self.request("say", room=room, numbers=list(numbers), size=size)

    async def request(self, event: str, **data: Any) -> list[Any]:
        """Make a request until it is accepted, and return the position in its answer."""
        async with asyncio.timeout(SECONDS):
            while True:
                if self.ws is None:
                    self.ws = await dial(self.server.url("/kept/"), open_timeout=SECONDS)
                await self.ws.send(json.dumps({"event": event, "data": data, "ref": "r"}))
                answer = await receive(self.ws, SECONDS)
                if answer["event"] != "wsrt.error":
                    return [answer["data"].get("epoch"), answer["data"].get("offset")]
                assert answer["data"]["code"] == "unavailable", answer
                await asyncio.sleep(0.1)
