"""
Adding entries to the stream of a room directly, by XADD.

A script costs Redis several times as much. Since Redis 7, XADD gives an entry the next number behind a fixed prefix
(``epoch-*``), which is the next offset. So a publisher that knows the epoch of a room needs no script. The scripts find
such entries when they open the room.

A publisher adds entries directly only to a stream that exists (NOMKSTREAM). A script that begins a sequence deletes the
stream of the one before. So after a purge, or if Redis has lost the stream, XADD adds nothing, and the publisher calls
the script.

A script allows it for a short time. After it, a publisher that added entries lets a script open the room once more:
only then do all of them expire by themselves.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from ...realms import RoomId
from ...types import Position
from ..base import Append, Appended, Last, bytes_of
from .keys import Keys

FREQUENT = 8
"""How often a publisher calls the script for a room, with short breaks, before it adds entries directly."""

RUN = 96
"""The number of entries after which a script has to open the room, because it removes those that are too many."""

AT_ONCE = 8
"""How many entries one publisher adds to one room at the same time."""

LEAST = 256
"""The offset from which on entries are added directly: see Adding."""

SECONDS = 60.0
"""The longest time for which entries are added directly after a call of the script."""

TRIPS = 2
"""The round trips by which the two clocks may differ: that of the script, and that of the last XADD after it."""

ROOMS = 10_000
"""The maximum number of rooms that a publisher remembers. Beyond it, it forgets the room that it used longest ago."""

NEWER = "The ID specified in XADD is equal or smaller"
"""How Redis refuses an entry of an epoch that is older than the stream's."""

UNSUPPORTED = "Invalid stream ID"
"""How Redis refuses ``epoch-*`` before version 7."""


def seconds_awake_or_not() -> float:
    """Return a clock in seconds that also counts the time for which the machine was suspended, if there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclasses.dataclass(slots=True, eq=False)
class Known:
    """
    What a publisher knows of a room.

    Attributes:
        at: When this publisher last called the script, before it sent the command, by its own clock, in seconds.
        epoch: The epoch.
        opened: The last offset at that time.
        last: The last offset of which this publisher knows.
        redis_time: When Redis has executed it, by its own clock, in milliseconds since 1970.
        is_direct: Whether entries may be added directly.
        calls: How often this publisher has called the script, with short breaks.
        adding: The number of entries that are being added.
        stream: The key of the stream, once it is needed.
    """

    at: float
    epoch: str = ""
    opened: int = 0
    last: int = 0
    redis_time: int = 0
    is_direct: bool = False
    calls: int = 0
    adding: int = 0
    stream: str = ""


class DirectAppends:
    """
    The rooms to which one publisher may add entries directly.

    Args:
        keys: The keys of the store.
        seconds: How long entries are kept.
        room_seconds: How long a room is kept that isn't used.
        timeout: How long a round trip to Redis may take.

    Attributes:
        allowed_seconds: For how long entries are added directly after a call of the script. Redis doesn't notice
            meanwhile that the room is used, and their times rely on the clock of this process.
        closed_seconds: When none of them can arrive any more.
    """

    def __init__(self, keys: Keys, seconds: float, room_seconds: float, timeout: float) -> None:
        self._keys = keys
        self.allowed_seconds = min(SECONDS, seconds / 2, room_seconds / 4)
        self.closed_seconds = self.allowed_seconds + TRIPS * timeout
        # Rooms to which nothing may be added directly, by the time of the last call of the script. The others are in
        # `_open`: all of them have to be opened again.
        self._closed: collections.OrderedDict[RoomId, Known] = collections.OrderedDict()
        self._open: dict[RoomId, Known] = {}
        self._is_supported = True
        self.clock: Callable[[], float] = seconds_awake_or_not

    @property
    def has_open_rooms(self) -> bool:
        """Whether due_rooms() will return rooms at some time."""
        return bool(self._open)

    def ask(self, room: RoomId) -> bool:
        """
        Return whether the script should allow entries to be added directly to a room.

        The room is open from now on, even if the answer is lost.
        """
        if not self._is_supported:
            return False
        if room in self._open:
            return True
        known = self._closed.get(room)
        if known is None or known.calls < FREQUENT - 1 or known.last < LEAST or len(self._open) >= ROOMS:
            return False
        self._open[room] = self._closed.pop(room)
        known.at, known.is_direct = self.clock(), False
        return True

    def note(self, room: RoomId, position: Position, redis_time: int, *, sent: float, is_direct: bool) -> None:
        """
        Note that the script has appended to a room.

        Args:
            room: The room.
            position: The position after it.
            redis_time: When it did, in milliseconds since 1970.
            sent: The time before it was called, by the clock of this object. The answer may arrive much later.
            is_direct: Whether entries may be added directly now.
        """
        known = self._open.get(room) or self._closed.pop(room, None)
        if known is None:
            known = Known(at=sent)
        known.calls = known.calls + 1 if sent - known.at < self.allowed_seconds else 1
        known.epoch, known.opened, known.last = position.epoch, position.offset, position.offset
        known.at, known.redis_time, known.is_direct = sent, redis_time, is_direct
        if is_direct:
            self._open[room] = known
        elif room not in self._open:
            self._closed[room] = known
            if len(self._closed) > ROOMS:
                self._closed.popitem(last=False)

    def adding(self, publications: Sequence[Append]) -> Adding | None:
        """
        Prepare to add publications directly. Return None if the script has to be called.

        Of two publications to one room, the first one might fail, and the second one succeed. So the script keeps them.
        """
        now = self.clock()
        knowns: dict[RoomId, Known] = {}
        for publication in publications:
            known = self._open.get(publication.room)
            if known is None or publication.key is not None or publication.idempotency_key is not None:
                return None
            if publication.room in knowns or not self._allows(known, now):
                return None
            knowns[publication.room] = known
        return Adding(publications, list(knowns.values()), now, self._keys) if knowns else None

    def _allows(self, known: Known, now: float) -> bool:
        return (
            known.is_direct
            and known.last >= LEAST
            and known.adding < AT_ONCE
            and known.last - known.opened < RUN
            and now - known.at <= self.allowed_seconds
        )

    def is_refusal(self, error: ResponseError) -> bool:
        """Return whether Redis refuses an entry for a reason for which the script adds it."""
        if str(error).startswith(UNSUPPORTED):
            self._is_supported = False
        return str(error).startswith((NEWER, UNSUPPORTED))

    def due_rooms(self) -> list[RoomId]:
        """
        Return rooms that a script has to open, because this publisher has added the last entries to them directly.

        They are returned again until close() is called for them.
        """
        now = self.clock()
        return [room for room, known in self._open.items() if self._is_due(known, now)]

    def close(self, room: RoomId) -> None:
        """Note that a script has opened a room, and that nothing can be added to it directly any more."""
        known = self._open.get(room)
        # Unless the script has allowed it again meanwhile.
        if known is not None and self._is_due(known, self.clock()):
            del self._open[room]

    def _is_due(self, known: Known, now: float) -> bool:
        return now - known.at > self.closed_seconds


class Adding:
    """
    Entries that are added directly, at most one to each room.

    After a failover to an epoch before the one that the publisher knows, XADD adds entries of the later epoch behind
    those of the earlier one, and numbers them from 0. The next script notices it, and begins a new sequence without
    them. So an offset that isn't above the known ones has to be checked. As publishers add entries directly from LEAST
    on, it would take as many entries at the same time to get beyond the known ones.

    Args:
        publications: The entries.
        knowns: What is known of their rooms.
        now: The time by the clock of DirectAppends.
        keys: The keys of the store.

    Attributes:
        commands: The commands that add them.
    """

    def __init__(self, publications: Sequence[Append], knowns: Sequence[Known], now: float, keys: Keys) -> None:
        self._publications = publications
        self._knowns = knowns
        self._lasts = [known.last for known in knowns]
        self.commands: list[tuple[Any, ...]] = []
        for publication, known in zip(publications, knowns, strict=True):
            packed = _packed(publication, known.redis_time + round(1000 * (now - known.at)))
            known.stream = known.stream or keys.room(publication.room).entries
            self.commands.append(("XADD", known.stream, "NOMKSTREAM", f"{known.epoch}-*", "p", packed))
        for known in knowns:
            known.adding += 1

    def results(self, answers: Sequence[Any]) -> list[Appended | None]:
        """
        Return the results of the entries, from the answers to the commands.

        None for one that Redis has refused: the script has to append it.
        """
        return [
            Appended(_position(answer), publication.id) if isinstance(answer, str) else None
            for publication, answer in zip(self._publications, answers, strict=True)
        ]

    def doubtful(self, results: Sequence[Appended | None]) -> list[int]:
        """Return the numbers of the entries whose positions have to be checked."""
        return [
            number
            for number, result in enumerate(results)
            if result is not None and result.position.offset <= self._lasts[number]
        ]

    def end(self, results: Sequence[Appended | None] | None) -> None:
        """Learn from the results. None if the commands have failed, or may not have been executed."""
        for number, known in enumerate(self._knowns):
            known.adding -= 1
            result = None if results is None else results[number]
            if result is not None and result.position.epoch == known.epoch and result.position.offset > known.last:
                known.last = result.position.offset
            elif result is None or result.position.offset <= self._lasts[number]:
                # The script has to look first.
                known.is_direct = False


def is_confirmed(result: Appended, last: Last) -> bool:
    """Return whether a doubtful entry is in the sequence that a script has found."""
    return result.position.epoch == last.position.epoch and 0 < result.position.offset <= last.position.offset


def _position(stream_id: str) -> Position:
    epoch, offset = stream_id.split("-")
    return Position(epoch, int(offset))


def _packed(publication: Append, time_added: int) -> str:
    """Return a publication as lua/room.lua describes it."""
    id_bytes, event_bytes = bytes_of(publication.id), bytes_of(publication.event)
    return f"{time_added}:{id_bytes}:{event_bytes}:{publication.id}{publication.event}{publication.data}"
