"""
What the pages show, and how it is asked for.

A page is a question (``WatchRooms(namespace="chat")``) and its answer (``Rooms``). The view asks once and renders the
answer; the socket asks again and again, and sends the answer whenever it is another one. Both are events, so both see
the same.
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
from ..presence.access import open_store, run
from ..presence.base import EVERYONE, Count
from ..protocol.events import Event
from ..protocol.namespaces import namespaces
from ..realms import check_tenant, realm_of, split_realm

SHOWN = 100
"""Rows of a page, about."""

DATA_CHARACTERS = 500
"""What is shown of a member's data: a page of members must fit into one frame."""


# In the admin "namespace" is a realm: "chat", or "chat@red" for the tenant "red". The user of a tenant, in whatever
# namespace, is in "@red".


def is_hidden(realm: str) -> bool:
    """Return whether a realm is wsrt's own, and nobody's business."""
    return realm.startswith(RESERVED)


def require_shown(realm: str) -> str:
    """Return a realm that may be shown. Raises ValueError."""
    if is_hidden(realm):
        raise ValueError("this namespace is wsrt's own")
    check_tenant(split_realm(realm)[1])
    return realm


class Place(TypedDict):
    """A namespace and a tenant."""

    namespace: str
    tenant: str | None


def place_of(realm: str) -> Place:
    """Return the arguments by which the public functions know a realm."""
    namespace, tenant = split_realm(realm)
    return {"namespace": namespace, "tenant": tenant}


Shown = Annotated[str, AfterValidator(require_shown)]
"""A realm of the application's."""

# Rows of tables.


class NodeRow(BaseModel):
    """A node; the lease in seconds that are left."""

    id: str
    host: str
    pid: int
    version: str
    connections: int
    lag_ms: int
    lease: int
    started: dt.datetime


class NamespaceRow(BaseModel):
    """Everybody in a namespace."""

    name: str
    users: int
    guests: int
    connections: int


class RoomRow(BaseModel):
    """Everybody in a room."""

    name: str
    users: int
    guests: int
    connections: int


class UserRow(BaseModel):
    """A user, or all guests (None); ``data`` as text, ``name`` where it is known and may be seen."""

    user_id: str | None
    name: str = ""
    connections: int
    data: str = ""


class ConnectionRow(BaseModel):
    """A connection; ``node`` as an operator knows it."""

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

    @property
    def token(self) -> str:
        """The connection as a target of an action (see Target.token)."""
        return json.dumps(["connection", self.namespace, self.id])


# Answers.


class Overview(Event, name="overview"):
    """The whole cluster."""

    connections: int
    namespaces: list[NamespaceRow]
    nodes: list[NodeRow]


class Rooms(Event, name="rooms"):
    """Rooms of a namespace."""

    rooms: list[RoomRow]
    next: str | None


class Users(Event, name="users"):
    """Who is connected to a namespace; ``is_cut`` where a name is so common that some may be missing."""

    users: list[UserRow]
    next: str | None
    is_cut: bool = False


class RoomShown(Event, name="room"):
    """A room: how many, who, and their connections."""

    users: int
    guests: int
    connections: int
    members: list[UserRow]
    members_next: str | None
    sessions: list[ConnectionRow]
    sessions_next: str | None


class UserShown(Event, name="user"):
    """A user's connections, of all namespaces; ``is_cut`` when there are more."""

    connections: int
    sessions: list[ConnectionRow]
    is_cut: bool


class Unavailable(Event, name="unavailable"):
    """Presence cannot be read at the moment."""


Answer = Overview | Rooms | Users | RoomShown | UserShown


# Questions.


class WatchOverview(Event, name="overview.watch"):
    """Nodes and namespaces."""

    async def read(self) -> Overview:
        """Return the answer. Raises StoreUnavailable, WrongContext."""
        stats = await presence.astats()
        realms = sorted((realm_of(found.namespace, found.tenant), found) for found in stats.everyone)
        shown = [
            NamespaceRow(name=name, users=found.users, guests=found.guests, connections=found.connections)
            for name, found in realms
            if not is_hidden(name)
        ]
        nodes = [
            NodeRow(
                id=node.id,
                host=node.host,
                pid=node.pid,
                version=node.version,
                connections=node.connections,
                lag_ms=node.lag_ms,
                lease=round(node.lease),
                started=node.started,
            )
            for node in sorted(stats.nodes, key=lambda node: (node.host, node.pid, node.id))
        ]
        return Overview(connections=sum(row.connections for row in shown), namespaces=shown, nodes=nodes)


class WatchRooms(Event, name="rooms.watch"):
    """Rooms whose name contains a text."""

    namespace: Shown
    search: str = ""
    after: str | None = None

    async def read(self) -> Rooms:
        """Return the answer. Raises StoreUnavailable, WrongContext."""
        if not self.namespace:
            return Rooms(rooms=[], next=None)  # where there are no consumers at all
        page = await presence.arooms(**place_of(self.namespace), search=self.search, limit=SHOWN, after=self.after)
        rows = [
            RoomRow(name=room.name, users=room.users, guests=room.guests, connections=room.connections) for room in page
        ]
        return Rooms(rooms=rows, next=page.next)


class WatchUsers(Event, name="users.watch"):
    """Users whose id, or name, contains a text."""

    namespace: Shown
    search: str = ""
    after: str | None = None

    # Ids that belong to the name that is searched; found once, by whoever may see names.
    _named: tuple[str, ...] = PrivateAttr(default=())
    _is_cut: bool = PrivateAttr(default=False)

    def also(self, ids: Sequence[str], is_cut: bool) -> None:
        """Search for these users too, whatever their ids contain; ``is_cut`` where there are more of that name."""
        self._named = tuple(ids)
        self._is_cut = is_cut

    async def read(self) -> Users:
        """Return the answer. Raises StoreUnavailable, WrongContext."""
        if not self.namespace:
            return Users(users=[], next=None)
        page = await presence.ausers(**place_of(self.namespace), search=self.search, limit=SHOWN, after=self.after)
        rows = [UserRow(user_id=member.user_id, connections=member.connections) for member in page]
        if self._named and self.after is None:
            known = {row.user_id for row in rows}
            wanted = [user for user in self._named if user not in known]
            numbers = await connections_of(self.namespace, wanted)
            found = [UserRow(user_id=user, connections=number) for user, number in numbers if number]
            rows = [*found[:SHOWN], *rows]
            return Users(users=rows, next=page.next, is_cut=self._is_cut or len(found) > SHOWN)
        return Users(users=rows, next=page.next)


class WatchRoom(Event, name="room.watch"):
    """One room, with two lists that are paged each for itself."""

    namespace: Shown
    room: str
    members_after: str | None = None
    sessions_after: str | None = None

    @field_validator("room")
    @classmethod
    def _is_room(cls, name: str) -> str:
        return Room(name).name

    async def read(self) -> RoomShown:
        """Return the answer. Raises StoreUnavailable, WrongContext."""
        members = await presence.amembers(self.room, **place_of(self.namespace), limit=SHOWN, after=self.members_after)
        sessions = await presence.aconnections(
            room=self.room, **place_of(self.namespace), limit=SHOWN, after=self.sessions_after
        )
        count = await count_in_room(self.namespace, self.room)
        return RoomShown(
            users=count.users,
            guests=count.guests,
            connections=count.connections,
            members=[
                UserRow(user_id=member.user_id, connections=member.connections, data=as_text(member.data))
                for member in members
            ],
            members_next=members.next,
            sessions=await _rows(sessions),
            sessions_next=sessions.next,
        )


class WatchUser(Event, name="user.watch"):
    """One user of a tenant, in all namespaces."""

    user: str
    tenant: str | None = None

    @field_validator("user")
    @classmethod
    def _is_user(cls, user: str) -> str:
        return User(UserKey(user)).id

    async def read(self) -> UserShown:
        """Return the answer. Raises StoreUnavailable, WrongContext."""
        found: list[presence.ConnectionInfo] = []
        is_cut = False
        for realm in await shown_namespaces():
            if split_realm(realm)[1] != self.tenant:
                continue
            page = await presence.aconnections(user=self.user, **place_of(realm), limit=SHOWN)
            found += page
            is_cut = is_cut or page.next is not None
        return UserShown(connections=len(found), sessions=await _rows(found), is_cut=is_cut)


Question = WatchOverview | WatchRooms | WatchUsers | WatchRoom | WatchUser


def rows_with_users(answer: Answer) -> Iterator[UserRow | ConnectionRow]:
    """Yield the rows that name a user."""
    match answer:
        case Users():
            yield from answer.users
        case RoomShown():
            yield from answer.members
            yield from answer.sessions
        case UserShown():
            yield from answer.sessions


# Facts.


def known_namespaces() -> list[str]:
    """Return the namespaces that consumers of this process have: what can be published to from here."""
    return sorted(name for name in namespaces if namespaces[name].consumers and not is_hidden(name))


async def shown_namespaces() -> list[str]:
    """
    Return the realms that anybody is in, and the namespaces known here, those with most connections first.

    Raises:
        StoreUnavailable, WrongContext: as wsrt.presence.
    """
    everyone = (await presence.astats()).everyone
    found = {realm_of(one.namespace, one.tenant): one.connections for one in everyone}
    shown = [realm for realm in found if not is_hidden(realm)]
    return sorted(shown, key=lambda realm: (-found[realm], realm))


def ask(question: Question) -> Answer:
    """Return the answer to a question, from code without a loop. Raises StoreUnavailable, WrongContext."""
    read: Callable[[], Coroutine[Any, Any, Answer]] = question.read
    return run(read)


async def count_in_room(namespace: str, room: str) -> Count:
    """Return how many are in a room, or in EVERYONE. Raises StoreUnavailable."""
    store = await open_store()
    (count,) = await store.counts([(namespace, room)])
    return count


async def connections_of(namespace: str, users: Sequence[str]) -> list[tuple[str, int]]:
    """Return how many connections users have in a namespace. Raises StoreUnavailable."""
    store = await open_store()
    numbers = await store.user_connections(namespace, EVERYONE, users) if users else []
    return list(zip(users, numbers, strict=True))


def as_text(data: object) -> str:
    """Return plain data as JSON on one line, cut where it is long; "" for None."""
    if data is None:
        return ""
    text = to_json(data).decode()
    return text if len(text) <= DATA_CHARACTERS else f"{text[:DATA_CHARACTERS]}…"


async def _rows(connections: Sequence[presence.ConnectionInfo]) -> list[ConnectionRow]:
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
            # What is known of its node: a connection was seen when it was opened, whenever that was heard of last.
            last_seen=max(filter(None, (found.since, found.last_seen)), default=None),
            consumer=found.consumer,
            address=found.address,
            user_agent=found.user_agent,
        )
        for found in connections
    ]
