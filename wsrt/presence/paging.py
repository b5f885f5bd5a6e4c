"""Pages of what a store holds in memory: by keys, so that nobody who stays is left out while others come and go."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .store import Page

T = TypeVar("T")


def page_of(items: Iterable[T], key: Callable[[T], list[Any]], cursor: str | None, limit: int) -> Page[T]:
    """
    Return what follows the key in ``cursor``, in the order of the keys.

    Args:
        key: different for each item; of strings, numbers and booleans.
    """
    after = None if cursor is None else json.loads(cursor)
    found = heapq.nsmallest(limit + 1, (item for item in items if after is None or key(item) > after), key=key)
    if len(found) <= limit:
        return Page(tuple(found), None)
    # Not pydantic_core: names may be any strings, also such as UTF-8 cannot tell.
    return Page(tuple(found[:limit]), json.dumps(key(found[limit - 1])))
