"""A timer wheel: one timer for all connections of a node, instead of one each, and the clock that it uses."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from ..metrics import counters

Tick = Callable[[float], float | None]
"""Called with the wheel's time. Returns the time of the next call, or None for none."""

STANDSTILL = 0.2
"""If a turn of the wheel comes more than this many seconds late, the process is taken to have stood still."""


class TimerWheel:
    """
    Calls functions at about a given time, at most ``resolution`` seconds late.

    Entries wait in buckets that span one resolution each. The wheel turns only while it has entries.

    The wheel's clock doesn't advance while the process stands still, because it is stopped, swapped out, or blocked by
    a handler. In that time, frames from peers wait in their sockets, and nothing can be written to peers that are ready
    to read. Time-outs that use this clock don't blame peers for that. The clock is meant for time-outs only: it can be
    as coarse as 1 ms (with uvloop), so don't use it to decide which of two events came first.

    Args:
        loop: The event loop.
        resolution: The time between two turns, in seconds.

    Attributes:
        lost: The seconds for which the process stood still while the wheel turned.
        now: The last result of time(). While the wheel turns, it is at most one resolution old.
        turns: Whether the wheel turns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, resolution: float = 0.1) -> None:
        self.loop = loop
        self._resolution = resolution
        self._buckets: dict[int, set[Tick]] = {}
        self._slot_of: dict[Tick, int] = {}
        self._handle: asyncio.TimerHandle | None = None
        # In the loop's time: when the next turn is due, and from when on it is late. Infinite while it doesn't turn.
        self._next = self._late = math.inf
        self.lost = 0.0
        self.now = loop.time()
        self.turns = False

    def __len__(self) -> int:
        return len(self._slot_of)

    def time(self) -> float:
        """Return the time in seconds, excluding those for which the process stood still while the wheel turned."""
        now = self.loop.time()
        if now > self._late:
            self.lost += now - self._next
            self._expect(now)
        self.now = now = now - self.lost
        return now

    def add(self, tick: Tick, when: float) -> None:
        """Schedule ``tick`` for the time ``when`` of this clock, in place of the time it was scheduled for before."""
        self.discard(tick)
        slot = int(when / self._resolution) + 1
        self._buckets.setdefault(slot, set()).add(tick)
        self._slot_of[tick] = slot
        if self._handle is None:
            self._turn_later()

    def discard(self, tick: Tick) -> None:
        """Don't call ``tick`` any more."""
        slot = self._slot_of.pop(tick, None)
        if slot is None:
            return
        # While _turn() calls the ticks of a bucket, the bucket has been removed from the table already.
        bucket = self._buckets.get(slot)
        if bucket is not None:
            bucket.discard(tick)
            if not bucket:
                del self._buckets[slot]

    def _expect(self, when: float) -> None:
        self._next, self._late = when, when + STANDSTILL

    def _turn_later(self) -> None:
        self.time()
        self.turns = True
        self._expect(self.loop.time() + self._resolution)
        self._handle = self.loop.call_later(self._resolution, self._turn)

    def _turn(self) -> None:
        now = self.time()
        self._handle = None
        self.turns = False
        self._expect(math.inf)
        current = int(now / self._resolution)
        for slot in sorted(slot for slot in self._buckets if slot <= current):
            for tick in self._buckets.pop(slot, ()):
                if self._slot_of.get(tick) != slot:
                    continue  # a tick that was called before it has discarded or rescheduled it
                del self._slot_of[tick]
                when = self._call(tick, now)
                if when is not None:
                    self.add(tick, when)
        if self._slot_of and self._handle is None:
            self._turn_later()

    def _call(self, tick: Tick, now: float) -> float | None:
        try:
            return tick(now)
        except Exception as error:
            # Don't let it propagate: the ticks of other connections must still be called.
            counters.count("timers_failed", "a timer of a connection failed: %r", error)
            return None
