"""
Adding entries to the stream of a room directly, by XADD.

A script costs Redis several times as much. Since Redis 7, XADD gives an entry the next number behind a fixed prefix
(``epoch-*``), which is the next offset. So a publisher that knows the epoch of a room needs no script. The scripts find
such entries when they open the room.

A publisher adds entries directly only to a stream that exists (NOMKSTREAM). A script that begins a sequence deletes the
stream of the one before. So after a purge, or if Redis has lost the stream, XADD adds nothing, and the publisher calls
the script.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from ...realms import RoomId
from ...types import Position
from ..base import Append, Appended, bytes_of
from .keys import Keys

FREQUENT = 8
"""How often a publisher calls the script for a room, with short breaks, before it adds entries directly."""

RUN = 64
"""The number of entries after which a script has to open the room, because it removes those that are too many."""

SECONDS = 60.0
"""
For how many seconds entries are added directly after a call of the script, at most.

Their times rely on the clock of this process meanwhile, and Redis doesn't notice that the room is used. So it is at
most a quarter of the time for which Redis keeps an unused room.
"""

ROOMS = 10_000
"""The maximum number of rooms that a publisher remembers. Beyond it, it forgets the room that it used longest ago."""

LOOK = 10.0
"""The number of seconds between two looks for idle rooms."""

MOST_IDLE = 100
"""The maximum number of idle rooms that are found at a time."""

NEWER = "The ID specified in XADD is equal or smaller"
"""How Redis refuses an entry of an epoch that is older than the stream's."""

UNSUPPORTED = "Invalid stream ID"
"""How Redis refuses ``epoch-*`` before version 7."""


@dataclasses.dataclass(slots=True)
class Known:
    """
    What a publisher knows of a room.

    Attributes:
        epoch: The epoch.
        opened: The last offset when a script opened the room.
        last: The last offset now, as far as this publisher can tell.
        at: When a script opened the room, by the clock of this process, in seconds.
        redis_time: The same by the clock of Redis, in milliseconds since 1970.
        is_direct: Whether entries may be added directly.
        calls: How often this publisher has called the script, with short breaks.
    """

    epoch: str
    opened: int
    last: int
    at: float
    redis_time: int
    is_direct: bool
    calls: int


class DirectAppends:
    """
    The rooms to which one publisher may add entries directly.

    Args:
        keys: The keys of the store.
        seconds: How long entries are kept.
        room_seconds: How long a room is kept that isn't used.
    """

    def __init__(self, keys: Keys, seconds: float, room_seconds: float) -> None:
        self._keys = keys
        self._seconds = min(SECONDS, room_seconds / 4)
        self._idle_after = self._seconds + seconds
        self._next_look = 0.0
        self._rooms: collections.OrderedDict[RoomId, Known] = collections.OrderedDict()
        self._is_supported = True
        self.clock = time.monotonic

    def wants(self, room: RoomId) -> bool:
        """Return whether the script should allow entries to be added directly to a room."""
        known = self._rooms.get(room)
        return known is not None and known.calls >= FREQUENT - 1 and self._is_supported

    def note(self, room: RoomId, position: Position, redis_time: int, *, is_direct: bool) -> None:
        """
        Note that a script has opened a room.

        Args:
            room: The room.
            position: Its position after the script.
            redis_time: When it did, in milliseconds since 1970.
            is_direct: Whether entries may be added directly.
        """
        now, before = self.clock(), self._rooms.get(room)
        calls = before.calls + 1 if before is not None and now - before.at < self._seconds else 1
        self._rooms[room] = Known(
            position.epoch, position.offset, position.offset, now, redis_time, is_direct and self._is_supported, calls
        )
        self._rooms.move_to_end(room)
        if len(self._rooms) > ROOMS:
            self._rooms.popitem(last=False)

    def idle(self) -> list[RoomId]:
        """
        Return rooms whose last entries were added directly, and have expired since. A script has to remove them.

        It returns each of them once, and some of them every LOOK seconds.
        """
        now = self.clock()
        idle: list[RoomId] = []
        if now < self._next_look:
            return idle
        self._next_look = now + LOOK
        while self._rooms and len(idle) < MOST_IDLE:
            room, known = next(iter(self._rooms.items()))
            if now - known.at < self._idle_after:
                break
            del self._rooms[room]
            if known.last > known.opened:
                idle.append(room)
        return idle

    def commands(self, publications: Sequence[Append]) -> list[tuple[Any, ...]] | None:
        """
        Return the commands that add publications, or None if the script has to be called.

        Of two publications to one room, the first one might fail, and the second one succeed. So the script keeps them.
        """
        now = self.clock()
        knowns: dict[RoomId, Known] = {}
        for publication in publications:
            room = publication.room
            known = self._rooms.get(room)
            if (
                known is None
                or not known.is_direct
                or known.last - known.opened >= RUN
                or now - known.at > self._seconds
            ):
                return None
            if room in knowns or publication.key is not None or publication.idempotency_key is not None:
                return None
            knowns[room] = known
        commands = []
        for publication, known in zip(publications, knowns.values(), strict=True):
            # Corrected by the answer. Until then, it counts for other calls.
            known.last += 1
            packed = _packed(publication, known.redis_time + round(1000 * (now - known.at)))
            stream = self._keys.room(publication.room).entries
            commands.append(("XADD", stream, "NOMKSTREAM", f"{known.epoch}-*", "p", packed))
        return commands

    def is_refusal(self, error: ResponseError) -> bool:
        """Return whether Redis refuses an entry for a reason for which the script adds it."""
        if str(error).startswith(UNSUPPORTED):
            self._is_supported = False
        return str(error).startswith((NEWER, UNSUPPORTED))

    def results(self, publications: Sequence[Append], answers: Sequence[Any]) -> list[Appended | None]:
        """
        Return the results of the publications, from the answers to the commands.

        None for one that the script has to append, because the stream is gone or of another epoch.
        """
        results: list[Appended | None] = []
        for publication, answer in zip(publications, answers, strict=True):
            result = None
            if isinstance(answer, str):
                epoch, offset = answer.split("-")
                # The first id behind a prefix is 0, and no publication has this offset. It says that a failover has
                # brought back an earlier epoch. The script then begins a new one, without this entry.
                if int(offset):
                    result = Appended(Position(epoch, int(offset)), publication.id)
                    known = self._rooms.get(publication.room)
                    if known is not None and known.epoch == epoch:
                        known.last = max(known.last, int(offset))
            if result is None:
                self._rooms.pop(publication.room, None)
            results.append(result)
        return results


def _packed(publication: Append, time_added: int) -> str:
    """Return a publication as lua/room.lua describes it."""
    id_bytes, event_bytes = bytes_of(publication.id), bytes_of(publication.event)
    return f"{time_added}:{id_bytes}:{event_bytes}:{publication.id}{publication.event}{publication.data}"
