"""
Presence: who is connected, in the whole cluster.

    from wsrt import presence

    presence.count("lobby", namespace="chat")
    presence.online([ada, grace])            # those of them who are connected anywhere
    for member in await presence.amembers("lobby", namespace="chat"):
        print(member.user_id, member.data)

Every connection counts from the end of its ``on_connect``, in every room that it joined, whether its consumer shows
members to each other (``presence = True``) or not. What is read is right within one lease of any crash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic_core import from_json

from ..addresses import RESERVED, Room, UserKey, user_key
from ..protocol.namespaces import namespaces as known_namespaces
from ..realms import NOT_GIVEN, Tenant, includes, realm_of, split_realm
from ..tenants import tenant_of_call
from .access import open_store, run
from .base import EVERYONE, BadCursor, ConnectionRecord, Count, NodeRecord, StoreUnavailable

__all__ = [
    "BadCursor",
    "ConnectionInfo",
    "Member",
    "NodeInfo",
    "Page",
    "RoomInfo",
    "Stats",
    "StoreUnavailable",
    "aconnections",
    "acount",
    "ais_online",
    "amembers",
    "aonline",
    "arooms",
    "astats",
    "ausers",
    "connections",
    "count",
    "is_online",
    "members",
    "online",
    "rooms",
    "stats",
    "users",
]

T = TypeVar("T")
U = TypeVar("U", bound=Hashable)

LIMIT = 1000
"""Items of a page, about, unless asked for otherwise."""

MOST = 100_000
"""Items of a page at most."""


class Page(list[T]):
    """
    A list, or the part of it that was asked for.

    Attributes:
        next: what to pass as ``after`` for what follows; None at the end.
    """

    def __init__(self, items: Iterable[T] = (), next: str | None = None) -> None:
        super().__init__(items)
        self.next = next


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """
    Somebody in a room.

    Attributes:
        user_id: None for all guests (connections without a user) together.
        connections: how many they have in the room.
        data: what ``member(room)`` of the consumer returned, as plain data.
    """

    user_id: UserKey | None
    connections: int
    data: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class RoomInfo:
    """
    A room that somebody is in: users, each once; connections of guests; connections in all.

    Attributes:
        tenant: whose room it is; None where the namespace has no tenants.
    """

    name: str
    namespace: str
    users: int
    guests: int
    connections: int
    tenant: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """
    A connection.

    Attributes:
        id: its address is ``Connection(id)``.
        node: the id of the node that holds it.
        since: when it was opened, in UTC.
        last_seen: when its node last said that it is there, in UTC.
        consumer: the name of its class.
        address, user_agent: None unless the setting asks for them (``PRESENCE["OPTIONS"]["DETAILS"]``).
        tenant: None where it has none.
    """

    id: str
    namespace: str
    user_id: UserKey | None
    node: str
    since: dt.datetime | None
    last_seen: dt.datetime | None
    consumer: str
    address: str | None
    user_agent: str | None
    tenant: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class NodeInfo:
    """
    An event loop of a process that holds connections.

    Attributes:
        lease: seconds for which its connections count if it is not heard of again.
        lag_ms: by how much its last heartbeat was late, which is how busy its loop is.
        started: in UTC.
    """

    id: str
    host: str
    pid: int
    version: str
    connections: int
    lag_ms: int
    lease: float
    started: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """
    The cluster as a whole.

    Attributes:
        namespaces: by name, everybody in it: users, guests, connections; of all its tenants together.
        is_shared: whether this is the cluster; False: this process only.
        everyone: the same for each tenant of each namespace; one entry for a namespace without tenants.
    """

    nodes: tuple[NodeInfo, ...]
    namespaces: dict[str, RoomInfo]
    is_shared: bool
    everyone: tuple[RoomInfo, ...] = ()

    @property
    def connections(self) -> int:
        """Connections of all namespaces."""
        return sum(everyone.connections for everyone in self.namespaces.values())


# Asynchronous.


async def amembers(
    room: str,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """
    Return who is in a room, in no order.

    Args:
        tenant: whose room it is, where the consumers of the namespace have tenants; None for the connections without
            one. Not given: what ``WSRT["TENANT"]`` returns.
        search: only users whose id contains this.
        limit: about how many, from 1 to 100,000; a small room comes whole.
        after: ``next`` of the page before.

    Raises:
        BadCursor: ``after`` is not what a page of this store had in ``next`` (a ValueError).
        TenantRequired, TypeError, ValueError: an argument is missing, or cannot be one.
        StoreUnavailable: the store did not answer (a BackplaneUnavailable).
        WrongContext: presence is kept in each process, and this one holds no connections.
    """
    name = Room(room).name
    realm = _realm(namespace, tenant)
    _check(search, limit, after)
    store = await open_store()
    with _cursor(after):
        page = await store.members(realm, name, cursor=after, limit=limit, search=search)
    return Page(
        (Member(_key(member.user_id), member.connections, _plain(member.data)) for member in page.items),
        page.next,
    )


async def ausers(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """Return who is connected to a namespace, in no order. See amembers()."""
    realm = _realm(namespace, tenant)
    _check(search, limit, after)
    store = await open_store()
    with _cursor(after):
        page = await store.members(realm, EVERYONE, cursor=after, limit=limit, search=search)
    return Page((Member(_key(member.user_id), member.connections) for member in page.items), page.next)


async def acount(room: str, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> int:
    """Return how many are in a room: users, each once, and guests, each connection. Raises as amembers()."""
    name = Room(room).name
    realm = _realm(namespace, tenant)
    store = await open_store()
    (found,) = await store.counts([(realm, name)])
    return found.users + found.guests


async def ais_online(user: object, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> bool:
    """Return whether a user has a connection; namespace None means any. Raises as amembers(), and TypeError."""
    return bool(await _online([user_key(user)], namespace, tenant))


async def aonline(users: Iterable[U], *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> set[U]:
    """Return those of some users who have a connection; namespace None means any. Raises as ais_online()."""
    keys = {user: user_key(user) for user in users}
    there = await _online(list(dict.fromkeys(keys.values())), namespace, tenant)
    return {user for user, key in keys.items() if key in there}


async def arooms(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[RoomInfo]:
    """Return the rooms that anybody is in, largest first where the store can. See amembers()."""
    realm = _realm(namespace, tenant)
    _check(search, limit, after)
    store = await open_store()
    with _cursor(after):
        page = await store.rooms(realm, cursor=after, limit=limit, search=search)
    return Page(
        (_room_info(record.room, realm, record.count) for record in page.items),
        page.next,
    )


async def aconnections(
    *,
    room: str | None = None,
    user: object = None,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[ConnectionInfo]:
    """Return connections of a namespace; with ``room`` or ``user``, those of them. See amembers()."""
    name = EVERYONE if room is None else Room(room).name
    user_id = None if user is None else user_key(user)
    realm = _realm(namespace, tenant)
    _check("", limit, after)
    store = await open_store()
    with _cursor(after):
        page = await store.connections(realm, name, user_id=user_id, cursor=after, limit=limit)
    seen = {record.id: record.facts.get("beat") for record in await store.nodes()} if page.items else {}
    return Page((_connection(record, seen.get(record.node)) for record in page.items), page.next)


async def astats() -> Stats:
    """Return nodes, and how many are connected to each namespace. Raises as amembers()."""
    store = await open_store()
    known = {name for name in known_namespaces if known_namespaces[name].consumers}
    realms = sorted({*await store.namespaces(), *known})
    counts = await store.counts([(realm, EVERYONE) for realm in realms])
    everyone = tuple(_room_info("", realm, found) for realm, found in zip(realms, counts, strict=True))
    nodes = tuple(_node(record) for record in await store.nodes())
    return Stats(nodes, _by_namespace(everyone), store.is_shared, everyone)


# Synchronous.


def members(
    room: str,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """Return who is in a room. See amembers(); raises WrongContext in a running event loop."""
    return run(
        amembers, room, namespace=namespace, tenant=_tenant(namespace, tenant), search=search, limit=limit, after=after
    )


def users(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[Member]:
    """Return who is connected to a namespace. See ausers()."""
    return run(ausers, namespace=namespace, tenant=_tenant(namespace, tenant), search=search, limit=limit, after=after)


def count(room: str, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> int:
    """Return how many are in a room. See acount()."""
    return run(acount, room, namespace=namespace, tenant=_tenant(namespace, tenant))


def is_online(user: object, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> bool:
    """Return whether a user has a connection. See ais_online()."""
    return run(ais_online, user_key(user), namespace=namespace, tenant=_tenant(namespace, tenant))


def online(users: Iterable[U], *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> set[U]:
    """Return those of some users who have a connection. See aonline()."""
    # Here, not in the loop: querysets and request.user ask the database when they are first looked at.
    keys = {user: user_key(user) for user in users}
    there = run(aonline, keys.values(), namespace=namespace, tenant=_tenant(namespace, tenant))
    return {user for user, key in keys.items() if key in there}


def rooms(
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    search: str = "",
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[RoomInfo]:
    """Return the rooms that anybody is in. See arooms()."""
    return run(arooms, namespace=namespace, tenant=_tenant(namespace, tenant), search=search, limit=limit, after=after)


def connections(
    *,
    room: str | None = None,
    user: object = None,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    limit: int = LIMIT,
    after: str | None = None,
) -> Page[ConnectionInfo]:
    """Return connections of a namespace. See aconnections()."""
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
    """Return nodes, and how many are connected to each namespace. See astats()."""
    return run(astats)


# Private.


def _tenant(namespace: object, tenant: Tenant) -> str | None:
    """Return the tenant that the calling code means. Raises TenantRequired, TypeError, ValueError."""
    if not isinstance(namespace, str | None):
        raise TypeError(f"a namespace is a string, not {type(namespace).__name__}")
    return tenant_of_call(tenant, namespace)


def _realm(namespace: object, tenant: Tenant) -> str:
    """Return where a store keeps what a call asks for. Raises as _tenant()."""
    if not isinstance(namespace, str):
        raise TypeError(f"a namespace is a string, not {type(namespace).__name__}")
    return realm_of(namespace, _tenant(namespace, tenant))


def _check(search: object, limit: object, after: object) -> None:
    """Check what every reader takes, before a store is asked. Raises TypeError, ValueError."""
    if not isinstance(search, str):
        raise TypeError(f"search is a string, not {type(search).__name__}")
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit is an integer, not {type(limit).__name__}")
    if not 1 <= limit <= MOST:
        raise ValueError(f"limit is from 1 to {MOST}, not {limit}")
    if not isinstance(after, str | None):
        raise TypeError(f"after is the next of a page, a string, not {type(after).__name__}")


@contextlib.contextmanager
def _cursor(after: str | None) -> Iterator[None]:
    """Tell whoever brings a cursor that is none, or one of another store, in the words of this interface."""
    try:
        yield
    except BadCursor as error:
        raise BadCursor(f"after={after!r} is not what a page of this store had in next") from error


async def _online(keys: Sequence[str], namespace: str | None, tenant: Tenant) -> set[str]:
    its_tenant = _tenant(namespace, tenant)
    store = await open_store()
    # Operators who look at who is connected are not connected to the application.
    anywhere = [realm for realm in await store.namespaces() if not realm.startswith(RESERVED)]
    realms = anywhere if namespace is None else [realm_of(namespace, its_tenant)]
    found: set[str] = set()
    for realm in realms:
        if not includes(namespace, its_tenant, realm):
            continue
        numbers = await store.user_connections(realm, EVERYONE, keys)
        found.update(key for key, number in zip(keys, numbers, strict=True) if number)
    return found


def _key(user_id: str | None) -> UserKey | None:
    return None if user_id is None else UserKey(user_id)


def _plain(data: str | None) -> Any:
    return None if data is None else from_json(data)


def _room_info(name: str, realm: str, count: Count) -> RoomInfo:
    namespace, tenant = split_realm(realm)
    return RoomInfo(name, namespace, count.users, count.guests, count.connections, tenant)


def _by_namespace(everyone: Iterable[RoomInfo]) -> dict[str, RoomInfo]:
    """Return the sums over the tenants of each namespace."""
    sums: dict[str, RoomInfo] = {}
    for found in everyone:
        so_far = sums.get(found.namespace, RoomInfo("", found.namespace, 0, 0, 0))
        sums[found.namespace] = RoomInfo(
            "",
            found.namespace,
            so_far.users + found.users,
            so_far.guests + found.guests,
            so_far.connections + found.connections,
        )
    return sums


def _connection(record: ConnectionRecord, seen: float | None) -> ConnectionInfo:
    namespace, tenant = split_realm(record.namespace)
    details = _plain(record.details) or {}
    # The id under which presence knows a node that was fenced is not the one that its connections are named after.
    base, _, number = record.id.rpartition("-")
    since = details.get("since")
    return ConnectionInfo(
        f"{base.partition('.')[0]}-{number}",
        namespace,
        _key(record.user_id),
        record.node.partition(".")[0],
        None if since is None else dt.datetime.fromtimestamp(since, dt.UTC),
        None if seen is None else dt.datetime.fromtimestamp(seen, dt.UTC),
        details.get("consumer", ""),
        details.get("address"),
        details.get("user_agent"),
        tenant,
    )


def _node(record: NodeRecord) -> NodeInfo:
    facts = record.facts
    return NodeInfo(
        record.id.partition(".")[0],
        facts["host"],
        facts["pid"],
        facts["version"],
        facts["connections"],
        facts["lag_ms"],
        record.lease,
        dt.datetime.fromtimestamp(facts["started"], dt.UTC),
    )
