"""The Lua scripts of presence, and the concurrent writing to several partitions, over which rooms are spread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from ...stores.redis.link import Script, load_script
from ..base import LeaseLost

T = TypeVar("T")


def _script(*names: str) -> Script:
    return load_script("wsrt.presence.redis", *names)


APPLY = _script("room", "apply")
PURGE = _script("room", "purge")
BEAT, INDEX, CLAIM, NODES = map(_script, ("beat", "index", "claim", "nodes"))
SNAPSHOT, ROOMS, FIND, PLACES = map(_script, ("snapshot", "rooms", "find", "places"))

SCRIPTS = (APPLY, PURGE, BEAT, INDEX, CLAIM, NODES, SNAPSHOT, ROOMS, FIND, PLACES)
"""All scripts."""


async def together(writes: Iterable[Coroutine[Any, Any, list[T]]]) -> list[T]:
    """
    Write partitions concurrently. Return the results of all of them, in the order of the partitions.

    All of them finish before an error is raised, so that calls don't overlap. After an error, some partitions may be
    written and others not; the caller repeats all operations.

    Raises:
        LeaseLost: The node's lease has ended. It takes precedence over other errors.
        StoreUnavailable: Redis didn't answer.
    """
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if errors:
        raise next((error for error in errors if isinstance(error, LeaseLost)), errors[0])
    return [result for outcome in outcomes if not isinstance(outcome, BaseException) for result in outcome]
