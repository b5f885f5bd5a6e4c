"""
History in Redis: one sequence for each room, for any number of publishers and nodes.

All keys of a room are in one hash slot, and one script changes them together: the entries, the values and the offset.
Frequent publishers add entries without the script (direct.py). All times are those of the Redis server.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...delivery.tasks import start_task
from ...exceptions import StoreUnavailable
from ...realms import RoomId
from ...stores.batches import batches
from ...stores.options import require_seconds
from ...stores.redis.link import BULK, Call, Calls, RedisLink, Script, load_script, tuples
from ...stores.redis.partitions import Partitions, by_part
from ...stores.redis.target import RedisTarget
from ...types import Position
from ..base import Append, Appended, Entry, HistoryFacts, HistoryStore, Last, Reading
from .appending import Appending
from .direct import DirectAppends, is_confirmed
from .keys import Keys

__all__ = ["SCRIPTS", "RedisHistory"]

ROOMS = 50
"""
The most rooms whose positions are read in one call.

It takes less than 2 ms, in which Redis does nothing else, if entries of some KB were added directly to all of them.
"""

OPENED = 10
"""The most rooms that are opened in one call because their entries have expired since."""

LOOK = 10.0
"""The seconds between two looks for rooms that have to be opened."""

MOST_SLACK = 64
"""The most entries that a room keeps beyond its size. Trimming several at once is cheaper."""


def _script(name: str) -> Script:
    return load_script("wsrt.history.redis", "room", name)


APPEND, POSITIONS, READ, VALUES = map(_script, ("append", "positions", "read", "values"))
FORGET, RENEW, FACTS = map(_script, ("forget", "renew", "facts"))

SCRIPTS = (APPEND, POSITIONS, READ, VALUES, FORGET, RENEW, FACTS)
"""All scripts."""


class RedisHistory(RedisLink, HistoryStore):
    """
    History in a Redis server (6.2 or newer), Valkey, a cluster of either, or the master that Sentinels report.

    Redis should not evict keys (``maxmemory-policy noeviction``). If it loses entries, readers are told that they have
    expired, or that the room has another epoch.

    If this object often appends to a room, it adds the entries to the stream directly, which takes Redis far less time
    than a script. This needs Redis 7, or Valkey. Otherwise, the scripts do all the work.

    Commands are never repeated automatically, because a second append would be a second publication. If a connection
    breaks, the call raises StoreUnavailable.

    Args:
        location: A ``redis://``, ``rediss://`` or ``unix://`` URL; in a cluster, that of any of its nodes. With
            ``sentinels``, it contains the name of the service instead of host and port: ``redis://mymaster/0``. None
            for ``redis://localhost:6379/0``.
        prefix: The prefix of all keys, without braces.
        cluster: Whether Redis is a cluster.
        sentinels: The (host, port) of each Sentinel that monitors the master. None for no Sentinels.
        sentinel_kwargs: redis-py's arguments for the connections to Sentinels, such as ``password`` and ``ssl``.
        partitions: The number of hash slots over which rooms are spread, at most 1024. By default 16 in a cluster, else
            1. Processes with different numbers don't share history.
        timeout: The number of seconds that a round trip to Redis may take, including connecting.
        options: The options of every store: ``size``, ``seconds``, ``values``, ``value_seconds``, ``idempotency``.
    """

    def __init__(
        self,
        location: str | None = None,
        *,
        prefix: str = "wsrt-history",
        cluster: bool = False,
        sentinels: Sequence[tuple[str, int]] | None = None,
        sentinel_kwargs: dict[str, Any] | None = None,
        partitions: int | None = None,
        timeout: float = 5.0,
        **options: Any,
    ) -> None:
        spread = Partitions(prefix, partitions, cluster=cluster)
        require_seconds("TIMEOUT", timeout)
        target = RedisTarget(
            location, cluster=cluster, sentinels=sentinels, sentinel_kwargs=sentinel_kwargs, timeout=timeout
        )
        RedisLink.__init__(self, target, timeout, retries=0)
        HistoryStore.__init__(self, target.location, **options)
        self._keys = Keys(spread)
        self._direct = DirectAppends(self._keys, self.seconds, self.value_seconds, timeout)
        self._closed = _milliseconds(self._direct.closed_seconds)
        self._kept = [_milliseconds(self.seconds), _milliseconds(self.value_seconds)]
        self._look: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        slack = min(self.size // 4, MOST_SLACK)
        self._limits = [self.size, slack, self.values_kept, _milliseconds(self.idempotency)]

    async def append(self, publications: Sequence[Append]) -> list[Appended]:
        adding = self._direct.adding(publications)
        if adding is None:
            return await self._append_by_script(publications)
        results: list[Appended | None] | None = None
        with _uncertain():
            try:
                results = adding.results(await self._execute_each(adding.commands, self._direct.is_refusal))
            finally:
                adding.end(results)
            if doubtful := adding.doubtful(results):
                lasts = await self.positions([publications[number].room for number in doubtful])
                for number, last in zip(doubtful, lasts, strict=True):
                    result = results[number]
                    results[number] = result if result is not None and is_confirmed(result, last) else None
        left = [publication for publication, result in zip(publications, results, strict=True) if result is None]
        by_script = iter(await self._append_by_script(left) if left else ())
        return [result or next(by_script) for result in results]

    async def _append_by_script(self, publications: Sequence[Append]) -> list[Appended]:
        appending = Appending(publications, self._keys, self._direct)
        calls = Calls(len(appending), functools.partial(self._append_call, appending))
        with _uncertain():
            answers = await self._run_all(APPEND, calls, in_order=appending.is_split)
        results = appending.results(answers)
        self._look_later()
        return results

    async def append_parts(self, parts: Sequence[Sequence[Append]], on_kept: Callable[[list[Appended]], None]) -> None:
        if self._target.is_cluster or len(parts) < 2:
            await super().append_parts(parts, on_kept)
            return
        # Parts that Redis has got, and the answers to the first one of them that have arrived.
        begun: collections.deque[Appending] = collections.deque()
        answers: list[Any] = []

        def end_parts() -> None:
            while begun and len(answers) == len(begun[0]):
                on_kept(begun.popleft().results(answers))
                answers.clear()

        def calls() -> Iterator[Call]:
            for part in parts:
                appending = Appending(part, self._keys, self._direct)
                begun.append(appending)
                end_parts()  # if it is empty
                yield from map(functools.partial(self._append_call, appending), range(len(appending)))

        def take(answer: Any) -> None:
            answers.append(answer)
            end_parts()

        with _uncertain():
            await self._run_stream(APPEND, calls(), take, trips=1 + sum(map(len, parts)) // BULK)
        self._look_later()

    def _look_later(self) -> None:
        """While entries are added to rooms directly, look from time to time which of them have to be opened."""
        if self._look is None and self._direct.has_open_rooms:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(LOOK, self._start_to_open, loop)

    def _start_to_open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        self._opening = start_task(loop, self._open_due_rooms(), name="wsrt history: rooms with direct entries")

    async def _open_due_rooms(self) -> None:
        # A room that can't be opened now, or to which others still add entries, is due again next time.
        try:
            for rooms in batches(self._direct.due_rooms(), OPENED):
                found = await self._positions(rooms)
                for room, (_, is_direct) in zip(rooms, found, strict=True):
                    if not is_direct:
                        self._direct.close(room)
        except StoreUnavailable:
            pass
        finally:
            self._look_later()

    def _append_call(self, appending: Appending, number: int) -> Call:
        return appending.call(number, [*self._arguments(), *self._limits])

    def _arguments(self) -> list[Any]:
        """Return the arguments that all scripts get."""
        number = random.randrange(1_000_000)  # noqa: S311 - it tells epochs apart, and protects nothing
        return [number, *self._kept, self._closed]

    async def positions(self, rooms: Sequence[RoomId]) -> list[Last]:
        return [last for last, _ in await self._positions(rooms)]

    async def _positions(self, rooms: Sequence[RoomId]) -> list[tuple[Last, bool]]:
        """Return the last publications of rooms, and whether publishers may add entries directly to them."""
        positions: dict[int, tuple[Last, bool]] = {}
        numbered = list(enumerate(map(self._keys.room, rooms)))
        parts = by_part(numbered, lambda item: item[1].part)
        bulks = [bulk for part in parts.values() for bulk in batches(part, ROOMS)]
        calls = [([key for _, room in bulk for key in room.all], self._arguments()) for bulk in bulks]
        for bulk, found in zip(bulks, await self._run_all(POSITIONS, calls), strict=True):
            for (number, _), (epoch, offset, its_id, is_direct) in zip(bulk, tuples(found, 4), strict=True):
                positions[number] = Last(Position(epoch, offset), its_id if offset else None), bool(is_direct)
        return [positions[number] for number in range(len(rooms))]

    async def read(self, room: RoomId, after: Position, *, limit: int, max_bytes: int) -> Reading:
        arguments = (after.epoch, after.offset, limit, max_bytes)
        epoch, offset, start, gap, is_cut, found = await self._run_in(READ, room, *arguments)
        return Reading(Position(epoch, offset), start, list(_entries(found)), has_more=bool(is_cut), gap=gap or None)

    async def values(self, room: RoomId, *, limit: int, max_bytes: int) -> Reading:
        epoch, offset, is_cut, found = await self._run_in(VALUES, room, limit, max_bytes)
        return Reading(Position(epoch, offset), 0, list(_entries(found))[::-1], has_more=bool(is_cut))

    async def forget(self, room: RoomId, *, offset: int | None = None, key: str | None = None) -> list[int]:
        arguments = ("" if offset is None else offset, "" if key is None else f"v{key}")
        return [int(found) for found in await self._run_in(FORGET, room, *arguments)]

    async def purge(self, room: RoomId) -> Position:
        return Position(*await self._run_in(RENEW, room, ""))

    async def renew(self, room: RoomId, epoch: str) -> Position:
        # An epoch is never empty, so a call that names none must not look like a purge.
        return Position(*await self._run_in(RENEW, room, epoch or "-"))

    async def facts(self, rooms: Sequence[RoomId]) -> list[HistoryFacts]:
        calls = [(self._keys.room(room).all, self._arguments()) for room in rooms]
        return [_facts(*found) for found in await self._run_all(FACTS, calls)]

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        await RedisLink.close(self)

    async def _run_in(self, script: Script, room: RoomId, *arguments: Any) -> Any:
        """Run a script on one room."""
        return await self._run(script, self._keys.room(room).all, [*self._arguments(), *arguments])


@contextlib.contextmanager
def _uncertain() -> Iterator[None]:
    """Add to the error of a call that its publications may have been kept."""
    try:
        yield
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{error} (the publications may have been kept)") from error


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _entries(found: Sequence[Any]) -> Iterator[Entry]:
    """Yield the publications that a script has returned flat."""
    for offset, its_id, event, data, time, key in tuples(found, 6):
        yield Entry(offset, its_id, event, data, key[1:] if key[0] == "v" else None, time / 1000)


def _facts(epoch: str, offset: int, entries: int, values: int, size: int, oldest: int) -> HistoryFacts:
    return HistoryFacts(Position(epoch, offset), entries, values, size, oldest / 1000 if oldest >= 0 else None)
