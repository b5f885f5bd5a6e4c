"""The part of a room's history that a node keeps in memory: its position, last publications and last values."""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Iterable, Sequence

from ..addresses import Room
from ..metrics import counters, quoted
from ..protocol.envelope import Encoded
from ..protocol.frame import Frame
from ..types import Position
from .base import MAX_SIZE, Entry

REPLAY_MESSAGES = 300
REPLAY_BYTES = 262_144
"""The maximum number of publications of a room that are sent again to a client, and their maximum size in bytes."""


VALUES = 1000
VALUES_BYTES = 1_048_576
"""The maximum number of values of a room, and their maximum size in bytes. Those that were set first are left out."""


ENDED = 4
"""The number of earlier epochs of which late copies of publications are recognised."""


@dataclasses.dataclass(frozen=True, slots=True)
class Logged:
    """
    A publication of the log.

    Attributes:
        offset: Its offset.
        id: Its random id.
        key: The key of a value; None otherwise.
        frame: Its frame.
    """

    offset: int
    id: str
    key: str | None
    frame: Frame


class Verdict(enum.Enum):
    """How a publication that arrives relates to a log."""

    NEXT = "it follows the last one"
    AHEAD = "publications before it are missing"
    DUPLICATE = "it is in the log"
    OLD = "it precedes the log, unless the store has lost its last writes"
    CONFLICT = "another one has its offset: the store has lost its last writes"
    UNKNOWN = "it belongs to another epoch"


class RoomLog:
    """
    The log of one room, which ends at the position up to which the node has delivered publications.

    Args:
        room: The name of the room.
        position: The position at which the log begins, without any publication.
        last: The id of the publication at this position. None if it isn't known.
        values_kept: The maximum number of values that the store keeps.

    Attributes:
        position: The position of the last publication.
        last: The id of this publication, even after it was deleted. It shows whether another publication has got the
            same offset, because the store has lost its last writes. None if it isn't known.
        start: The offset after which the log is complete.
        size: The bytes of its frames, except those of values.
        values: The last value of each key. None until they are loaded.
    """

    __slots__ = (
        "_ended",
        "_entries",
        "_ids",
        "_left_out",
        "_start_id",
        "_values_kept",
        "_values_size",
        "last",
        "position",
        "room",
        "size",
        "start",
        "values",
    )

    def __init__(self, room: str, position: Position, last: str | None = None, *, values_kept: int = MAX_SIZE) -> None:
        self.room = room
        self.position = position
        self.last = last
        self.start = position.offset
        # The id of the publication at the start, which isn't among the entries. None if it isn't known.
        self._start_id = last
        self.size = 0
        self.values: dict[str, Logged] | None = None
        self._values_kept = values_kept
        # The lowest offset that a value which was left out may have. None if none was.
        self._left_out: int | None = None
        # The bytes of their frames.
        self._values_size = 0
        self._entries: collections.deque[Logged] = collections.deque()
        self._ids: dict[int, str] = {}
        # The last offsets of the epochs before this one, the latest one last.
        self._ended: dict[str, int] = {}

    def judge(self, position: Position, id: str) -> Verdict:
        """Compare a publication with this position and id with the log."""
        if position.epoch != self.position.epoch:
            is_old = position.offset <= self._ended.get(position.epoch, -1)
            return Verdict.DUPLICATE if is_old else Verdict.UNKNOWN
        if position.offset > self.position.offset:
            return Verdict.NEXT if position.offset == self.position.offset + 1 else Verdict.AHEAD
        # A store that has lost its last writes gives their offsets to other publications.
        is_last = position.offset == self.position.offset and self.last is not None
        is_first = position.offset == self.start
        known = self.last if is_last else self._start_id if is_first else self._ids.get(position.offset)
        return Verdict.OLD if known is None else Verdict.DUPLICATE if known == id else Verdict.CONFLICT

    def logged(self, entry: Entry) -> Logged:
        """Return a publication that was read from the store, with its frame."""
        position = Position(self.position.epoch, entry.offset)
        frame = Encoded(entry.event, entry.data).frame(room=self.room, position=position)
        frame.audience = Room(self.room)
        return Logged(entry.offset, entry.id, entry.key, frame)

    def append(self, logged: Logged) -> None:
        """Add a publication after the last one. Offsets in between belong to values that were replaced later."""
        self.position = Position(self.position.epoch, logged.offset)
        self.last = logged.id
        self._entries.append(logged)
        self._ids[logged.offset] = logged.id
        self.size += logged.frame.size
        if logged.key is not None and self.values is not None:
            self._set_value(self.values, logged.key, logged)
        while len(self._entries) > REPLAY_MESSAGES or self.size > REPLAY_BYTES:
            self._drop_first()

    def skip_to(self, offset: int) -> None:
        """Move the position to an offset, up to which no further publication exists."""
        if offset > self.position.offset:
            self.position = Position(self.position.epoch, offset)
            self.last = None

    def prepend(self, entries: Sequence[Logged], start: int) -> None:
        """Add publications before the first one, so that the log is complete after the offset ``start``."""
        self.start = start
        self._start_id = None
        for logged in reversed(entries):
            self._entries.appendleft(logged)
            self._ids[logged.offset] = logged.id
            self.size += logged.frame.size

    def after(self, offset: int, until: int) -> list[Logged]:
        """Return the publications after one offset, up to another one. The log must be complete after the first."""
        return [logged for logged in self._entries if offset < logged.offset <= until]

    def add_values(self, values: Iterable[Logged], *, has_more: bool = False) -> None:
        """
        Add values that were read from the store, unless the log has a newer value of the same key.

        Args:
            values: The values.
            has_more: Whether the store has more of them.
        """
        found = {logged.key: logged for logged in values if logged.key is not None}
        for logged in self._entries:
            if logged.key is not None and (logged.key not in found or found[logged.key].offset < logged.offset):
                found[logged.key] = logged
        self.values, self._values_size = {}, 0
        self._left_out = None
        if has_more:
            self._leave_out(1)
        for logged in sorted(found.values(), key=_offset):
            self._set_value(self.values, logged.key or "", logged)

    def values_until(self, position: Position) -> list[Logged]:
        """Return the values up to a position, by offset; none if they weren't loaded or belong to another epoch."""
        if self.values is None or position.epoch != self.position.epoch:
            return []
        return [logged for logged in self.values.values() if logged.offset <= position.offset]

    def lacks_values(self, position: Position) -> bool:
        """Return whether values_until() may lack values that the store has, because there are too many."""
        is_known = self.values is not None and position.epoch == self.position.epoch
        return is_known and self._left_out is not None and self._left_out <= position.offset

    def restart(self, position: Position) -> None:
        """Start again at a position, because the history was lost or publications before it can't be read."""
        if position.epoch != self.position.epoch:
            self._ended.pop(position.epoch, None)
            self._ended[self.position.epoch] = self.position.offset
            if len(self._ended) > ENDED:
                del self._ended[next(iter(self._ended))]
        self.position = position
        self.last = None
        self.values = None
        self._left_out = None
        self.shrink()

    def shrink(self) -> None:
        """Drop the publications, but keep the position and the values."""
        self.start = self.position.offset
        self._start_id = self.last
        self.size = 0
        self._entries.clear()
        self._ids.clear()

    def forget(self, offsets: Sequence[int]) -> None:
        """Drop publications that were deleted from the history. The log stays complete."""
        gone = set(offsets)
        for offset in gone:
            self._ids.pop(offset, None)
        self._entries = collections.deque(logged for logged in self._entries if logged.offset not in gone)
        self.size = sum(logged.frame.size for logged in self._entries)
        if self.values is not None:
            self.values = {key: logged for key, logged in self.values.items() if logged.offset not in gone}
            self._values_size = sum(logged.frame.size for logged in self.values.values())

    def _set_value(self, values: dict[str, Logged], key: str, logged: Logged) -> None:
        """Set a value, and drop those that were set first if there are more than the store keeps or a client gets."""
        # Inserted again, so that the order stays that of the offsets.
        old = values.pop(key, None)
        values[key] = logged
        self._values_size += logged.frame.size - (0 if old is None else old.frame.size)
        most = min(VALUES, self._values_kept)
        while len(values) > most or (self._values_size > VALUES_BYTES and len(values) > 1):
            # The store deletes the same value if there are more than it keeps.
            is_left_out = len(values) <= self._values_kept
            first = values.pop(next(iter(values)))
            self._values_size -= first.frame.size
            if is_left_out:
                self._leave_out(first.offset)

    def _drop_first(self) -> None:
        first = self._entries.popleft()
        self._ids.pop(first.offset, None)
        self.start = first.offset
        self._start_id = first.id
        self.size -= first.frame.size

    def _leave_out(self, offset: int) -> None:
        """Note that clients that join the room don't get all of its values. Count and log it."""
        self._left_out = offset if self._left_out is None else min(offset, self._left_out)
        counters.count(
            "history_values_left_out",
            "the room %s has more last values than a client gets: left out those that were set first",
            quoted(self.room),
        )


def _offset(logged: Logged) -> int:
    return logged.offset
