"""How presence is reached: from code with a loop and without one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from .. import portal
from ..addresses import parts_of
from ..exceptions import WrongContext
from ..node import nodes
from ..sending import is_below_a_server, require_no_loop
from .store import EVERYONE, PresenceStore, StoreUnavailable
from .stores import is_shared, store_of_loop
from .tracker import messages_of, take_lost, tell

T = TypeVar("T")


def run(twin: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
    """
    Call the asynchronous twin from code without a loop.

    Raises:
        WrongContext: a loop runs in this thread, or presence is each process's own and this one holds no connections.
    """
    require_no_loop(f"presence.{twin.__name__}")
    if not nodes() and not is_below_a_server() and not is_shared():
        raise WrongContext(
            "presence is kept in each process for itself, and this process holds no connections. Set "
            'WSRT["PRESENCE"]["BACKEND"] to wsrt.presence.redis.RedisPresence or wsrt.presence.cache.CachePresence'
        )
    return portal.portal.run(twin(*args, **kwargs))


async def open_store() -> PresenceStore:
    """
    Return the store, once what nobody else takes out is taken out.

    Raises:
        StoreUnavailable: there is none that can be used, or it does not answer.
    """
    store = store_of_loop()
    if store is None:
        raise StoreUnavailable("WSRT['PRESENCE'] names no store that can be used; manage.py check says why")
    lost = take_lost() if not store.is_shared else await store.expired()
    for node in lost:
        async for changes in store.reap(node):
            await tell(store, messages_of(changes))
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
