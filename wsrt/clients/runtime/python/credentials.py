"""The credentials of a client: a token, and the function that provides a new one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from .listeners import cancelled_within, is_cancelled

T = TypeVar("T")

GetToken: TypeAlias = Callable[[], "str | Awaitable[str | None] | None"]


class Credentials:
    """A token, kept until the server rejects it."""

    def __init__(self, token: str | None, get_token: GetToken | None) -> None:
        # An empty token counts as no token.
        self._token = token or None
        self._get_token = get_token

    @property
    def can_refresh(self) -> bool:
        """Whether another token can be requested."""
        return self._get_token is not None

    def expire(self) -> None:
        """Forget the token, because the server rejected it."""
        self._token = None

    async def get(self) -> str | None:
        """
        Return the token, requesting one if there is none. Only one task may call this at a time.

        Raises anything that ``get_token`` raises.
        """
        return await self.renew() if self._token is None else self._token

    async def renew(self) -> str | None:
        """Request another token and return it. If that fails, the present one is kept. See ``get()``."""
        if self._get_token is not None:
            found = self._get_token()
            self._token = (await found if inspect.isawaitable(found) else found) or None
        return self._token


async def within(seconds: float, request: Callable[[], Awaitable[T]]) -> T:
    """
    Return the result of a request for credentials, which calls functions of the application.

    Raises anything that they raise, and TimeoutError after ``seconds``.
    """
    try:
        try:
            async with asyncio.timeout(seconds):
                return await request()
        finally:
            if is_cancelled():
                # This task was cancelled, for example by close(). The functions of the application must not be able to
                # suppress that or replace it by another error.
                raise asyncio.CancelledError
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        # The function awaited a task or future that was cancelled. For the client that is an error like any other.
        raise cancelled_within("get_token or ticket_headers", error) from error
