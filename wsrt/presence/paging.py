"""Pages of what a store holds: by keys, so that nobody who stays is left out while others come and go."""

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
    Return what follows the key in ``cursor``, in the order of the keys.

    Args:
        key: different for each item.
        kinds: of what a key consists: str and int.

    Raises:
        BadCursor: there is no such key.
    """
    after = None if cursor is None else key_in(cursor, kinds)
    found = heapq.nsmallest(limit + 1, (item for item in items if after is None or key(item) > after), key=key)
    if len(found) <= limit:
        return Page(tuple(found), None)
    # Not pydantic_core: names may be any strings, also such as UTF-8 cannot tell.
    return Page(tuple(found[:limit]), json.dumps(key(found[limit - 1])))


def key_in(cursor: str, kinds: list[type]) -> list[Any]:
    """Return the key that a cursor holds. Raises BadCursor."""
    try:
        found = json.loads(cursor)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or list(map(type, found)) != kinds:
        raise BadCursor(f"{cursor!r} is no cursor")
    return found


def position_in(cursor: str, end: int) -> int:
    """Return the position that a cursor holds: from 0, below an end. Raises BadCursor."""
    if not re.fullmatch("[0-9]{1,20}", cursor) or int(cursor) >= end:
        raise BadCursor(f"{cursor!r} is no position of a page")
    return int(cursor)
