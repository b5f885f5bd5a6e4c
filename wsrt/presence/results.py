"""The objects that the functions of ``wsrt.presence`` return."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic_core import from_json

from ..addresses import UserKey
from ..metrics import CONNECTION_LIMITS, LIMITS
from ..realms import split_realm
from .base import ConnectionRecord, Count, MemberRecord, NodeRecord

T = TypeVar("T")


class Page(list[T]):
    """
    A list of results, or one page of a longer list.

    Attributes:
        next: The value to pass as ``after`` to get the next page. None on the last page.
    """

    def __init__(self, items: Iterable[T] = (), next: str | None = None) -> None:
        super().__init__(items)
        self.next = next


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """
    A user in a room, or all guests of the room together.

    Attributes:
        user_id: The user's key. None for the guests (connections without a user).
        connections: The number of connections that the user, or the guests, have in the room.
        data: The value that the consumer's ``member(room)`` returned, as plain data. None if there is none.
    """

    user_id: UserKey | None
    connections: int
    data: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class RoomInfo:
    """
    A room with at least one connection in it. In ``Stats``, a whole namespace.

    Attributes:
        name: The room's name. Empty for a whole namespace.
        namespace: The namespace of the room.
        users: The number of users, each counted once.
        guests: The number of connections without a user.
        connections: The number of all connections.
        tenant: The tenant that the room belongs to. None if the namespace has no tenants.
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
        id: The connection's id; ``Connection(id)`` is its address.
        namespace: The namespace of its consumer.
        user_id: The user's key. None for a guest.
        node: The id of the node that holds the connection.
        since: The time when it was opened, in UTC.
        last_seen: The time of the last heartbeat of its node, in UTC.
        consumer: The name of the consumer class.
        address: The client's IP address. None unless ``PRESENCE["OPTIONS"]["DETAILS"]`` is set.
        user_agent: The client's ``User-Agent`` header. None unless ``DETAILS`` is set.
        tenant: The connection's tenant. None if it has none.
        has_session: Whether it was opened with a session of Django's in which a user is signed in, so that a log-out
            closes it.
        expires: The time at which the connection is closed, as returned by ``expires_at``, in UTC. None without one.
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
    has_session: bool = False
    expires: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class NodeInfo:
    """
    A node: one event loop of a process that holds connections.

    Attributes:
        id: The node's id.
        host: The name of its host.
        pid: The id of its process.
        version: The version of wsrt that it runs.
        connections: The number of its connections at its last heartbeat.
        lag_ms: The delay of its last heartbeat in milliseconds, a measure of how busy its event loop is.
        lease: The number of seconds for which its connections still count if it sends no further heartbeat.
        started: The time when it began to track presence, in UTC.
        refused: The number of connections that its process has refused, or replaced by newer ones, because of a limit.
        limits: How often its process has reached each limit since it started, by the name of the counter. Limits that
            it hasn't reached aren't included.
    """

    id: str
    host: str
    pid: int
    version: str
    connections: int
    lag_ms: int
    lease: float
    started: dt.datetime
    refused: int = 0
    limits: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class LimitReached:
    """
    A limit that processes have reached since they started.

    Attributes:
        name: The name of the counter.
        setting: Where the limit is set.
        times: How often it was reached, by all processes together.
        processes: The number of processes that have reached it.
    """

    name: str
    setting: str
    times: int
    processes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """
    The nodes of the cluster, and the number of connections.

    Attributes:
        nodes: The nodes whose lease is valid.
        namespaces: The counts of each namespace by name, all its tenants together.
        is_shared: Whether the store covers all processes. If False, this process only.
        everyone: The counts of each tenant of each namespace; one entry for a namespace without tenants.
    """

    nodes: tuple[NodeInfo, ...]
    namespaces: dict[str, RoomInfo]
    is_shared: bool
    everyone: tuple[RoomInfo, ...] = ()

    @property
    def connections(self) -> int:
        """The number of connections to all namespaces."""
        return sum(everyone.connections for everyone in self.namespaces.values())


def key_of(user_id: str | None) -> UserKey | None:
    """Return the public form of a store's user id; None for a guest."""
    return None if user_id is None else UserKey(user_id)


def member_of(record: MemberRecord) -> Member:
    """Return the public form of a store's record of a member."""
    return Member(key_of(record.user_id), record.connections, _decode(record.data))


def room_of(name: str, realm: str, count: Count) -> RoomInfo:
    """Return the counts of a room; ``name`` is empty for a whole realm."""
    namespace, tenant = split_realm(realm)
    return RoomInfo(name, namespace, count.users, count.guests, count.connections, tenant)


def sum_by_namespace(everyone: Iterable[RoomInfo]) -> dict[str, RoomInfo]:
    """Return the counts of each namespace, all its tenants together."""
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


def connection_of(record: ConnectionRecord, last_beat: float | None) -> ConnectionInfo:
    """
    Return the public form of a store's record of a connection.

    Args:
        last_beat: The UNIX time of the last heartbeat of its node; None if unknown.
    """
    namespace, tenant = split_realm(record.namespace)
    details = _decode(record.details) or {}
    # After a node lost its lease, the store knows it under "{node}.{n}", but its connections keep their ids.
    base, _, number = record.id.rpartition("-")
    return ConnectionInfo(
        f"{base.partition('.')[0]}-{number}",
        namespace,
        key_of(record.user_id),
        record.node.partition(".")[0],
        _utc(details.get("since")),
        _utc(last_beat),
        details.get("consumer", ""),
        details.get("address"),
        details.get("user_agent"),
        tenant,
        details.get("session", False),
        _utc(details.get("expires")),
    )


def node_of(record: NodeRecord) -> NodeInfo:
    """Return the public form of a store's record of a node."""
    facts = record.facts
    # A node of another version may report other limits, or none.
    limits = {name: count for name, count in facts.get("limits", {}).items() if name in LIMITS}
    return NodeInfo(
        record.id.partition(".")[0],
        facts["host"],
        facts["pid"],
        facts["version"],
        facts["connections"],
        facts["lag_ms"],
        record.lease,
        dt.datetime.fromtimestamp(facts["started"], dt.UTC),
        sum(count for name, count in limits.items() if name in CONNECTION_LIMITS),
        limits,
    )


def limits_reached(nodes: Iterable[NodeInfo]) -> list[LimitReached]:
    """Return the limits that the processes of some nodes have reached."""
    # The nodes of one process, its event loops, report the same counters, each at another time.
    processes: dict[tuple[str, int], dict[str, int]] = {}
    for node in nodes:
        counts = processes.setdefault((node.host, node.pid), {})
        for name, count in node.limits.items():
            counts[name] = max(count, counts.get(name, 0))
    found = []
    for name, setting in LIMITS.items():
        times = [counts[name] for counts in processes.values() if name in counts]
        if times:
            found.append(LimitReached(name, setting, sum(times), len(times)))
    return found


def _decode(data: str | None) -> Any:
    return None if data is None else from_json(data)


def _utc(timestamp: float | None) -> dt.datetime | None:
    return None if timestamp is None else dt.datetime.fromtimestamp(timestamp, dt.UTC)
