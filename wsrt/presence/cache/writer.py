"""
The state that one node wants the cache to have, and which values of it still have to be written.

Nothing here accesses the cache; the store does. ``documents.py`` explains the words *entry*, *paged document* and
*value*. Entries of rooms are keyed by member: ``u`` and the user's id, or ``g`` and the number of a guest's connection.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Literal

from ..base import EVERYONE, UNSET, Change, Count, Join, Leave, RoomId
from .documents import PagedDocument
from .executor import SerialQueue
from .keys import Keys


class Writer:
    """
    The state of one node.

    Attributes:
        ends: The end of its lease in UNIX time, seconds. 0 before the lease began.
        values: All values that should be in the cache, by key.
        written: The UNIX time in seconds at which each value was last written, by key.
        dirty: The keys of values that have changed since they were last written.
        obsolete: The keys of values to delete from the cache.
        unannounced: Changes that the store's ``apply()`` hasn't returned yet, because writing them failed.
    """

    def __init__(self, keys: Keys, node: str) -> None:
        self.id = node
        self.ends = 0.0
        # Two locks and two queues: renewing the lease must not wait behind long writes.
        self.lease_lock, self.lease_queue = asyncio.Lock(), SerialQueue()
        self.write_lock, self.write_queue = asyncio.Lock(), SerialQueue()
        self.values: dict[str, str] = {}
        self.written: dict[str, float] = {}
        self.dirty: set[str] = set()
        self.obsolete: set[str] = set()
        self.unannounced: list[Change] = []
        # The index of the value at which the next heartbeat continues to check the cache.
        self.check_from = 0

        self._keys = keys
        self._rooms: dict[RoomId, _Room] = {}
        self._details: dict[str, _Details] = {}
        self._index = PagedDocument(keys.index(node))
        # The number of the node's rooms in each namespace.
        self._namespaces: collections.Counter[str] = collections.Counter()
        # The rooms that have changed since their documents were last encoded, in order. A dict used as an ordered set.
        self._touched: dict[RoomId, None] = {}

    def apply(self, operation: Join | Leave) -> Iterator[Change]:
        """
        Apply one operation, and yield the changes that it makes among this node's own connections.

        Connections to other nodes aren't considered. As a generator, it does nothing until it is iterated.
        """
        room_id = operation.namespace, operation.room
        room = self._rooms.get(room_id)
        if room is None:
            if isinstance(operation, Leave):
                return
            room = self._rooms[room_id] = _Room(room_id, self._keys.room(self.id, room_id))
        self._touched[room_id] = None
        if operation.room == EVERYONE:
            self._note_details(operation)
        if isinstance(operation, Join):
            yield from room.join(operation)
        else:
            yield from room.leave(operation.connection)

    def encode_touched(self) -> None:
        """Encode the documents of all rooms that have changed, and mark the changed values as dirty or obsolete."""
        for room_id in self._touched:
            room = self._rooms[room_id]
            self._update_index(room_id, room.count)
            if not room.count.connections:
                del self._rooms[room_id]
            self._store_values(room.pop_changed_values())
            if room_id[1] == EVERYONE:
                self._store_values(self._details[room_id[0]].pop_changed_values())
                if not room.count.connections:
                    del self._details[room_id[0]]
        if self._touched:
            self._store_values(self._index.pop_changed_values(dict(self._namespaces) or None))
        self._touched = {}

    def _update_index(self, room_id: RoomId, count: Count) -> None:
        key = json.dumps(room_id)
        is_listed = self._index.get(key) is not None
        if count.connections:
            self._index.put(key, dataclasses.astuple(count))
            self._namespaces[room_id[0]] += not is_listed
        elif is_listed:
            self._index.pop(key)
            self._namespaces[room_id[0]] -= 1
            if not self._namespaces[room_id[0]]:
                del self._namespaces[room_id[0]]

    def _note_details(self, operation: Join | Leave) -> None:
        namespace, number = operation.namespace, operation.connection
        details = self._details.setdefault(namespace, _Details(self._keys.details(self.id, namespace)))
        if isinstance(operation, Join) and operation.details is not None:
            details.put(number, member_key(operation.user_id, number), operation.details)
        else:
            details.pop(number)

    def _store_values(self, values: dict[str, str | None]) -> None:
        for key, text in values.items():
            if text is None:
                self.values.pop(key, None)
                self.written.pop(key, None)
                self.dirty.discard(key)
                self.obsolete.add(key)
            else:
                self.values[key] = text
                self.dirty.add(key)
                self.obsolete.discard(key)


class _User:
    """
    A user in a room, on this node.

    Attributes:
        numbers: The numbers of the user's connections.
        data: The data that one of them set last, as JSON.
        set_at: The UNIX time in seconds at which the data was set, which decides between nodes. 0 if it never was.
    """

    __slots__ = ("data", "numbers", "set_at")

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.data: str | None = None
        self.set_at = 0.0


class _Room:
    """The members of a room on this node."""

    def __init__(self, room_id: RoomId, name: str) -> None:
        self._room_id = room_id
        self._document = PagedDocument(name)
        # The user of each connection, by its number; None for a guest.
        self._connections: dict[int, str | None] = {}
        self._users: dict[str, _User] = {}
        self._guests = 0

    @property
    def count(self) -> Count:
        return Count(len(self._users), self._guests, len(self._connections))

    def pop_changed_values(self) -> dict[str, str | None]:
        return self._document.pop_changed_values(dataclasses.astuple(self.count) if self._connections else None)

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
            # Also if the data is the same: another node may have set other data since, and the latest call wins.
            known.data, known.set_at = join.data, time.time()
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
        self._document.put(member_key(user, 0), [list(known.numbers), known.data, known.set_at])

    def _change(
        self, kind: Literal["joined", "left", "changed"], user: str | None, connections: int, data: str | None
    ) -> Change:
        return Change(*self._room_id, kind, user, connections, data, 0)


class _Details:
    """The details that operators see of the node's connections to one namespace, by member key."""

    def __init__(self, name: str) -> None:
        self._document = PagedDocument(name)
        # The member key of each connection, by its number.
        self._keys: dict[int, str] = {}

    def pop_changed_values(self) -> dict[str, str | None]:
        return self._document.pop_changed_values(len(self._keys) or None)

    def put(self, number: int, key: str, details: str) -> None:
        if self._keys.get(number, key) != key:
            self.pop(number)
        self._keys[number] = key
        stored: dict[str, str] = self._document.get(key) or {}
        if stored.get(str(number)) != details:
            self._document.put(key, {**stored, str(number): details})

    def pop(self, number: int) -> None:
        key = self._keys.pop(number, None)
        if key is not None:
            rest = {other: details for other, details in self._document.get(key).items() if other != str(number)}
            if rest:
                self._document.put(key, rest)
            else:
                self._document.pop(key)


def member_key(user: str | None, number: int) -> str:
    """Return the entry key of a user, or of a guest, who is known by the number of the connection."""
    return f"g{number}" if user is None else f"u{user}"
