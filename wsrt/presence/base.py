"""
The interface of presence stores, and the words that they speak.

A store keeps which connections of which nodes are in which rooms, counts them by user, and tells what that changed. It
knows no sockets: nodes write, anybody reads. One instance serves one event loop.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

from ..exceptions import BackplaneUnavailable
from .options import require_seconds

T = TypeVar("T")

MEMBER_BYTES = 48
"""Bytes of a member in a list besides its user id and its data: keys, punctuation, and the number of connections."""

EVERYONE = "wsrt.everyone"
"""The room of every connection of a namespace; no application can have one of this name."""


class LeaseLost(Exception):
    """The lease of a node has ended, or the store has lost it: its writes count no more, it takes a new id."""


class StoreUnavailable(BackplaneUnavailable):
    """The store did not answer."""


# What nodes write.


class Unset(enum.Enum):
    """The type of UNSET."""

    UNSET = enum.auto()


UNSET: Final = Unset.UNSET
"""In place of data: the connection says nothing of its user. None says something: that there is nothing to show."""

MemberData = str | None | Literal[Unset.UNSET]
"""What a connection says of its user: JSON, None for nothing to show, UNSET for nothing at all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """
    A connection is in a room; said again, what is said last counts.

    Attributes:
        connection: its number on its node.
        user_id: None for a guest.
        data: what members see of the user. What any of the user's connections said last counts, also when that
            connection is gone, until the user has left the room (in a store without versions: the room on its node).
            Guests have none.
        details: what operators see of the connection, as JSON; None for nothing.
    """

    namespace: str
    room: str
    connection: int
    user_id: str | None = None
    data: MemberData = UNSET
    details: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Leave:
    """A connection is not in a room any more; said again, nothing happens."""

    namespace: str
    room: str
    connection: int


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """
    What members of a room have to be told: a user came with the first connection, left with the last, has other data.

    Attributes:
        kind: further connections of one user are no change. All guests together are one member, whose ``connections``
            changes with each of them: "joined" the first, "changed", "left" the last.
        user_id: None for the guests.
        connections: how many the user has in the room after this.
        data: what is shown of the user now, as JSON; None for nothing.
        version: of the room after this change: one more than before. 0 from a store that has no versions.
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
    What a node says of itself with each heartbeat.

    Attributes:
        id: 96 random bits in hexadecimal.
        facts: for operators: ``host``, ``pid``, ``started`` (UNIX time in s), ``version``, ``connections``, ``lag_ms``.
    """

    id: str
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Beat:
    """
    The answer to a heartbeat.

    Attributes:
        is_alive: False: the lease had ended, or is unknown: the node is fenced.
        expired: ids of other nodes whose lease has ended and who have not been reaped, at most 16.
        next_expiry: seconds until the next lease of another node ends if it is not renewed; None if there is none.
    """

    is_alive: bool
    expired: tuple[str, ...] = ()
    next_expiry: float | None = None


# What anybody reads.


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """How many are in a room: users (each once), connections of guests, and connections in all."""

    users: int
    guests: int
    connections: int


@dataclasses.dataclass(frozen=True, slots=True)
class MemberRecord:
    """A user in a room; user_id None for all guests together. ``data`` is JSON."""

    user_id: str | None
    connections: int
    data: str | None

    @property
    def size(self) -> int:
        """Bytes that the member takes in a list of members, about."""
        name, data = self.user_id or "", self.data or ""
        shown = len(data) if data.isascii() else len(data.encode("utf-8", "surrogatepass"))
        # Escaped, a name takes up to six times as many bytes.
        return MEMBER_BYTES + len(json.dumps(name)) + shown


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """
    A room at one version, whole.

    Attributes:
        version: 0 for an empty room, and from a store that has no versions.
        members: None where there are more, or larger ones, than was asked for. Their data may be of a moment later:
            what changed them has a later version.
    """

    version: int
    count: Count
    members: tuple[MemberRecord, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class RoomRecord:
    """A room that somebody is in."""

    namespace: str
    room: str
    count: Count


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """A connection; its id is ``{node}-{number}``. ``details`` is JSON."""

    id: str
    namespace: str
    user_id: str | None
    node: str
    details: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class NodeRecord:
    """
    A node whose lease holds.

    Attributes:
        lease: seconds until it ends.
    """

    id: str
    lease: float
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """
    Part of a long list.

    Attributes:
        next: where the next page begins; None after the last one.
    """

    items: tuple[T, ...]
    next: str | None


class BadCursor(ValueError):
    """
    Where a page was to begin is not what a page of this store had in ``next``.

    Raised by stores before they ask anybody: what somebody typed into an address is no failure of theirs.
    """


LEAST_LEASE = 0.1
"""Seconds. Heartbeats come three times a lease."""


class PresenceStore(abc.ABC):
    """
    Where presence is kept.

    Every method may raise StoreUnavailable, and those with a ``cursor`` BadCursor. Names of namespaces, rooms and users
    are any non-empty strings; no two of them may ever meet in one key.

    Args:
        location: where it is: a URL, the alias of a cache. None for the store's default.
        lease: seconds for which the connections of a node count after its last heartbeat.
        options: what else the setting ``PRESENCE["OPTIONS"]`` holds.

    Raises:
        TypeError: there is no such option.
        ValueError: an option, or the location, is not what it should be.
    """

    is_shared: ClassVar[bool] = True
    """Whether other processes see what is written."""

    is_versioned: ClassVar[bool] = True
    """
    Whether apply() and reap() tell every change, each exactly once in the whole cluster, under contiguous versions.
    Else they tell the changes that this node knows of, versions are 0, and readers compare snapshots.
    """

    def __init__(self, location: str | None = None, *, lease: float = 30.0, **options: Any) -> None:
        require_seconds("LEASE", lease, least=LEAST_LEASE)
        self.location = location
        self.lease = float(lease)
        if options:
            raise TypeError(f"{type(self).__name__} has no option {min(options)!r}")

    # For nodes.

    @abc.abstractmethod
    async def begin(self, node: NodeFacts) -> Beat:
        """Begin the lease of a node that was never seen before."""

    @abc.abstractmethod
    async def beat(self, node: NodeFacts) -> Beat:
        """Renew the lease of a node. Never brings back one that has ended."""

    @abc.abstractmethod
    async def apply(self, node: str, operations: Sequence[Join | Leave]) -> list[Change]:
        """
        Write what happened on a node, in this order, in few round trips; return what it changed.

        Operations are idempotent: whoever does not know whether they were carried out says them again.

        Raises:
            LeaseLost: the lease of the node has ended; none of the operations after that counts.
        """

    @abc.abstractmethod
    def reap(self, node: str) -> AsyncIterator[list[Change]]:
        """
        Take everything of a node out, for good: one that has died, or that ends.

        In chunks, each with what it changed, so that nothing waits for long. Whoever dies in between is replaced:
        another reaper goes on. Ends at once where somebody else is reaping.
        """

    async def expired(self) -> tuple[str, ...]:
        """
        Return ids of nodes whose lease has ended and who have not been reaped, at most 16.

        For readers, who reap them where no node is left to do it; () where readers never see what they left.
        """
        return ()

    @abc.abstractmethod
    async def held(self, node: str, namespace: str, room: str) -> set[int]:
        """Return the numbers of a node's connections in a room, as the store has them."""

    @abc.abstractmethod
    async def versions(self, rooms: Sequence[tuple[str, str]]) -> list[int]:
        """Return the versions of rooms, given as (namespace, room); 0 for an empty one. Few round trips."""

    # For readers. What belongs to a node whose lease has ended is not shown by those that list connections or nodes.

    @abc.abstractmethod
    async def snapshot(self, namespace: str, room: str, limit: int, *, max_bytes: int | None = None) -> Snapshot:
        """
        Return a room at one moment: count and version, and the members if they are few and small enough.

        Args:
            limit: the largest number of members that are returned.
            max_bytes: the largest sum of their ``size``; None for any.
        """

    @abc.abstractmethod
    async def counts(self, rooms: Sequence[tuple[str, str]]) -> list[Count]:
        """Return how many are in each of some rooms."""

    @abc.abstractmethod
    async def members(
        self, namespace: str, room: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[MemberRecord]:
        """
        Return about ``limit`` members, in no order, each that stays at least once.

        Args:
            search: only users whose id contains it, whatever the case.
        """

    @abc.abstractmethod
    async def user_connections(self, namespace: str, room: str, users: Sequence[str]) -> list[int]:
        """Return how many connections each of some users has in a room."""

    @abc.abstractmethod
    async def rooms(
        self, namespace: str, *, cursor: str | None = None, limit: int = 500, search: str = ""
    ) -> Page[RoomRecord]:
        """Return about ``limit`` rooms, those with most users first where the store can; without EVERYONE."""

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
        """Return about ``limit`` connections of a room, or those of one user in it; details are those of EVERYONE."""

    @abc.abstractmethod
    async def namespaces(self) -> list[str]:
        """Return the namespaces in which anybody is."""

    @abc.abstractmethod
    async def nodes(self) -> list[NodeRecord]:
        """Return the nodes whose lease holds."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Give up what it holds in this loop: connections, timers."""
