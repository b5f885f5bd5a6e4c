"""Credentials: the token, and who is asked for it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

GetToken: TypeAlias = Callable[[], "str | Awaitable[str | None] | None"]


class Credentials:
    """Keeps a token for as long as the server takes it."""

    def __init__(self, token: str | None, get_token: GetToken | None) -> None:
        # An empty one is none.
        self._token = token or None
        self._get_token = get_token

    @property
    def can_refresh(self) -> bool:
        """Whether there is somebody to ask for another token."""
        return self._get_token is not None

    def expire(self) -> None:
        """The server did not take the token."""
        self._token = None

    async def get(self) -> str | None:
        """Return the token; ask for one where there is none. Called by one task at a time."""
        if self._token is None and self._get_token is not None:
            found = self._get_token()
            self._token = (await found if inspect.isawaitable(found) else found) or None
        return self._token
