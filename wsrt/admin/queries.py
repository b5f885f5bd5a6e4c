"""
The queries behind the admin's pages, and their results.

Each page has one query (``WatchRooms(namespace="chat")``) with one result (``Rooms``). The view runs the query once and
renders the result. The live socket runs it repeatedly and sends the result when it has changed. Queries and results are
events, so that the page can send its query over the socket as it is.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Annotated, Any, TypedDict

from pydantic import AfterValidator, BaseModel, PrivateAttr, field_validator
from pydantic_core import to_json

from .. import presence
from ..addresses import RESERVED, Room, User, UserKey
from ..exceptions import StoreUnavailable, WrongContext
from ..history.queries import afacts
from ..presence.access import open_store, run
from ..presence.base import EVERYONE, Count
from ..presence.results import limits_reached
from ..protocol.events import Event
from ..protocol.namespaces import namespaces
from ..realms import realm_of, split_realm
from ..tenants import check_tenant

PAGE_ROWS = 100
"""Approximate number of rows of a page."""

MAX_DATA_CHARACTERS = 500
"""Number of characters of a member's data that are shown: a page of members must fit into one frame."""


# In the admin, "namespace" stands for a realm: "chat", or "chat@red" for the tenant "red". A user of the tenant across
# all namespaces is in the realm "@red".


def is_internal(realm: str) -> bool:
    """Return whether a realm is used by wsrt itself, such as that of these pages. Such realms aren't shown."""
    return realm.startswith(RESERVED)


def require_visible(realm: str) -> str:
    """Return the realm. Raises ValueError if its namespace is wsrt's own or its tenant isn't valid."""
    if is_internal(realm):
        raise ValueError("this namespace is wsrt's own")
    check_tenant(split_realm(realm)[1])
    return realm


class RealmArguments(TypedDict):
    """A realm as the two keyword arguments that public functions take in its place."""

    namespace: str
    tenant: str | None


def realm_arguments(realm: str) -> RealmArguments:
    """Return a realm as the keyword arguments of the public functions."""
    namespace, tenant = split_realm(realm)
    return {"namespace": namespace, "tenant": tenant}


VisibleRealm = Annotated[str, AfterValidator(require_visible)]
"""A realm that the application uses."""

# Rows of tables.


class NodeRow(BaseModel):
    """A node. ``lease`` is the time left, in seconds; ``lag_ms`` is in milliseconds; ``refused`` counts connections."""

    id: str
    host: str
    pid: int
    version: str
    connections: int
    refused: int
    lag_ms: int
    lease: int
    started: dt.datetime


class LimitRow(BaseModel):
    """
    A limit that was reached.

    ``setting`` says where it is set, ``times`` and ``processes`` how often it was reached, and in how many processes.
    """

    name: str
    setting: str
    times: int
    processes: int


class NamespaceRow(BaseModel):
    """The numbers of users, guests and connections in a namespace."""

    name: str
    users: int
    guests: int
    connections: int


class RoomRow(BaseModel):
    """The numbers of users, guests and connections in a room."""

    name: str
    users: int
    guests: int
    connections: int


class UserRow(BaseModel):
    """A user, or all guests (None). ``data`` is JSON; ``name`` is "" if unknown or not visible to the viewer."""

    user_id: str | None
    name: str = ""
    connections: int
    data: str = ""


class ConnectionRow(BaseModel):
    """A connection. ``node`` is "host:pid"; ``expires`` is the time when its credentials expire."""

    id: str
    namespace: str
    user_id: str | None
    name: str = ""
    node: str
    since: dt.datetime | None
    last_seen: dt.datetime | None
    consumer: str
    address: str | None
    user_agent: str | None
    has_session: bool
    expires: dt.datetime | None

    @property
    def token(self) -> str:
        """The token of the connection as the target of an action, see Target.token."""
        return json.dumps(["connection", self.namespace, self.id])


# Results.


class Overview(Event, name="overview"):
    """The namespaces and nodes of the cluster, and the limits that they have reached."""

    connections: int
    namespaces: list[NamespaceRow]
    nodes: list[NodeRow]
    limits: list[LimitRow]


class Rooms(Event, name="rooms"):
    """Rooms of a namespace."""

    rooms: list[RoomRow]
    next: str | None


class Users(Event, name="users"):
    """Users of a namespace. ``is_cut`` is true if too many names match the search, so that some may be missing."""

    users: list[UserRow]
    next: str | None
    is_cut: bool = False


class RoomDetail(Event, name="room"):
    """
    A room: its counts, its members, their connections, and what is kept of it.

    Attributes:
        is_kept: Whether anything was published with history in the namespace, and the history can be read.
        is_unreadable: Whether the history can't be read.
        epoch, offset: The position of its last publication.
        entries, values, bytes, oldest: What is kept of it, and since when.
    """

    users: int
    guests: int
    connections: int
    is_kept: bool = False
    is_unreadable: bool = False
    epoch: str = ""
    offset: int = 0
    entries: int = 0
    values: int = 0
    bytes: int = 0
    oldest: dt.datetime | None = None
    members: list[UserRow]
    members_next: str | None
    sessions: list[ConnectionRow]
    sessions_next: str | None


class UserDetail(Event, name="user"):
    """A user's connections in all namespaces. ``is_cut`` is true if there are more."""

    connections: int
    sessions: list[ConnectionRow]
    is_cut: bool


class Unavailable(Event, name="unavailable"):
    """Presence can't be read at the moment."""


Result = Overview | Rooms | Users | RoomDetail | UserDetail


# Queries.


class WatchOverview(Event, name="overview.watch"):
    """Watch nodes and namespaces."""

    async def run(self) -> Overview:
        """Return the result. Raises StoreUnavailable, WrongContext."""
        stats = await presence.astats()
        realms = sorted((realm_of(found.namespace, found.tenant), found) for found in stats.everyone)
        shown = [
            NamespaceRow(name=name, users=found.users, guests=found.guests, connections=found.connections)
            for name, found in realms
            if not is_internal(name)
        ]
        nodes = [
            NodeRow(
                id=node.id,
                host=node.host,
                pid=node.pid,
                version=node.version,
                connections=node.connections,
                refused=node.refused,
                lag_ms=node.lag_ms,
                lease=round(node.lease),
                started=node.started,
            )
            for node in sorted(stats.nodes, key=lambda node: (node.host, node.pid, node.id))
        ]
        limits = [
            LimitRow(name=limit.name, setting=limit.setting, times=limit.times, processes=limit.processes)
            for limit in limits_reached(stats.nodes)
        ]
        connections = sum(row.connections for row in shown)
        return Overview(connections=connections, namespaces=shown, nodes=nodes, limits=limits)


class WatchRooms(Event, name="rooms.watch"):
    """Watch the rooms whose names contain a text."""

    namespace: VisibleRealm
    search: str = ""
    after: str | None = None

    async def run(self) -> Rooms:
        """Return the result. Raises StoreUnavailable, WrongContext."""
        if not self.namespace:
            return Rooms(rooms=[], next=None)  # there are no consumers at all
        page = await presence.arooms(
            **realm_arguments(self.namespace), search=self.search, limit=PAGE_ROWS, after=self.after
        )
        rows = [
            RoomRow(name=room.name, users=room.users, guests=room.guests, connections=room.connections) for room in page
        ]
        return Rooms(rooms=rows, next=page.next)


class WatchUsers(Event, name="users.watch"):
    """Watch the users whose ids or names contain a text."""

    namespace: VisibleRealm
    search: str = ""
    after: str | None = None

    # Users whose names match the search. Looked up once per query, and only for viewers who may see names.
    _extra_ids: tuple[str, ...] = PrivateAttr(default=())
    _is_truncated: bool = PrivateAttr(default=False)

    def include_users(self, ids: Sequence[str], is_truncated: bool) -> None:
        """
        Include users in the results, whether or not their ids match the search.

        Args:
            ids: The users' ids.
            is_truncated: Whether ``ids`` is incomplete, because too many names match.
        """
        self._extra_ids = tuple(ids)
        self._is_truncated = is_truncated

    async def run(self) -> Users:
        """Return the result. Raises StoreUnavailable, WrongContext."""
        if not self.namespace:
            return Users(users=[], next=None)
        page = await presence.ausers(
            **realm_arguments(self.namespace), search=self.search, limit=PAGE_ROWS, after=self.after
        )
        rows = [UserRow(user_id=member.user_id, connections=member.connections) for member in page]
        if self._extra_ids and self.after is None:
            known = {row.user_id for row in rows}
            wanted = [user for user in self._extra_ids if user not in known]
            numbers = await count_connections(self.namespace, wanted)
            found = [UserRow(user_id=user, connections=number) for user, number in numbers if number]
            rows = [*found[:PAGE_ROWS], *rows]
            return Users(users=rows, next=page.next, is_cut=self._is_truncated or len(found) > PAGE_ROWS)
        return Users(users=rows, next=page.next)


class WatchRoom(Event, name="room.watch"):
    """Watch one room. Its members and connections are paged separately."""

    namespace: VisibleRealm
    room: str
    members_after: str | None = None
    sessions_after: str | None = None

    @field_validator("room")
    @classmethod
    def _is_room(cls, name: str) -> str:
        return Room(name).name

    async def run(self) -> RoomDetail:
        """Return the result. Raises StoreUnavailable, WrongContext."""
        members = await presence.amembers(
            self.room, **realm_arguments(self.namespace), limit=PAGE_ROWS, after=self.members_after
        )
        sessions = await presence.aconnections(
            room=self.room, **realm_arguments(self.namespace), limit=PAGE_ROWS, after=self.sessions_after
        )
        count = await count_in_room(self.namespace, self.room)
        return RoomDetail(
            users=count.users,
            guests=count.guests,
            connections=count.connections,
            members=[
                UserRow(user_id=member.user_id, connections=member.connections, data=data_text(member.data))
                for member in members
            ],
            members_next=members.next,
            sessions=await _connection_rows(sessions),
            sessions_next=sessions.next,
            **await _history_of(self.namespace, self.room),
        )


class WatchUser(Event, name="user.watch"):
    """Watch one user in all namespaces of a tenant."""

    user: str
    tenant: str | None = None

    @field_validator("user")
    @classmethod
    def _is_user(cls, user: str) -> str:
        return User(UserKey(user)).id

    async def run(self) -> UserDetail:
        """Return the result. Raises StoreUnavailable, WrongContext."""
        found: list[presence.ConnectionInfo] = []
        is_cut = False
        for realm in await visible_realms():
            if split_realm(realm)[1] != self.tenant:
                continue
            page = await presence.aconnections(user=self.user, **realm_arguments(realm), limit=PAGE_ROWS)
            found += page
            is_cut = is_cut or page.next is not None
        return UserDetail(connections=len(found), sessions=await _connection_rows(found), is_cut=is_cut)


Query = WatchOverview | WatchRooms | WatchUsers | WatchRoom | WatchUser


def rows_with_users(result: Result) -> Iterator[UserRow | ConnectionRow]:
    """Yield the rows that have a user id."""
    match result:
        case Users():
            yield from result.users
        case RoomDetail():
            yield from result.members
            yield from result.sessions
        case UserDetail():
            yield from result.sessions


# Helpers.


def local_namespaces() -> list[str]:
    """Return the namespaces of this process's consumers: those that it can publish to."""
    return sorted(name for name in namespaces if namespaces[name].consumers and not is_internal(name))


async def visible_realms() -> list[str]:
    """
    Return the realms of the application, those with the most connections first.

    Raises:
        StoreUnavailable, WrongContext: Presence can't be read, see wsrt.presence.
    """
    everyone = (await presence.astats()).everyone
    found = {realm_of(one.namespace, one.tenant): one.connections for one in everyone}
    shown = [realm for realm in found if not is_internal(realm)]
    return sorted(shown, key=lambda realm: (-found[realm], realm))


def run_query(query: Query) -> Result:
    """Run a query from synchronous code. Raises StoreUnavailable, WrongContext."""
    query_run: Callable[[], Coroutine[Any, Any, Result]] = query.run
    return run(query_run)


def keeps_history(realm: str) -> bool:
    """Return whether an event of a namespace is kept in history."""
    return bool(namespaces.kept_in(split_realm(realm)[0]))


async def _history_of(realm: str, room: str) -> dict[str, Any]:
    """Return the fields of RoomDetail about the history of a room."""
    if not keeps_history(realm):
        return {}
    try:
        facts = await afacts((realm, room))
    except (StoreUnavailable, WrongContext):
        # The rest of the page doesn't need it.
        return {"is_unreadable": True}
    oldest = None if facts.oldest is None else dt.datetime.fromtimestamp(facts.oldest, dt.UTC)
    return {
        "is_kept": True,
        **facts.position.as_dict(),
        "entries": facts.entries,
        "values": facts.values,
        "bytes": facts.size,
        "oldest": oldest,
    }


async def count_in_room(namespace: str, room: str) -> Count:
    """Count the users and connections in a room, or in the namespace (EVERYONE). Raises StoreUnavailable."""
    store = await open_store()
    (count,) = await store.counts([(namespace, room)])
    return count


async def count_connections(namespace: str, users: Sequence[str]) -> list[tuple[str, int]]:
    """Return users with their numbers of connections in a namespace. Raises StoreUnavailable."""
    store = await open_store()
    numbers = await store.user_connections(namespace, EVERYONE, users) if users else []
    return list(zip(users, numbers, strict=True))


def data_text(data: object) -> str:
    """Return plain data as JSON on one line, truncated to MAX_DATA_CHARACTERS; "" for None."""
    if data is None:
        return ""
    text = to_json(data).decode()
    return text if len(text) <= MAX_DATA_CHARACTERS else f"{text[:MAX_DATA_CHARACTERS]}…"


async def _connection_rows(connections: Sequence[presence.ConnectionInfo]) -> list[ConnectionRow]:
    if not connections:
        return []
    stats = await presence.astats()
    nodes = {node.id: f"{node.host}:{node.pid}" for node in stats.nodes}
    return [
        ConnectionRow(
            id=found.id,
            namespace=realm_of(found.namespace, found.tenant),
            user_id=found.user_id,
            node=nodes.get(found.node, found.node),
            since=found.since,
            # ``last_seen`` is the last heartbeat of the node, which can be older than the connection itself.
            last_seen=max(filter(None, (found.since, found.last_seen)), default=None),
            consumer=found.consumer,
            address=found.address,
            user_agent=found.user_agent,
            has_session=found.has_session,
            expires=found.expires,
        )
        for found in connections
    ]
