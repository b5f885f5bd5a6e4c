"""History in the memory of one process."""

from __future__ import annotations

import collections
import dataclasses
import secrets
import threading
import time
from collections.abc import Sequence
from typing import ClassVar

from ..cluster.forks import after_fork_in_child
from ..realms import RoomId
from ..types import Position
from .base import Append, Appended, Entry, Gap, HistoryFacts, HistoryStore, Last, Reading

EPOCH_BYTES = 8
"""The random bytes of an epoch."""

SWEEP_SECONDS = 10.0
"""How often rooms that have expired are looked for, in seconds."""


@dataclasses.dataclass(slots=True)
class _Room:
    """
    The history of a room.

    Attributes:
        epoch: The epoch.
        offset: The offset of the last publication.
        id: Its id.
        trimmed: The highest offset of an entry that was removed because there were too many.
        expired: The highest offset of an entry that was removed because of its age.
        entries: The entries, by offset.
        values: The values by key, in the order of their offsets.
        keys: The idempotency keys, each with what append() returned and when it is forgotten.
        used: When the room was last used.
    """

    epoch: str
    offset: int = 0
    id: str | None = None
    trimmed: int = 0
    expired: int = 0
    entries: collections.deque[Entry] = dataclasses.field(default_factory=collections.deque)
    values: dict[str, Entry] = dataclasses.field(default_factory=dict)
    keys: dict[str, tuple[Appended, float]] = dataclasses.field(default_factory=dict)
    used: float = 0.0

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)

    @property
    def floor(self) -> int:
        """The offset after which the entries are complete."""
        return max(self.trimmed, self.expired)


class _State:
    """The histories of the process, shared by the stores of all its event loops, which may run in several threads."""

    def __init__(self) -> None:
        # Bound here, so that a test that patches time.time later doesn't make entries expire.
        self.now = time.time
        # Held while anything below is read or written, for microseconds.
        self.lock = threading.Lock()
        self.rooms: dict[RoomId, _Room] = {}
        self.swept = 0.0


_state = _State()


def _forget() -> None:
    global _state
    _state = _State()


after_fork_in_child(_forget)


class MemoryHistory(HistoryStore):
    """
    History in the memory of this process, for development, tests, and sites with one process.

    It is lost when the process ends. The loops of all threads share it.
    """

    is_shared: ClassVar[bool] = False

    async def append(self, publications: Sequence[Append]) -> list[Appended]:
        with _state.lock:
            return [self._append(publication) for publication in publications]

    async def positions(self, rooms: Sequence[RoomId]) -> list[Last]:
        with _state.lock:
            return [Last(found.position, found.id) for found in map(self._room, rooms)]

    async def read(self, room: RoomId, after: Position, *, limit: int, max_bytes: int) -> Reading:
        with _state.lock:
            found = self._room(room)
            gap: Gap | None = None
            start = after.offset
            if after.epoch != found.epoch or after.offset > found.offset:
                gap, start = "epoch", found.floor
            elif after.offset < found.floor:
                gap = "trimmed" if after.offset < found.trimmed else "expired"
                start = found.floor
            later = [entry for entry in (*found.entries, *found.values.values()) if entry.offset > start]
        later.sort(key=lambda entry: entry.offset)
        kept = _within(later, limit, max_bytes)
        return Reading(found.position, start, kept, has_more=len(kept) < len(later), gap=gap)

    async def values(self, room: RoomId, *, limit: int, max_bytes: int) -> Reading:
        with _state.lock:
            found = self._room(room)
            position, entries = found.position, list(found.values.values())
        kept = _within(entries[::-1], limit, max_bytes)[::-1]
        return Reading(position, 0, kept, has_more=len(kept) < len(entries))

    async def forget(self, room: RoomId, *, offset: int | None = None, key: str | None = None) -> list[int]:
        with _state.lock:
            found = self._room(room)
            gone = [
                entry
                for entry in (*found.entries, *found.values.values())
                if entry.offset == offset or (key is not None and entry.key == key)
            ]
            for entry in gone:
                if entry.key is None:
                    found.entries.remove(entry)
                else:
                    del found.values[entry.key]
            return [entry.offset for entry in gone]

    async def purge(self, room: RoomId) -> Position:
        with _state.lock:
            _state.rooms.pop(room, None)
            return self._room(room).position

    async def renew(self, room: RoomId, epoch: str) -> Position:
        with _state.lock:
            if self._room(room).epoch == epoch:
                del _state.rooms[room]
            return self._room(room).position

    async def facts(self, rooms: Sequence[RoomId]) -> list[HistoryFacts]:
        with _state.lock:
            return [_facts(self._room(room)) for room in rooms]

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    # Private methods, which must be called under the lock.

    def _room(self, room: RoomId) -> _Room:
        """Return a room in its present state, created if necessary."""
        now = _state.now()
        if now - _state.swept >= SWEEP_SECONDS:
            _state.swept = now
            for unused in [name for name, other in _state.rooms.items() if other.used <= now - self.value_seconds]:
                del _state.rooms[unused]
        found = _state.rooms.get(room)
        if found is None or found.used <= now - self.value_seconds:
            found = _state.rooms[room] = _Room(secrets.token_hex(EPOCH_BYTES))
        found.used = now
        while found.entries and found.entries[0].time <= now - self.seconds:
            found.expired = found.entries.popleft().offset
        # Both are in the order of time.
        while found.values and (first := next(iter(found.values.values()))).time <= now - self.value_seconds:
            del found.values[first.key or ""]
        while found.keys and found.keys[key := next(iter(found.keys))][1] <= now:
            del found.keys[key]
        return found

    def _append(self, publication: Append) -> Appended:
        found = self._room(publication.room)
        key = publication.idempotency_key
        if key is not None and key in found.keys:
            return dataclasses.replace(found.keys[key][0], is_repeat=True)
        found.offset += 1
        found.id = publication.id
        now = _state.now()
        entry = Entry(found.offset, publication.id, publication.event, publication.data, publication.key, now)
        if entry.key is None:
            found.entries.append(entry)
            if len(found.entries) > self.size:
                found.trimmed = found.entries.popleft().offset
        else:
            # Inserted again, so that the order stays that of the offsets.
            found.values.pop(entry.key, None)
            found.values[entry.key] = entry
            if len(found.values) > self.values_kept:
                del found.values[next(iter(found.values))]
        appended = Appended(found.position, publication.id)
        if key is not None:
            found.keys[key] = appended, now + self.idempotency
        return appended


def _within(entries: Sequence[Entry], limit: int, max_bytes: int) -> list[Entry]:
    """Return the first entries up to the limits, at least one."""
    kept: list[Entry] = []
    size = 0
    for entry in entries[:limit]:
        size += entry.size
        if kept and size > max_bytes:
            break
        kept.append(entry)
    return kept


def _facts(room: _Room) -> HistoryFacts:
    kept = [*room.entries, *room.values.values()]
    oldest = min((entry.time for entry in kept), default=None)
    return HistoryFacts(room.position, len(room.entries), len(room.values), sum(entry.size for entry in kept), oldest)
