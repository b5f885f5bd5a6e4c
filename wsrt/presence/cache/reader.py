"""Queries on the cache: the paged documents of all nodes, read and merged. All of this blocks and runs in a thread."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..base import EVERYONE, BadCursor, ConnectionRecord, Count, MemberRecord, Page, RoomId, RoomRecord, Snapshot
from ..paging import key_in, page_of, position_in
from ..timespan import TimeSpan
from .documents import POSITIONS, WHOLE, Entries, Head, Points, Span, page_key, position_of
from .executor import Access
from .keys import Keys
from .writer import member_key

SCAN_SECONDS = 5.0
"""How long the result of a scan of the slots is used, unless the generation has changed."""

REREADS = 3
"""Attempts to read a document whose pages are redistributed between reading its head and its pages."""

Position = tuple[str, int, int]
"""The sort key of a connection: its node, the position of its member key, and its number."""


class Selection(Protocol):
    """A selection of positions: a Span or Points."""

    def pages(self, pages: int) -> Iterable[int]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """
    The lease of a node.

    Attributes:
        node: The node's id.
        ends: The end of the lease in UNIX time, seconds.
        facts: The facts of the node's last heartbeat.
    """

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
    """
    The result of a scan of the slots, in which nodes register. ``store.py`` explains slots and generations.

    Attributes:
        generation: The generation that was read before the slots.
        trusted: The span of monotonic time in which the result may be used.
        nodes: The ids of the nodes found.
    """

    generation: str
    trusted: TimeSpan
    nodes: tuple[str, ...]


class DocumentSet:
    """
    Paged documents as they were read.

    Attributes:
        heads: The heads of the documents that exist, by name.
        entries: The entries that were read of each document, by name.
    """

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.entries: dict[str, Entries] = {}

    @classmethod
    def read(cls, access: Access, wanted: Mapping[str, Selection]) -> DocumentSet:
        """
        Read documents.

        Args:
            access: The cache.
            wanted: The positions to read of each document, by name. Documents that don't exist are left out.
        """
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
            documents._replace(todo, heads, [(name, found.get(key)) for key, name in pages.items()])
            # Either the writer has redistributed the pages since the head was read: read both again. Or the cache has
            # evicted a page: then the entries are missing until the node's next heartbeat writes it again.
            todo = {name for key, name in pages.items() if key not in found}
            if not todo:
                break
        return documents

    def _replace(self, names: set[str], heads: dict[str, Head], pages: list[tuple[str, str | None]]) -> None:
        for name in names:
            self.heads.pop(name, None)
            self.entries.pop(name, None)
        self.heads |= heads
        self.entries |= {name: dict(head.entries or {}) for name, head in heads.items()}
        for name, text in pages:
            if text is not None:
                self.entries[name] |= json.loads(text)

    def members(self) -> dict[str, MemberRecord]:
        """
        Return the users of a room, by id. The documents must be those of this room, one for each node.

        If a user has data on several nodes, the data that was set last is used.
        """
        connections: dict[str, int] = {}
        data_of: dict[str, tuple[float, str | None]] = {}
        for entries in self.entries.values():
            for key, value in entries.items():
                if key[0] == "u":
                    numbers, data, set_at = value
                    user = key[1:]
                    connections[user] = connections.get(user, 0) + len(numbers)
                    if user not in data_of or set_at > data_of[user][0]:
                        data_of[user] = set_at, data
        return {user: MemberRecord(user, number, data_of[user][1]) for user, number in connections.items()}

    def users_of(self, name: str) -> list[str | None]:
        """Return the users in one document of a room; None stands for its guests."""
        guests = [None] if name in self.heads and self.heads[name].totals[1] else []
        return [*(key[1:] for key in self.entries.get(name, ()) if key[0] == "u"), *guests]

    def keys(self) -> list[str]:
        """Return the cache keys of all values of these documents."""
        pages = (
            page_key(name, head.pages, number)
            for name, head in self.heads.items()
            if head.entries is None
            for number in range(head.pages)
        )
        return [*pages, *self.heads]


def guests_of(heads: Iterable[Head]) -> list[MemberRecord]:
    """Return all guests of a room as one member, or an empty list if there are none."""
    guests = sum(head.totals[1] for head in heads)
    return [MemberRecord(None, guests, None)] if guests else []


class Reader:
    """
    The queries of one call.

    Args:
        access: The cache.
        keys: The cache keys of the store.
        scan: The last scan of the slots; None to make one. Afterwards the attribute holds the latest scan.
    """

    def __init__(self, access: Access, keys: Keys, scan: Scan | None) -> None:
        self._access = access
        self._keys = keys
        self.scan = scan

    # Nodes.

    def leases(self) -> list[Lease]:
        """Return the valid leases, sorted by node id."""
        now = time.time()
        return sorted((lease for lease in self._all_leases() if lease.ends > now), key=lambda lease: lease.node)

    def _all_leases(self) -> Iterable[Lease]:
        if self.scan is not None and self.scan.trusted.includes(time.monotonic()):
            found = self._access.get([self._keys.generation, *map(self._keys.lease, self.scan.nodes)])
            if found.pop(self._keys.generation, "") == self.scan.generation:
                return map(Lease.parse, found.values())
        # Read the generation before the slots. A node replaces it after claiming a slot, so a slot that is claimed in
        # between makes the next call scan again.
        generation = self._access.get([self._keys.generation]).get(self._keys.generation, "")
        nodes = tuple(set(self._access.get(self._keys.slots).values()))
        self.scan = Scan(generation, TimeSpan(time.monotonic(), SCAN_SECONDS), nodes)
        return map(Lease.parse, self._access.get(map(self._keys.lease, nodes)).values())

    @functools.cached_property
    def _nodes(self) -> list[str]:
        return [lease.node for lease in self.leases()]

    # Rooms.

    def counts(self, room_ids: Sequence[RoomId]) -> list[Count]:
        """
        Return the counts of rooms.

        For a room on one node, the totals are enough, which are in the first value of its document (the head). For a
        room on several nodes, all its users are read, as a user may be on more than one of them.
        """
        nodes = self._nodes
        distinct = set(room_ids)
        names = {self._keys.room(node, room_id): room_id for node in nodes for room_id in distinct}
        heads: dict[RoomId, dict[str, Head]] = {}
        for name, text in self._access.get(names).items():
            heads.setdefault(names[name], {})[name] = Head.parse(text)
        several = {name: WHOLE for found in heads.values() if len(found) > 1 for name in found}
        documents = DocumentSet.read(self._access, several)
        counts = {}
        for room_id, found in heads.items():
            users, guests, connections = _totals(found.values())
            if len(found) > 1:
                keys = itertools.chain.from_iterable(documents.entries.get(name, ()) for name in found)
                users = len({key for key in keys if key[0] == "u"})
            counts[room_id] = Count(users, guests, connections)
        return [counts.get(room_id, Count(0, 0, 0)) for room_id in room_ids]

    def snapshot(self, room_id: RoomId, limit: int, max_bytes: int | None = None) -> Snapshot:
        names = self._names(room_id)
        if any(Head.parse(text).totals[0] > limit for text in self._access.get(names).values()):
            [count] = self.counts([room_id])
            return Snapshot(0, count, None)
        documents = DocumentSet.read(self._access, dict.fromkeys(names, WHOLE))
        users = documents.members()
        _, guests, connections = _totals(documents.heads.values())
        listed = (*users.values(), *guests_of(documents.heads.values()))
        count = Count(len(users), guests, connections)
        is_small = max_bytes is None or sum(member.size for member in listed) <= max_bytes
        return Snapshot(0, count, listed if len(listed) <= limit and is_small else None)

    def members(self, room_id: RoomId, cursor: str | None, limit: int, search: str) -> Page[MemberRecord]:
        """
        Return a page of members, ordered by the positions of their keys.

        The cursor is the position of the first member on the next page.
        """
        names = self._names(room_id)
        heads = [Head.parse(text) for text in self._access.get(names).values()]
        start, wanted = 0 if cursor is None else position_in(cursor, POSITIONS), search.casefold()
        found: list[tuple[int, MemberRecord]] = []
        for span in _spans(heads, start, POSITIONS if search else limit):
            documents = DocumentSet.read(self._access, dict.fromkeys(names, span))
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

    def user_connections(self, room_id: RoomId, users: Sequence[str]) -> list[int]:
        keys = [member_key(user, 0) for user in users]
        documents = DocumentSet.read(self._access, dict.fromkeys(self._names(room_id), Points(keys)))
        return [sum(len(entries.get(key, ((),))[0]) for entries in documents.entries.values()) for key in keys]

    def held(self, node: str, room_id: RoomId) -> set[int]:
        name = self._keys.room(node, room_id)
        entries = DocumentSet.read(self._access, {name: WHOLE}).entries.get(name, {})
        return {number for key, value in entries.items() for number in _numbers(key, value)}

    def rooms(self, namespace: str, cursor: str | None, limit: int, search: str) -> Page[RoomRecord]:
        """
        Return a page of rooms, ordered by size.

        The size is the sum over all nodes, so a user on two nodes counts twice in the order, but once in the result.
        """
        wanted = search.casefold()
        sizes: dict[str, int] = {}
        documents = DocumentSet.read(self._access, {self._keys.index(node): WHOLE for node in self._nodes})
        for entries in documents.entries.values():
            for key, (users, guests, _) in entries.items():
                space, room = json.loads(key)
                if space == namespace and room != EVERYONE and wanted in room.casefold():
                    sizes[room] = sizes.get(room, 0) + users + guests
        page = page_of(sizes.items(), lambda item: [-item[1], item[0]], [int, str], cursor, limit)
        counts = self.counts([(namespace, room) for room, _ in page.items])
        records = (RoomRecord(namespace, room, count) for (room, _), count in zip(page.items, counts, strict=True))
        # Rooms that have become empty since the index was read are left out.
        return Page(tuple(record for record in records if record.count.connections), page.next)

    def namespaces(self) -> list[str]:
        heads = self._access.get(map(self._keys.index, self._nodes)).values()
        return sorted({namespace for text in heads for namespace in Head.parse(text).totals})

    # Connections.

    def connections(self, room_id: RoomId, user: str | None, cursor: str | None, limit: int) -> Page[ConnectionRecord]:
        """Return a page of connections, ordered by node, position and number."""
        after = ("", 0, -1) if cursor is None else _position_in(cursor)
        found: dict[Position, str | None] = {}
        for node, span, entries in self._entries(room_id, user, after, limit):
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
        details = self._details(room_id[0], page)
        records = (
            ConnectionRecord(
                f"{position[0]}-{position[2]}", room_id[0], found[position], position[0], details.get(position)
            )
            for position in page
        )
        return Page(tuple(records), json.dumps(page[-1]) if len(found) > limit else None)

    def _entries(
        self, room_id: RoomId, user: str | None, after: Position, limit: int
    ) -> Iterator[tuple[str, Span, Entries]]:
        """Yield the entries of a room, node by node and span by span, from the end of the last page on."""
        names = {self._keys.room(node, room_id): node for node in self._nodes if node >= after[0]}
        if user is not None:
            position = position_of(member_key(user, 0))
            span = Span(position, position)
            documents = DocumentSet.read(self._access, dict.fromkeys(names, span))
            yield from ((names[name], span, documents.entries[name]) for name in names if name in documents.entries)
            return
        heads = self._access.get(names)
        for name, node in names.items():
            if name in heads:
                start = after[1] if node == after[0] else 0
                for span in _spans([Head.parse(heads[name])], start, limit):
                    yield node, span, DocumentSet.read(self._access, {name: span}).entries.get(name, {})

    def _details(self, namespace: str, positions: Sequence[Position]) -> dict[Position, str]:
        """Return the details of connections. The positions must be sorted, so that those of one node are adjacent."""
        wanted: dict[str, Span] = {}
        for node, position, _ in positions:
            span = wanted.setdefault(node, Span(position, position))
            span.last = position
        names = {self._keys.details(node, namespace): node for node in wanted}
        documents = DocumentSet.read(self._access, {name: wanted[node] for name, node in names.items()})
        return {
            (names[name], position_of(key), int(number)): details
            for name, entries in documents.entries.items()
            for key, by_number in entries.items()
            for number, details in by_number.items()
        }

    # Names.

    def _names(self, room_id: RoomId) -> list[str]:
        return [self._keys.room(node, room_id) for node in self._nodes]


def _totals(heads: Iterable[Head]) -> list[int]:
    """Return the sums of users, guests and connections over the nodes of a room."""
    return [sum(totals) for totals in zip(*(head.totals for head in heads), strict=True)] or [0, 0, 0]


def _spans(heads: Collection[Head], start: int, limit: int) -> Iterator[Span]:
    """Yield the positions from ``start`` on, in spans of about ``limit`` members, aligned to pages."""
    pages = max((head.pages for head in heads), default=1)
    members = max(1, sum(head.totals[0] + head.totals[1] for head in heads))
    width = POSITIONS // pages * min(pages, max(1, math.ceil(pages * limit / members)))
    while heads and start < POSITIONS:
        end = min(POSITIONS, (start // width + 1) * width)
        yield Span(start, end - 1)
        start = end


def _position_in(cursor: str) -> Position:
    """Return the sort key in a cursor. Raises BadCursor."""
    node, position, number = key_in(cursor, [str, int, int])
    # Reading starts at this position and goes on to the last one. From far below zero it would never end.
    if not 0 <= position < POSITIONS:
        raise BadCursor(f"{cursor!r} is not a valid cursor")
    return node, position, number


def _numbers(key: str, value: Any) -> list[int]:
    """Return the numbers of the connections in an entry of a room."""
    return [int(key[1:])] if key[0] == "g" else value[0]
