"""ConnectionPresence: one connection's part in presence: where it is shown to be, and what it is shown of others."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel
from pydantic_core import to_json

from ..addresses import UserKey
from ..close_codes import NORMAL, Closed, Reconnect, reconnect_for
from ..delivery.subscriber import Subscriber
from ..exceptions import UnsendableEvent
from ..metrics import counters
from ..presence.backends import option
from ..presence.base import EVERYONE, UNSET, Join, MemberData
from ..presence.roster import Arrival, Watcher
from ..presence.tracker import Tracker
from ..types import Scope
from .hooks import Hooks, call
from .layer_channel import Submit

MAX_MEMBER_BYTES = 4096
"""What one member shows to others, as JSON: every newcomer gets it of everybody."""

MAX_ARRIVALS = 1000
"""Calls of hooks that may wait for the handlers of one connection."""

logger = logging.getLogger("wsrt")


@dataclasses.dataclass(frozen=True, slots=True)
class PresenceHooks:
    """
    What a consumer has to say and to hear.

    Attributes:
        member: returns what members of a room see of this one; None where the consumer has nothing to say of its users.
        joined, left: told of a user (None for a guest) who came to a room, or left it.
        hears: whether it wants to be told.
    """

    member: Callable[[str], Awaitable[BaseModel | None]] | None
    joined: Callable[[UserKey | None, str], Awaitable[None]]
    left: Callable[[UserKey | None, str], Awaitable[None]]
    hears: bool

    @classmethod
    def of(cls, hooks: Hooks) -> Self | None:
        """Return the hooks of presence that a consumer overrides; None where it shows no presence."""
        if not hooks.presence:
            return None
        return cls(
            member=functools.partial(call, hooks.member) if "member" in hooks.overridden_hooks else None,
            joined=functools.partial(call, hooks.on_presence_join),
            left=functools.partial(call, hooks.on_presence_leave),
            hears=not hooks.overridden_hooks.isdisjoint({"on_presence_join", "on_presence_leave"}),
        )


class ConnectionPresence:
    """
    Presence of one connection. It counts from begin() on.

    Args:
        tracker: of the node; None where the settings name no usable store.
        shows: what the consumer says in ``presence``.
        hooks: of the consumer; None where it shows nothing.
        wants_frames: whether its client understands ``wsrt.presence``.
        submit: runs something in the order of the handlers.
        on_failed: called when a hook raised; must close.
    """

    __slots__ = (
        "_arrivals",
        "_details",
        "_hooks",
        "_is_telling",
        "_lock",
        "_number",
        "_on_failed",
        "_shows",
        "_state",
        "_submit",
        "_subscriber",
        "_tracker",
        "_watcher",
    )

    def __init__(
        self,
        tracker: Tracker | None,
        subscriber: Subscriber,
        *,
        consumer: str,
        scope: Scope,
        shows: bool | type[BaseModel],
        hooks: PresenceHooks | None,
        wants_frames: bool,
        submit: Submit,
        on_failed: Callable[[], None],
    ) -> None:
        self._tracker = tracker
        self._subscriber = subscriber
        self._number = int(subscriber.id.rpartition("-")[2])
        self._details = {"since": round(time.time(), 3), "consumer": consumer}
        # Nothing but True: what somebody meant by "no" must not collect personal data.
        if option("DETAILS", False) is True:
            self._details |= _personal(scope)
        self._shows = shows
        self._hooks = hooks
        hears = hooks is not None and hooks.hears
        self._watcher = Watcher(subscriber, wants_frames, self._hear if hears else None)
        self._submit = submit
        self._on_failed = on_failed
        # Who came and went, for hooks that have not been called yet. None where there are no hooks.
        self._arrivals: collections.deque[tuple[str, Arrival]] | None = collections.deque() if hears else None
        self._is_telling = False
        self._state: Literal["before", "online", "over"] = "before"
        # What is said last counts, also where the consumer takes its time to say what it shows.
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Be online, in the rooms that were joined so far. Raises what ``member`` raises, and TypeError."""
        async with self._lock:
            shown: dict[str, MemberData] = {}
            # Rooms may be joined and left while the consumer is asked what it shows.
            while missing := [room for room in self._subscriber.rooms if room not in shown]:
                shown[missing[0]] = await self._data(missing[0])
            if self._tracker is None or self._state == "over" or not self._subscriber.outbox.is_open:
                return
            self._state = "online"
            self._enter_all(self._tracker, shown)

    async def join(self, room: str) -> None:
        """Be in a room; said again, show anew what members see. Raises as begin()."""
        if not self.is_online() or self._tracker is None:
            return
        async with self._lock:
            shown = await self._data(room)
            if not self.is_online() or room not in self._subscriber.rooms:
                return
            self._enter(self._tracker, room, shown)
        await self._tracker.settle()

    def leave(self, room: str) -> None:
        """Be in a room no more."""
        if self.is_online() and self._tracker is not None:
            place = self._subscriber.realm, room
            self._tracker.unwatch(place, self._watcher)
            self._tracker.leave(*place, self._number)

    async def rebind(self) -> None:
        """Belong to another user than before."""
        if not self.is_online() or self._tracker is None:
            return
        async with self._lock:
            shown = {room: await self._data(room) for room in list(self._subscriber.rooms)}
            if not self.is_online():
                return
            for room in (EVERYONE, *self._subscriber.rooms):
                self._tracker.leave(self._subscriber.realm, room, self._number)
            self._enter_all(self._tracker, shown)

    async def refresh(self) -> None:
        """Show what ``member`` returns now: the user may have another name. Raises as begin()."""
        if self._hooks is None or self._hooks.member is None or not self.is_online():
            return
        async with self._lock:
            for room in list(self._subscriber.rooms):
                if not self._subscriber.outbox.is_open:
                    return
                shown = await self._data(room)
                if not self.is_online() or self._tracker is None:
                    return
                if room in self._subscriber.rooms:
                    self._enter(self._tracker, room, shown)

    def end(self, closed: Closed) -> None:
        """Be offline: at once for whoever said goodbye or was sent away for good, else after the grace."""
        was_online, self._state = self.is_online(), "over"
        if not was_online or self._tracker is None:
            return
        for room in self._subscriber.rooms:
            self._tracker.unwatch((self._subscriber.realm, room), self._watcher)
        # 1001 by the client is a page that is left, perhaps for itself.
        if closed.by == "server":
            is_final = reconnect_for(closed.code, closed.reason) in (Reconnect.NEVER, Reconnect.AUTH)
        else:
            is_final = closed.by == "client" and closed.code == NORMAL.code
        self._tracker.forget(self._number, at_once=is_final)

    def is_online(self) -> bool:
        """Whether the connection counts."""
        return self._state == "online"

    # Private.

    def _enter_all(self, tracker: Tracker, shown: dict[str, MemberData]) -> None:
        self._enter_everyone(tracker)
        for room, data in shown.items():
            if room in self._subscriber.rooms:
                self._enter(tracker, room, data)

    def _enter_everyone(self, tracker: Tracker) -> None:
        subscriber = self._subscriber
        details = _json(self._details)
        tracker.join(Join(subscriber.realm, EVERYONE, self._number, subscriber.user_id, details=details))

    def _enter(self, tracker: Tracker, room: str, data: MemberData) -> None:
        subscriber = self._subscriber
        user_id = subscriber.user_id
        tracker.join(Join(subscriber.realm, room, self._number, user_id, UNSET if user_id is None else data))
        if self._shows and (self._watcher.wants_frames or self._watcher.hook is not None):
            tracker.watch((subscriber.realm, room), self._watcher)

    def _hear(self, room: str, arrivals: Iterable[Arrival]) -> None:
        """Have the hooks called when their turn comes."""
        if self._arrivals is None:
            return
        self._arrivals.extend((room, arrival) for arrival in arrivals)
        while len(self._arrivals) > MAX_ARRIVALS:
            self._arrivals.popleft()
            counters.count("presence_hooks_dropped", "hooks of presence take longer than members come and go")
        if not self._is_telling:
            self._is_telling = self._submit(self._tell_hooks)

    async def _tell_hooks(self) -> None:
        try:
            while self._hooks is not None and self._arrivals and self.is_online():
                room, (kind, user_id) = self._arrivals.popleft()
                if room in self._subscriber.rooms:
                    user = None if user_id is None else UserKey(user_id)
                    await (self._hooks.joined if kind == "joined" else self._hooks.left)(user, room)
        except Exception:
            counters.count("handlers_failed")
            logger.exception("a hook of presence failed")
            self._on_failed()
        finally:
            self._is_telling = False

    async def _data(self, room: str) -> MemberData:
        if not self._shows or self._hooks is None or self._hooks.member is None:
            return UNSET
        shown = await self._hooks.member(room)
        if shown is None:
            return None
        expected = BaseModel if self._shows is True else self._shows
        if not isinstance(shown, expected):
            raise TypeError(f"member() returns {expected.__name__} or None, not {type(shown).__name__}")
        # As the declared model: a subclass may hold what is nobody's business.
        model = type(shown) if self._shows is True else self._shows
        data = model.__pydantic_serializer__.to_json(shown, by_alias=True)
        if len(data) > MAX_MEMBER_BYTES:
            raise UnsendableEvent(f"member({room!r}) is over {MAX_MEMBER_BYTES} bytes; show a reference to large data")
        return data.decode()


def _personal(scope: Scope) -> dict[str, Any]:
    client = scope.get("client")
    agents = [value for name, value in scope.get("headers") or () if name == b"user-agent"]
    return {
        "address": client[0] if client else None,
        "user_agent": agents[0].decode("latin-1")[:200] if agents else None,
    }


def _json(details: dict[str, Any]) -> str:
    return to_json(details).decode()
