"""The hub, which finds the connections of this node for an address and delivers frames to them."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterable
from typing import Any

from ..addresses import (
    AnyOf,
    Audience,
    Everyone,
    Expression,
    Room,
    Rooms,
    Session,
    User,
    UserKey,
    Users,
    room_of,
)
from ..addresses import Connection as ConnectionAddress
from ..protocol.frame import Frame
from .outbox import Outbox
from .subscriber import Subscriber
from .withheld import Withheld

Members = dict[Subscriber, None]
"""An ordered set: frames are sent to connections in the order in which these connected."""

TURN = 250
"""The number of deliveries after which the event loop gets a turn."""

CROWDED_TURNS = 5
"""The number of turns that the event loop gets after a delivery while an outbox is more than half full."""

CORK_AFTER = 128
"""The number of deliveries within CORK_SECONDS after which further frames are corked: they are sent together later."""

CORK_SECONDS = 0.002
"""How long frames are corked, in seconds."""

SETTLE_TURNS = 2
"""The number of turns of the loop in which a server writes what it has buffered."""

REMEMBERED = 4096
"""The number of ids of publications and commands that are remembered, to drop further copies of them."""


class Hub:
    """
    The connections of one node, by realm (a namespace, plus the tenant if there is one), room and user.

    The hub knows nothing about other nodes. It must only be called in the thread of its loop.

    Under load it corks frames: all frames for one client within 2 ms are passed to the server together, which costs one
    write instead of many. Without load, frames are sent immediately.

    Args:
        loop: The loop, for time and timers. None switches corking off.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        # The start of the present window in which deliveries are counted, and their number.
        self._window = 0.0
        self._in_window = 0
        # Outboxes to be uncorked, and the timer or callback that will do it.
        self._corked: list[Outbox] = []
        self._uncorking: asyncio.Handle | None = None
        # The number of turns of the loop until the next window starts.
        self._settling = 0

        self.subscribers: dict[str, Subscriber] = {}
        self._everyone: dict[str, Members] = {}
        self._rooms: dict[tuple[str, str], Members] = {}
        self._users: dict[tuple[str, str], Members] = {}
        self._sessions: dict[tuple[str, str], Members] = {}
        self._seen: collections.OrderedDict[str, None] = collections.OrderedDict()
        # Connections whose permissions are being checked again, with the frames published to them in the meantime.
        self._withheld: dict[Subscriber, Withheld] = {}
        # By connection and room, the frames of the room that wait until the client has got what it has missed.
        self._held: dict[Subscriber, dict[str, Withheld]] = {}

        # The number of deliveries since the last turn of the loop, and whether one of the outboxes is filling up.
        self._delivered = 0
        self._is_crowded = False

    # Connections, rooms and users.

    def add(self, subscriber: Subscriber) -> None:
        """Add a connection: from now on it is part of Everyone(), and its own address reaches it."""
        self.subscribers[subscriber.id] = subscriber
        self._everyone.setdefault(subscriber.realm, {})[subscriber] = None
        for session in subscriber.sessions:
            self._sessions.setdefault((subscriber.realm, session), {})[subscriber] = None

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a connection. Its ``rooms`` and ``user_id`` stay set, so that ``on_disconnect`` can read them."""
        # A connection may join rooms before it is added, and be refused afterwards, so it may be in some indexes only.
        self.subscribers.pop(subscriber.id, None)
        self._withheld.pop(subscriber, None)
        self._held.pop(subscriber, None)
        _discard(self._everyone, subscriber.realm, subscriber)
        for room in subscriber.rooms:
            _discard(self._rooms, (subscriber.realm, room), subscriber)
        if subscriber.user_id is not None:
            _discard(self._users, (subscriber.realm, subscriber.user_id), subscriber)
        for session in subscriber.sessions:
            _discard(self._sessions, (subscriber.realm, session), subscriber)

    def join(self, subscriber: Subscriber, room: str) -> None:
        """Put a connection into a room."""
        subscriber.rooms[room] = None
        self._rooms.setdefault((subscriber.realm, room), {})[subscriber] = None

    def leave(self, subscriber: Subscriber, room: str) -> None:
        """Remove a connection from a room."""
        subscriber.rooms.pop(room, None)
        _discard(self._rooms, (subscriber.realm, room), subscriber)
        self.release(subscriber, room)

    def bind(self, subscriber: Subscriber, user_id: UserKey | None) -> None:
        """Set the user of a connection, which replaces its previous user; None for no user."""
        if subscriber.user_id is not None:
            _discard(self._users, (subscriber.realm, subscriber.user_id), subscriber)
        subscriber.user_id = user_id
        if user_id is not None:
            self._users.setdefault((subscriber.realm, user_id), {})[subscriber] = None

    # Withholding.

    def withhold(self, subscriber: Subscriber) -> None:
        """Keep all frames for a connection until admit() is called, because its permissions are being checked again."""
        if subscriber.id in self.subscribers:
            self._withheld.setdefault(subscriber, Withheld(subscriber.outbox))

    def admit(self, subscriber: Subscriber) -> None:
        """Deliver the withheld frames, in order, except those for audiences that the connection has left."""
        withheld = self._withheld.pop(subscriber, None)
        for audience, frame in withheld.items if withheld is not None else ():
            if self.is_addressed(subscriber, audience) and not self._hold_back(subscriber, audience, frame):
                subscriber.outbox.put(frame)

    def hold(self, subscriber: Subscriber, room: str) -> None:
        """Keep the frames of a room for a connection until release() is called."""
        self._held.setdefault(subscriber, {}).setdefault(room, Withheld(subscriber.outbox))

    def release(self, subscriber: Subscriber, room: str) -> list[tuple[Audience, Frame]]:
        """Return the frames that were kept by hold(), in order, with their audiences, and keep no further ones."""
        rooms = self._held.get(subscriber, {})
        held = rooms.pop(room, None)
        if held is not None and not rooms:
            del self._held[subscriber]
        return held.items if held is not None else []

    # Delivering.

    @property
    def realms(self) -> list[str]:
        """The realms of the connections that were added."""
        return list(self._everyone)

    def is_addressed(self, subscriber: Subscriber, audience: Audience) -> bool:
        """Return whether an audience in the realm of a connection includes it. The realm isn't checked."""
        match audience:
            case Room(name):
                return name in subscriber.rooms
            case User(id=user):
                return user == subscriber.user_id
            case Rooms(names=names):
                return any(name in subscriber.rooms for name in names)
            case Users(ids=users):
                return subscriber.user_id in users
            case ConnectionAddress(id):
                return id == subscriber.id
            case Everyone():
                return True
            case Session(hashes):
                return not set(hashes).isdisjoint(subscriber.sessions)
            case AnyOf(parts):
                return any(self.is_addressed(subscriber, part) for part in parts)
            case Expression(operator, left, right):
                is_right = self.is_addressed(subscriber, right)
                return self.is_addressed(subscriber, left) and is_right is (operator == "&")
        raise TypeError(f"not an address: {audience!r}")

    def select(self, realm: str, audience: Audience) -> list[Subscriber]:
        """Return the connections of an audience, each of them once."""
        return list(self._select(realm, audience))

    def deliver(self, realm: str, audience: Audience, frame: Frame) -> int:
        """
        Deliver a frame to every connection of an audience; return their number.

        The frame is shared, not copied. Callers that deliver many frames must await checkpoint() in between.
        """
        return self._deliver(self.select(realm, audience), audience, frame)

    def announce(self, realm: str, room: str, frame: Frame) -> int:
        """Deliver a reserved event to the clients in a room that speak ``wsrt.v1``; return their number."""
        audience = Room(room)
        extended = [subscriber for subscriber in self._select(realm, audience) if subscriber.is_extended]
        return self._deliver(extended, audience, frame)

    def deliver_to(self, subscriber: Subscriber, audience: Audience, frame: Frame) -> None:
        """Deliver a frame of an audience to one connection."""
        self._deliver([subscriber], audience, frame)

    def _deliver(self, subscribers: list[Subscriber], audience: Audience, frame: Frame) -> int:
        frame.audience = audience
        if self._withheld or self._held:
            subscribers = self._set_aside(subscribers, audience, frame)
        if self._loop is not None and self._is_busy(self._loop, len(subscribers)):
            for subscriber in subscribers:
                if subscriber.outbox.put_corked(frame):
                    self._cork(self._loop, subscriber.outbox)
                elif subscriber.outbox.is_crowded:
                    self._is_crowded = True
        else:
            for subscriber in subscribers:
                if not subscriber.outbox.put(frame) and subscriber.outbox.is_crowded:
                    self._is_crowded = True
        self._delivered += len(subscribers)
        return len(subscribers)

    def is_copy(self, publication: str) -> bool:
        """Return whether a publication or command with this id was delivered before, and remember the id."""
        if publication in self._seen:
            return True
        self._seen[publication] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    async def checkpoint(self) -> None:
        """
        Yield to the event loop if there were many deliveries.

        Otherwise a burst could fill the outbox of a client that does read, and close its connection as too slow.
        """
        if self._is_crowded:
            # Sending a frame takes several turns if middleware awaits something around ``send``. The number of turns is
            # bounded, because a client that doesn't read at all must not delay the others.
            turns = CROWDED_TURNS
        elif self._delivered >= TURN:
            turns = 1
        else:
            return
        # Reset before the awaits: other tasks may deliver during these turns, and their deliveries count.
        self._is_crowded = False
        self._delivered = 0
        for _ in range(turns):
            await asyncio.sleep(0)

    # Private.

    def _set_aside(self, subscribers: list[Subscriber], audience: Audience, frame: Frame) -> list[Subscriber]:
        """Keep a frame for those connections that must not get it yet; return the others."""
        others = []
        for subscriber in subscribers:
            # A room whose frames wait comes first: what the client has missed is withheld before them.
            if self._hold_back(subscriber, audience, frame):
                continue
            withheld = self._withheld.get(subscriber)
            if withheld is not None:
                withheld.put(audience, frame)
            else:
                others.append(subscriber)
        return others

    def _hold_back(self, subscriber: Subscriber, audience: Audience, frame: Frame) -> bool:
        """Keep a frame for a room whose frames wait; return whether it was kept."""
        rooms = self._held.get(subscriber)
        if rooms is None:
            return False
        room = room_of(audience)
        held = None if room is None else rooms.get(room)
        if held is not None:
            held.put(audience, frame)
        return held is not None

    def _is_busy(self, loop: asyncio.AbstractEventLoop, deliveries: int) -> bool:
        """Return whether there were so many deliveries recently that further frames should be corked."""
        if self._settling or self._uncorking is not None:
            return True
        now = loop.time()
        if now - self._window >= CORK_SECONDS:
            self._window, self._in_window = now, 0
        if self._in_window >= CORK_AFTER:
            return True
        self._in_window += deliveries
        if self._in_window >= CORK_AFTER:
            self._settle_soon(loop)
        return False

    def _cork(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._corked.append(outbox)
        if self._uncorking is None and not self._settling:
            self._uncorking = loop.call_at(self._window + CORK_SECONDS, self._uncork, loop)

    def _uncork(self, loop: asyncio.AbstractEventLoop) -> None:
        # Outboxes that are corked while this batch is sent wait for the next one.
        batch, self._corked = self._corked, []
        self._uncork_some(loop, batch, 0)

    def _uncork_some(self, loop: asyncio.AbstractEventLoop, batch: list[Outbox], start: int) -> None:
        for outbox in batch[start : start + TURN]:
            outbox.uncork()
        if start + TURN < len(batch):
            self._uncorking = loop.call_soon(self._uncork_some, loop, batch, start + TURN)
        else:
            self._uncorking = None
            self._settle_soon(loop)

    def _settle_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        self._settling = SETTLE_TURNS
        loop.call_soon(self._settle, loop)

    def _settle(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Start the next window once the server has written what it was given.

        Some servers write in the loop's next turns. If the window started earlier, that work would fall into it.
        """
        self._settling -= 1
        if self._settling:
            loop.call_soon(self._settle, loop)
            return
        self._window, self._in_window = loop.time(), CORK_AFTER
        if self._corked:
            self._uncorking = loop.call_at(self._window + CORK_SECONDS, self._uncork, loop)

    def _select(self, realm: str, audience: Audience) -> Iterable[Subscriber]:
        match audience:
            case Room(name):
                return self._rooms.get((realm, name), ())
            case User(id=user):
                return self._users.get((realm, user), ())
            case Rooms(names=names):
                return dict.fromkeys(member for name in names for member in self._rooms.get((realm, name), ()))
            case Users(ids=users):
                return dict.fromkeys(member for user in users for member in self._users.get((realm, user), ()))
            case ConnectionAddress(id):
                subscriber = self.subscribers.get(id)
                return [subscriber] if subscriber is not None and subscriber.realm == realm else ()
            case Everyone():
                return self._everyone.get(realm, ())
            case Session(hashes):
                return dict.fromkeys(member for key in hashes for member in self._sessions.get((realm, key), ()))
            case AnyOf(parts):
                return dict.fromkeys(member for part in parts for member in self._select(realm, part))
            case Expression(operator, left, right):
                others = set(self._select(realm, right))
                wanted = operator == "&"
                return [member for member in self._select(realm, left) if (member in others) is wanted]
        raise TypeError(f"not an address: {audience!r}")


def _discard(index: dict[Any, Members], key: Any, subscriber: Subscriber) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(subscriber, None)
        if not members:
            del index[key]
