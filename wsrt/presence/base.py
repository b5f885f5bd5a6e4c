"""
The interface of presence stores, and the records that they take and return.

A store keeps the rooms of each node's connections, counts them by user, and reports the changes. It doesn't hold
connections itself: nodes write theirs, and any process reads. One instance serves one event loop.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

from ..exceptions import StoreUnavailable as StoreUnavailable
from ..realms import RoomId as RoomId
from ..stores.options import require_none, require_seconds

T = TypeVar("T")

MEMBER_BYTES = 48
"""Bytes of a member in a list in addition to its user id and data: keys, punctuation, and the number of connections."""

EVERYONE = "wsrt.everyone"
"""The room that every connection of a namespace is in. The name is reserved, so no application has such a room."""


class LeaseLost(Exception):
    """
    The lease of a node has ended, or the store has lost it.

    The node's writes are rejected; it must start over under a new id.
    """


# Written by nodes.


class Unset(enum.Enum):
    """The type of UNSET."""

    UNSET = enum.auto()


UNSET: Final = Unset.UNSET
"""The value of ``data`` for a connection that doesn't set data for its user. None, in contrast, clears the data."""

MemberData = str | None | Literal[Unset.UNSET]
"""The data that a connection sets for its user: JSON, None to clear it, or UNSET to leave it as it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """
    The operation that puts a connection into a room. Repeating it replaces the connection's user, data and details.

    Attributes:
        namespace: The realm of the room: its namespace, plus the tenant if there is one. See RoomId.
        room: The room's name.
        connection: The number of the connection on its node.
        user_id: The user's id. None for a guest.
        data: The data that members see for the user. The data set last by any of the user's connections is used, also
            after that connection has left, until the user has left the room. (In a cache, which doesn't number the
            changes of a room: until the user has no connection in the room on the same node.) Ignored for guests.
        details: The details that operators see for the connection, as JSON. None for no details.
    """

    namespace: str
    room: str
    connection: int
    user_id: str | None = None
    data: MemberData = UNSET
    details: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Leave:
    """
    The operation that removes a connection from a room. Repeating it has no effect.

    Attributes:
        namespace: The realm of the room: its namespace, plus the tenant if there is one. See RoomId.
        room: The room's name.
        connection: The number of the connection on its node.
    """

    namespace: str
    room: str
    connection: int


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """
    A change that the members of a room must be notified of.

    Attributes:
        namespace: The realm of the room: its namespace, plus the tenant if there is one. See RoomId.
        room: The room's name.
        kind: "joined" for a user's first connection, "left" for the last, "changed" if the user's data changed. Further
            connections of a user aren't a change. All guests together are one member, which changes with each of their
            connections.
        user_id: The user's id. None for the guests.
        connections: The number of connections that the user, or the guests, have in the room after the change.
        data: The user's data after the change, as JSON. None if there is none.
        version: The version of the room after the change, one more than before. 0 from a store without versions.
    """

    namespace: str
    room: str
    kind: Literal["joined", "left", "changed"]
    user_id: str | None
    connections: int
    data: str | None
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class NodeFacts:
    """
    The data of a heartbeat.

    Attributes:
        id: The node's id: 96 random bits in hexadecimal. After the node lost its lease, followed by ``.`` and a number.
        facts: Facts for operators: ``host``, ``pid``, ``started`` and ``beat`` (UNIX times in seconds), ``version``,
            ``connections``, ``servers``, ``lag_ms``, and ``limits``, the counters of limits that were reached.
    """

    id: str
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Beat:
    """
    The answer to a heartbeat.

    Attributes:
        is_alive: Whether the lease was renewed. If False, it had ended or is unknown, and the node is fenced: its
            writes are rejected.
        expired: The ids of at most 16 other nodes whose lease has ended. Their connections are still in the store, and
            must be removed with reap().
        next_expiry: The number of seconds until the next lease of another node ends. None if there is none.
    """

    is_alive: bool
    expired: tuple[str, ...] = ()
    next_expiry: float | None = None


# Returned to readers.


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """
    The counts of a room.

    Attributes:
        users: The number of users, each counted once.
        guests: The number of connections without a user.
        connections: The number of all connections.
    """

    users: int
    guests: int
    connections: int


@dataclasses.dataclass(frozen=True, slots=True)
class MemberRecord:
    """
    A user in a room, or all its guests together.

    Attributes:
        user_id: The user's id. None for the guests.
        connections: The number of connections in the room.
        data: The user's data as JSON. None if there is none.
    """

    user_id: str | None
    connections: int
    data: str | None

    @property
    def size(self) -> int:
        """The approximate number of bytes that the member takes in a list of members."""
        name, data = self.user_id or "", self.data or ""
        data_bytes = len(data) if data.isascii() else len(data.encode("utf-8", "surrogatepass"))
        # An escaped name takes up to six times as many bytes.
        return MEMBER_BYTES + len(json.dumps(name)) + data_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """
    A room at one version.

    Attributes:
        version: The version of the room. 0 for an empty room, and from a store without versions.
        count: The counts of the room.
        members: All members. None if they are more or larger than the caller allowed. Their data may be slightly newer
            than ``version``; the changes that set it have later versions.
    """

    version: int
    count: Count
    members: tuple[MemberRecord, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class RoomRecord:
    """A room with at least one connection, and its counts."""

    namespace: str
    room: str
    count: Count


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """
    A connection.

    Attributes:
        id: ``{node}-{number}``.
        namespace: The realm of the connection: its namespace, plus the tenant if there is one. See RoomId.
        user_id: The user's id. None for a guest.
        node: The id of the node that holds it.
        details: Its details as JSON. None if there are none.
    """

    id: str
    namespace: str
    user_id: str | None
    node: str
    details: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class NodeRecord:
    """
    A node with a valid lease.

    Attributes:
        id: The node's id.
        lease: The number of seconds until the lease ends.
        facts: The facts of its last heartbeat; see NodeFacts.
    """

    id: str
    lease: float
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """
    A page of a long list.

    Attributes:
        items: The items on the page.
        next: The cursor of the next page. None on the last page.
    """

    items: tuple[T, ...]
    next: str | None


class BadCursor(ValueError):
    """
    The cursor isn't the ``next`` of a page of this store.

    Stores raise it before they access their backend. Cursors come from URLs, so an invalid one isn't a failure.
    """


PLACES = "wsrt.places:"
"""
The beginning of the names of places: of the connections that one user, or one address, may have.

Stores keep them like rooms, but readers don't see them, and they cause no changes.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """
    The operation that asks for a place for a connection, among those of one user or one IP address.

    Repeating it is harmless.

    Attributes:
        namespace: For a user, the realm. For an IP address, the namespace.
        room: The name under which the places of the user or IP address are kept. It begins with PLACES.
        connection: The number of the connection on its node.
        limit: The number of places. None if the connection has its place already and confirms it: it keeps the place,
            even if more connections have places than are allowed. The Decision that the store returns then names the
            connections of the user or IP address that were replaced and aren't closed yet, so that the node can repeat
            the command that closes them.
        replaces: Whether the connection gets the place of the oldest one if all are taken. Otherwise it gets none.
    """

    namespace: str
    room: str
    connection: int
    limit: int | None
    replaces: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """
    The answer to a Claim: whether a connection gets one of the places that a limit of connections allows.

    Attributes:
        namespace: As in the claim.
        room: As in the claim. Not a room of clients, but the name under which the places of a user or IP address are
            kept.
        connection: As in the claim.
        is_given: Whether the connection has a place.
        replaced: The ids of the connections that have lost their place to this one, each of them ``{node}-{number}``.
    """

    namespace: str
    room: str
    connection: int
    is_given: bool
    replaced: tuple[str, ...] = ()


LEAST_LEASE = 0.1
"""The shortest lease in seconds. There are three heartbeats in a lease."""


class PresenceStore(abc.ABC):
    """
    The base class of presence stores.

    Every method may raise StoreUnavailable, and methods with a ``cursor`` may raise BadCursor. Names of namespaces,
    rooms and users are arbitrary non-empty strings. Different names must never share a key in the backend.

    ``PresenceStoreContract`` in ``wsrt.presence.contract`` is a test suite for implementations.

    Args:
        location: The location of the backend, such as a URL or the alias of a cache. None for the store's default.
        lease: The number of seconds for which the connections of a node count after its last heartbeat.
        options: The other items of ``PRESENCE["OPTIONS"]``, with names in lower case.

    Raises:
        TypeError: The store has no such option.
        ValueError: An option or the location isn't valid.
    """

    is_shared: ClassVar[bool] = True
    """Whether other processes see what this one writes."""

    is_versioned: ClassVar[bool] = True
    """
    Whether apply() and reap() return every change exactly once in the whole cluster, with contiguous versions.

    If not, they return the changes that this node knows of, versions are 0, and nodes compare snapshots.
    """

    gives_places: ClassVar[bool] = False
    """
    Whether decide() gives places to connections, so that limits of connections hold for all processes together.

    If not, each node gives the places of its own connections.
    """

    def __init__(self, location: str | None = None, *, lease: float = 30.0, **options: Any) -> None:
        require_seconds("LEASE", lease, least=LEAST_LEASE)
        self.location = location
        self.lease = float(lease)
        require_none(self, options)

    # For nodes.

    @abc.abstractmethod
    async def begin(self, node: NodeFacts) -> Beat:
        """Begin the lease of a node. The id of the node is new to the store."""

    @abc.abstractmethod
    async def beat(self, node: NodeFacts) -> Beat:
        """Renew the lease of a node. A lease that has ended is never revived: ``is_alive`` is False then."""

    @abc.abstractmethod
    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        """
        Apply operations of a node in order, in few round trips.

        Operations are idempotent. After an error, the caller doesn't know which were applied, and repeats all of them.

        Args:
            node: The node's id.
            operations: The joins and leaves of its connections.

        Returns:
            The changes.

        Raises:
            LeaseLost: The node's lease has ended. Operations after its end have no effect.
        """

    async def decide(self, node: str, operations: Sequence[Claim | Leave]) -> list[Decision]:
        """
        Give places to connections of a node, and take them back, in order. Only called if ``gives_places`` is set.

        A place is taken until its connection leaves, or until its node is reaped. A connection that is replaced by a
        newer one loses its place at once. Until its Leave arrives, decisions about claims for the same places name it.

        Args:
            node: The node's id.
            operations: The Claims of its connections, and the Leaves of those that have a place.

        Returns:
            The decision about each claim.

        Raises:
            LeaseLost: The node's lease has ended. Operations after its end have no effect.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def reap(self, node: str) -> AsyncIterator[list[Change]]:
        """
        Remove all connections of a node that has died or shuts down, and fence it: reject its writes from now on.

        Works in chunks, so that other operations never wait long. If a reaper dies, another one continues its work.
        Ends at once if another reaper is at work.

        Yields:
            The changes of each chunk.
        """

    async def expired(self) -> tuple[str, ...]:
        """
        Return the ids of at most 16 nodes whose lease has ended and which haven't been reaped.

        Readers call it and reap these nodes, in case no node is left to do so. A store that leaves out expired nodes in
        all its results returns ().
        """
        return ()

    @abc.abstractmethod
    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        """Return the connections of a node that the store has in a room, by their numbers on the node."""

    @abc.abstractmethod
    async def versions(self, rooms: Sequence[RoomId]) -> list[int]:
        """Return the versions of rooms, in few round trips. 0 for an empty room."""

    # For readers. The methods that list connections or nodes leave out nodes whose lease has ended.

    @abc.abstractmethod
    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        """
        Return the counts and version of a room at one moment, with the members if they are few and small enough.

        Args:
            namespace: The namespace of the room.
            room: The room's name.
            limit: The largest number of members to return.
            max_bytes: The largest sum of their ``size`` in bytes. None for any.
        """

    @abc.abstractmethod
    async def counts(self, rooms: Sequence[RoomId]) -> list[Count]:
        """Return the Count of each of these rooms, in the same order."""

    @abc.abstractmethod
    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        """
        Return a page of about ``limit`` members, in no particular order.

        A member who stays in the room is on at least one of the pages.

        Args:
            namespace: The namespace of the room.
            room: The room's name.
            cursor: ``next`` of the previous page. None for the first page.
            limit: The approximate number of members on the page.
            search: A text that the user id must contain, ignoring case. Guests are left out of a search.
        """

    @abc.abstractmethod
    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        """Return the number of connections that each of ``users`` has in a room."""

    @abc.abstractmethod
    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        """
        Return a page of about ``limit`` rooms, the largest first if the store can sort them.

        EVERYONE, the room of all connections of a namespace, is left out.
        """

    @abc.abstractmethod
    async def connections(
        self,
        namespace: str,
        room: str = EVERYONE,
        *,
        user_id: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
    ) -> Page[ConnectionRecord]:
        """
        Return a page of about ``limit`` connections in a room; with ``user_id`` only those of this user in the room.

        The details of a connection are those in its Join to EVERYONE, the room of all connections of the namespace.
        """

    @abc.abstractmethod
    async def namespaces(self) -> list[str]:
        """Return the namespaces with at least one connection."""

    @abc.abstractmethod
    async def nodes(self) -> list[NodeRecord]:
        """Return the nodes with a valid lease."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Release the connections, threads and timers that the store holds in this loop."""
