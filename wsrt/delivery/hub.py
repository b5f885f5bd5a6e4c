"""The hub: from an address to the connections of this node."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterable
from typing import Any

from ..addresses import AnyOf, Audience, Everyone, Expression, Room, User, UserKey
from ..addresses import Connection as ConnectionAddress
from ..protocol.frame import Frame
from .outbox import Outbox
from .subscriber import Subscriber
from .withheld import Withheld

Members = dict[Subscriber, None]
"""An ordered set: frames go out in the order in which connections came."""

TURN = 250
"""Deliveries after which the event loop gets a turn (D2)."""

CROWDED_TURNS = 5
"""Turns that the event loop gets after a delivery while an outbox is more than half full."""

CORK_AFTER = 128
"""Deliveries within CORK_SECONDS after which further ones wait for the end of that time, to go out together."""

CORK_SECONDS = 0.002

SETTLE_TURNS = 2
"""Turns of the loop in which a server writes what it buffered."""

REMEMBERED = 4096
"""Ids of publications to several groups, of which a node gets a copy each."""


class Hub:
    """
    The connections of one node, by realm, room and user.

    It knows nothing of other nodes. Not safe to call from another thread than the loop's.

    Under load it corks: frames for one client that come within 2 ms are handed to the server together, which costs it
    one write instead of many. While little is published nothing waits.

    Args:
        loop: gives time and timers; None to cork never.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        # Since when deliveries are counted, and how many there were.
        self._window = 0.0
        self._in_window = 0
        # Outboxes that wait to be uncorked, and what will do it.
        self._corked: list[Outbox] = []
        self._uncorking: asyncio.Handle | None = None
        # Turns of the loop until time counts again.
        self._settling = 0

        self.subscribers: dict[str, Subscriber] = {}
        self._everyone: dict[str, Members] = {}
        self._rooms: dict[tuple[str, str], Members] = {}
        self._users: dict[tuple[str, str], Members] = {}
        self._seen: collections.OrderedDict[str, None] = collections.OrderedDict()
        # Connections whose permissions are being asked again, with what was published to them since.
        self._withheld: dict[Subscriber, Withheld] = {}

        # Deliveries since the loop had a turn, and whether an outbox fills up.
        self._delivered = 0
        self._is_crowded = False

    # Who is here.

    def add(self, subscriber: Subscriber) -> None:
        """Add a connection: it is one of everyone, and its own address reaches it."""
        self.subscribers[subscriber.id] = subscriber
        self._everyone.setdefault(subscriber.realm, {})[subscriber] = None

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a connection from everything. It keeps its rooms and its user, for those who ask later (S41)."""
        # It may have joined before it was added, and be refused then.
        self.subscribers.pop(subscriber.id, None)
        self._withheld.pop(subscriber, None)
        _discard(self._everyone, subscriber.realm, subscriber)
        for room in subscriber.rooms:
            _discard(self._rooms, (subscriber.realm, room), subscriber)
        if subscriber.user_id is not None:
            _discard(self._users, (subscriber.realm, subscriber.user_id), subscriber)

    def join(self, subscriber: Subscriber, room: str) -> None:
        """Put a connection into a room."""
        subscriber.rooms[room] = None
        self._rooms.setdefault((subscriber.realm, room), {})[subscriber] = None

    def leave(self, subscriber: Subscriber, room: str) -> None:
        """Take a connection out of a room."""
        subscriber.rooms.pop(room, None)
        _discard(self._rooms, (subscriber.realm, room), subscriber)

    def bind(self, subscriber: Subscriber, user_id: UserKey | None) -> None:
        """Say to whom a connection belongs; None for nobody. A connection has one user at a time (S51)."""
        if subscriber.user_id is not None:
            _discard(self._users, (subscriber.realm, subscriber.user_id), subscriber)
        subscriber.user_id = user_id
        if user_id is not None:
            self._users.setdefault((subscriber.realm, user_id), {})[subscriber] = None

    # Withholding.

    def withhold(self, subscriber: Subscriber) -> None:
        """Keep what is published to a connection from now on, until admit(): its permissions are in question."""
        if subscriber.id in self.subscribers:
            self._withheld.setdefault(subscriber, Withheld(subscriber.outbox))

    def admit(self, subscriber: Subscriber) -> None:
        """Deliver what was withheld, in order, as far as it still is for the connection."""
        withheld = self._withheld.pop(subscriber, None)
        for audience, frame in withheld.items if withheld is not None else ():
            if self.is_addressed(subscriber, audience):
                subscriber.outbox.put(frame)

    # Delivering.

    @property
    def realms(self) -> list[str]:
        """The realms of the connections that were added."""
        return list(self._everyone)

    def is_addressed(self, subscriber: Subscriber, audience: Audience) -> bool:
        """Return whether a connection is one of those that select() returns for its realm."""
        match audience:
            case Room(name):
                return name in subscriber.rooms
            case User(id=user):
                return user == subscriber.user_id
            case ConnectionAddress(id):
                return id == subscriber.id
            case Everyone():
                return True
            case AnyOf(parts):
                return any(self.is_addressed(subscriber, part) for part in parts)
            case Expression(operator, left, right):
                is_right = self.is_addressed(subscriber, right)
                return self.is_addressed(subscriber, left) and is_right is (operator == "&")
        raise TypeError(f"not an address: {audience!r}")

    def select(self, realm: str, audience: Audience) -> list[Subscriber]:
        """Return the connections of an audience, each once."""
        return list(self._select(realm, audience))

    def deliver(self, realm: str, audience: Audience, frame: Frame) -> int:
        """
        Hand a frame to every connection of an audience; return how many those are.

        The frame is shared, not copied. Whoever calls in a row awaits checkpoint() in between.
        """
        subscribers = self.select(realm, audience)
        frame.audience = audience
        if self._withheld:
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
        """Return whether this publication was here before; remember it."""
        if publication in self._seen:
            return True
        self._seen[publication] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    async def checkpoint(self) -> None:
        """Give the loop a turn if deliveries piled up, so that a burst is not taken for a slow client."""
        if self._is_crowded:
            # A frame takes some turns where middleware awaits around ``send``. Their number is bounded: a client that
            # doesn't read at all must not delay the others.
            turns = CROWDED_TURNS
        elif self._delivered >= TURN:
            turns = 1
        else:
            return
        self._is_crowded = False
        self._delivered = 0
        for _ in range(turns):
            await asyncio.sleep(0)

    # Private.

    def _set_aside(self, subscribers: list[Subscriber], audience: Audience, frame: Frame) -> list[Subscriber]:
        """Keep a frame for the connections whose permissions are in question; return the others."""
        others = []
        for subscriber in subscribers:
            withheld = self._withheld.get(subscriber)
            if withheld is None:
                others.append(subscriber)
            else:
                withheld.put(audience, frame)
        return others

    def _is_busy(self, loop: asyncio.AbstractEventLoop, deliveries: int) -> bool:
        """Return whether so much was delivered just now that more should wait a little."""
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
        # What comes while these go out waits for the next time.
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
        """Let the server write what it was given before time counts again: some do that in the loop's next turns."""
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
            case ConnectionAddress(id):
                subscriber = self.subscribers.get(id)
                return [subscriber] if subscriber is not None and subscriber.realm == realm else ()
            case Everyone():
                return self._everyone.get(realm, ())
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
