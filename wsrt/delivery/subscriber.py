"""The hub's view of one connection."""

from __future__ import annotations

from typing import Any, Protocol

from ..addresses import UserKey
from .outbox import Outbox


class SubscriberHandler(Protocol):
    """The interface through which a node controls one of its connections."""

    @property
    def id(self) -> str:
        """The id of the connection."""

    def command(self, name: str, arguments: dict[str, Any]) -> None:
        """Carry out a control command: at once if it revokes something, otherwise in order with received frames."""

    def commands_overflowed(self) -> None:
        """Close the connection, because more commands are waiting for it than can be kept."""

    def drain(self, retry_after: float) -> None:
        """
        Close the connection for a shutdown, after all received frames were handled.

        Args:
            retry_after: After how many seconds the client should reconnect.
        """

    def force_close(self) -> None:
        """Close the connection for a shutdown at once, even if a handler is running."""

    def close_at_exit(self) -> None:
        """Send the close frame of a shutdown and do nothing else, because the process is exiting."""


class Subscriber:
    """
    A connection of this node.

    Attributes:
        id: The node's id, a dash, and a number.
        realm: The scope of its rooms and its user: its namespace, with the tenant once that is known.
        outbox: The queue of frames to its client.
        handler: The object that controls the connection.
        rooms: The names of its rooms, in the order in which it joined them.
        user_id: The key of its user, or None.
        is_extended: Whether its client speaks ``wsrt.v1``, so that it gets reserved events.
        sessions: The keyed hashes of the key of its Django session; empty without a session.
    """

    __slots__ = ("__weakref__", "handler", "id", "is_extended", "outbox", "realm", "rooms", "sessions", "user_id")

    def __init__(
        self, id: str, realm: str, outbox: Outbox, handler: SubscriberHandler, *, is_extended: bool = False
    ) -> None:
        self.id = id
        self.realm = realm
        self.outbox = outbox
        self.handler = handler
        self.is_extended = is_extended
        self.rooms: dict[str, None] = {}
        self.user_id: UserKey | None = None
        self.sessions: tuple[str, ...] = ()
