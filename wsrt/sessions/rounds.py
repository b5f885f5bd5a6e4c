"""
The rounds in which the connections of a node are checked again.

In each round, every connection is checked once. Claims that share queries are checked in batches, and the others one by
one. The checks are spread over a part of the interval, at most one at a time, so that neither the database nor a
session store gets a burst. Without a connection there is no timer and no query.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..cluster.per_loop import PerLoop
from ..connection.threads import run_in_thread
from ..delivery.jitter import jittered
from ..delivery.tasks import start_task
from ..metrics import counters
from .checks import find_invalid, is_batchable
from .claims import Claim

__all__ = ["Checked", "Rounds", "rounds_of_loop"]

BATCH = 1000
"""The number of connections that are checked in one query for sessions and one for users."""

FIRST = (0.5, 0.85)
"""The time to the first round, as a part of the interval. Random, so that nodes don't query at once."""

PAUSE = (0.75, 0.85)
"""The time from the start of a round to that of the next one, as a part of the interval."""

SPREAD = 0.1
"""
The part of the interval over which the checks of a round are spread.

Together with PAUSE it stays below the interval, so that the time between two checks of a connection does too.
"""

TURN = 100
"""The number of connections that are closed before the event loop gets a turn."""


class Checked(Protocol):
    """A connection as the rounds see it."""

    @property
    def claim(self) -> Claim | None:
        """The session or user that must stay valid. None if there is nothing to check."""

    @property
    def reloads_user(self) -> bool:
        """Whether the consumer has a hook that loads the user again, and so checks it itself."""

    def reload_user(self) -> None:
        """Let the consumer check its user, in its turn among the handlers."""

    def expire(self) -> None:
        """Close the connection, because its claim isn't valid any more."""


class Rounds:
    """
    Checks the connections that have the same interval.

    Args:
        loop: The running loop.
        interval: The time within which each connection is checked, in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._loop = loop
        self._interval = interval
        self._connections: dict[Checked, None] = {}
        # The start of the next round. None during a round, and without connections.
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Checked) -> None:
        """Check a connection from the next round on."""
        self._connections[connection] = None
        # Other code may have cancelled the round, such as a test that cancels all tasks of the loop.
        if self._timer is None and (self._round is None or self._round.done()):
            self._start_in(jittered(self._interval, *FIRST))

    def discard(self, connection: Checked) -> None:
        """Don't check a connection any more."""
        self._connections.pop(connection, None)
        if not self._connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        # In an empty context. Otherwise it would run in that of the connection that happened to be first.
        self._round = start_task(self._loop, self._run(), context=contextvars.Context())

    async def _run(self) -> None:
        started = self._loop.time()
        await self._check_all(started)
        self._round = None
        took = self._loop.time() - started
        if took > self._interval:
            counters.count(
                "revalidations_late",
                "checking the sessions of this process took %.1f s, longer than REVALIDATE (%s s): increase it",
                took,
                self._interval,
            )
        if self._connections:
            self._start_in(max(0.0, jittered(self._interval, *PAUSE) - took))

    async def _check_all(self, started: float) -> None:
        checks = self._checks()
        for number, check in enumerate(checks):
            due = started + SPREAD * self._interval * number / len(checks)
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await check()

    def _checks(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Return the checks of a round. The connections are read once: later ones wait for the next round."""
        by_claim: dict[Claim, list[Checked]] = {}
        own: list[Checked] = []
        for connection in self._connections:
            if connection.claim is not None:
                by_claim.setdefault(connection.claim, []).append(connection)
            if connection.reloads_user:
                own.append(connection)
        batchable = [claim for claim in by_claim if is_batchable(claim)]
        batches = [batchable[start : start + BATCH] for start in range(0, len(batchable), BATCH)]
        batches += [[claim] for claim in by_claim.keys() - set(batchable)]
        return [
            *(functools.partial(self._check, {claim: by_claim[claim] for claim in batch}) for batch in batches),
            *(functools.partial(self._reload_user, connection) for connection in own),
        ]

    async def _check(self, batch: dict[Claim, list[Checked]]) -> None:
        try:
            invalid = await run_in_thread(find_invalid, list(batch))
        except Exception as error:
            # The database or the session store may be down. That isn't a reason to disconnect anyone.
            counters.count(
                "revalidations_failed",
                "could not check whether sessions are valid: %r. Their connections stay open until the next check",
                error,
            )
            return
        closed = 0
        for claim in invalid:
            for connection in batch[claim]:
                # In the meantime it may have ended, or have got another user.
                if connection in self._connections and connection.claim == claim:
                    connection.expire()
                    closed += 1
                    if closed % TURN == 0:
                        await asyncio.sleep(0)

    async def _reload_user(self, connection: Checked) -> None:
        if connection in self._connections and connection.reloads_user:
            connection.reload_user()


_rounds: PerLoop[dict[float, Rounds]] = PerLoop(dict)


def rounds_of_loop(interval: float) -> Rounds:
    """Return the object that checks connections of the running loop at an interval. The first call creates it."""
    by_interval = _rounds.get()
    if interval not in by_interval:
        by_interval[interval] = Rounds(asyncio.get_running_loop(), interval)
    return by_interval[interval]
