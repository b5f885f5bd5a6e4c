"""A view of the history of rooms, as a test says, for clients of any kind."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


class HistoryView:
    """
    Answers each request with the next page, when there is one.

    Attributes:
        requests: the parameters of every request.
        pages: the next answers: pages, or statuses of HTTP.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.pages: asyncio.Queue[dict[str, Any] | str] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/history/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    def answer(self, *offsets: int, **over: Any) -> None:
        """Answer the next request with these publications of the event "news"."""
        events = [{"event": "news", "data": {"n": n}, "epoch": "e1", "offset": n} for n in offsets]
        self.pages.put_nowait({"epoch": "e1", "offset": 9, "events": events, "has_more": False, "gap": None, **over})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0]
        self.requests.append(dict(parse_qsl(urlsplit(first.split()[1]).query)))
        page = await self.pages.get()
        status, body = (page, "") if isinstance(page, str) else ("200 OK", json.dumps(page))
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
