"""Tickets: credentials for one connection, issued by the server's TicketView."""

from __future__ import annotations

import asyncio
import inspect
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from http.client import HTTPMessage
from typing import IO, Any, TypeAlias
from urllib.parse import urlencode, urljoin, urlsplit

from .errors import Unauthorized

TicketHeaders: TypeAlias = "Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]"

CSRF_COOKIE = "csrftoken"


MAX_RETRY_AFTER = 300
"""The longest time to wait because an answer says so, in seconds: an intermediary may ask for hours."""


class TicketRefused(OSError):
    """
    Raised when the server issues no ticket now.

    Attributes:
        retry_after: The delay in seconds that the server asked for; 0 if it didn't.
    """

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"no ticket: the server answered {status}")
        # The header may also have a date, which would need the server's clock.
        is_number = retry_after is not None and retry_after.isascii() and retry_after.isdecimal()
        self.retry_after = min(int(retry_after[:9]), MAX_RETRY_AFTER) if retry_after and is_number else 0


class Tickets:
    """
    Requests a ticket for each connection.

    Args:
        url: The URL of the view, or a path on the host of the socket's URL.
        socket_url: The URL of the socket.
        headers: Headers of the requests, or a function that returns them.
        cookies: Cookies, among them Django's CSRF token if there is one.
        timeout: The limit of a request, in seconds.
        options: The arguments of ``websockets.connect``, of which ``ssl`` and ``proxy`` are used.

    Raises:
        ValueError: The URL isn't an HTTP URL.
    """

    can_refresh = True
    """Whether another ticket can be requested."""

    def __init__(
        self,
        url: str,
        socket_url: str,
        headers: TicketHeaders,
        *,
        cookies: Mapping[str, str],
        timeout: float,
        options: Mapping[str, Any],
    ) -> None:
        base = urlsplit(socket_url)
        self._url = urljoin(base._replace(scheme=base.scheme.replace("ws", "http")).geturl(), url)
        if urlsplit(self._url).scheme not in {"http", "https"}:
            raise ValueError("the URL of tickets must begin with http:// or https://, or be a path")
        self._path = base.path or "/"
        self._headers = headers
        self._cookies = cookies
        self._timeout = timeout
        handlers: list[urllib.request.BaseHandler] = [NoRedirects()]
        if isinstance(options.get("ssl"), ssl.SSLContext):
            handlers.append(urllib.request.HTTPSHandler(context=options["ssl"]))
        if options.get("proxy", True) is None:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def expire(self) -> None:
        """Do nothing, because tickets aren't kept: each is used once."""

    async def get(self) -> str:
        """
        Request a ticket and return it.

        Raises:
            Unauthorized: The server refuses the user.
            TicketRefused: The server answered with another status. This is an OSError.
            OSError, ValueError: The request failed, or its answer has no ticket.
        """
        found = self._headers() if callable(self._headers) else self._headers
        headers = await found if inspect.isawaitable(found) else found
        # The standard library has no asynchronous HTTP client. If the caller gives up, the thread ends by itself.
        return await asyncio.to_thread(self._request, headers)

    def _request(self, headers: Mapping[str, str]) -> str:
        sent = {}
        if self._cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        if CSRF_COOKIE in self._cookies:
            # Django compares the Referer of HTTPS requests.
            sent |= {"X-CSRFToken": self._cookies[CSRF_COOKIE], "Referer": self._url}
        body = urlencode({"path": self._path}).encode()
        request = urllib.request.Request(self._url, body, {**sent, **headers}, method="POST")  # noqa: S310 - checked above
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in {401, 403}:
                raise Unauthorized(f"no ticket: the server answered {error.code}") from None
            raise TicketRefused(error.code, error.headers.get("Retry-After")) from None
        ticket = answer.get("ticket") if isinstance(answer, dict) else None
        if not isinstance(ticket, str):
            raise ValueError("no ticket: the answer has none")
        return ticket


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes redirects errors: one to the login page isn't a ticket."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None
