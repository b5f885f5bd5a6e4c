"""Rooms: where the connection is, how far it has read, and who else is there."""

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
        user_id: None for all who are not signed in, together.
        connections: how many devices and tabs.
        data: what the application shows of them.
    """

    user_id: str | None
    connections: int
    data: T


@dataclasses.dataclass(frozen=True, slots=True)
class RoomChange:
    """
    Something happened to a room.

    Attributes:
        kind: "joined", "left" or "presence".
        room: its name.
        recovered: after a claim, whether all that was missed follows. False: fetch it by other means. None: no claim.
        why: why it was not recovered.
    """

    kind: str
    room: str
    recovered: bool | None = None
    why: str | None = None


class Room:
    """
    A room that the server has put this client into.

    Attributes:
        name: its name.
        joined: whether the current connection is in it.
        epoch, offset: the last publication that was received, where history is kept.
        members: by user; None where the server shows a count only, or nothing yet.
        count: how many users, and connections of guests, are there, as far as is known.
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
        """Epoch and offset of the last publication; None where no history is kept."""
        return None if self.epoch is None or self.offset is None else (self.epoch, self.offset)

    def advance(self, epoch: str, offset: int) -> bool:
        """Note a publication; return whether it is new."""
        if self.epoch == epoch and self.offset is not None and offset <= self.offset:
            return False
        self.epoch, self.offset = epoch, offset
        return True

    def apply_presence(self, data: Mapping[str, Any], read: Callable[[Any], Member[Any]]) -> bool:
        """Take in the data of a ``wsrt.presence``; return whether it told anything new."""
        if "count" in data:
            self.members, self.count = None, int(data["count"])
            return True
        if "members" in data:
            members = {}
            listed = data["members"]
        elif self.members is None:
            return False  # a difference to what was never shown
        else:
            members = dict(self.members)
            for gone in data.get("left", ()):
                members.pop(gone["user_id"], None)
            listed = (*data.get("joined", ()), *data.get("changed", ()))
        for member in map(read, listed):
            members[member.user_id] = member
        self.members = members
        # A user counts once; who stands behind the connections of guests nobody knows.
        self.count = sum(member.connections if member.user_id is None else 1 for member in members.values())
        return True

    def connection_lost(self) -> None:
        """The connection is gone: who is there is not known any more. The position stays."""
        self.joined = False
        self.members = self.count = None


class Rooms(Mapping[str, Room]):
    """Rooms by name."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def __getitem__(self, name: str) -> Room:
        return self._rooms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rooms)

    def __len__(self) -> int:
        return len(self._rooms)

    def positions(self) -> dict[str, tuple[str, int]]:
        """Return what ``wsrt.resume`` claims."""
        return {name: room.position for name, room in self._rooms.items() if room.position is not None}

    def is_new(self, frame: Frame) -> bool:
        """Note the place of a publication; return whether it is no duplicate."""
        if frame.room is None or frame.epoch is None or frame.offset is None:
            return True
        return self._rooms.setdefault(frame.room, Room(frame.room)).advance(frame.epoch, frame.offset)

    def apply(self, frame: Frame, read: Callable[[Any], Member[Any]]) -> RoomChange | None:
        """
        Take in ``wsrt.joined``, ``wsrt.left`` or ``wsrt.presence``.

        Raises:
            InvalidFrame: it is not what it should be.
        """
        data = frame.data
        name = data.get("room") if isinstance(data, dict) else None
        if not isinstance(name, str):
            raise InvalidFrame(f"{frame.event} without a room")
        if frame.event == "wsrt.left":
            room = self._rooms.pop(name, None)
            return None if room is None else RoomChange("left", name)
        if frame.event == "wsrt.presence":
            room = self._rooms.get(name)
            return RoomChange("presence", name) if room is not None and room.apply_presence(data, read) else None
        return self._join(name, data)

    def connection_lost(self) -> None:
        """The connection is gone; positions stay."""
        for room in self._rooms.values():
            room.connection_lost()

    def _join(self, name: str, data: Mapping[str, Any]) -> RoomChange:
        room = self._rooms.setdefault(name, Room(name))
        room.joined = True
        recovered = data.get("recovered")
        epoch, offset = data.get("epoch"), data.get("offset")
        # What was recovered follows, and moves the position itself.
        if recovered is not True or room.position is None:
            room.epoch = epoch if isinstance(epoch, str) else None
            room.offset = offset if isinstance(offset, int) else None
        why = data.get("reason")
        return RoomChange(
            "joined", name, recovered if isinstance(recovered, bool) else None, why if isinstance(why, str) else None
        )
