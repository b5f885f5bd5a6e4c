"""The credentials of a client: a token, and the function that provides a new one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

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
        """Return the token, requesting one if there is none. Only one task may call this at a time."""
        if self._token is None and self._get_token is not None:
            found = self._get_token()
            self._token = (await found if inspect.isawaitable(found) else found) or None
        return self._token
