"""Fetching missed events over HTTP, if there are more than the server sends over the WebSocket."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import urlencode, urlsplit

from .errors import InvalidFrame
from .position import Position, position_of
from .tickets import NoRedirects

TIMEOUT = 60.0
"""The limit for an operation on the socket of a request, in seconds, after which its thread ends at the latest."""

HistoryPage: TypeAlias = "Mapping[str, Any]"
"""
A page of the publications after a position, as the server's history view returns it.

``epoch`` and ``offset`` are the position of the room's last publication, ``events`` is a list of objects with
``event``, ``data``, ``epoch`` and ``offset``, ``has_more`` says whether there are more after the last one, and ``gap``
why events are missing: "epoch", "trimmed", "expired", or None if none are.
"""

HistorySource: TypeAlias = "Callable[[str, Position], HistoryPage | Awaitable[HistoryPage]]"
"""A function, sync or async, that returns the publications in a room after a position, perhaps not all at once."""

HistoryHeaders: TypeAlias = "Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]"


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryGap:
    """
    Events that a client has missed in a room.

    Attributes:
        room: The room's name.
        since, until: The positions between which they are.
        timeout: How long one page may take, in seconds.
        deliver: Passes an event (name, data, position) to the handlers, and waits while they are behind.
    """

    room: str
    since: Position
    until: Position
    timeout: float
    deliver: Callable[[str, Any, Position], Awaitable[None]]


History: TypeAlias = "Callable[[HistoryGap], Awaitable[str | None]]"
"""Fills a gap. Returns the reason if events are missing, and None if none are."""


def history_from(
    source: str | HistorySource,
    *,
    headers: HistoryHeaders | None = None,
    cookies: Mapping[str, str] | None = None,
    ssl: ssl.SSLContext | None = None,
) -> History:
    """
    Return a value for the parameter ``history`` of a client.

    Args:
        source: The URL of the server's history view, or a function that returns pages.
        headers: Headers of the requests, such as Authorization, or a function, sync or async, that returns them.
        cookies: Cookies of the requests.
        ssl: The context for HTTPS.

    Raises:
        ValueError: The URL isn't an HTTP URL.
    """
    if isinstance(source, str):
        source = _View(source, headers or {}, cookies or {}, ssl).read
    return _Filling(source).fill


class _Filling:
    """Fills gaps page by page."""

    def __init__(self, source: HistorySource) -> None:
        self._source = source

    async def fill(self, gap: HistoryGap) -> str | None:
        position = gap.since
        while True:
            async with asyncio.timeout(gap.timeout):
                found = self._source(gap.room, position)
                page = await found if inspect.isawaitable(found) else found
            end, events = _checked(page)
            if page["gap"] is not None:
                return str(page["gap"])
            if end.epoch != gap.since.epoch:
                return "epoch"
            before = position.offset
            for event, data, position in events:
                await gap.deliver(event, data, position)
            if not page["has_more"]:
                if end.offset < gap.until.offset:
                    raise InvalidFrame("the history ends before the position of the room")
                return None
            if position.offset <= before:
                raise InvalidFrame("the fetched page of a history has no events after the previous page")


class _View:
    """Requests pages from the server's history view."""

    def __init__(
        self, url: str, headers: HistoryHeaders, cookies: Mapping[str, str], context: ssl.SSLContext | None
    ) -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError("the URL of the history must begin with http:// or https://")
        self._url = url
        self._headers = headers
        self._cookies = cookies
        handlers: list[urllib.request.BaseHandler] = [NoRedirects()]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    async def read(self, room: str, since: Position) -> HistoryPage:
        found = self._headers() if callable(self._headers) else self._headers
        headers = await found if inspect.isawaitable(found) else found
        # The standard library has no asynchronous HTTP client. If the caller gives up, the thread ends by itself.
        return await asyncio.to_thread(self._request, room, since, headers)

    def _request(self, room: str, since: Position, headers: Mapping[str, str]) -> HistoryPage:
        query = urlencode({"room": room, "since": f"{since.epoch}:{since.offset}"})
        url = f"{self._url}{'&' if '?' in self._url else '?'}{query}"
        sent = {"Accept": "application/json"}
        if self._cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        request = urllib.request.Request(url, headers={**sent, **headers})  # noqa: S310 - checked above
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return cast(HistoryPage, json.load(response))
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"can't fetch the history: the server answered {error.code}") from None


def _checked(page: Any) -> tuple[Position, Sequence[tuple[str, Any, Position]]]:
    """Return the position and the events of a page. Raise InvalidFrame if it isn't one."""
    end = position_of(page) if isinstance(page, Mapping) else None
    if end is None or not isinstance(page.get("has_more"), bool) or not isinstance(page.get("gap"), str | None):
        raise InvalidFrame("the fetched data isn't a page of a history")
    events = []
    for each in page.get("events") or ():
        position = position_of(each) if isinstance(each, Mapping) else None
        if position is None or not isinstance(each.get("event"), str):
            raise InvalidFrame("the fetched page of a history has invalid events")
        events.append((each["event"], each.get("data", {}), position))
    return end, events
