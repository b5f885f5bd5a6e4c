"""
Paged documents: a node's entries by key, stored as cache values of a bounded size.

The words used throughout this package:

* An **entry** is a key with a JSON value, such as a user of a room with the numbers of their connections.
* A **paged document** is a set of entries that one node owns and alone writes: a room, the details of a namespace, or
  the node's index of rooms.
* A **value** is one string under one key of the cache. A paged document is stored as one value, its **head**, while it
  is small. When it grows, the head keeps only the number of pages and the totals, and the entries are spread over
  **pages**, one value each.

An entry's page follows from the **position** of its key, a hash. So a change rewrites one page, and a lookup reads the
head and one page. Positions are the same in all paged documents, so readers can go through those of several nodes in
parallel.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from ...stores.names import as_bytes

PAGE = 8192
"""Average characters of a page above which the number of pages is doubled."""

POSITIONS = 1 << 64
"""The number of positions."""

Entries = dict[str, Any]
"""JSON values by key."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
"""Encodes as ASCII, so that lone surrogates, which UTF-8 can't encode, survive."""


class PagedDocument:
    """
    The entries of one paged document, and the values that store them: the writer's side.

    Args:
        name: The cache key of the head. Keys of pages are derived from it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pages: list[Entries] = [{}]
        self._texts: list[str] = ["{}"]
        # Numbers of the pages that have changed since their text was made.
        self._changed: set[int] = set()
        # The text of the last head; "" if there is none.
        self._head = ""

    def get(self, key: str) -> Any:
        return self._pages[self._page_of(key)].get(key)

    def put(self, key: str, value: Any) -> None:
        number = self._page_of(key)
        self._pages[number][key] = value
        self._changed.add(number)

    def pop(self, key: str) -> None:
        number = self._page_of(key)
        if key in self._pages[number]:
            del self._pages[number][key]
            self._changed.add(number)

    def pop_changed_values(self, totals: Any) -> dict[str, str | None]:
        """
        Return the values that have changed since the last call, by cache key; None for a value to delete.

        Args:
            totals: JSON to store in the head, such as the room's counts. None for a document without entries, which
                is deleted.
        """
        before = len(self._pages)
        self._make_texts()
        now = len(self._pages)
        values: dict[str, str | None] = {}
        if before not in (1, now):
            values |= {page_key(self.name, before, number): None for number in range(before)}
        if now > 1:
            values |= {page_key(self.name, now, number): self._texts[number] for number in self._changed}
        head = ""
        if totals is not None:
            entries = f',"entries":{self._texts[0]}' if now == 1 else ""
            head = f'{{"pages":{now},"totals":{_encode(totals)}{entries}}}'
        if head != self._head:
            values[self.name] = head or None
        self._head = head
        self._changed = set()
        return values

    def _make_texts(self) -> None:
        """Encode the changed pages. If their number doesn't suit the size any more, distribute the entries again."""
        for number in self._changed:
            self._texts[number] = _encode(self._pages[number])
        size, pages = sum(map(len, self._texts)), len(self._pages)
        fit = pages
        while size > PAGE * fit:
            fit *= 2
        # Pages are merged only when they are three quarters empty: a size near a limit must not cause a rewrite each
        # time.
        while fit > 1 and size < PAGE * fit / 4:
            fit //= 2
        if fit != pages:
            entries = [entry for page in self._pages for entry in page.items()]
            self._pages = [{} for _ in range(fit)]
            for key, value in entries:
                self._pages[self._page_of(key)][key] = value
            self._texts = list(map(_encode, self._pages))
            self._changed = set(range(fit))

    def _page_of(self, key: str) -> int:
        pages = len(self._pages)
        return position_of(key) * pages // POSITIONS if pages > 1 else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """
    The head of a paged document, as a reader sees it.

    Attributes:
        pages: The number of pages, a power of two.
        totals: The JSON that the writer stored about the whole document.
        entries: All entries if there is one page; None if they are on pages of their own.
    """

    pages: int
    totals: Any
    entries: Entries | None

    @classmethod
    def parse(cls, text: str) -> Head:
        found = json.loads(text)
        return cls(found["pages"], found["totals"], found.get("entries"))


class Span:
    """
    A range of positions.

    Args:
        first: The first position.
        last: The last position, included.
    """

    def __init__(self, first: int = 0, last: int = POSITIONS - 1) -> None:
        self.first, self.last = first, last

    def pages(self, pages: int) -> Iterable[int]:
        """Return the numbers of the pages that hold these positions in a document of ``pages`` pages."""
        return range(self.first * pages // POSITIONS, self.last * pages // POSITIONS + 1)


class Points:
    """The positions of some keys."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._positions = {position_of(key) for key in keys}

    def pages(self, pages: int) -> Iterable[int]:
        """Return the numbers of the pages that hold these positions in a document of ``pages`` pages."""
        return {position * pages // POSITIONS for position in self._positions}


WHOLE = Span()
"""All positions."""


def position_of(key: str) -> int:
    """Return the position of a key, from 0 to ``POSITIONS - 1``."""
    return int.from_bytes(hashlib.blake2b(as_bytes(key), digest_size=8).digest(), "big")


def page_key(name: str, pages: int, number: int) -> str:
    """
    Return the cache key of a page.

    It contains the number of pages, so that a reader never mixes pages from before and after a redistribution.
    """
    return f"{name}/{pages}.{number}"
