"""
An examination of a deployment from outside its servers, which reports problems and their fixes.

Each part has a limit of a few seconds. If one fails or exceeds it, the others go on, and the failure is a finding too.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterable

from . import clocks, durable, history, installed, layers, live, presence, proxies, redis
from .finding import Finding, error, one_line

__all__ = ["Finding", "examine"]

PART_SECONDS = 4.0
"""How long one part may take, in seconds. Bounds the wait for a network that drops all packets."""


async def examine(url: str | None = None) -> list[Finding]:
    """
    Return all findings, in display order.

    Args:
        url: The WebSocket URL of a running server, which is opened, sent an invalid frame, and closed; None for none.
    """
    parts = [_within_seconds(f"layer {alias!r}", layers.examine(alias)) for alias in layers.aliases()]
    parts += [_within_seconds(host.subject, redis.examine(host)) for host in redis.hosts()]
    parts += [_within_seconds(f"database {alias!r}", clocks.examine(alias)) for alias in clocks.databases()]
    parts.append(_within_seconds("history", history.examine()))
    parts.append(_within_seconds("presence", presence.examine()))
    parts.append(_within_seconds("durable", durable.examine()))
    if url is not None:
        parts.append(_within_seconds(url, live.examine(url)))
    found = await asyncio.gather(*parts)
    return [*installed.examine(), *proxies.examine(), *itertools.chain.from_iterable(found)]


async def _within_seconds(subject: str, part: Awaitable[Iterable[Finding]]) -> list[Finding]:
    """Return the findings of a part, or an error if it failed or took too long."""
    try:
        async with asyncio.timeout(PART_SECONDS):
            return list(await part)
    except TimeoutError:
        seen = f"no answer within {PART_SECONDS:g} s"
    except Exception as problem:
        seen = one_line(problem)
    return [
        error(
            subject,
            seen,
            "Check that it is running, that this machine can reach it, and that the settings are correct.",
        )
    ]
