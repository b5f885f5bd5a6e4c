"""Access to the presence store for readers, with or without a running event loop."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ..addresses import parts_of
from ..cluster import background_loop
from ..cluster.sending import require_no_loop
from ..delivery.tasks import start_task
from ..exceptions import WrongContext
from ..metrics import counters
from ..stores.of_process import may_hold_connections
from .backends import is_shared, store_of_loop
from .base import EVERYONE, PresenceStore, StoreUnavailable
from .notify import messages_of, notify_nodes
from .tracker import forget_lost, lost_nodes

T = TypeVar("T")

READER_SECONDS = 1.0
"""The longest time in seconds that readers wait for the connections of dead nodes to be removed."""

logger = logging.getLogger("wsrt")


def run(twin: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
    """
    Call an asynchronous function of ``wsrt.presence`` from synchronous code.

    Args:
        twin: The asynchronous function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The result of the function.

    Raises:
        WrongContext: An event loop is running in this thread. Or presence is kept in the memory of each process, and
            this process holds no connections.
    """
    require_no_loop(f"presence.{twin.__name__}")
    _require_connections()
    return background_loop.run(twin(*args, **kwargs))


async def open_store() -> PresenceStore:
    """
    Return the store for a query.

    If it contains connections of dead nodes, they are removed first. That may take longer than a reader waits; then the
    query still counts some of them.

    Raises:
        StoreUnavailable: The settings don't name a usable store, or it didn't answer.
        WrongContext: Presence is kept in the memory of each process, and this process holds no connections.
    """
    store = store_of_loop()
    if store is None:
        raise StoreUnavailable("WSRT['PRESENCE'] doesn't name a usable store; run manage.py check for the reason")
    _require_connections()
    lost = dict.fromkeys(await store.expired(), store) if store.is_shared else lost_nodes()
    if lost:
        await _remove_dead(lost)
    return store


async def is_connected(namespaces: Sequence[str], connection_id: str) -> bool:
    """
    Return whether a connection exists in one of ``namespaces``.

    Args:
        namespaces: The realms to look in: namespaces, plus the tenant if there is one. See wsrt.realms.
        connection_id: The connection's id.

    Raises:
        StoreUnavailable: The store can't be used or didn't answer.
        ValueError: The id isn't valid.
    """
    node, number = parts_of(connection_id)
    store = await open_store()
    # A node that lost its lease goes on under another id, its own followed by a number.
    known = [record.id for record in await store.nodes() if record.id.partition(".")[0] == node]
    return any([number in await store.held(one, space, EVERYONE) for one in known for space in namespaces])


# Whether this process can answer.


def _require_connections() -> None:
    """Raise WrongContext if presence is kept in the memory of processes and this one holds no connections."""
    if not (is_shared() or may_hold_connections()):
        raise WrongContext(
            "presence is kept in the memory of each process, and this process holds no connections. Set "
            'WSRT["PRESENCE"]["BACKEND"] to wsrt.presence.redis.RedisPresence or wsrt.presence.cache.CachePresence'
        )


# Dead nodes.


@dataclasses.dataclass(frozen=True, slots=True)
class _Reaping:
    """
    A task that removes dead nodes.

    Attributes:
        task: The task.
        until: The time until which readers wait for it, in its loop's time.
    """

    task: asyncio.Task[None]
    until: float


# By the id of the loop. The task knows its loop, to notice when another loop has got the id of a closed one.
_reapings: dict[int, _Reaping] = {}


async def _remove_dead(lost: dict[str, PresenceStore]) -> None:
    """
    Remove the connections of dead nodes from their stores, and wait for it for at most READER_SECONDS.

    A node with many connections takes seconds. One task for each loop does it, and all readers wait for the same task
    up to the same time. So after a crash, pages are delayed once, and not for as long as the task takes.

    Args:
        lost: The store of each dead node, by node id.
    """
    loop = asyncio.get_running_loop()
    known = _reapings.get(id(loop))
    if known is None or known.task.get_loop() is not loop or known.task.done():
        for key in [key for key, other in _reapings.items() if other.task.done() or other.task.get_loop().is_closed()]:
            del _reapings[key]
        # An empty context: the task must not keep that of the first reader, such as its request.
        task = start_task(loop, _reap(lost), context=contextvars.Context())
        known = _reapings[id(loop)] = _Reaping(task, loop.time() + READER_SECONDS)
    seconds = known.until - loop.time()
    if seconds > 0:
        # wait() doesn't cancel the task when the time is up or this reader is cancelled, and doesn't raise its errors.
        await asyncio.wait([known.task], timeout=min(seconds, READER_SECONDS))


async def _reap(lost: dict[str, PresenceStore]) -> None:
    try:
        for node, store in lost.items():
            async for changes in store.reap(node):
                await notify_nodes(store, messages_of(changes))
            forget_lost(node)
    except StoreUnavailable as error:
        # The next reader, or another node, continues.
        counters.count("presence_unavailable", "failed to remove the connections of a dead node: %s", error)
    except Exception:
        counters.count("presence_failed")
        logger.exception("failed to remove the connections of a dead node")
