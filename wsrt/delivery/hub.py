"""The hub: from an address to the connections of this node."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterable
from typing import Any

from ..addresses import AnyOf, Audience, Everyone, Expression, Room, User
from ..addresses import Connection as ConnectionAddress
from ..protocol.envelope import Frame
from .connection import Connection

Members = dict[Connection, None]
"""An ordered set: frames go out in the order in which connections came."""

TURN = 250
"""Deliveries after which the event loop gets a turn (D2)."""

REMEMBERED = 4096
"""Ids of publications to several groups, of which a node gets a copy each."""


class Hub:
    """
    The connections of one node, by room, user and namespace.

    It knows nothing of other nodes. Not safe to call from another thread than the loop's.
    """

    def __init__(self) -> None:
        self.connections: dict[str, Connection] = {}
        self._everyone: dict[str, Members] = {}
        self._rooms: dict[tuple[str, str], Members] = {}
        self._users: dict[tuple[str, str], Members] = {}
        self._seen: collections.OrderedDict[str, None] = collections.OrderedDict()

        # Deliveries since the loop had a turn, and whether an outbox fills up.
        self._delivered = 0
        self._is_crowded = False

    # Who is here.

    def add(self, connection: Connection) -> None:
        """Add a connection: it is one of everyone, and its own address reaches it."""
        self.connections[connection.id] = connection
        self._everyone.setdefault(connection.namespace, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection from everything. It keeps its rooms and its user, for those who ask later (S41)."""
        # It may have joined before it was added, and be refused then.
        self.connections.pop(connection.id, None)
        _discard(self._everyone, connection.namespace, connection)
        for room in connection.rooms:
            _discard(self._rooms, (connection.namespace, room), connection)
        if connection.user_id is not None:
            _discard(self._users, (connection.namespace, connection.user_id), connection)

    def join(self, connection: Connection, room: str) -> None:
        """Put a connection into a room."""
        connection.rooms[room] = None
        self._rooms.setdefault((connection.namespace, room), {})[connection] = None

    def leave(self, connection: Connection, room: str) -> None:
        """Take a connection out of a room."""
        connection.rooms.pop(room, None)
        _discard(self._rooms, (connection.namespace, room), connection)

    def bind(self, connection: Connection, user_id: str | None) -> None:
        """Say to whom a connection belongs; None for nobody. A connection has one user at a time (S51)."""
        if connection.user_id is not None:
            _discard(self._users, (connection.namespace, connection.user_id), connection)
        connection.user_id = user_id
        if user_id is not None:
            self._users.setdefault((connection.namespace, user_id), {})[connection] = None

    # Delivering.

    def select(self, namespace: str | None, audience: Audience) -> list[Connection]:
        """Return the connections of an audience, each once; namespace None means all (for control only)."""
        if namespace is None:
            spaces = list(self._everyone)
            return [connection for space in spaces for connection in self._select(space, audience)]
        return list(self._select(namespace, audience))

    def deliver(self, namespace: str, audience: Audience, frame: Frame) -> int:
        """
        Hand a frame to every connection of an audience; return how many those are.

        The frame is shared, not copied. Whoever calls in a row awaits breathe() in between.
        """
        connections = self.select(namespace, audience)
        for connection in connections:
            if not connection.outbox.put(frame) and connection.outbox.is_crowded:
                self._is_crowded = True
        self._delivered += len(connections)
        return len(connections)

    def is_copy(self, publication: str) -> bool:
        """Return whether this publication was here before; remember it."""
        if publication in self._seen:
            return True
        self._seen[publication] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    async def breathe(self) -> None:
        """Give the loop a turn if deliveries piled up, so that a burst is not taken for a slow client."""
        if self._is_crowded or self._delivered >= TURN:
            self._is_crowded = False
            self._delivered = 0
            await asyncio.sleep(0)

    # Private.

    def _select(self, namespace: str, audience: Audience) -> Iterable[Connection]:
        match audience:
            case Room(name):
                return self._rooms.get((namespace, name), ())
            case User(id=user):
                return self._users.get((namespace, user), ())
            case ConnectionAddress(id):
                connection = self.connections.get(id)
                return [connection] if connection is not None and connection.namespace == namespace else ()
            case Everyone():
                return self._everyone.get(namespace, ())
            case AnyOf(parts):
                return dict.fromkeys(member for part in parts for member in self._select(namespace, part))
            case Expression(operator, left, right):
                others = set(self._select(namespace, right))
                wanted = operator == "&"
                return [member for member in self._select(namespace, left) if (member in others) is wanted]
        raise TypeError(f"not an address: {audience!r}")


def _discard(index: dict[Any, Members], key: Any, connection: Connection) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(connection, None)
        if not members:
            del index[key]
