"""How presence is reached: from code with a loop and without one."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from django.core import mail

from ..addresses import parts_of
from ..cluster import background_loop
from ..cluster.node import is_server, nodes
from ..cluster.sending import require_no_loop
from ..delivery.tasks import start_task
from ..exceptions import WrongContext
from ..metrics import counters
from .announce import messages_of, tell
from .backends import is_shared, store_of_loop
from .base import EVERYONE, PresenceStore, StoreUnavailable
from .tracker import forget_lost, lost_nodes

T = TypeVar("T")

READER_SECONDS = 1.0
"""How long readers wait, once dead nodes were found, for their connections to be taken out."""

logger = logging.getLogger("wsrt")


def run(twin: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
    """
    Call the asynchronous twin from code without a loop.

    Raises:
        WrongContext: a loop runs in this thread, or presence is each process's own and this one holds no connections.
    """
    require_no_loop(f"presence.{twin.__name__}")
    _require_connections()
    return background_loop.run(twin(*args, **kwargs))


async def open_store() -> PresenceStore:
    """
    Return the store, without those whom a dead node left in it, or while another task takes them out.

    Raises:
        StoreUnavailable: there is none that can be used, or it does not answer.
        WrongContext: presence is each process's own and this one holds no connections.
    """
    store = store_of_loop()
    if store is None:
        raise StoreUnavailable("WSRT['PRESENCE'] names no store that can be used; manage.py check says why")
    _require_connections()
    lost = dict.fromkeys(await store.expired(), store) if store.is_shared else lost_nodes()
    if lost:
        await _take_out(lost)
    return store


async def is_connected(namespaces: Sequence[str], connection_id: str) -> bool:
    """
    Return whether a connection counts in one of some namespaces.

    Raises:
        StoreUnavailable: nobody knows.
        ValueError: it is no id of a connection.
    """
    node, number = parts_of(connection_id)
    store = await open_store()
    # Also under the ids that the node took when it was fenced.
    known = [record.id for record in await store.nodes() if record.id.partition(".")[0] == node]
    return any([number in await store.held(one, space, EVERYONE) for one in known for space in namespaces])


# Whether this process can know.


def _require_connections() -> None:
    """Raise WrongContext where the memory of this process says nothing, since its connections are elsewhere."""
    if not (is_shared() or nodes() or is_server() or is_under_test()):
        raise WrongContext(
            "presence is kept in each process for itself, and this process holds no connections. Set "
            'WSRT["PRESENCE"]["BACKEND"] to wsrt.presence.redis.RedisPresence or wsrt.presence.cache.CachePresence'
        )


def is_under_test() -> bool:
    """Return whether Django's test environment is set up: then this process is all there is."""
    return hasattr(mail, "outbox")


# Dead nodes.


@dataclasses.dataclass(frozen=True, slots=True)
class _Reaping:
    """A task that takes dead nodes out, and until when readers wait for it, in its loop's time."""

    task: asyncio.Task[None]
    until: float


# By loop (its id, with the task, whose loop it is).
_reapings: dict[int, _Reaping] = {}


async def _take_out(lost: dict[str, PresenceStore]) -> None:
    """
    Have dead nodes taken out of their stores, and wait for that for a moment.

    A node with many connections takes seconds: one task of the loop does that, for all readers. They wait together,
    so that after a crash a page is late once, and not for as long as it takes.
    """
    loop = asyncio.get_running_loop()
    known = _reapings.get(id(loop))
    if known is None or known.task.get_loop() is not loop or known.task.done():
        for key in [key for key, other in _reapings.items() if other.task.done() or other.task.get_loop().is_closed()]:
            del _reapings[key]
        # A context of its own: not that of the reader who happened to be first.
        task = start_task(loop, _reap(lost), context=contextvars.Context())
        known = _reapings[id(loop)] = _Reaping(task, loop.time() + READER_SECONDS)
    seconds = known.until - loop.time()
    if seconds > 0:
        await asyncio.wait([known.task], timeout=min(seconds, READER_SECONDS))


async def _reap(lost: dict[str, PresenceStore]) -> None:
    try:
        for node, store in lost.items():
            async for changes in store.reap(node):
                await tell(store, messages_of(changes))
            forget_lost(node)
    except StoreUnavailable as error:
        # The next reader, or a node, goes on.
        counters.count("presence_unavailable", "the members of a dead node could not be taken out: %s", error)
    except Exception:
        counters.count("presence_failed")
        logger.exception("the members of a dead node could not be taken out")
