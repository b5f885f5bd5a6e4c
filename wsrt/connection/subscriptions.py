"""The subscriptions of one client: the rooms that it has asked for, and those that it may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..addresses import Room
from ..exceptions import Refused, TooManyKeys, TooManyRooms
from ..protocol.catalog import SUBSCRIBE, SUBSCRIPTION_EVENTS, Received
from .groups import Groups
from .holds import SUBSCRIPTION
from .refusals import Translate, refusal_of
from .room_patterns import RoomPattern

ALIKE = frozenset({"forbidden", "not_found", "invalid_data"})
"""The refusals of ``authorize_room`` that get the same answer, so that a client can't find out which rooms exist."""


def is_subscription(received: Received) -> bool:
    """Return whether an event asks for a room."""
    return received.name in SUBSCRIPTION_EVENTS


class SubscriptionRefused(Refused):
    """
    Raised for a room that the client may not subscribe to, or that doesn't exist. Clients can't tell which.

    Attributes:
        by: What refused the room: "subscriptions" (no pattern matches) or "authorize_room" (the hook refused).
    """

    def __init__(self, by: str) -> None:
        super().__init__("forbidden", "You may not subscribe to this room")
        self.by = by


class Subscriptions:
    """
    Handles the requests ``wsrt.subscribe`` and ``wsrt.unsubscribe`` of one client.

    A subscription holds its room with a key of its own. So unsubscribing never leaves a room that the server has
    joined, and the server's ``leave`` never ends a subscription.

    Args:
        patterns: The patterns of the rooms that clients may subscribe to.
        groups: The rooms of the connection.
        translate: The consumer's ``refusal_for``.
    """

    __slots__ = ("_groups", "_patterns", "_translate")

    def __init__(self, patterns: Sequence[RoomPattern], groups: Groups, translate: Translate) -> None:
        self._patterns = patterns
        self._groups = groups
        self._translate = translate

    async def handle(self, received: Received) -> None:
        """
        Handle a request. It is answered with ``wsrt.ok`` if this returns.

        Raises:
            SubscriptionRefused: No pattern matches the room, or ``authorize_room`` refused it.
            Exception: Anything else that ``join`` raises.
        """
        event: Any = received.event
        if received.name == SUBSCRIBE:
            await self._subscribe(event.room)
        else:
            self._groups.leave(event.room, SUBSCRIPTION)

    async def _subscribe(self, name: str) -> None:
        room = Room(name).name
        if not any(pattern.matches(room) for pattern in self._patterns):
            raise SubscriptionRefused("subscriptions")
        try:
            await self._groups.join(room, SUBSCRIPTION)
        except Exception as error:
            # member() may have raised, after the room was joined. A client that reads an error isn't subscribed.
            self._groups.leave(room, SUBSCRIPTION)
            # These name a limit, and are raised before authorize_room is called.
            if isinstance(error, TooManyRooms | TooManyKeys):
                raise
            refusal = refusal_of(error, self._translate)
            if refusal is not None and refusal.code in ALIKE:
                raise SubscriptionRefused("authorize_room") from error
            raise
