"""The functions of ``wsrt.presence``, each synchronous and asynchronous."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from ..addresses import RESERVED, Room, user_key
from ..protocol.namespaces import namespaces as known_namespaces
from ..realms import NOT_GIVEN, Tenant, includes, realm_of
from ..tenants import tenant_of_call
from .access import open_store, run
from .base import EVERYONE, BadCursor
from .results import (
    ConnectionInfo,
    Member,
    Page,
    RoomInfo,
    Stats,
    connection_of,
    key_of,
    member_of,
    node_of,
    room_of,
    sum_by_namespace,
)

U = TypeVar("U", bound=Hashable)

DEFAULT_LIMIT = 1000
"""The approximate number of items on a page, unless the caller asks for another."""

MAX_LIMIT = 100_000
"""The largest ``limit`` that a caller may ask for."""


# Asynchronous.


async def amembers(
    room: str,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """
    Return the members of a room, in no particular order.

    A member who stays in the room while you read all pages is on at least one of them. If other members join or leave
    in the meantime, a member may be on two pages.

    Args:
        room: The room's name.
        namespace: The namespace of the room.
        tenant: The tenant that the room belongs to, if the consumers of the namespace have tenants. None for the
            connections without a tenant. If not given, the tenant that ``WSRT["TENANT"]`` returns.
        search: A text that the user id must contain, ignoring case.
        limit: The approximate number of members on the page, from 1 to 100,000. A small room is returned whole.
        after: ``next`` of the previous page; None for the first page.

    Raises:
        BadCursor: ``after`` isn't the ``next`` of a page of this store (a ValueError).
        TenantRequired: The namespace has tenants, and neither the argument nor the setting names one.
        TypeError: An argument has the wrong type.
        ValueError: An argument isn't valid, such as a room with an empty name.
        StoreUnavailable: The store can't be used or didn't answer (a BackplaneUnavailable).
        WrongContext: Presence is kept in the memory of each process, and this process holds no connections.
    """
    name = Room(room).name
    realm = _realm(namespace, tenant)
    _check(search, limit, after)
    store = await open_store()
    with _explain_bad_cursor(after):
        page = await store.members(realm, name, cursor=after, limit=limit, search=search)
    return Page(map(member_of, page.items), page.next)


async def ausers(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """
    Return the users who are connected to a namespace, without data and in no particular order.

    The other arguments and the exceptions are those of ``amembers()``.
    """
    realm = _realm(namespace, tenant)
    _check(search, limit, after)
    store = await open_store()
    with _explain_bad_cursor(after):
        page = await store.members(realm, EVERYONE, cursor=after, limit=limit, search=search)
    return Page((Member(key_of(member.user_id), member.connections) for member in page.items), page.next)


async def acount(room: str, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> int:
    """
    Return the number of users in a room, each counted once, plus the number of guest connections.

    The arguments mean the same as for ``amembers()``.
    """
    name = Room(room).name
    realm = _realm(namespace, tenant)
    store = await open_store()
    (found,) = await store.counts([(realm, name)])
    return found.users + found.guests


async def ais_online(user: object, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> bool:
    """
    Return whether a user has at least one connection.

    Args:
        user: The user: an int, str, UUID, saved model instance, or other object with a ``pk``.
        namespace: The namespace to look in; None for all of them.
        tenant: The tenant to look in; see ``amembers()``.

    Raises the same as ``amembers()``.
    """
    return bool(await _online([user_key(user)], namespace, tenant))


async def aonline(users: Iterable[U], *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> set[U]:
    """
    Return the users among ``users`` who have at least one connection.

    One call asks the store once for each namespace, however many users are given. The result contains the objects that
    were passed in. Takes and raises the same as ``ais_online()``.
    """
    keys = {user: user_key(user) for user in users}
    online_keys = await _online(list(dict.fromkeys(keys.values())), namespace, tenant)
    return {user for user, key in keys.items() if key in online_keys}


async def arooms(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[RoomInfo]:
    """
    Return the rooms that have at least one connection, the largest first.

    ``search`` is a text that the room's name must contain, ignoring case. Otherwise takes and raises the same as
    ``amembers()``, except for the room.
    """
    realm = _realm(namespace, tenant)
    _check(search, limit, after)
    store = await open_store()
    with _explain_bad_cursor(after):
        page = await store.rooms(realm, cursor=after, limit=limit, search=search)
    return Page((room_of(record.room, realm, record.count) for record in page.items), page.next)


async def aconnections(
    *,
    room: str | None = None,
    user: object = None,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[ConnectionInfo]:
    """
    Return the connections to a namespace, in no particular order.

    Args:
        room: Only connections in this room; None for all.
        user: Only connections of this user, given as for is_online(); None for all.
        namespace: The namespace of the connections.
        tenant: The tenant of the connections; see ``amembers()``.
        limit: The approximate number of connections on the page, from 1 to 100,000.
        after: ``next`` of the previous page; None for the first page.

    Raises the same as ``amembers()``.
    """
    name = EVERYONE if room is None else Room(room).name
    user_id = None if user is None else user_key(user)
    realm = _realm(namespace, tenant)
    _check("", limit, after)
    store = await open_store()
    with _explain_bad_cursor(after):
        page = await store.connections(realm, name, user_id=user_id, cursor=after, limit=limit)
    beats = {record.id: record.facts.get("beat") for record in await store.nodes()} if page.items else {}
    return Page((connection_of(record, beats.get(record.node)) for record in page.items), page.next)


async def astats() -> Stats:
    """
    Return the nodes of the cluster and the counts of each namespace.

    Raises:
        StoreUnavailable: The store can't be used or didn't answer.
        WrongContext: Presence is kept in the memory of each process, and this process holds no connections.
    """
    store = await open_store()
    known = {name for name in known_namespaces if known_namespaces[name].consumers}
    realms = sorted({*await store.namespaces(), *known})
    counts = await store.counts([(realm, EVERYONE) for realm in realms])
    everyone = tuple(room_of("", realm, found) for realm, found in zip(realms, counts, strict=True))
    nodes = tuple(map(node_of, await store.nodes()))
    return Stats(nodes, sum_by_namespace(everyone), store.is_shared, everyone)


# Synchronous.


def members(
    room: str,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """
    Return the members of a room. See ``amembers()``.

    Raises:
        WrongContext: Called in a running event loop; call ``amembers()`` there.
    """
    return run(
        amembers, room, namespace=namespace, tenant=_tenant(namespace, tenant), search=search, limit=limit, after=after
    )


def users(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """Return the users who are connected to a namespace. See ``ausers()``. Raises the same as ``members()``."""
    return run(ausers, namespace=namespace, tenant=_tenant(namespace, tenant), search=search, limit=limit, after=after)


def count(room: str, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> int:
    """Return the number of users and guests in a room. See ``acount()``. Raises the same as ``members()``."""
    return run(acount, room, namespace=namespace, tenant=_tenant(namespace, tenant))


def is_online(user: object, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> bool:
    """Return whether a user has at least one connection. See ``ais_online()``. Raises the same as ``members()``."""
    return run(ais_online, user_key(user), namespace=namespace, tenant=_tenant(namespace, tenant))


def online(users: Iterable[U], *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> set[U]:
    """
    Return those of ``users`` who have at least one connection. See ``aonline()``.

    Raises:
        WrongContext: As for members().
    """
    # Resolved in this thread, not in the loop: a queryset, or request.user, may run a database query at first access.
    keys = {user: user_key(user) for user in users}
    online_keys = run(aonline, keys.values(), namespace=namespace, tenant=_tenant(namespace, tenant))
    return {user for user, key in keys.items() if key in online_keys}


def rooms(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[RoomInfo]:
    """Return the rooms that have at least one connection. See ``arooms()``. Raises the same as ``members()``."""
    return run(arooms, namespace=namespace, tenant=_tenant(namespace, tenant), search=search, limit=limit, after=after)


def connections(
    *,
    room: str | None = None,
    user: object = None,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[ConnectionInfo]:
    """Return the connections to a namespace. See ``aconnections()``. Raises the same as ``members()``."""
    user_id = None if user is None else user_key(user)
    return run(
        aconnections,
        room=room,
        user=user_id,
        namespace=namespace,
        tenant=_tenant(namespace, tenant),
        limit=limit,
        after=after,
    )


def stats() -> Stats:
    """Return the nodes and the counts of each namespace. See ``astats()``. Raises the same as ``members()``."""
    return run(astats)


# Private.


def _tenant(namespace: object, tenant: Tenant) -> str | None:
    """
    Return the tenant of a call, resolved in the caller's thread.

    Raises:
        TenantRequired: No tenant is given and the namespace needs one.
        TypeError, ValueError: The namespace or the tenant isn't valid.
    """
    if not isinstance(namespace, str | None):
        raise TypeError(f"namespace must be a str, not {type(namespace).__name__}")
    return tenant_of_call(tenant, namespace)


def _realm(namespace: object, tenant: Tenant) -> str:
    """Return the realm of a call, the store's name for a namespace and a tenant. Raises the same as ``_tenant()``."""
    if not isinstance(namespace, str):
        raise TypeError(f"namespace must be a str, not {type(namespace).__name__}")
    return realm_of(namespace, _tenant(namespace, tenant))


def _check(search: object, limit: object, after: object) -> None:
    """Check the arguments of paged queries before the store is asked. Raises TypeError, ValueError."""
    if not isinstance(search, str):
        raise TypeError(f"search must be a str, not {type(search).__name__}")
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit must be from 1 to {MAX_LIMIT}, not {limit}")
    if not isinstance(after, str | None):
        raise TypeError(f"after must be None or the str `next` of an earlier page, not {type(after).__name__}")


@contextlib.contextmanager
def _explain_bad_cursor(after: str | None) -> Iterator[None]:
    """Raise BadCursor with a text about the argument ``after`` instead of the store's ``cursor``."""
    try:
        yield
    except BadCursor as error:
        raise BadCursor(
            f"after={after!r} must be the `next` of a page, and that page must come from the same store"
        ) from error


async def _online(keys: Sequence[str], namespace: str | None, tenant: Tenant) -> set[str]:
    """
    Return the users, among ``keys``, who have a connection to the namespace.

    If the namespace is None, a connection to any namespace of the project's own consumers counts.
    """
    its_tenant = _tenant(namespace, tenant)
    store = await open_store()
    # Reserved namespaces hold operators who watch the admin pages. They aren't connected to the application.
    anywhere = [realm for realm in await store.namespaces() if not realm.startswith(RESERVED)]
    realms = anywhere if namespace is None else [realm_of(namespace, its_tenant)]
    found: set[str] = set()
    for realm in realms:
        if not includes(namespace, its_tenant, realm):
            continue
        numbers = await store.user_connections(realm, EVERYONE, keys)
        found.update(key for key, number in zip(keys, numbers, strict=True) if number)
    return found
