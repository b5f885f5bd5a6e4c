"""What nodes have written to a cache, read side by side. All of this blocks, and runs in a thread."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..base import EVERYONE, BadCursor, ConnectionRecord, Count, MemberRecord, Page, RoomRecord, Snapshot
from ..paging import key_in, page_of, position_in
from ..timespan import TimeSpan
from .documents import POSITIONS, WHOLE, Entries, Head, Points, Span, page_key, position_of
from .executor import Access
from .keys import Keys, Place
from .writer import member_key

SCAN_SECONDS = 5.0
"""How long the nodes that were found are all there are, unless the word says that others came."""

REREADS = 3
"""Attempts to read a document that is laid out anew meanwhile."""

Position = tuple[str, int, int]
"""Where a connection is: on which node, at which position, under which number."""


class Where(Protocol):
    """Which pages of a document are wanted: a Span or Points."""

    def pages(self, pages: int) -> Iterable[int]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """A node and when its lease ends: UNIX time in s."""

    node: str
    ends: float
    facts: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> Lease:
        return cls(**json.loads(text))

    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    """The nodes that were found in slots: under which word, and for how long they are trusted (monotonic time in s)."""

    word: str
    trusted: TimeSpan
    nodes: tuple[str, ...]


class PagedDocuments:
    """PagedDocuments as they were read: heads and entries by name."""

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.entries: dict[str, Entries] = {}

    @classmethod
    def read(cls, access: Access, wanted: Mapping[str, Where]) -> PagedDocuments:
        """Read pages of some documents; of those that are there."""
        documents = cls()
        todo = set(wanted)
        for _ in range(REREADS):
            heads = {name: Head.parse(text) for name, text in access.get(todo).items()}
            pages = {
                page_key(name, head.pages, number): name
                for name, head in heads.items()
                if head.entries is None
                for number in wanted[name].pages(head.pages)
            }
            found = access.get(pages)
            documents._take(todo, heads, [(name, found.get(key)) for key, name in pages.items()])
            # Laid out anew since its head was read. Or evicted: then it stays away until the node's next heartbeat.
            todo = {name for key, name in pages.items() if key not in found}
            if not todo:
                break
        return documents

    def _take(self, names: set[str], heads: dict[str, Head], pages: list[tuple[str, str | None]]) -> None:
        for name in names:
            self.heads.pop(name, None)
            self.entries.pop(name, None)
        self.heads |= heads
        self.entries |= {name: dict(head.entries or {}) for name, head in heads.items()}
        for name, text in pages:
            if text is not None:
                self.entries[name] |= json.loads(text)

    def members(self) -> dict[str, MemberRecord]:
        """Return the users of one room, of which these are the documents; of their data, what was said last counts."""
        connections: dict[str, int] = {}
        words: dict[str, tuple[float, str | None]] = {}
        for entries in self.entries.values():
            for key, value in entries.items():
                if key[0] == "u":
                    numbers, data, said = value
                    user = key[1:]
                    connections[user] = connections.get(user, 0) + len(numbers)
                    if user not in words or said > words[user][0]:
                        words[user] = said, data
        return {user: MemberRecord(user, number, words[user][1]) for user, number in connections.items()}

    def users_of(self, name: str) -> list[str | None]:
        """Return the users of one document of a room; None for its guests."""
        guests = [None] if name in self.heads and self.heads[name].totals[1] else []
        return [*(key[1:] for key in self.entries.get(name, ()) if key[0] == "u"), *guests]

    def keys(self) -> list[str]:
        """Return the keys of all documents of these documents."""
        pages = (
            page_key(name, head.pages, number)
            for name, head in self.heads.items()
            if head.entries is None
            for number in range(head.pages)
        )
        return [*pages, *self.heads]


def guests_of(heads: Iterable[Head]) -> list[MemberRecord]:
    """Return all guests of a room as one member; nobody if there are none."""
    guests = sum(head.totals[1] for head in heads)
    return [MemberRecord(None, guests, None)] if guests else []


class Reader:
    """
    What is in the cache, for one call.

    Args:
        scan: what the last call found in the slots.
    """

    def __init__(self, access: Access, keys: Keys, scan: Scan | None) -> None:
        self._access = access
        self._keys = keys
        self.scan = scan

    # Nodes.

    def leases(self) -> list[Lease]:
        """Return the nodes whose lease holds, by their ids."""
        now = time.time()
        return sorted((lease for lease in self._all_leases() if lease.ends > now), key=lambda lease: lease.node)

    def _all_leases(self) -> Iterable[Lease]:
        if self.scan is not None and self.scan.trusted.includes(time.monotonic()):
            found = self._access.get([self._keys.word, *map(self._keys.lease, self.scan.nodes)])
            if found.pop(self._keys.word, "") == self.scan.word:
                return map(Lease.parse, found.values())
        # First the word: who claims a slot changes it afterwards.
        word = self._access.get([self._keys.word]).get(self._keys.word, "")
        nodes = tuple(set(self._access.get(self._keys.slots).values()))
        self.scan = Scan(word, TimeSpan(time.monotonic(), SCAN_SECONDS), nodes)
        return map(Lease.parse, self._access.get(map(self._keys.lease, nodes)).values())

    @functools.cached_property
    def _nodes(self) -> list[str]:
        return [lease.node for lease in self.leases()]

    # Rooms.

    def counts(self, places: Sequence[Place]) -> list[Count]:
        """Count rooms: by what nodes say of them, and by the names of users where there are several nodes."""
        nodes = self._nodes
        distinct = set(places)
        names = {self._keys.room(node, place): place for node in nodes for place in distinct}
        heads: dict[Place, dict[str, Head]] = {}
        for name, text in self._access.get(names).items():
            heads.setdefault(names[name], {})[name] = Head.parse(text)
        several = {name: WHOLE for found in heads.values() if len(found) > 1 for name in found}
        documents = PagedDocuments.read(self._access, several)
        counts = {}
        for place, found in heads.items():
            users, guests, connections = _totals(found.values())
            if len(found) > 1:
                keys = itertools.chain.from_iterable(documents.entries.get(name, ()) for name in found)
                users = len({key for key in keys if key[0] == "u"})
            counts[place] = Count(users, guests, connections)
        return [counts.get(place, Count(0, 0, 0)) for place in places]

    def snapshot(self, place: Place, limit: int, max_bytes: int | None = None) -> Snapshot:
        names = self._names(place)
        if any(Head.parse(text).totals[0] > limit for text in self._access.get(names).values()):
            [count] = self.counts([place])
            return Snapshot(0, count, None)
        documents = PagedDocuments.read(self._access, dict.fromkeys(names, WHOLE))
        users = documents.members()
        _, guests, connections = _totals(documents.heads.values())
        listed = (*users.values(), *guests_of(documents.heads.values()))
        count = Count(len(users), guests, connections)
        is_small = max_bytes is None or sum(member.size for member in listed) <= max_bytes
        return Snapshot(0, count, listed if len(listed) <= limit and is_small else None)

    def members(self, place: Place, cursor: str | None, limit: int, search: str) -> Page[MemberRecord]:
        """Return members in the order of their positions, from one position on."""
        names = self._names(place)
        heads = [Head.parse(text) for text in self._access.get(names).values()]
        start, wanted = 0 if cursor is None else position_in(cursor, POSITIONS), search.casefold()
        found: list[tuple[int, MemberRecord]] = []
        for span in _spans(heads, start, POSITIONS if search else limit):
            documents = PagedDocuments.read(self._access, dict.fromkeys(names, span))
            for user, member in documents.members().items():
                position = position_of(member_key(user, 0))
                if span.first <= position <= span.last and wanted in user.casefold():
                    found.append((position, member))
            if len(found) > limit:
                break
        found.sort(key=lambda pair: pair[0])
        following = str(found[limit][0]) if len(found) > limit else None
        members = [member for _, member in found[:limit]]
        if not start and not search:
            members += guests_of(heads)
        return Page(tuple(members), following)

    def user_connections(self, place: Place, users: Sequence[str]) -> list[int]:
        keys = [member_key(user, 0) for user in users]
        documents = PagedDocuments.read(self._access, dict.fromkeys(self._names(place), Points(keys)))
        return [sum(len(entries.get(key, ((),))[0]) for entries in documents.entries.values()) for key in keys]

    def held(self, node: str, place: Place) -> set[int]:
        name = self._keys.room(node, place)
        entries = PagedDocuments.read(self._access, {name: WHOLE}).entries.get(name, {})
        return {number for key, value in entries.items() for number in _numbers(key, value)}

    def rooms(self, namespace: str, cursor: str | None, limit: int, search: str) -> Page[RoomRecord]:
        """Return rooms by how many users and guests nodes say that they have, one node with another."""
        wanted = search.casefold()
        sizes: dict[str, int] = {}
        documents = PagedDocuments.read(self._access, {self._keys.index(node): WHOLE for node in self._nodes})
        for entries in documents.entries.values():
            for key, (users, guests, _) in entries.items():
                space, room = json.loads(key)
                if space == namespace and room != EVERYONE and wanted in room.casefold():
                    sizes[room] = sizes.get(room, 0) + users + guests
        page = page_of(sizes.items(), lambda item: [-item[1], item[0]], [int, str], cursor, limit)
        counts = self.counts([(namespace, room) for room, _ in page.items])
        records = (RoomRecord(namespace, room, count) for (room, _), count in zip(page.items, counts, strict=True))
        # Who left meanwhile is not shown.
        return Page(tuple(record for record in records if record.count.connections), page.next)

    def namespaces(self) -> list[str]:
        heads = self._access.get(map(self._keys.index, self._nodes)).values()
        return sorted({namespace for text in heads for namespace in Head.parse(text).totals})

    # Connections.

    def connections(self, place: Place, user: str | None, cursor: str | None, limit: int) -> Page[ConnectionRecord]:
        """Return connections in the order of nodes, of positions, and of their numbers."""
        after = ("", 0, -1) if cursor is None else _position_in(cursor)
        found: dict[Position, str | None] = {}
        for node, span, entries in self._entries(place, user, after, limit):
            for key, value in entries.items():
                position = position_of(key)
                if span.first <= position <= span.last and (user is None or key == member_key(user, 0)):
                    positions = ((node, position, number) for number in _numbers(key, value))
                    found |= {
                        position: None if key[0] == "g" else key[1:] for position in positions if position > after
                    }
            if len(found) > limit:
                break
        page = sorted(found)[:limit]
        details = self._details(place[0], page)
        records = (
            ConnectionRecord(
                f"{position[0]}-{position[2]}", place[0], found[position], position[0], details.get(position)
            )
            for position in page
        )
        return Page(tuple(records), json.dumps(page[-1]) if len(found) > limit else None)

    def _entries(
        self, place: Place, user: str | None, after: Position, limit: int
    ) -> Iterator[tuple[str, Span, Entries]]:
        """Yield the entries of one node after the other, in spans, from where the last page ended."""
        names = {self._keys.room(node, place): node for node in self._nodes if node >= after[0]}
        if user is not None:
            position = position_of(member_key(user, 0))
            span = Span(position, position)
            documents = PagedDocuments.read(self._access, dict.fromkeys(names, span))
            yield from ((names[name], span, documents.entries[name]) for name in names if name in documents.entries)
            return
        heads = self._access.get(names)
        for name, node in names.items():
            if name in heads:
                start = after[1] if node == after[0] else 0
                for span in _spans([Head.parse(heads[name])], start, limit):
                    yield node, span, PagedDocuments.read(self._access, {name: span}).entries.get(name, {})

    def _details(self, namespace: str, positions: Sequence[Position]) -> dict[Position, str]:
        """Return what operators see of connections; those of one node are beside each other."""
        wanted: dict[str, Span] = {}
        for node, position, _ in positions:
            span = wanted.setdefault(node, Span(position, position))
            span.last = position
        names = {self._keys.details(node, namespace): node for node in wanted}
        documents = PagedDocuments.read(self._access, {name: wanted[node] for name, node in names.items()})
        return {
            (names[name], position_of(key), int(number)): details
            for name, entries in documents.entries.items()
            for key, said in entries.items()
            for number, details in said.items()
        }

    # PagedDocuments of all nodes.

    def _names(self, place: Place) -> list[str]:
        return [self._keys.room(node, place) for node in self._nodes]


def _totals(heads: Iterable[Head]) -> list[int]:
    """Return users, guests and connections of a room, one node with another."""
    return [sum(totals) for totals in zip(*(head.totals for head in heads), strict=True)] or [0, 0, 0]


def _spans(heads: Collection[Head], start: int, limit: int) -> Iterator[Span]:
    """Yield the positions from one on, in spans of about ``limit`` members."""
    pages = max((head.pages for head in heads), default=1)
    members = max(1, sum(head.totals[0] + head.totals[1] for head in heads))
    width = POSITIONS // pages * min(pages, max(1, math.ceil(pages * limit / members)))
    while heads and start < POSITIONS:
        end = min(POSITIONS, (start // width + 1) * width)
        yield Span(start, end - 1)
        start = end


def _position_in(cursor: str) -> Position:
    """Return the position that a cursor holds. Raises BadCursor."""
    node, position, number = key_in(cursor, [str, int, int])
    # All positions from there on are gone through: from far below the first one, that would not end.
    if not 0 <= position < POSITIONS:
        raise BadCursor(f"{cursor!r} is no position of a page")
    return node, position, number


def _numbers(key: str, value: Any) -> list[int]:
    """Return the numbers of the connections that an entry of a room is about."""
    return [int(key[1:])] if key[0] == "g" else value[0]
