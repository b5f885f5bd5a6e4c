"""The presence of one connection: the rooms in which it is shown, and the changes of other users that it receives."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import dataclasses
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import BaseModel
from pydantic_core import to_json

from ..addresses import UserKey
from ..close_codes import NORMAL, Closed, Reconnect, reconnect_for
from ..delivery.subscriber import Subscriber
from ..exceptions import UnsendableEvent, WrongContext
from ..metrics import counters
from ..presence.backends import option
from ..presence.base import EVERYONE, UNSET, Join, MemberData
from ..presence.roster import MemberChange, Watcher
from ..presence.tracker import Tracker
from ..types import RoomPresence, Scope
from .dispatcher import Submit
from .handshake import header_values
from .hooks import Hooks, call

MAX_MEMBER_BYTES = 4096
"""The greatest size of one member's data as JSON. A client that joins a room receives the data of all members."""

MAX_CHANGES = 1000
"""How many calls of hooks may wait for the handlers of one connection."""

T = TypeVar("T")

logger = logging.getLogger("wsrt")


@dataclasses.dataclass(frozen=True, slots=True)
class PresenceHooks:
    """
    The hooks of presence of a consumer.

    Attributes:
        room: The hook ``room_presence``. None if the consumer doesn't override it.
        member: The hook ``member``. None if the consumer doesn't override it, or has no presence.
        joined: The hook ``on_presence_join``.
        left: The hook ``on_presence_leave``.
        wants_changes: Whether the consumer has presence and overrides one of the last two.
    """

    room: Callable[[str], Awaitable[RoomPresence]] | None
    member: Callable[[str], Awaitable[BaseModel | None]] | None
    joined: Callable[[UserKey | None, str], Awaitable[None]]
    left: Callable[[UserKey | None, str], Awaitable[None]]
    wants_changes: bool

    @classmethod
    def of(cls, hooks: Hooks) -> Self:
        """Return the hooks of a consumer."""
        overridden = hooks.overridden_hooks
        has_member = bool(hooks.presence) and "member" in overridden
        return cls(
            room=functools.partial(call, hooks.room_presence) if "room_presence" in overridden else None,
            member=functools.partial(call, hooks.member) if has_member else None,
            joined=functools.partial(call, hooks.on_presence_join),
            left=functools.partial(call, hooks.on_presence_leave),
            wants_changes=bool(hooks.presence) and not overridden.isdisjoint({"on_presence_join", "on_presence_leave"}),
        )


class _Shown(NamedTuple):
    """
    What a connection shows in a room.

    Attributes:
        how: How it takes part in the presence of the room.
        data: The data that it sets for its user, if it is visible.
    """

    how: RoomPresence
    data: MemberData


class _HookCall:
    """
    A call of the hook ``member`` or ``room_presence``.

    Attributes:
        presence: The presence of the connection whose hook is called.
        hook: The name of the hook.
        is_running: Whether the call has not returned yet.
    """

    __slots__ = ("hook", "is_running", "presence")

    def __init__(self, presence: ConnectionPresence, hook: str) -> None:
        self.presence = presence
        self.hook = hook
        self.is_running = True


_hook_call: contextvars.ContextVar[_HookCall | None] = contextvars.ContextVar("_hook_call", default=None)
"""The hook call in which the current code runs. Tasks and threads that the hook starts inherit it."""


class ConnectionPresence:
    """
    The presence of one connection. It is online from begin() to end().

    The hooks ``room_presence`` and ``member`` are called under a lock, because they may take long: of two updates the
    later one must win. After each call the connection may have ended, or may have left the room.

    Args:
        tracker: The tracker of the node. None if the settings name no usable store.
        subscriber: The connection.
        consumer: The name of the consumer, which operators see.
        scope: The ASGI scope, which has the client's address and user agent.
        presence: The consumer's attribute ``presence``.
        hooks: The hooks of the consumer.
        wants_frames: Whether the client understands ``wsrt.presence``.
        submit: Runs work in its turn among the handlers.
        on_failed: Called when a hook raised. It must close the connection.
    """

    __slots__ = (
        "_changes",
        "_details",
        "_hooks",
        "_is_calling_hooks",
        "_lock",
        "_number",
        "_off",
        "_on_failed",
        "_presence",
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
        presence: bool | type[BaseModel],
        hooks: PresenceHooks,
        wants_frames: bool,
        submit: Submit,
        on_failed: Callable[[], None],
    ) -> None:
        self._tracker = tracker
        self._subscriber = subscriber
        self._number = int(subscriber.id.rpartition("-")[2])
        self._details: dict[str, Any] = {"since": round(time.time(), 3), "consumer": consumer}
        # Only True: a string such as "no" must not collect personal data.
        if option("DETAILS", False) is True:
            self._details |= _client_details(scope)
        self._presence = presence
        self._hooks = hooks
        self._watcher = Watcher(subscriber, wants_frames, self._on_changes if hooks.wants_changes else None, self._sees)
        # The rooms in which the connection sees no members, None if there are none.
        self._off: set[str] | None = None
        self._submit = submit
        self._on_failed = on_failed
        # The changes for which hooks have not been called yet, with their room. None if there are no such hooks.
        self._changes: collections.deque[tuple[str, MemberChange]] | None = (
            collections.deque() if hooks.wants_changes else None
        )
        # Whether _call_hooks() is running or waits for its turn.
        self._is_calling_hooks = False
        self._state: Literal["before", "online", "over"] = "before"
        # Held while hooks are called, see above.
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """
        Start to count as online, in the rooms that were joined so far.

        Raises:
            Exception: Anything that ``room_presence`` or ``member`` raises.
            TypeError: One of them returned an object of another type.
            UnsendableEvent: The data of ``member`` is too large.
        """
        async with self._lock:
            shown: dict[str, _Shown] = {}
            # Rooms may be joined and left while the hooks are running.
            while missing := [room for room in self._subscriber.rooms if room not in shown]:
                shown[missing[0]] = await self._ask(missing[0])
            # The connection may have ended while the hooks were running, or may be closing. It doesn't come online
            # then: after end(), nothing would take it offline again.
            if self._tracker is None or self._state == "over" or not self._subscriber.outbox.is_open:
                return
            # Set without an await in between: from now on, join() and leave() write to the tracker themselves.
            self._state = "online"
            self._join_rooms(self._tracker, shown)

    async def join(self, room: str) -> None:
        """Show the connection in a room, or update the data that members see. Raises the same as begin()."""
        if not self.is_online() or self._tracker is None:
            return
        async with self._lock:
            shown = await self._ask(room)
            # leave() doesn't take the lock: it may have been called while the hooks were running.
            if not self.is_online() or room not in self._subscriber.rooms:
                return
            self._join_room(self._tracker, room, shown)
        # The caller may read the members next. This waits only for a short time and doesn't raise.
        await self._tracker.settle()

    def note_expiry(self, expires: float | None) -> None:
        """
        Show operators when the credentials expire.

        Args:
            expires: The time in seconds since 1970. None if they don't expire.
        """
        if expires == self._details.get("expires"):
            return
        self._details["expires"] = expires
        if self.is_online() and self._tracker is not None:
            self._join_everyone(self._tracker)

    def leave(self, room: str) -> None:
        """Stop showing the connection in a room."""
        if self.is_online() and self._tracker is not None:
            place = self._subscriber.realm, room
            self._tracker.unwatch(place, self._watcher)
            self._tracker.leave(*place, self._number)
        if self._off is not None:
            self._off.discard(room)

    def check_not_in_hook(self, method: str) -> None:
        """
        Raise WrongContext if ``member`` or ``room_presence`` has called a method that calls them: each would wait for
        the other.

        Args:
            method: The name of the method.
        """
        hook_call = _hook_call.get()
        if hook_call is not None and hook_call.is_running and hook_call.presence is self:
            hook = hook_call.hook
            raise WrongContext(
                f"{hook}() must not call self.{method}(), which calls {hook}() itself and would wait for it forever: "
                f"call self.{method}() in the hook or handler that joins the room"
            )

    async def rebind(self) -> None:
        """Show the connection under its new user. Raises the same as begin()."""
        if not self.is_online() or self._tracker is None:
            return
        async with self._lock:
            shown = {room: await self._ask(room) for room in list(self._subscriber.rooms)}
            if not self.is_online():
                return
            # A room that was joined while the hooks were running isn't in ``shown``. Its join() waits for the lock, and
            # then joins as the new user.
            for room in (EVERYONE, *self._subscriber.rooms):
                self._tracker.leave(self._subscriber.realm, room, self._number)
            self._join_rooms(self._tracker, shown)

    async def refresh(self) -> None:
        """Update the data that members see, because the user may have changed. Raises as begin()."""
        if not self.asks_hooks or not self.is_online():
            return
        async with self._lock:
            for room in list(self._subscriber.rooms):
                if not self._subscriber.outbox.is_open:
                    return
                shown = await self._ask(room)
                if not self.is_online() or self._tracker is None:
                    return
                if room in self._subscriber.rooms:
                    self._join_room(self._tracker, room, shown)

    def end(self, closed: Closed) -> None:
        """
        Stop counting as online.

        It takes effect at once if the client closed with 1000, or if the server closed with a code after which clients
        don't reconnect by themselves. Otherwise the connection stays online for the grace period, as the client may
        come back.

        Args:
            closed: How the connection ended.
        """
        was_online, self._state = self.is_online(), "over"
        if not was_online or self._tracker is None:
            return
        for room in self._subscriber.rooms:
            self._tracker.unwatch((self._subscriber.realm, room), self._watcher)
        # A page that is left sends 1001. It may be a reload, so 1001 isn't final.
        if closed.by == "server":
            is_final = reconnect_for(closed.code, closed.reason) in (Reconnect.NEVER, Reconnect.AUTH)
        else:
            is_final = closed.by == "client" and closed.code == NORMAL.code
        self._tracker.remove_connection(self._number, at_once=is_final)

    def is_online(self) -> bool:
        """Return whether the connection is online."""
        return self._state == "online"

    @property
    def asks_hooks(self) -> bool:
        """Whether a hook decides what the members of a room see, so that joining it again may change that."""
        return self._hooks.room is not None or self._hooks.member is not None

    # Private.

    def _join_rooms(self, tracker: Tracker, shown_in: dict[str, _Shown]) -> None:
        self._join_everyone(tracker)
        for room, shown in shown_in.items():
            if room in self._subscriber.rooms:
                self._join_room(tracker, room, shown)

    def _join_everyone(self, tracker: Tracker) -> None:
        subscriber = self._subscriber
        # The hashes of the session's key stay in this process.
        about = {**self._details, "session": bool(subscriber.sessions)}
        # What is None or False isn't stored: a connection costs memory in the store.
        details = _as_json({name: value for name, value in about.items() if value})
        tracker.join(Join(subscriber.realm, EVERYONE, self._number, subscriber.user_id, details=details))

    def _join_room(self, tracker: Tracker, room: str, shown: _Shown) -> None:
        subscriber = self._subscriber
        place, user_id = (subscriber.realm, room), subscriber.user_id
        if shown.how == "visible":
            data = UNSET if user_id is None else shown.data
            tracker.join(Join(subscriber.realm, room, self._number, user_id, data))
        else:
            tracker.leave(*place, self._number)
        if shown.how == "off":
            self._off = (self._off or set()) | {room}
            tracker.unwatch(place, self._watcher)
            return
        if self._off is not None:
            self._off.discard(room)
        if self._presence and (self._watcher.wants_frames or self._watcher.hook is not None):
            tracker.watch(place, self._watcher)

    def _sees(self, room: str) -> bool:
        """Return whether the connection sees the members of a room that it is in."""
        return self._off is None or room not in self._off

    def _on_changes(self, room: str, changes: Iterable[MemberChange]) -> None:
        """Call the hooks for changes in a room, in their turn among the handlers."""
        if self._changes is None:
            return
        self._changes.extend((room, change) for change in changes)
        while len(self._changes) > MAX_CHANGES:
            self._changes.popleft()
            counters.count(
                "presence_hooks_dropped",
                "presence changes arrive faster than the presence hooks handle them: some hook calls were dropped",
            )
        if not self._is_calling_hooks:
            # Not submitted if the connection is closing: no hook is called for it any more.
            self._is_calling_hooks = self._submit(self._call_hooks)

    async def _call_hooks(self) -> None:
        try:
            # While a hook runs, changes may arrive, the room may be left and the connection may end.
            while self._changes and self.is_online():
                room, (kind, user_id) = self._changes.popleft()
                if room in self._subscriber.rooms and self._sees(room):
                    user = None if user_id is None else UserKey(user_id)
                    await (self._hooks.joined if kind == "joined" else self._hooks.left)(user, room)
        except Exception:
            counters.count("handlers_failed")
            logger.exception("on_presence_join or on_presence_leave failed")
            self._on_failed()
        finally:
            self._is_calling_hooks = False

    async def _ask(self, room: str) -> _Shown:
        """Call the hooks for a room and return their answers. Raises as begin()."""
        how: RoomPresence = "visible"
        if self._hooks.room is not None:
            how = await self._call("room_presence", self._hooks.room, room)
            if how not in get_args(RoomPresence):
                raise TypeError(f'room_presence() must return "visible", "invisible" or "off", not {how!r}')
        return _Shown(how, await self._member_data(room) if how == "visible" else UNSET)

    async def _call(self, name: str, hook: Callable[[str], Awaitable[T]], room: str) -> T:
        hook_call = _HookCall(self, name)
        token = _hook_call.set(hook_call)
        try:
            return await hook(room)
        finally:
            hook_call.is_running = False
            _hook_call.reset(token)

    async def _member_data(self, room: str) -> MemberData:
        """Return the result of ``member`` as JSON; None clears the data, UNSET keeps it. Raises as begin()."""
        if not self._presence or self._hooks.member is None:
            return UNSET
        member = await self._call("member", self._hooks.member, room)
        if member is None:
            return None
        expected = BaseModel if self._presence is True else self._presence
        if not isinstance(member, expected):
            raise TypeError(f"member() must return {expected.__name__} or None, not {type(member).__name__}")
        # Serialized as the declared model: a subclass may have fields that other members must not see.
        model = type(member) if self._presence is True else self._presence
        data = model.__pydantic_serializer__.to_json(member, by_alias=True)
        if len(data) > MAX_MEMBER_BYTES:
            raise UnsendableEvent(
                f"member({room!r}) returned over {MAX_MEMBER_BYTES} bytes of JSON; return keys instead of large data"
            )
        return data.decode()


def _client_details(scope: Scope) -> dict[str, Any]:
    """Return the details of a client that operators only see with the setting DETAILS."""
    client = scope.get("client")
    agents = header_values(scope, b"user-agent")
    return {
        "address": client[0] if client else None,
        "user_agent": agents[0][:200] if agents else None,
    }


def _as_json(details: dict[str, Any]) -> str:
    return to_json(details).decode()
