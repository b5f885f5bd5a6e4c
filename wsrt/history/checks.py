"""
The comparison of positions: a node finds out that the last publications of a room were lost on the way.

A publication that is lost shows when the next one arrives. While a room is silent, only the store knows of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ..delivery.jitter import jittered
from ..exceptions import StoreUnavailable
from ..metrics import counters
from ..realms import RoomId
from ..stores.batches import batches
from ..types import Position
from .base import HistoryStore, Last
from .followed import FollowedRoom
from .log import Verdict

ARRIVE_SECONDS = 0.25
"""How long the layer may take to deliver what the store has, before it counts as lost, in seconds."""

SETTLE_SECONDS = 5.0
"""After how many seconds without a publication the position of a room is checked, in seconds."""

CHECK_SECONDS = 30.0
"""How often the position of an idle room is checked, in seconds."""

WATCH_SECONDS = 1.0
"""The longest pause between two looks for rooms whose check is due, in seconds."""

CHECK_ROOMS = 256
"""The number of rooms that are checked in one call."""


class Checks:
    """
    The checks of the rooms of one node.

    Args:
        loop: The loop of the node.
        rooms: The rooms.
        store: Returns the store. It raises StoreUnavailable if the settings can't be used.
        spawn: Runs a coroutine in a task.
        catch_up: Reads on in a room that is marked as behind its store.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rooms: Mapping[RoomId, FollowedRoom],
        store: Callable[[], HistoryStore],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        catch_up: Callable[[FollowedRoom], None],
    ) -> None:
        self._loop = loop
        self._rooms = rooms
        self._store = store
        self._spawn = spawn
        self._catch_up = catch_up
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether silent rooms are being checked."""
        return self._task is not None

    def start(self) -> None:
        """From now on, check whether publications were missed in rooms in which nothing arrives."""
        if self._task is None:
            self._task = self._spawn(self._run())

    def stop(self) -> None:
        """Check none any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def check_all(self) -> None:
        """Check all rooms, because the layer may have lost messages."""
        if self._rooms:
            self._spawn(self.check(list(self._rooms.values())))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(jittered(WATCH_SECONDS))
            now = self._loop.time()
            due = [room for room in self._rooms.values() if _is_due(room, now)]
            try:
                await self.check(due)
            except Exception as error:
                # The checks must go on after an error in a store.
                counters.count("history_failed", "checking the positions of rooms failed: %r", error)

    async def check(self, rooms: list[FollowedRoom]) -> None:
        """Compare the positions of rooms with the store's."""
        try:
            store = self._store()
            if not store.is_shared:
                return  # in one process nothing gets lost on the way
            for batch in batches(rooms, CHECK_ROOMS):
                # Rooms may have been left during an earlier batch.
                before = {
                    room: room.log.position
                    for room in batch
                    if room.log is not None and room.task is None and self._rooms.get(room.id) is room
                }
                found = await store.positions([room.id for room in before])
                for (room, old), new in zip(before.items(), found, strict=True):
                    self._compare(room, old, new)
        except StoreUnavailable as error:
            counters.count("history_unavailable", "the positions of rooms can't be checked: %s", error)

    def _compare(self, room: FollowedRoom, before: Position, last: Last) -> None:
        room.checked = self._loop.time() - jittered(1.0, 0.0)
        found = last.position
        if room.log is not None and last.id is not None and room.log.judge(found, last.id) is Verdict.CONFLICT:
            # The store has lost its last writes, and others were made since, perhaps as many.
            room.has_conflict = True
            self._catch_up(room)
        elif found == before:
            return
        elif found.epoch == before.epoch and found.offset > before.offset:
            # It may be on its way through the layer.
            self._loop.call_later(ARRIVE_SECONDS, self._require, room, found)
        else:
            room.is_behind = True
            self._catch_up(room)

    def _require(self, room: FollowedRoom, position: Position) -> None:
        """Read on, unless the room has reached a position by now."""
        log = room.log
        if self._rooms.get(room.id) is not room or log is None:
            return
        if log.position.epoch != position.epoch or log.position.offset < position.offset:
            counters.count("history_losses_found")
            room.is_behind = True
            self._catch_up(room)


def _is_due(room: FollowedRoom, now: float) -> bool:
    """Return whether a position should be checked. It is while a room is silent: otherwise offsets show the losses."""
    if room.changed > room.checked:
        return now - room.changed >= SETTLE_SECONDS
    return now - room.checked >= CHECK_SECONDS
