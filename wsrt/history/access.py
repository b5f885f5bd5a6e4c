"""Access to the history store for readers and operators, with or without a running event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..addresses import Room
from ..cluster import background_loop, sending
from ..conf import require_installed
from ..exceptions import UnknownNamespace, WrongContext
from ..protocol.namespaces import namespaces
from ..realms import RoomId, Tenant, realm_of
from ..stores.of_process import may_hold_connections
from ..tenants import recipient_tenant
from .backends import store_of_loop
from .base import HistoryStore

T = TypeVar("T")


def run(twin: str, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
    """
    Call an asynchronous function from synchronous code.

    Args:
        twin: The name of the asynchronous function that code in an event loop calls instead.
        function: The function to call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The result of the function.

    Raises:
        WrongContext: An event loop is running in this thread.
        Exception: Anything that the function raises.
    """
    sending.require_no_loop(f"history.{twin}")
    return background_loop.run(function(*args, **kwargs))


def open_store() -> HistoryStore:
    """
    Return the running loop's store, for a caller that needn't hold connections.

    Raises:
        StoreUnavailable: The settings don't name a usable store.
        WrongContext: History is kept in the memory of each process, and this process holds no connections.
    """
    store = store_of_loop()
    if not (store.is_shared or may_hold_connections()):
        raise WrongContext(
            "history is kept in the memory of each process, and this process holds no connections. Set "
            'WSRT["HISTORY"]["BACKEND"] to wsrt.history.redis.RedisHistory'
        )
    return store


def room_of_call(room: str, namespace: object, tenant: Tenant) -> RoomId:
    """
    Return the realm and the name of the room that the arguments of a call refer to.

    Raises:
        UnknownNamespace: No consumer of this process has the namespace.
        TenantRequired: The namespace has tenants, and neither the call nor the setting provides one.
        InvalidRoom: The text can't be the name of a room.
        TypeError, ValueError: An argument isn't valid.
    """
    if not isinstance(namespace, str):
        raise TypeError(f"namespace must be a str, not {type(namespace).__name__}")
    name = Room(room).name
    try:
        namespaces.of(namespace)
    except UnknownNamespace:
        require_installed()
        raise
    return realm_of(namespace, recipient_tenant(tenant, namespace)), name
