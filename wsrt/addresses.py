"""
Addresses: to whom an event is published.

    from wsrt import addresses as to

    to.Room("lobby") - to.User(7)          # everybody in the room but user 7
    to.Room("a") | to.Room("b")            # each connection once, though it be in both
    to.Room("staff") & to.User(7)          # the connections of user 7 that are in the room
    to.Connection(consumer.id)
    to.Everyone()

Python binds ``-`` before ``&`` before ``|``; ``repr`` shows the parentheses. An address belongs to no namespace: the
namespace stands beside it at the call, and no name of one namespace reaches another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import uuid
from collections.abc import Sequence
from typing import Any

__all__ = ["Audience", "Connection", "Everyone", "Room", "User", "node_of", "user_key"]

RESERVED = "wsrt."
"""Names that begin so are wsrt's own."""

MAX_GROUP_NAME = 99
"""Channels requires fewer than 100 characters of ``[a-zA-Z0-9._-]``."""


class Audience:
    """Any address, and what ``|``, ``-`` and ``&`` make of addresses."""

    __slots__ = ()

    def __or__(self, other: Audience) -> Audience:
        return _combine("|", self, other)

    def __sub__(self, other: Audience) -> Audience:
        return _combine("-", self, other)

    def __and__(self, other: Audience) -> Audience:
        return _combine("&", self, other)

    def groups(self, namespace: str) -> frozenset[str]:
        """Return the channel-layer groups that reach every node with a connection in this audience."""
        raise NotImplementedError  # pragma: no cover - every kind has its own

    def to_wire(self) -> list[Any]:
        """Return plain data for the layer; ``from_wire`` reads it."""
        raise NotImplementedError  # pragma: no cover - every kind has its own


@dataclasses.dataclass(frozen=True, slots=True)
class Room(Audience):
    """The connections that joined a room. Any non-empty string is a name, but for those that begin with "wsrt."."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a room name is a string, not {type(self.name).__name__}; str() it where you publish")
        _require_text("a room name", self.name)
        if self.name.startswith(RESERVED):
            raise ValueError(f"room names that begin with {RESERVED!r} are reserved: {self.name!r}")

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([group_name("room", namespace, self.name)])

    def to_wire(self) -> list[Any]:
        return ["room", self.name]

    def __repr__(self) -> str:
        return f"Room({self.name!r})"


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class User(Audience):
    """
    All connections of one user, of whatever device.

    Args:
        user: an int, str, UUID or model instance (its pk). 7 and "7" are one user.

    Raises:
        TypeError: for anything else, None and AnonymousUser too.
    """

    id: str

    def __init__(self, user: object) -> None:
        object.__setattr__(self, "id", user_key(user))

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([group_name("user", namespace, self.id)])

    def to_wire(self) -> list[Any]:
        return ["user", self.id]

    def __repr__(self) -> str:
        return f"User({self.id!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Connection(Audience):
    """One connection, by the ``id`` of its consumer."""

    id: str

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise TypeError(f"a connection id is a string, not {type(self.id).__name__}; pass consumer.id")
        _require_text("a connection id", self.id)

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([node_group(node_of(self.id))])

    def to_wire(self) -> list[Any]:
        return ["connection", self.id]

    def __repr__(self) -> str:
        return f"Connection({self.id!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Everyone(Audience):
    """Every connection of the namespace."""

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([group_name("everyone", namespace, "")])

    def to_wire(self) -> list[Any]:
        return ["everyone"]

    def __repr__(self) -> str:
        return "Everyone()"


@dataclasses.dataclass(frozen=True, slots=True)
class AnyOf(Audience):
    """Two or more audiences with ``|`` between them; flat, so that a thousand users are no deep nest."""

    parts: tuple[Audience, ...]

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset().union(*(part.groups(namespace) for part in self.parts))

    def to_wire(self) -> list[Any]:
        return ["|", *(part.to_wire() for part in self.parts)]

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.parts))})"


@dataclasses.dataclass(frozen=True, slots=True)
class Expression(Audience):
    """Two audiences with ``-`` or ``&`` between them."""

    operator: str
    left: Audience
    right: Audience

    def groups(self, namespace: str) -> frozenset[str]:
        # Whoever is in a-b or a&b is in a: the nodes of a are enough.
        return self.left.groups(namespace)

    def to_wire(self) -> list[Any]:
        return [self.operator, self.left.to_wire(), self.right.to_wire()]

    def __repr__(self) -> str:
        return f"({self.left!r} {self.operator} {self.right!r})"


def from_wire(data: Sequence[Any]) -> Audience:
    """
    Return the audience that ``to_wire`` gave the data for.

    Raises:
        ValueError: the data is of no known kind (a newer wsrt may have sent it).
    """
    match data:
        case ["room", str(name)]:
            return Room(name)
        case ["user", str(user)]:
            return User(user)
        case ["connection", str(connection)]:
            return Connection(connection)
        case ["everyone"]:
            return Everyone()
        case ["|", _, _, *_]:
            return AnyOf(tuple(map(from_wire, data[1:])))
        case ["-" | "&" as operator, left, right]:
            return Expression(operator, from_wire(left), from_wire(right))
    raise ValueError(f"no such address: {data!r}")


def user_key(user: object) -> str:
    """
    Return the one spelling of a user that addresses, groups and presence compare (P6).

    Raises:
        TypeError: the value is no int, str, UUID or saved model instance.
        ValueError: the string is empty.
    """
    if isinstance(user, bool):
        raise TypeError("a user is an int, str, UUID or model instance, not a bool")
    if isinstance(user, str):
        _require_text("a user id", user)
        return str.__str__(user)  # of a member of an enumeration its value, not its name
    if isinstance(user, int | uuid.UUID):
        return str(int(user)) if isinstance(user, int) else str(user)
    key = getattr(user, "pk", None)
    if isinstance(key, int | str | uuid.UUID) and not isinstance(key, bool):
        return user_key(key)
    raise TypeError(
        f"a user is an int, str, UUID or saved model instance, not {type(user).__name__}"
        + (" without a pk (an anonymous user has no address)" if hasattr(user, "pk") else "")
    )


def parts_of(connection_id: str) -> tuple[str, int]:
    """Return node and number of a connection id. Raises ValueError for what is none."""
    parts = re.fullmatch(r"([0-9a-f]+)-([0-9]{1,20})", connection_id)
    if parts is None:
        raise ValueError(f"{connection_id!r} is no id of a connection; wsrt_presence --user shows them.")
    return parts[1], int(parts[2])


def node_of(connection_id: str) -> str:
    """Return the node that a connection id names."""
    return connection_id.partition("-")[0]


def node_group(node_id: str) -> str:
    """Return the group of one node."""
    return group_name("node", "", node_id)


CONTROL_GROUP = "wsrt.control"
"""The group that every node joins."""


def group_name(kind: str, namespace: str, name: str) -> str:
    """
    Return the channel-layer group of a name: no two (kind, namespace, name) share one (P4).

    Readable where it can be, such as ``wsrt.room.chat.lobby``: a byte outside ``[A-Za-z0-9-]`` (and "." in the name)
    becomes ``_xx``. A name that would be too long is replaced by its SHA-256; the kind then ends with "_", which no
    readable kind does.
    """
    readable = f"wsrt.{kind}.{_escape(namespace, '-')}.{_escape(name, '.-')}"
    if len(readable) <= MAX_GROUP_NAME:
        return readable
    # The length of the namespace keeps ("a", "bc") and ("ab", "c") apart.
    text = f"{len(namespace)}:{namespace}{name}".encode("utf-8", "surrogatepass")
    return f"wsrt.{kind}_.{hashlib.sha256(text).hexdigest()}"


def _escape(text: str, also_safe: str) -> str:
    if re.fullmatch(rf"[A-Za-z0-9{re.escape(also_safe)}]*", text, re.ASCII):
        return text
    return "".join(
        chr(byte) if byte < 128 and (chr(byte).isalnum() or chr(byte) in also_safe) else f"_{byte:02x}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def _combine(operator: str, left: Audience, right: object) -> Audience:
    if not isinstance(right, Audience):
        return NotImplemented  # type: ignore[no-any-return]  # Python's way to say that operands do not fit
    if operator == "|":
        return AnyOf((*_parts(left), *_parts(right)))
    return Expression(operator, left, right)


def _parts(audience: Audience) -> tuple[Audience, ...]:
    return audience.parts if isinstance(audience, AnyOf) else (audience,)


def _require_text(what: str, text: str) -> None:
    if not text:
        raise ValueError(f"{what} must not be empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be encodable as UTF-8: {text!r}") from None
