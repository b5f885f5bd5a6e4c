"""
What one node says to a cache: who is in its rooms, as documents, and which documents of them are not written yet.

No cache is known here. Keys of entries are those of members: ``u`` and the id of a user, ``g`` and the number of the
connection of a guest.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Literal

from ..base import EVERYONE, UNSET, Change, Count, Join, Leave
from .documents import PagedDocument
from .executor import SerialQueue
from .keys import Keys, Place


class Writer:
    """
    One node.

    Attributes:
        ends: when its lease does, UNIX time in s; 0 before it began.
        documents: all that should be in the cache, by key.
        written: when each was written, UNIX time in s.
        unwritten: keys of those that have changed since.
        unwanted: keys of what should not be in the cache.
        untold: changes whose writing has not succeeded.
    """

    def __init__(self, keys: Keys, node: str) -> None:
        self.id = node
        self.ends = 0.0
        # The lease is renewed however long the writing takes.
        self.leasing, self.lease_queue = asyncio.Lock(), SerialQueue()
        self.writing, self.queue = asyncio.Lock(), SerialQueue()
        self.documents: dict[str, str] = {}
        self.written: dict[str, float] = {}
        self.unwritten: set[str] = set()
        self.unwanted: set[str] = set()
        self.untold: list[Change] = []
        # Which of the documents are looked at next.
        self.looked_at = 0

        self._keys = keys
        self._rooms: dict[Place, _Room] = {}
        self._details: dict[str, _Details] = {}
        self._index = PagedDocument(keys.index(node))
        # How many rooms in each namespace.
        self._namespaces: collections.Counter[str] = collections.Counter()
        # Rooms and namespaces of which documents have to be made.
        self._touched: dict[Place, None] = {}

    def carry_out(self, operation: Join | Leave) -> Iterator[Change]:
        """Do one operation; yield what it changed, as far as this node knows."""
        place = operation.namespace, operation.room
        room = self._rooms.get(place)
        if room is None:
            if isinstance(operation, Leave):
                return
            room = self._rooms[place] = _Room(place, self._keys.room(self.id, place))
        self._touched[place] = None
        if operation.room == EVERYONE:
            self._note_details(operation)
        if isinstance(operation, Join):
            yield from room.join(operation)
        else:
            yield from room.leave(operation.connection)

    def make_documents(self) -> None:
        """Make documents of all that was touched."""
        for place in self._touched:
            room = self._rooms[place]
            self._list(place, room.count)
            if not room.count.connections:
                del self._rooms[place]
            self._take(room.documents())
            if place[1] == EVERYONE:
                self._take(self._details[place[0]].documents())
                if not room.count.connections:
                    del self._details[place[0]]
        if self._touched:
            self._take(self._index.documents(dict(self._namespaces) or None))
        self._touched = {}

    def _list(self, place: Place, count: Count) -> None:
        key = json.dumps(place)
        is_listed = self._index.get(key) is not None
        if count.connections:
            self._index.put(key, dataclasses.astuple(count))
            self._namespaces[place[0]] += not is_listed
        elif is_listed:
            self._index.pop(key)
            self._namespaces[place[0]] -= 1
            if not self._namespaces[place[0]]:
                del self._namespaces[place[0]]

    def _note_details(self, operation: Join | Leave) -> None:
        namespace, number = operation.namespace, operation.connection
        details = self._details.setdefault(namespace, _Details(self._keys.details(self.id, namespace)))
        if isinstance(operation, Join) and operation.details is not None:
            details.put(number, member_key(operation.user_id, number), operation.details)
        else:
            details.pop(number)

    def _take(self, documents: dict[str, str | None]) -> None:
        for key, text in documents.items():
            if text is None:
                self.documents.pop(key, None)
                self.written.pop(key, None)
                self.unwritten.discard(key)
                self.unwanted.add(key)
            else:
                self.documents[key] = text
                self.unwritten.add(key)
                self.unwanted.discard(key)


class _User:
    """A user in a room on this node: connections, the last word, and when that was said (UNIX time in s; 0: never)."""

    __slots__ = ("data", "numbers", "said")

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.data: str | None = None
        self.said = 0.0


class _Room:
    """Who is in a room on this node."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._document = PagedDocument(name)
        # By number of the connection.
        self._connections: dict[int, str | None] = {}
        self._users: dict[str, _User] = {}
        self._guests = 0

    @property
    def count(self) -> Count:
        return Count(len(self._users), self._guests, len(self._connections))

    def documents(self) -> dict[str, str | None]:
        return self._document.documents(dataclasses.astuple(self.count) if self._connections else None)

    def join(self, join: Join) -> Iterator[Change]:
        number, user = join.connection, join.user_id
        if self._connections.get(number, user) != user:
            yield from self.leave(number)
        is_new = number not in self._connections
        self._connections[number] = user
        if user is None:
            if is_new:
                self._guests += 1
                self._document.put(member_key(None, number), 0)
                yield self._change("joined" if self._guests == 1 else "changed", None, self._guests, None)
            return
        known = self._users.setdefault(user, _User())
        known.numbers.add(number)
        has_changed = join.data is not UNSET and join.data != known.data
        if join.data is not UNSET:
            # Said again, it is the last word again, also if another node said something else meanwhile.
            known.data, known.said = join.data, time.time()
        self._put(user, known)
        if is_new and len(known.numbers) == 1:
            yield self._change("joined", user, 1, known.data)
        elif has_changed:
            yield self._change("changed", user, len(known.numbers), known.data)

    def leave(self, number: int) -> Iterator[Change]:
        if number not in self._connections:
            return
        user = self._connections.pop(number)
        if user is None:
            self._guests -= 1
            self._document.pop(member_key(None, number))
            yield self._change("changed" if self._guests else "left", None, self._guests, None)
            return
        known = self._users[user]
        known.numbers.discard(number)
        if known.numbers:
            self._put(user, known)
            return
        del self._users[user]
        self._document.pop(member_key(user, number))
        yield self._change("left", user, 0, None)

    def _put(self, user: str, known: _User) -> None:
        self._document.put(member_key(user, 0), [list(known.numbers), known.data, known.said])

    def _change(
        self, kind: Literal["joined", "left", "changed"], user: str | None, connections: int, data: str | None
    ) -> Change:
        return Change(*self._place, kind, user, connections, data, 0)


class _Details:
    """What operators see of the connections to a namespace, by the keys of the members that they belong to."""

    def __init__(self, name: str) -> None:
        self._document = PagedDocument(name)
        # By number of the connection: the key of the member.
        self._keys: dict[int, str] = {}

    def documents(self) -> dict[str, str | None]:
        return self._document.documents(len(self._keys) or None)

    def put(self, number: int, key: str, details: str) -> None:
        if self._keys.get(number, key) != key:
            self.pop(number)
        self._keys[number] = key
        said: dict[str, str] = self._document.get(key) or {}
        if said.get(str(number)) != details:
            self._document.put(key, {**said, str(number): details})

    def pop(self, number: int) -> None:
        key = self._keys.pop(number, None)
        if key is not None:
            said = {other: details for other, details in self._document.get(key).items() if other != str(number)}
            if said:
                self._document.put(key, said)
            else:
                self._document.pop(key)


def member_key(user: str | None, number: int) -> str:
    """Return the key of a user, or of a guest by the number of the connection."""
    return f"g{number}" if user is None else f"u{user}"
