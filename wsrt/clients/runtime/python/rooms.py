"""The rooms of a client: their positions and their members."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic_core import to_json

from .errors import InvalidFrame
from .frame import Frame, encode
from .position import Position, is_count, position_of

T = TypeVar("T")

MAX_CLAIMS = 1000
"""The maximum number of positions that ``wsrt.resume`` may have."""

MAX_PAYLOAD = 65_536
"""The largest ``wsrt.resume``, in bytes: the server's default limit."""

MAX_HELD = 1000
"""How many frames of a room may wait while missed events are fetched."""

FETCHABLE = ("too_many", "late")
"""The reasons for which the missed events may still be in the history."""


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
        recovered: Whether the server sends all missed events. None if the client didn't ask for them, or fetches
            them itself over HTTP.
        why: If ``recovered`` is False, the reason, as in Recovery.
        values_missing: Whether the room has more last values (``history="latest"``) than the server sends. Load them in
            another way.
    """

    kind: str
    room: str
    recovered: bool | None = None
    why: str | None = None
    values_missing: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Recovery:
    """
    Whether the client has received the events that it missed in a room.

    Attributes:
        room: The room's name.
        recovered: False: events are missing, so the application has to load the data of the room again.
        count: The number of missed events that were received.
        reason: Why events are missing: "epoch" (the history was lost or deleted, and has started again), "trimmed"
            (more events were published than it keeps), "expired" (the missed events are older than the time for which
            it keeps them), "too_many" (there are more missed events than the server sends over the WebSocket) or
            "late" (the client didn't send its position in the first frame). None if no events are missing.
    """

    room: str
    recovered: bool
    count: int = 0
    reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Forgotten:
    """
    An event that the server has deleted from the history of a room. Your application should stop showing it.

    Attributes:
        room: The room's name.
        epoch, offset: The position that the event was delivered with.
    """

    room: str
    epoch: str
    offset: int


@dataclasses.dataclass(slots=True)
class Fetch:
    """
    Missed events that are being fetched.

    Attributes:
        since, until: The positions between which they are.
        reason: Why the server doesn't send them.
        held: The frames of the room that wait for them.
        count: The number of events that have been fetched.
    """

    since: Position
    until: Position
    reason: str
    held: list[Frame] = dataclasses.field(default_factory=list)
    count: int = 0


@dataclasses.dataclass(slots=True)
class Replay:
    """
    What was announced by ``wsrt.joined`` and hasn't arrived yet.

    Attributes:
        end: The room's position afterwards. None if the server keeps no history.
        recovery: The result for handlers afterwards. None if there is none.
        values: The number of values that are still to come, before the missed publications.
        missed: The number of missed publications that are still to come.
        fetch: The missed events that are being fetched, if the server doesn't send them.
    """

    end: Position | None
    recovery: Recovery | None
    values: int
    missed: int
    fetch: Fetch | None = None


class Room:
    """
    A room that this client is in.

    Attributes:
        name: The room's name.
        joined: Whether the current connection is in the room.
        position: The position of the last received publication. None if the server keeps no history.
        recovering: Whether missed events are being received. Handlers of ``on_recovered`` are called afterwards.
        recovery: The result for the current connection. None if nothing was missed, or if it isn't known yet.
        values_missing: Whether the room has more last values (``history="latest"``) than the server has sent to the
            current connection.
        members: The members by user id. None if the server sends only a count, or hasn't sent any yet.
        count: The number of users plus connections of guests. None if it isn't known.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.joined = False
        self.position: Position | None = None
        self.recovering = False
        self.recovery: Recovery | None = None
        self.values_missing = False
        self.members: Mapping[str | None, Member[Any]] | None = None
        self.count: int | None = None

    def __repr__(self) -> str:
        return f"<Room {self.name!r} joined={self.joined} position={self.position}>"

    @property
    def epoch(self) -> str | None:
        """The epoch of the position. None if the server keeps no history."""
        return None if self.position is None else self.position.epoch

    @property
    def offset(self) -> int | None:
        """The offset of the position. None if the server keeps no history."""
        return None if self.position is None else self.position.offset

    def is_duplicate(self, position: Position) -> bool:
        """Return whether a publication has arrived already."""
        known = self.position
        return known is not None and known.epoch == position.epoch and position.offset <= known.offset

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
        self.joined = self.recovering = self.values_missing = False
        self.recovery = self.members = self.count = None


class Rooms(Mapping[str, Room]):
    """
    The rooms of a client, by name, in the order in which they were joined.

    Args:
        can_fetch: Whether missed events that the server doesn't send can be fetched.
    """

    def __init__(self, *, can_fetch: bool = False) -> None:
        self._can_fetch = can_fetch
        self._rooms: dict[str, Room] = {}
        self._replays: dict[str, Replay] = {}

    def __getitem__(self, name: str) -> Room:
        return self._rooms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rooms)

    def __len__(self) -> int:
        return len(self._rooms)

    # Positions.

    def claims(self, max_payload: int | None, is_wanted: Callable[[str], bool]) -> dict[str, Position]:
        """
        Return the positions by room, as ``wsrt.resume`` sends them.

        If not all of them fit, these are the ones of the rooms that are wanted and of those that were joined last.

        Args:
            max_payload: The size of the largest frame that the server accepts, in bytes. None if it isn't known.
            is_wanted: Returns whether the client has subscribed to a room.
        """
        claims: dict[str, Position] = {}
        left = min(max_payload or MAX_PAYLOAD, MAX_PAYLOAD) - len(encode("wsrt.resume"))
        # The sort is stable, so rooms that were joined last are the first ones of each kind.
        newest_first = list(reversed(self._rooms))
        for name in sorted(newest_first, key=lambda name: not is_wanted(name)):
            position = self._rooms[name].position
            if position is None:
                continue
            left -= len(to_json({name: position}))
            if left < 0 or len(claims) == MAX_CLAIMS:
                break
            claims[name] = position
        return claims

    def set_position(self, name: str, position: Position) -> None:
        """Set a position that the application knows."""
        room = self._rooms.setdefault(name, Room(name))
        # In a joined room, the later publications have arrived already.
        if not (room.joined and room.is_duplicate(position)):
            room.position = position

    def is_new(self, name: str, position: Position) -> bool:
        """Record the position of a publication. Return whether it is new rather than a duplicate."""
        room = self._rooms.get(name)
        if room is None:
            return True  # the room was left, so there is no position to keep
        replay = self._replays.get(name)
        if replay is not None and replay.fetch is None and replay.values > 0:
            # The last values of a room are older than its position, and sent to every connection that joins.
            replay.values -= 1
            return True
        is_new = not room.is_duplicate(position)
        if replay is not None:
            if is_new:
                replay.missed -= 1
            if replay.end is not None and _is_after(position, replay.end, or_at=True):
                replay.missed = 0  # the last one of the replay, although some were withheld, or were duplicates
            if is_new and replay.fetch is not None:
                replay.fetch.count += 1
        if not is_new:
            return False
        room.position = position
        return True

    # What was missed.

    def ended(self, name: str, following: Position | None = None) -> Recovery | None:
        """
        End the replay of a room if all of it has arrived. Return the result for handlers; None if there is none.

        Args:
            name: The room's name.
            following: The position of the next publication. One after the end of the replay ends it, too: the server
                may have withheld some.
        """
        replay = self._replays.get(name)
        if replay is None or replay.fetch is not None:
            return None
        end = replay.end
        is_beyond = following is not None and end is not None and _is_after(following, end)
        if is_beyond or (replay.values == 0 and replay.missed <= 0):
            return self._end(name, replay)
        recovery = replay.recovery
        if recovery is None or recovery.recovered:
            return None
        # Only values are to come: nothing has to wait for them.
        replay.recovery = None
        return recovery

    def fetch(self, name: str) -> Fetch | None:
        """Return the missed events of a room that are being fetched. None if none are."""
        replay = self._replays.get(name)
        return None if replay is None else replay.fetch

    def fetched(self, name: str, reason: str | None) -> Recovery | None:
        """
        End fetching missed events. Return the result for handlers.

        Args:
            name: The room's name.
            reason: Why events are missing. None if none are.
        """
        replay = self._replays[name]
        count = 0 if replay.fetch is None else replay.fetch.count
        replay.recovery = Recovery(name, reason is None, count, reason)
        return self._end(name, replay)

    def _end(self, name: str, replay: Replay) -> Recovery | None:
        del self._replays[name]
        room = self._rooms[name]
        recovery = replay.recovery
        keeps = replay.fetch is not None or (recovery is not None and recovery.recovered)
        room.position = _later(room.position if keeps else None, replay.end or room.position)
        room.recovering = False
        room.recovery = recovery or room.recovery
        return recovery

    # Frames.

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
            self._replays.pop(name, None)
            room = self._rooms.pop(name, None)
            return None if room is None else RoomChange("left", name)
        if frame.event == "wsrt.presence":
            room = self._rooms.get(name)
            return RoomChange("presence", name) if room is not None and room.apply_presence(data, read) else None
        return self._join(name, data)

    def connection_lost(self) -> None:
        """Mark all rooms as not joined, because the connection was lost. Keep their positions."""
        self._replays.clear()
        for room in self._rooms.values():
            room.connection_lost()

    def _join(self, name: str, data: Mapping[str, Any]) -> RoomChange:
        # Removed before, so that the rooms are in the order in which they were joined.
        room = self._rooms[name] = self._rooms.pop(name, Room(name))
        since, end = room.position, position_of(data)
        recovered = data["recovered"] if isinstance(data.get("recovered"), bool) else None
        why = data["reason"] if isinstance(data.get("reason"), str) else None
        if recovered is None and not room.joined and since is not None and end is not None:
            # The server was not asked for this position: it was set after the first frame, or there were too many. One
            # that is ahead of the room's may be of publications that the history has lost.
            recovered = since == end
            why = None if recovered else "late"
        count = data["count"] if recovered and is_count(data.get("count")) else 0
        recovery = None if recovered is None else Recovery(name, recovered, count, why)
        values = data["values"] if is_count(data.get("values")) else 0
        replay = self._replays[name] = Replay(end, recovery, values, count)
        if self._can_fetch and recovered is False and why in FETCHABLE and since is not None and end is not None:
            replay.fetch = Fetch(since, end, why) if since.epoch == end.epoch and since.offset <= end.offset else None
        room.joined = True
        room.values_missing = data.get("values_missing") is True
        room.recovering = count > 0 or replay.fetch is not None
        room.recovery = None if room.recovering else recovery
        # Until all of it has arrived the old position is kept, and claimed again if the connection is lost on the way.
        if not room.recovering and values == 0:
            room.position = _later(since if recovered else None, end or since)
        if replay.fetch is not None:
            recovered = why = None
        return RoomChange("joined", name, recovered, why, room.values_missing)


def _is_after(one: Position, other: Position, *, or_at: bool = False) -> bool:
    return one.epoch == other.epoch and one.offset + or_at > other.offset


def _later(one: Position | None, other: Position | None) -> Position | None:
    return one if one is not None and other is not None and _is_after(one, other) else other
