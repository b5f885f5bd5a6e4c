"""One timer for all connections of a node, instead of a task or a timer each, and the clock that goes with it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from ..metrics import counters

Tick = Callable[[float], float | None]
"""Called with the wheel's time; returns when to be called next, or None for never."""

STANDSTILL = 0.2
"""A turn that comes more than this many seconds late means that the process stood still."""


class TimerWheel:
    """
    Calls functions at about the time they ask for, at most ``resolution`` seconds late.

    Entries wait in buckets of one resolution; the wheel turns only while there are any.

    Its clock doesn't advance while the process stands still (stopped, swapped out, blocked by a handler): what peers
    sent in the meantime waits in their sockets, and what they were ready to read could not be written. A time-out that
    is measured with this clock never blames a peer for it. The clock is for time-outs alone: it can be coarse (1 ms
    with uvloop), so the order of events must never be read from it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, resolution: float = 0.1) -> None:
        self.loop = loop
        self._resolution = resolution
        self._buckets: dict[int, set[Tick]] = {}
        self._slot_of: dict[Tick, int] = {}
        self._handle: asyncio.TimerHandle | None = None
        # In the loop's time: when the next turn should come, and after when it is late. Infinite while it doesn't turn.
        self._next = self._late = math.inf
        # For how many seconds the process stood still while the wheel turned.
        self.lost = 0.0
        # What time() returned last: while the wheel turns, it is one resolution old at most.
        self.now = loop.time()
        self.turns = False

    def __len__(self) -> int:
        return len(self._slot_of)

    def time(self) -> float:
        """Return the time in seconds, without those for which the process stood still while the wheel turned."""
        now = self.loop.time()
        if now > self._late:
            self.lost += now - self._next
            self._expect(now)
        self.now = now = now - self.lost
        return now

    def add(self, tick: Tick, when: float) -> None:
        """Call ``tick`` at ``when``, in seconds of this clock. An entry has one time; the last word counts."""
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
                    continue  # one of those before it discarded or moved it
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
            # The other connections of the node still need their time.
            counters.count("timers_failed", "a timer of a connection failed: %r", error)
            return None
