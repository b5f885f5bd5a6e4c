"""
PagedDocuments: what one node says of many things, as documents of a bounded size in a cache.

A document has a head, which is read first. While it is small the head holds all of it; else entries are spread over pages
by the position of their keys, so that a change writes one page, and who looks for a key reads one. All documents put equal
keys at equal positions: readers go through those of several nodes side by side.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

PAGE = 8192
"""Characters of a page, about, before there are more of them."""

POSITIONS = 1 << 64

Entries = dict[str, Any]
"""By key, what is said; JSON."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
"""In ASCII, and also of strings that UTF-8 cannot tell."""


class PagedDocument:
    """
    Entries, and the documents that hold them.

    Args:
        name: the key of the head in the cache.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pages: list[Entries] = [{}]
        self._texts: list[str] = ["{}"]
        # Pages that have changed since they were made into text.
        self._changed: set[int] = set()
        # The last head, "" while there is none.
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

    def documents(self, totals: Any) -> dict[str, str | None]:
        """
        Return the documents that have changed since the last time, by key; None for one to be deleted.

        Args:
            totals: what the head says of the whole; None for a document without entries.
        """
        before = len(self._pages)
        self._make_texts()
        now = len(self._pages)
        documents: dict[str, str | None] = {}
        if before not in (1, now):
            documents |= {page_key(self.name, before, number): None for number in range(before)}
        if now > 1:
            documents |= {page_key(self.name, now, number): self._texts[number] for number in self._changed}
        head = ""
        if totals is not None:
            entries = f',"entries":{self._texts[0]}' if now == 1 else ""
            head = f'{{"pages":{now},"totals":{_encode(totals)}{entries}}}'
        if head != self._head:
            documents[self.name] = head or None
        self._head = head
        self._changed = set()
        return documents

    def _make_texts(self) -> None:
        for number in self._changed:
            self._texts[number] = _encode(self._pages[number])
        size, pages = sum(map(len, self._texts)), len(self._pages)
        fit = pages
        while size > PAGE * fit:
            fit *= 2
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
    The first document of a document.

    Attributes:
        pages: a power of two.
        totals: what the writer says of the whole.
        entries: all of them; None where there are further pages.
    """

    pages: int
    totals: Any
    entries: Entries | None

    @classmethod
    def parse(cls, text: str) -> Head:
        found = json.loads(text)
        return cls(found["pages"], found["totals"], found.get("entries"))


class Span:
    """Positions from one to another, both included."""

    def __init__(self, first: int = 0, last: int = POSITIONS - 1) -> None:
        self.first, self.last = first, last

    def pages(self, pages: int) -> Iterable[int]:
        """Return the numbers of the pages, of so many, on which they are."""
        return range(self.first * pages // POSITIONS, self.last * pages // POSITIONS + 1)


class Points:
    """The positions of some keys."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._positions = {position_of(key) for key in keys}

    def pages(self, pages: int) -> Iterable[int]:
        """See Span."""
        return {position * pages // POSITIONS for position in self._positions}


WHOLE = Span()


def position_of(key: str) -> int:
    """Return where a key is, from 0 to below POSITIONS."""
    return int.from_bytes(hashlib.blake2b(as_bytes(key), digest_size=8).digest(), "big")


def page_key(name: str, pages: int, number: int) -> str:
    """Return the key of a page in the cache; it says of how many, so that two layouts never mix."""
    return f"{name}/{pages}.{number}"


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
