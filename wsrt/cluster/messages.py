"""
The messages between nodes: publications, commands and presence changes, as plain data for the channel layer.

During a deployment, nodes of two versions share a layer. A message therefore states its format. It carries the
event's name and data instead of a finished frame: each node builds the frame as its own version does. A node reads its
own format, the previous one and the next one, and ignores additions of the next one. Messages that it can't read are
counted and dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..addresses import Audience, Room, from_message
from ..protocol.envelope import Encoded
from ..protocol.frame import Frame
from ..realms import ALL_TENANTS, AllTenants, includes
from ..types import Position

__all__ = ["LOG_OUT", "CommandMessage", "Kept", "PresenceMessage", "PublishMessage", "UnknownMessage", "read"]

FORM = 1
"""The format of the messages that this version writes."""

LOG_OUT = "log_out"
"""The name of the command that ends the connections of a session, see wsrt.sessions.log_out."""


class UnknownMessage(ValueError):
    """Raised for a message of the channel layer that this version can't read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """
    What the history of a room has of a publication.

    Attributes:
        position: Its position.
        id: Its random id, by which a node tells it from another one with the same offset.
        key: With history="latest", the key whose last value it is. None otherwise.
    """

    position: Position
    id: str
    key: str | None


class PublishMessage:
    """
    One event for one audience.

    Args:
        realm: The realm of the audience. Its key in messages is "namespace".
        audience: The recipients.
        encoded: The encoded event.
        id: Set if the publication goes through several groups, so that a node can drop further copies.
        kept: Set if it is kept in the history of the room.

    Raises:
        UnsendableEvent: The frame is larger than 1 MiB.
    """

    __slots__ = ("_frame", "audience", "encoded", "id", "kept", "realm")

    def __init__(
        self, realm: str, audience: Audience, encoded: Encoded, id: str | None = None, kept: Kept | None = None
    ) -> None:
        self.realm = realm
        self.audience = audience
        self.encoded = encoded
        self.id = id
        self.kept = kept
        self._frame: Frame | None = None
        if not encoded.fits(room=audience.name if isinstance(audience, Room) else None):
            self._frame = self._build()

    @property
    def frame(self) -> Frame:
        """The frame, created once. A publisher whose messages go through the layer doesn't need it."""
        frame = self._frame
        if frame is None:
            frame = self._frame = self._build()
        return frame

    def keep(self, kept: Kept) -> None:
        """Set what the history of the room has of the publication."""
        self.kept = kept
        self._frame = None

    def _build(self) -> Frame:
        audience, kept = self.audience, self.kept
        return self.encoded.frame(
            room=audience.name if isinstance(audience, Room) else None, position=None if kept is None else kept.position
        )

    def to_message(self) -> dict[str, Any]:
        """Return the message for the layer."""
        message: dict[str, Any] = {
            "type": "wsrt.publication",
            "form": FORM,
            "namespace": self.realm,
            "audience": self.audience.to_message(),
            "event": self.encoded.event,
            "data": self.encoded.data,
        }
        if self.id is not None:
            message["id"] = self.id
        if self.kept is not None:
            position = self.kept.position
            message["history"] = [position.epoch, position.offset, self.kept.id, self.kept.key]
        if self.encoded.overflow != "close":
            message["overflow"] = self.encoded.overflow
            message["key"] = self.encoded.key
        return message


@dataclasses.dataclass(frozen=True, slots=True)
class CommandMessage:
    """
    A control command for the connections of an audience.

    Attributes:
        namespace: The namespace, or None for all namespaces.
        tenant: The tenant, None for the connections without one, or ALL_TENANTS.
        audience: The connections that carry out the command.
        name: The command's name, see wsrt.connection.commands.
        arguments: The command's arguments, as plain data.
        id: A random id, by which a node drops further copies.
    """

    namespace: str | None
    tenant: str | AllTenants | None
    audience: Audience
    name: str
    arguments: dict[str, Any]
    id: str

    def includes(self, realm: str) -> bool:
        """Return whether the command is for connections of a realm."""
        return includes(self.namespace, self.tenant, realm)

    def to_message(self) -> dict[str, Any]:
        """Return the message for the layer."""
        return {
            "type": "wsrt.command",
            "form": FORM,
            "namespace": self.namespace,
            "tenant": None if isinstance(self.tenant, AllTenants) else self.tenant,
            "all_tenants": isinstance(self.tenant, AllTenants),
            "audience": self.audience.to_message(),
            "name": self.name,
            "arguments": self.arguments,
            "id": self.id,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class PresenceMessage:
    """
    Changes to the members of a room, in the order of their versions.

    Attributes:
        realm: The realm of the room. Its key in messages is "namespace".
        audience: The room.
        changes: For each change: kind, user id, connections, data and version (see wsrt.presence.base.Change).
    """

    realm: str
    audience: Room
    changes: list[list[Any]]

    def to_message(self) -> dict[str, Any]:
        """Return the message for the layer."""
        return {
            "type": "wsrt.presence",
            "form": FORM,
            "namespace": self.realm,
            "room": self.audience.name,
            "changes": self.changes,
        }


def read(message: dict[str, Any]) -> PublishMessage | CommandMessage | PresenceMessage:
    """
    Parse a message of the layer.

    The type is looked up in a table. It never names a method, because anything can be sent through a layer.

    Raises:
        UnknownMessage: The message isn't one of wsrt's, or has a format that this version can't read.
    """
    kind, form = message.get("type"), message.get("form")
    if kind not in READERS:
        raise UnknownMessage(
            f"cannot read a message of type {kind!r}, which wsrt doesn't send: publish with wsrt's functions"
        )
    if form not in (FORM - 1, FORM, FORM + 1):
        raise UnknownMessage(
            f"cannot read a message of format {form!r}: this version of wsrt reads formats {FORM - 1} to {FORM + 1}"
        )
    try:
        return READERS[kind](message)
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownMessage(f"cannot read a message of type {kind!r}: {error!r}") from error


def _publication(message: dict[str, Any]) -> PublishMessage:
    encoded = Encoded(message["event"], message["data"], message.get("overflow", "close"), message.get("key"))
    kept = None
    if message.get("history") is not None:
        epoch, offset, kept_id, key = message["history"]
        kept = Kept(Position(epoch, offset), kept_id, key)
    publication = PublishMessage(
        message["namespace"], from_message(message["audience"]), encoded, message.get("id"), kept
    )
    # Built here, where a message of which no frame can be made is reported.
    _ = publication.frame
    return publication


def _command(message: dict[str, Any]) -> CommandMessage:
    return CommandMessage(
        message["namespace"],
        ALL_TENANTS if message.get("all_tenants") else message.get("tenant"),
        from_message(message["audience"]),
        message["name"],
        message["arguments"],
        message["id"],
    )


def _presence(message: dict[str, Any]) -> PresenceMessage:
    return PresenceMessage(message["namespace"], Room(message["room"]), message["changes"])


READERS: dict[Any, Callable[[dict[str, Any]], PublishMessage | CommandMessage | PresenceMessage]] = {
    "wsrt.publication": _publication,
    "wsrt.command": _command,
    "wsrt.presence": _presence,
}
"""The function that parses the messages of each type."""
