"""A view that issues tickets, as a test says, for clients of any kind."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs


@dataclasses.dataclass
class TicketRequest:
    """A request for a ticket."""

    method: str
    headers: dict[str, str]
    paths: list[str]


class TicketOffice:
    """
    Answers every request with the next ticket: t1, t2, ...

    Attributes:
        requests: every request.
        answers: statuses and bodies of the next answers, instead of tickets.
        retry_after: the header Retry-After of answers that aren't tickets; None for none.
    """

    def __init__(self) -> None:
        self.requests: list[TicketRequest] = []
        self.answers: list[tuple[str, str]] = []
        self.retry_after: str | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ticket/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        form = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
        self.requests.append(TicketRequest(first.split()[0], headers, parse_qs(form).get("path", [])))
        status, body = (
            self.answers.pop(0) if self.answers else ("200 OK", json.dumps({"ticket": f"t{len(self.requests)}"}))
        )
        more = f"Location: {self.url}\r\n" if status.startswith("3") else ""
        if self.retry_after is not None and status != "200 OK":
            more += f"Retry-After: {self.retry_after}\r\n"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
