"""Findings about the clocks of Redis, the databases and the nodes, which are compared with that of this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from django.db import connections

from ..presence.backends import option
from ..presence.base import NodeRecord
from .finding import Finding, ok, warning

Clock = Callable[[], float]
"""A function that returns the time in seconds since 1970, as ``time.time`` does."""

SKEWED_SECONDS = 1.0
"""Differences larger than this are a warning, in seconds."""

NODE_SKEWED_SECONDS = 2.0
"""The same for nodes. A heartbeat may have been delayed before Redis recorded it."""

CONNECT_SECONDS = 3
"""How long a database may take to accept a connection, in seconds."""

ADVICE = (
    "Let NTP set the clocks. Each machine compares the expiry of sessions and tokens with its own clock. The core "
    "layer and CachePresence, too, expect that all clocks agree."
)


async def skew_of(ask: Callable[[], Awaitable[float]], now: Clock) -> float:
    """
    Return the difference between a clock and that of this machine, in seconds: above 0 if the clock is ahead.

    Args:
        ask: Asks for the time of the clock, in seconds since 1970.
        now: The clock of this machine.
    """
    before = now()
    asked = await ask()
    # The answer is that of a moment in between.
    return asked - (before + now()) / 2


def clock(subject: str, skew: float, limit: float = SKEWED_SECONDS) -> Finding:
    """
    Return a finding about a clock.

    Args:
        subject: The part of the deployment whose clock it is.
        skew: How far it is ahead of that of this machine, in seconds.
        limit: The largest difference without a warning, in seconds.
    """
    subject, facts = f"{subject} clock", {"skew_s": round(skew, 3)}
    seen = f"{abs(skew):.2f} s {'ahead of' if skew > 0 else 'behind'} this machine"
    if abs(skew) > limit:
        return warning(subject, seen, ADVICE, **facts)
    return ok(subject, seen, **facts)


# Databases.


def databases() -> list[str]:
    """Return the aliases of the databases that have a clock of their own: those in PostgreSQL."""
    return [alias for alias in connections if connections[alias].vendor == "postgresql"]


async def examine(alias: str, now: Clock = time.time) -> Iterator[Finding]:
    """
    Return a finding about the clock of a PostgreSQL database.

    Args:
        alias: The alias in DATABASES.
        now: The clock of this machine.

    Raises:
        Exception: Anything that the database driver raises.
    """
    skew = await asyncio.to_thread(_database_skew, alias, now)
    return iter([clock(f"database {alias!r}", skew)])


def _database_skew(alias: str, now: Clock) -> float:
    # A connection of its own: it needs another time limit, and is closed afterwards.
    connection = connections[alias].copy()
    options = connection.settings_dict["OPTIONS"]
    options.pop("pool", None)
    options["connect_timeout"] = CONNECT_SECONDS
    try:
        with connection.cursor() as cursor:
            before = now()
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
            (asked,) = cursor.fetchone()
            return float(asked) - (before + now()) / 2
    finally:
        connection.close()


# Nodes.


def node(subject: str, record: NodeRecord, now: Clock) -> Iterator[Finding]:
    """
    Yield a finding about the clock of a node's machine, if it differs.

    A heartbeat has the time of the node, and begins a lease that the store measures. So the lease that is left says
    when the heartbeat was, by the clock of this machine. It says nothing if the store measures leases by the clocks of
    the nodes themselves, as CachePresence does: the difference is 0 then.

    Args:
        subject: The name of the node in findings.
        record: The node.
        now: The clock of this machine.
    """
    beat, lease = record.facts.get("beat"), option("LEASE", 30)
    if beat is None:
        return
    found = clock(subject, beat - (now() - (lease - record.lease)), NODE_SKEWED_SECONDS)
    if found.status != "ok":
        yield found
