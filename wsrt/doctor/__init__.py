"""
The doctor: looks at a deployment from outside of its servers, and says what is wrong and what to do.

Each part has a few seconds and fails alone: what cannot be reached is a finding like any other.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterable

from . import installed, layers, live, presence, redis
from .finding import Finding, error, told

__all__ = ["Finding", "examine"]

PART_SECONDS = 4.0
"""How long one part may take: a network that swallows everything is found in that time."""


async def examine(url: str | None = None) -> list[Finding]:
    """
    Return everything that was found, in the order in which it is read.

    Args:
        url: of a WebSocket of a running server: it is opened, sent an invalid frame, and closed.
    """
    parts = [_within_seconds(f"layer {alias!r}", layers.examine(alias)) for alias in layers.aliases()]
    parts += [_within_seconds(host.subject, redis.examine(host)) for host in redis.hosts()]
    parts.append(_within_seconds("presence", presence.examine()))
    if url is not None:
        parts.append(_within_seconds(url, live.examine(url)))
    found = await asyncio.gather(*parts)
    return [*installed.examine(), *itertools.chain.from_iterable(found)]


async def _within_seconds(subject: str, part: Awaitable[Iterable[Finding]]) -> list[Finding]:
    """Return what a part found; that it failed, or took too long, where it did."""
    try:
        async with asyncio.timeout(PART_SECONDS):
            return list(await part)
    except TimeoutError:
        seen = f"no answer within {PART_SECONDS:g} s"
    except Exception as problem:
        seen = told(problem)
    return [error(subject, seen, "See that it runs, that this machine reaches it, and that the settings are right.")]
