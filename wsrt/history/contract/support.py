# ruff: noqa: S101 - these are tests
"""The store that a test suite is for, and the helpers of its tests."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

from ...realms import RoomId
from ...types import Position
from ..base import Append, HistoryStore, Reading

SECONDS = 30.0
"""The number of seconds that a test waits for a condition."""

MOST_SURPLUS = 200
"""The entries that a store may keep beyond its size."""

EVERYTHING: dict[str, int] = {"limit": 100_000, "max_bytes": 2**40}
"""Limits that cut nothing off."""


class StoreTests:
    """The base of the tests of history stores."""

    short: ClassVar[float] = 1.0
    """
    The seconds that publications are kept in tests that wait for their end.

    It must be long enough for a few calls on a busy machine.
    """

    async def make_store(self, **options: Any) -> HistoryStore:
        """
        Override to return a new instance for the same backend, as another process would create it.

        The tests close it.

        Args:
            options: Options of HistoryStore.
        """
        raise NotImplementedError("override make_store()")

    @contextlib.asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[HistoryStore]:
        """Make a store, and close it."""
        store = await self.make_store(**options)
        try:
            yield store
        finally:
            await store.close()

    def room(self) -> RoomId:
        """Return a room that no other test uses."""
        return "contract", secrets.token_hex(8)

    def publication(
        self,
        room: RoomId,
        *,
        id: str | None = None,
        event: str = "said",
        data: str = "{}",
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Append:
        return Append(room, id or secrets.token_hex(4), event, data, key, idempotency_key)

    async def append(self, store: HistoryStore, room: RoomId, count: int) -> None:
        """Append entries."""
        await store.append([self.publication(room, data=str(number)) for number in range(count)])

    async def position(self, store: HistoryStore, room: RoomId) -> Position:
        (last,) = await store.positions([room])
        return last.position

    async def everything(self, store: HistoryStore, room: RoomId) -> Reading:
        """Read what is kept of a room."""
        position = await self.position(store, room)
        found = await store.read(room, Position(position.epoch, 0), **EVERYTHING)
        assert not found.has_more
        return found

    def offsets(self, reading: Reading) -> list[int]:
        return [entry.offset for entry in reading.entries]

    async def has_gap(self, store: HistoryStore, room: RoomId, after: Position) -> bool:
        return (await store.read(room, after, **EVERYTHING)).gap is not None

    async def check_floor(self, store: HistoryStore, room: RoomId, gap: str, last: int, *, size: int = 10) -> None:
        """Check that what is left of a room is complete after the floor, and every position before it has the gap."""
        epoch = (await self.position(store, room)).epoch
        found = await store.read(room, Position(epoch, 0), **EVERYTHING)
        entries = [entry.offset for entry in found.entries if entry.key is None]
        assert found.gap == gap
        assert found.position.offset == last
        assert size <= len(entries) <= size + MOST_SURPLUS
        assert found.start < entries[0]
        for offset in range(last + 1):
            later = await store.read(room, Position(epoch, offset), **EVERYTHING)
            assert (later.gap, later.start) == ((gap, found.start) if offset < found.start else (None, offset))
            assert [entry.offset for entry in later.entries if entry.key is None] == [n for n in entries if n > offset]

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until the condition is true. Fail after SECONDS."""
        deadline = time.monotonic() + SECONDS
        while not await condition():
            assert time.monotonic() < deadline, f"waited {SECONDS:g} s for {what}"
            await asyncio.sleep(0.02)
