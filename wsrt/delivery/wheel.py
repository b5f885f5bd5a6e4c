"""One timer for all connections of a node, instead of a task or a timer each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Tick = Callable[[float], float | None]
"""Called with the loop's time; returns when to be called next, or None for never."""


class TimerWheel:
    """
    Calls functions at about the time they ask for, at most ``resolution`` seconds late.

    Entries wait in buckets of one resolution; the wheel turns only while there are any. After a standstill of the
    process every entry that was due is called once, with the time as it is now.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, resolution: float = 0.1) -> None:
        self._loop = loop
        self._resolution = resolution
        self._buckets: dict[int, set[Tick]] = {}
        self._slot_of: dict[Tick, int] = {}
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._slot_of)

    def add(self, tick: Tick, when: float) -> None:
        """Call ``tick`` at ``when``, in seconds of the loop's clock. An entry has one time; the last word counts."""
        self.discard(tick)
        slot = int(when / self._resolution) + 1
        self._buckets.setdefault(slot, set()).add(tick)
        self._slot_of[tick] = slot
        if self._handle is None:
            self._turn_later()

    def discard(self, tick: Tick) -> None:
        """Call it no more."""
        slot = self._slot_of.pop(tick, None)
        if slot is None:
            return
        # The bucket whose ticks are being called is out of the table already.
        bucket = self._buckets.get(slot)
        if bucket is not None:
            bucket.discard(tick)
            if not bucket:
                del self._buckets[slot]

    def _turn_later(self) -> None:
        self._handle = self._loop.call_later(self._resolution, self._turn)

    def _turn(self) -> None:
        self._handle = None
        now = self._loop.time()
        current = int(now / self._resolution)
        for slot in sorted(slot for slot in self._buckets if slot <= current):
            for tick in self._buckets.pop(slot, ()):
                if self._slot_of.get(tick) != slot:
                    continue  # one of those before it discarded or moved it
                del self._slot_of[tick]
                when = tick(now)
                if when is not None:
                    self.add(tick, when)
        if self._slot_of and self._handle is None:
            self._turn_later()
