"""Listings that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any


async def pages(read: Callable[[str | None], Awaitable[Any]]) -> AsyncIterator[Any]:
    """Yield the pages of a listing, the first to the last, as ``read`` returns them for a cursor."""
    cursor: str | None = None
    while True:
        page = await read(cursor)
        yield page
        cursor = page.next
        if cursor is None:
            return
