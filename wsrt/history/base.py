"""
The interface of history stores, and the records that they take and return.

A room with history has one sequence of publications. A publication's position in it is an epoch and an offset: the
offset is its number, and the epoch is an id that changes when the sequence is lost or starts again. The store
keeps two kinds of publications under the same offsets: entries, of which it keeps the last ones, and values, of which
it keeps the last one for each key.

A store doesn't send anything. The publisher appends to it, and sends the publication with its position through the
channel layer; nodes read what they have missed. One instance serves one event loop.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from ..realms import RoomId
from ..stores.options import DAY, require_none, require_number, require_seconds
from ..types import MAX_OFFSET as MAX_OFFSET
from ..types import Position

__all__ = [
    "MAX_OFFSET",
    "Append",
    "Appended",
    "Entry",
    "Gap",
    "HistoryFacts",
    "HistoryStore",
    "Last",
    "Reading",
]

YEAR = 366 * DAY
"""The longest time that publications may be kept, in seconds."""

MAX_SIZE = 100_000
"""The maximum number of entries that the history of a room may keep."""

Gap = Literal["epoch", "trimmed", "expired"]
"""
Why publications after a position can't all be read.

"epoch": the position belongs to another sequence, or is ahead of this one. "trimmed": the room had more publications
than its history keeps. "expired": they are older than the history keeps them.
"""


class Append(NamedTuple):
    """
    A publication to be kept.

    Attributes:
        room: The realm and the name of the room.
        id: The random id of the publication, by which nodes tell it from another one with the same offset.
        event: The event's name.
        data: The event's data, as JSON.
        key: For an event with ``history="latest"``, the key whose last value it replaces. None for one with
            ``history=True``.
        idempotency_key: If the room has a publication with this key already, that one's position is returned and
            nothing is kept. None for no key. Stores remember a key for ``idempotency`` seconds.
    """

    room: RoomId
    id: str
    event: str
    data: str
    key: str | None = None
    idempotency_key: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Appended:
    """
    The result of an Append.

    Attributes:
        position: The position of the publication.
        id: The id of the publication; for a repeated idempotency key that of the first publication.
        is_repeat: Whether the idempotency key was known, so that this call stored nothing.
    """

    position: Position
    id: str
    is_repeat: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """
    A publication that was kept.

    Attributes:
        offset: Its offset.
        id: Its random id.
        event: The event's name.
        data: The event's data, as JSON.
        key: For an event with ``history="latest"``, the key whose last value this is. None for one with
            ``history=True``.
        time: When it was kept, in seconds since 1970.
    """

    offset: int
    id: str
    event: str
    data: str
    key: str | None
    time: float

    @property
    def size(self) -> int:
        """Its bytes, as far as they count for limits: those of the event's name and data in UTF-8."""
        return size_of(self.event, self.data)


@dataclasses.dataclass(frozen=True, slots=True)
class Last:
    """
    The last publication of a room.

    Attributes:
        position: Its position. The offset is 0 if there was no publication in the epoch.
        id: The id of the publication, even if the publication isn't kept any more. None if there was no publication in
            the epoch, or if the store doesn't know the id.
    """

    position: Position
    id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """
    The publications after a position, as a call of read() or values() returns them.

    Their offsets needn't be consecutive. The offsets of last values that were replaced or that have exceeded their
    limits, and of publications that forget() has deleted, are missing. This isn't a gap.

    Attributes:
        position: The position of the room's last publication. Its offset is 0 if there was none in the epoch.
        start: The offset after which no entry is missing. Without a gap, it is the offset of the position that
            was passed to read(). With a gap, it is the lowest offset for which this is true.
        entries: The publications after ``start``, entries and values, in the order of their offsets.
        has_more: Whether a limit of the call has left out publications: read() leaves out the last ones, values() the
            first ones.
        gap: If entries are missing after the position that was passed to read(), the reason. None if none are.
    """

    position: Position
    start: int
    entries: list[Entry]
    has_more: bool = False
    gap: Gap | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryFacts:
    """
    The facts about the history of a room that operators see.

    Attributes:
        position: The position of its last publication.
        entries: The number of entries that are kept.
        values: The number of values that are kept.
        size: The bytes of both, as Entry.size counts them.
        oldest: When the oldest of them was kept, in seconds since 1970. None if there are none.
    """

    position: Position
    entries: int
    values: int
    size: int
    oldest: float | None


class HistoryStore(abc.ABC):
    """
    The base class of history stores.

    All methods raise StoreUnavailable if the store doesn't answer. After append() has raised it, the publications may
    or may not have been kept; an idempotency key makes it safe to repeat the call.

    The epoch of a room is created when the room is first used, even by a read, and is never empty. It changes when the
    store has lost what it knew about the room, and by purge() and renew().

    Args:
        location: Where the data is. Its meaning depends on the store.
        size: The number of entries that a room keeps. The store may keep some more, and deletes the oldest ones first.
        seconds: How long entries are kept.
        values: The maximum number of last values (``history="latest"``) that a room keeps. Beyond it, the oldest one is
            deleted.
        value_seconds: How long values are kept, and how long a room without publications keeps its epoch. Not shorter
            than ``seconds``. A day by default, or ``seconds`` if that is longer.
        idempotency: How long idempotency keys are remembered, in seconds.
        options: The options of the store.

    Raises:
        ValueError: An option isn't valid.
    """

    is_shared: ClassVar[bool] = True
    """Whether the store is the same for all processes."""

    def __init__(
        self,
        location: str | None = None,
        *,
        size: int = 100,
        seconds: float = 300.0,
        values: int = 1000,
        value_seconds: float | None = None,
        idempotency: float = 300.0,
        **options: Any,
    ) -> None:
        require_number("HISTORY_SIZE", size, f"an integer from 1 to {MAX_SIZE}", least=1, most=MAX_SIZE, whole=True)
        require_number(
            "HISTORY_SECONDS", seconds, "a number of seconds, at most those of a year", least=0.001, most=YEAR
        )
        if value_seconds is None:
            value_seconds = max(DAY, seconds)
        require_number("VALUES", values, f"an integer from 1 to {MAX_SIZE}", least=1, most=MAX_SIZE, whole=True)
        require_number(
            "VALUE_SECONDS",
            value_seconds,
            "a number of seconds, at least HISTORY_SECONDS",
            least=seconds,
            most=YEAR,
        )
        require_seconds("IDEMPOTENCY", idempotency)
        require_none(self, options, hidden=("size", "seconds"))
        self.location = location
        self.size = size
        self.seconds = seconds
        self.values_kept = values
        self.value_seconds = value_seconds
        self.idempotency = idempotency

    @abc.abstractmethod
    async def append(self, publications: Sequence[Append]) -> list[Appended]:
        """
        Keep publications, and return their positions, in the same order.

        Publications to one room get ascending offsets in the order of the list. If this raises, some of them may have
        been kept.
        """

    async def append_parts(self, parts: Sequence[Sequence[Append]], on_kept: Callable[[list[Appended]], None]) -> None:
        """
        Keep publications part by part. Those to one room get ascending offsets across the parts, too.

        A store may override it to work on the next parts before it has called ``on_kept`` for one.

        Args:
            parts: The publications.
            on_kept: Called with the results of each part, as append() returns them, in order.
        """
        for part in parts:
            on_kept(await self.append(part))

    @abc.abstractmethod
    async def positions(self, rooms: Sequence[RoomId]) -> list[Last]:
        """Return the positions and ids of the last publications of rooms, in the same order."""

    @abc.abstractmethod
    async def read(self, room: RoomId, after: Position, *, limit: int, max_bytes: int) -> Reading:
        """
        Return the entries and values after a position.

        If the position has another epoch than the room, or a higher offset than the room's last publication, the gap is
        "epoch", and the Reading has everything that the store keeps of the room, up to the limits.

        Args:
            room: The realm and the name of the room.
            after: The position. Its offset is from 0 to MAX_OFFSET.
            limit: The maximum number of publications to return. At least 1.
            max_bytes: The maximum sum of their sizes, see Entry.size. A single publication may be larger.
        """

    @abc.abstractmethod
    async def values(self, room: RoomId, *, limit: int, max_bytes: int) -> Reading:
        """
        Return the last value of each key, in ascending order of their offsets.

        If a limit leaves some out, these are the oldest ones. The ``gap`` of the result is always None.
        """

    @abc.abstractmethod
    async def forget(self, room: RoomId, *, offset: int | None = None, key: str | None = None) -> list[int]:
        """
        Delete one publication, by its offset or by the key of a last value.

        Its offset is then missing in what read() returns, which isn't a gap (``Reading.gap``).

        Returns:
            The offset that was deleted, in a list. An empty list if there was no such publication.
        """

    @abc.abstractmethod
    async def purge(self, room: RoomId) -> Position:
        """Delete everything that the history of a room keeps. Return the room's position in a new epoch: offset 0."""

    @abc.abstractmethod
    async def renew(self, room: RoomId, epoch: str) -> Position:
        """
        Start a new epoch, if the room still has the given one, and delete what is kept.

        A node calls it when the store has lost publications that clients have received, whose offsets would
        otherwise be given out again.

        Returns:
            The position of the room, no matter whether this call or an earlier one has changed it.
        """

    @abc.abstractmethod
    async def facts(self, rooms: Sequence[RoomId]) -> list[HistoryFacts]:
        """Return the facts about each of these rooms that the admin shows, in the same order."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close connections. The next call opens them again."""


def size_of(event: str, data: str) -> int:
    """Return the bytes of a publication, as limits count them."""
    return bytes_of(event) + bytes_of(data)


def bytes_of(text: str) -> int:
    """Return the bytes of a string in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
