"""What travels between nodes: publications, commands and changes of presence, as plain data for the channel layer."""

from __future__ import annotations

import dataclasses
from typing import Any

from .addresses import Audience, Room, from_wire
from .protocol.envelope import Frame

__all__ = ["CommandMessage", "PresenceMessage", "PublishMessage", "read"]


@dataclasses.dataclass(frozen=True, slots=True)
class PublishMessage:
    """
    One frame for one audience.

    Attributes:
        id: set where several groups carry it, so that a node drops further copies.
    """

    namespace: str
    audience: Audience
    frame: Frame
    id: str | None = None

    def to_message(self) -> dict[str, Any]:
        """Return what goes through the layer."""
        message: dict[str, Any] = {
            "type": "wsrt.publication",
            "namespace": self.namespace,
            "audience": self.audience.to_wire(),
            "frame": self.frame.text,
        }
        if self.id is not None:
            message["id"] = self.id
        if self.frame.overflow != "close":
            message["overflow"] = self.frame.overflow
            message["key"] = self.frame.key
        return message


@dataclasses.dataclass(frozen=True, slots=True)
class CommandMessage:
    """A control command for the connections of an audience; namespace None means all."""

    namespace: str | None
    audience: Audience
    name: str
    arguments: dict[str, Any]
    id: str

    def to_message(self) -> dict[str, Any]:
        """Return what goes through the layer."""
        return {
            "type": "wsrt.command",
            "namespace": self.namespace,
            "audience": self.audience.to_wire(),
            "name": self.name,
            "arguments": self.arguments,
            "id": self.id,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class PresenceMessage:
    """
    Changes of who is in a room, in the order of their versions.

    Attributes:
        changes: of each: kind, user id, connections, data, version (see wsrt.presence.store.Change).
    """

    namespace: str
    audience: Room
    changes: list[list[Any]]

    def to_message(self) -> dict[str, Any]:
        """Return what goes through the layer."""
        return {
            "type": "wsrt.presence",
            "namespace": self.namespace,
            "room": self.audience.name,
            "changes": self.changes,
        }


def read(message: dict[str, Any]) -> PublishMessage | CommandMessage | PresenceMessage:
    """
    Return what a message of the layer says. Its type is looked up here, never a method by its name.

    Raises:
        ValueError, KeyError: it is none of ours, or of a newer version.
    """
    match message.get("type"):
        case "wsrt.publication":
            audience = from_wire(message["audience"])
            room = audience.name if isinstance(audience, Room) else None
            frame = Frame(message["frame"], message.get("overflow", "close"), message.get("key"), room)
            return PublishMessage(message["namespace"], audience, frame, message.get("id"))
        case "wsrt.command":
            return CommandMessage(
                message["namespace"],
                from_wire(message["audience"]),
                message["name"],
                message["arguments"],
                message["id"],
            )
        case "wsrt.presence":
            return PresenceMessage(message["namespace"], Room(message["room"]), message["changes"])
    raise ValueError(f"a message of the unknown type {message.get('type')!r}; publish through wsrt")
