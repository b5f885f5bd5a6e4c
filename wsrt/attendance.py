"""Attendance: one connection's part in presence: where it is shown to be, and what it is shown of others."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import to_json

from .close_codes import NORMAL, Closed
from .delivery.connection import Connection
from .exceptions import UnsendableEvent
from .presence.store import EVERYONE, Join
from .presence.stores import option
from .presence.tracker import Tracker
from .presence.views import Hook, Watcher
from .types import Scope

MAX_MEMBER_BYTES = 4096
"""What one member shows to others, as JSON: every newcomer gets it of everybody."""

Member = Callable[[str], Awaitable[BaseModel | None]]


class Attendance:
    """
    Presence of one connection. It counts from begin() on.

    Args:
        tracker: of the node; None where the settings name no usable store.
        shows: what the consumer says in ``presence``.
        member: returns what members of a room see of this one.
        wants_frames: whether its client understands ``wsrt.presence``.
        hook: told who comes and goes, if the consumer wants to know.
    """

    def __init__(
        self,
        tracker: Tracker | None,
        connection: Connection,
        *,
        consumer: str,
        scope: Scope,
        shows: bool | type[BaseModel],
        member: Member,
        wants_frames: bool,
        hook: Hook | None,
    ) -> None:
        self._tracker = tracker
        self._connection = connection
        self._number = int(connection.id.rpartition("-")[2])
        self._details = {"since": round(time.time(), 3), "consumer": consumer}
        if option("DETAILS", False):
            self._details |= _personal(scope)
        self._shows = shows
        self._member = member
        self._watcher = Watcher(connection, wants_frames, hook)
        self._state: Literal["before", "online", "over"] = "before"

    async def begin(self) -> None:
        """Be online, in the rooms that were joined so far. Raises what ``member`` raises, and TypeError."""
        data = {room: await self._data(room) for room in list(self._connection.rooms)}
        if self._tracker is None or self._state == "over":
            return
        self._state = "online"
        self._enter_everyone(self._tracker)
        for room, shown in data.items():
            self._enter(self._tracker, room, shown)

    async def join(self, room: str) -> None:
        """Be in a room; said again, show anew what members see. Raises as begin()."""
        if not self.is_online() or self._tracker is None:
            return
        shown = await self._data(room)
        if self.is_online() and room in self._connection.rooms:
            self._enter(self._tracker, room, shown)
            await self._tracker.settle()

    def leave(self, room: str) -> None:
        """Be in a room no more."""
        if self.is_online() and self._tracker is not None:
            place = self._connection.namespace, room
            self._tracker.unwatch(place, self._watcher)
            self._tracker.leave(*place, self._number)

    async def rebind(self) -> None:
        """Belong to another user than before."""
        if not self.is_online() or self._tracker is None:
            return
        data = {room: await self._data(room) for room in list(self._connection.rooms)}
        if not self.is_online():
            return
        for room in (EVERYONE, *data):
            self._tracker.leave(self._connection.namespace, room, self._number)
        self._enter_everyone(self._tracker)
        for room, shown in data.items():
            self._enter(self._tracker, room, shown)

    def end(self, closed: Closed) -> None:
        """Be offline: at once for whoever said goodbye or was sent away, else after the grace."""
        was_online, self._state = self.is_online(), "over"
        if not was_online or self._tracker is None:
            return
        places = [(self._connection.namespace, room) for room in (EVERYONE, *self._connection.rooms)]
        for place in places[1:]:
            self._tracker.unwatch(place, self._watcher)
        # 1001 by the client is a page that is left, perhaps for itself; ours are for those who come back.
        is_final = closed.code == NORMAL.code or (closed.by == "server" and closed.code >= 4000)
        self._tracker.forget(self._number, places, at_once=is_final)

    def is_online(self) -> bool:
        """Whether the connection counts."""
        return self._state == "online"

    # Private.

    def _enter_everyone(self, tracker: Tracker) -> None:
        connection = self._connection
        tracker.join(
            Join(connection.namespace, EVERYONE, self._number, connection.user_id, None, _json(self._details)),
        )

    def _enter(self, tracker: Tracker, room: str, data: str | None) -> None:
        connection = self._connection
        user_id = connection.user_id
        tracker.join(Join(connection.namespace, room, self._number, user_id, data if user_id is not None else None))
        if self._shows and (self._watcher.wants_frames or self._watcher.hook is not None):
            tracker.watch((connection.namespace, room), self._watcher)

    async def _data(self, room: str) -> str | None:
        if not self._shows:
            return None
        shown = await self._member(room)
        if shown is None:
            return None
        expected = BaseModel if self._shows is True else self._shows
        if not isinstance(shown, expected):
            raise TypeError(f"member() returns {expected.__name__} or None, not {type(shown).__name__}")
        data = shown.model_dump_json()
        if len(data.encode()) > MAX_MEMBER_BYTES:
            raise UnsendableEvent(f"member({room!r}) is over {MAX_MEMBER_BYTES} bytes; show a reference to large data")
        return data


def _personal(scope: Scope) -> dict[str, Any]:
    client = scope.get("client")
    agents = [value for name, value in scope.get("headers") or () if name == b"user-agent"]
    return {
        "address": client[0] if client else None,
        "user_agent": agents[0].decode("latin-1")[:200] if agents else None,
    }


def _json(details: dict[str, Any]) -> str:
    return to_json(details).decode()
