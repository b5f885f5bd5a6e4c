"""One connection, as the hub sees it."""

from __future__ import annotations

from typing import Any, Protocol

from ..addresses import UserKey
from .outbox import Outbox


class SubscriberHandler(Protocol):
    """What a connection's consumer offers to the commands of other processes."""

    def command(self, name: str, arguments: dict[str, Any]) -> None:
        """Carry out a control command: what takes something away at once, the rest in the order of its own work."""

    def commands_overflowed(self) -> None:
        """Close: more commands wait for the connection than can be kept."""

    def drain(self, retry_after: float) -> None:
        """Close for a shutdown once what was received is handled; the client shall come back after these seconds."""

    def force_close(self) -> None:
        """Close for a shutdown now, whatever is still being handled."""

    def close_at_exit(self) -> None:
        """Send the close frame of a shutdown and do nothing else: the process ends."""


class Subscriber:
    """
    A connection of this node.

    Attributes:
        id: the node's id, a dash, and a number.
        realm: the scope of its rooms and its user: its namespace, with its tenant once that is known.
        outbox: the way to its client.
        rooms: the names of the rooms it is in, oldest first.
        user_id: the user it belongs to, or None.
    """

    __slots__ = ("__weakref__", "handler", "id", "outbox", "realm", "rooms", "user_id")

    def __init__(self, id: str, realm: str, outbox: Outbox, handler: SubscriberHandler) -> None:
        self.id = id
        self.realm = realm
        self.outbox = outbox
        self.handler = handler
        self.rooms: dict[str, None] = {}
        self.user_id: UserKey | None = None
