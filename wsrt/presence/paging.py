"""
Pages of a list that is ordered by keys.

A cursor holds the key of the last item. So an item that stays is never skipped while others are added or removed.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .base import BadCursor, Page

T = TypeVar("T")


def page_of(
    items: Iterable[T], key: Callable[[T], list[Any]], kinds: list[type], cursor: str | None, limit: int
) -> Page[T]:
    """
    Return the items that follow the key in ``cursor``, in the order of their keys.

    Args:
        items: All items, in any order.
        key: Returns the key of an item. Keys must be unique.
        kinds: The types of a key's parts: str and int.
        cursor: ``next`` of the previous page; None for the first page.
        limit: The largest number of items on the page.

    Raises:
        BadCursor: The cursor doesn't hold such a key.
    """
    after = None if cursor is None else key_in(cursor, kinds)
    found = heapq.nsmallest(limit + 1, (item for item in items if after is None or key(item) > after), key=key)
    if len(found) <= limit:
        return Page(tuple(found), None)
    # Not pydantic_core, which rejects lone surrogates: names may be any strings.
    return Page(tuple(found[:limit]), json.dumps(key(found[limit - 1])))


def key_in(cursor: str, kinds: list[type]) -> list[Any]:
    """Return the sort key of the last item of a page, from its cursor. Raises BadCursor."""
    try:
        found = json.loads(cursor)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or list(map(type, found)) != kinds:
        raise BadCursor(f"{cursor!r} is not a valid cursor")
    return found


def position_in(cursor: str, end: int) -> int:
    """Return the position in a cursor, from 0 to ``end - 1``. Raises BadCursor."""
    if not re.fullmatch("[0-9]{1,20}", cursor) or int(cursor) >= end:
        raise BadCursor(f"{cursor!r} is not a valid cursor")
    return int(cursor)
