"""The rooms of a client: their positions and their members."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from .errors import InvalidFrame
from .frame import Frame

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Member(Generic[T]):
    """
    A user in a room.

    Attributes:
        user_id: The user's id. None stands for all users who aren't signed in.
        connections: The number of the user's connections, such as devices and tabs.
        data: The data that the application shows for the user.
    """

    user_id: str | None
    connections: int
    data: T


@dataclasses.dataclass(frozen=True, slots=True)
class RoomChange:
    """
    A change of a room.

    Attributes:
        kind: "joined", "left" or "presence".
        room: The room's name.
        recovered: Whether the server replays all missed events. False: load them by other means. None: the client
            didn't ask for a replay.
        why: Why missed events can't be replayed.
    """

    kind: str
    room: str
    recovered: bool | None = None
    why: str | None = None


class Room:
    """
    A room that this client is in.

    Attributes:
        name: The room's name.
        joined: Whether the current connection is in the room.
        epoch, offset: The position of the last received publication. None if the server keeps no history.
        members: The members by user id. None if the server sends only a count, or hasn't sent any yet.
        count: The number of users plus connections of guests. None if it isn't known.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.joined = False
        self.epoch: str | None = None
        self.offset: int | None = None
        self.members: Mapping[str | None, Member[Any]] | None = None
        self.count: int | None = None

    def __repr__(self) -> str:
        return f"<Room {self.name!r} joined={self.joined} epoch={self.epoch!r} offset={self.offset}>"

    @property
    def position(self) -> tuple[str, int] | None:
        """The epoch and offset of the last publication. None if the server keeps no history."""
        return None if self.epoch is None or self.offset is None else (self.epoch, self.offset)

    def advance(self, epoch: str, offset: int) -> bool:
        """Record the position of a publication. Return whether it is new."""
        if self.epoch == epoch and self.offset is not None and offset <= self.offset:
            return False
        self.epoch, self.offset = epoch, offset
        return True

    def apply_presence(self, data: Mapping[str, Any], read: Callable[[Any], Member[Any]]) -> bool:
        """Apply the data of a ``wsrt.presence`` event. Return whether anything changed."""
        if "count" in data:
            self.members, self.count = None, int(data["count"])
            return True
        if "members" in data:
            members = {}
            listed = data["members"]
        elif self.members is None:
            return False  # a difference, but the snapshot that it is based on hasn't arrived
        else:
            members = dict(self.members)
            for gone in data.get("left", ()):
                members.pop(gone["user_id"], None)
            listed = (*data.get("joined", ()), *data.get("changed", ()))
        for member in map(read, listed):
            members[member.user_id] = member
        self.members = members
        # A user counts once. Connections of guests count one each, because guests can't be distinguished.
        self.count = sum(member.connections if member.user_id is None else 1 for member in members.values())
        return True

    def connection_lost(self) -> None:
        """Forget the members, because the connection was lost. Keep the position."""
        self.joined = False
        self.members = self.count = None


class Rooms(Mapping[str, Room]):
    """The rooms of a client, by name."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def __getitem__(self, name: str) -> Room:
        return self._rooms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rooms)

    def __len__(self) -> int:
        return len(self._rooms)

    def positions(self) -> dict[str, tuple[str, int]]:
        """Return the positions by room, as ``wsrt.resume`` sends them."""
        return {name: room.position for name, room in self._rooms.items() if room.position is not None}

    def is_new(self, frame: Frame) -> bool:
        """Record the position of a publication. Return whether it is new rather than a duplicate."""
        if frame.room is None or frame.epoch is None or frame.offset is None:
            return True
        return self._rooms.setdefault(frame.room, Room(frame.room)).advance(frame.epoch, frame.offset)

    def apply(self, frame: Frame, read: Callable[[Any], Member[Any]]) -> RoomChange | None:
        """
        Apply a frame ``wsrt.joined``, ``wsrt.left`` or ``wsrt.presence``. Return the change; None if nothing changed.

        Args:
            frame: The frame.
            read: Converts a member from its JSON value.

        Raises:
            InvalidFrame: The frame doesn't name a room.
        """
        data = frame.data
        name = data.get("room") if isinstance(data, dict) else None
        if not isinstance(name, str):
            raise InvalidFrame(f"the server sent {frame.event} without a room")
        if frame.event == "wsrt.left":
            room = self._rooms.pop(name, None)
            return None if room is None else RoomChange("left", name)
        if frame.event == "wsrt.presence":
            room = self._rooms.get(name)
            return RoomChange("presence", name) if room is not None and room.apply_presence(data, read) else None
        return self._join(name, data)

    def connection_lost(self) -> None:
        """Mark all rooms as not joined, because the connection was lost. Keep their positions."""
        for room in self._rooms.values():
            room.connection_lost()

    def _join(self, name: str, data: Mapping[str, Any]) -> RoomChange:
        room = self._rooms.setdefault(name, Room(name))
        room.joined = True
        recovered = data.get("recovered")
        epoch, offset = data.get("epoch"), data.get("offset")
        # The server replays the missed publications, and each of them advances the position.
        if recovered is not True or room.position is None:
            room.epoch = epoch if isinstance(epoch, str) else None
            room.offset = offset if isinstance(offset, int) else None
        why = data.get("reason")
        return RoomChange(
            "joined", name, recovered if isinstance(recovered, bool) else None, why if isinstance(why, str) else None
        )
