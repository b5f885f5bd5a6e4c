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
import functools
import hashlib
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from .exceptions import InvalidRoom

__all__ = ["Audience", "Connection", "Everyone", "Room", "User", "UserKey", "node_of", "user_key"]

RESERVED = "wsrt."
"""Names that begin so are wsrt's own."""

MAX_GROUP_NAME = 99
"""Channels requires fewer than 100 characters of ``[a-zA-Z0-9._-]``."""

auth_user_model: Callable[[], str] = str
"""Returns AUTH_USER_MODEL. ``wsrt.conf`` sets it (until then no model is meant): this module doesn't know Django."""


max_room_name: Callable[[], int] = functools.partial(int, 255)
"""Returns MAX_ROOM_NAME, in bytes of UTF-8. ``wsrt.conf`` sets it."""


class UserKey(str):
    """
    The key of a user, as consumers and presence give it: text that compares equal to no other user's key.

    ``"7"`` for the instance of AUTH_USER_MODEL with that primary key and for the id ``7``; ``"fleet.device:7"`` for an
    instance of another model. Whatever takes a user takes a key as it is, so wrap text that you have stored or read
    from ``wsrt.presence`` frames: ``UserKey(text)``. Plain text is an id, and an id that looks like the key of a model
    instance is refused, so that no client can take the place of one by its name.

    Raises:
        ValueError: the text is empty, or can't be encoded as UTF-8.
    """

    __slots__ = ()

    def __new__(cls, key: str) -> UserKey:
        _require_text("a user key", key)
        return super().__new__(cls, str.__str__(key))  # the value of an enumeration's member, not its name

    def __repr__(self) -> str:
        text = str.__repr__(self)
        return f"UserKey({text})" if _is_model_key(self) else text


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

    def to_message(self) -> list[Any]:
        """Return plain data for the layer; ``from_message`` reads it."""
        raise NotImplementedError  # pragma: no cover - every kind has its own


@dataclasses.dataclass(frozen=True, slots=True)
class Room(Audience):
    """
    The connections that joined a room.

    Args:
        name: any non-empty string of at most MAX_ROOM_NAME bytes that doesn't begin with ``wsrt.``.

    Raises:
        TypeError: the name is not a string.
        InvalidRoom: the string can't be a name.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a room name is a string, not {type(self.name).__name__}; str() it where you publish")
        problem = _problem_of_room(self.name)
        if problem is not None:
            raise InvalidRoom(problem)

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([group_name("room", namespace, self.name)])

    def to_message(self) -> list[Any]:
        return ["room", self.name]

    def __repr__(self) -> str:
        return f"Room({self.name!r})"


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class User(Audience):
    """
    All connections of one user, of whatever device.

    Args:
        user: an int, str, UUID or model instance. 7 and "7" are one user, and so is the instance of AUTH_USER_MODEL
            with that primary key; instances of other models are users of their own. See user_key().

    Raises:
        TypeError: for anything else, None and AnonymousUser too.
        ValueError: the text is empty, or looks like the key of a model instance.
    """

    id: UserKey

    def __init__(self, user: object) -> None:
        object.__setattr__(self, "id", user_key(user))

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([group_name("user", namespace, self.id)])

    def to_message(self) -> list[Any]:
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

    def to_message(self) -> list[Any]:
        return ["connection", self.id]

    def __repr__(self) -> str:
        return f"Connection({self.id!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Everyone(Audience):
    """Every connection of the namespace."""

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([group_name("everyone", namespace, "")])

    def to_message(self) -> list[Any]:
        return ["everyone"]

    def __repr__(self) -> str:
        return "Everyone()"


@dataclasses.dataclass(frozen=True, slots=True)
class AnyOf(Audience):
    """Two or more audiences with ``|`` between them; flat, so that a thousand users are no deep nest."""

    parts: tuple[Audience, ...]

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset().union(*(part.groups(namespace) for part in self.parts))

    def to_message(self) -> list[Any]:
        return ["|", *(part.to_message() for part in self.parts)]

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

    def to_message(self) -> list[Any]:
        return [self.operator, self.left.to_message(), self.right.to_message()]

    def __repr__(self) -> str:
        return f"({self.left!r} {self.operator} {self.right!r})"


def from_message(data: Sequence[Any]) -> Audience:
    """
    Return the audience that ``to_message`` gave the data for.

    Raises:
        ValueError: the data is of no known kind (a newer wsrt may have sent it).
    """
    match data:
        case ["room", str(name)]:
            return Room(name)
        case ["user", str(user)]:
            return User(UserKey(user))
        case ["connection", str(connection)]:
            return Connection(connection)
        case ["everyone"]:
            return Everyone()
        case ["|", _, _, *_]:
            return AnyOf(tuple(map(from_message, data[1:])))
        case ["-" | "&" as operator, left, right]:
            return Expression(operator, from_message(left), from_message(right))
    raise ValueError(f"no such address: {data!r}")


def user_key(user: object) -> UserKey:
    """
    Return the one spelling of a user that addresses, groups and presence compare (P6).

    An int, str or UUID is itself. An instance of AUTH_USER_MODEL, of its proxies and of models that inherit from it is
    its primary key, and so is a user that isn't a model instance but has a ``pk`` (simplejwt's TokenUser). An instance
    of any other model is ``app.model:pk``, by its concrete model. No key of one kind equals a key of another: an id
    that looks like ``app.model:pk`` is refused, and a user who has such a primary key gets ``auth.user:`` before it.

    Raises:
        TypeError: the value isn't an int, str, UUID or saved model instance, or the user is anonymous.
        ValueError: the text is empty, or looks like the key of a model instance.
    """
    if isinstance(user, UserKey):
        return user
    text = _text_of(user)
    if text is None:
        return _instance_key(user)
    if _is_model_key(text):
        raise ValueError(
            f"{text!r} looks like the key of a model instance, and is refused as the id of a user: pass the instance, "
            "or UserKey(...) for a key that presence or a consumer gave; ids of your own need another form than a.b:c"
        )
    return UserKey(text)


def auth_user_key(pk: object) -> UserKey:
    """Return the key of the instance of AUTH_USER_MODEL that has a primary key. Raises TypeError, ValueError."""
    text = _text_of(pk)
    if text is None:
        raise TypeError(f"the primary key of a user is an int, str or UUID, not {type(pk).__name__}")
    _require_text("a user id", text)
    return UserKey(f"{_auth_user_label()}:{text}" if _is_model_key(text) else text)


def auth_user_pk(key: str) -> str | None:
    """Return the primary key that the key of a user has in AUTH_USER_MODEL; None for one of another model."""
    if not _is_model_key(key):
        return key
    label, _, pk = key.partition(":")
    return pk if label == _auth_user_label() else None


def _instance_key(user: object) -> UserKey:
    """Return the key of an object with a primary key. Raises TypeError, ValueError."""
    # A model class has ``_meta`` and ``pk`` too.
    pk = None if isinstance(user, type) else getattr(user, "pk", None)
    text = _text_of(pk)
    if text is None:
        raise TypeError(
            f"a user is an int, str, UUID or saved model instance, not {type(user).__name__}"
            + (" without a pk (an anonymous user has no address)" if hasattr(user, "pk") else "")
            + (f"; its pk is a {type(pk).__name__}: pass str() of it" if pk is not None else "")
        )
    meta: Any = getattr(user, "_meta", None)
    if meta is None:
        if getattr(user, "is_anonymous", False) is True:
            raise TypeError(
                f"a user is signed in, and {type(user).__name__} is an anonymous user, which has no address"
            )
        return auth_user_key(pk)
    label = _auth_user_label()
    for model in (meta.concrete_model, *meta.get_parent_list()):
        if model._meta.label_lower == label:
            # Of a model that inherits, the row of the user may have another primary key than its own.
            return auth_user_key(pk if model is meta.concrete_model else getattr(user, model._meta.pk.attname))
    _require_text("a user id", text)
    return UserKey(f"{meta.concrete_model._meta.label_lower}:{text}")


def _text_of(value: object) -> str | None:
    """Return the text of an id; None for what can't be one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return str.__str__(value)  # of a member of an enumeration its value, not its name
    if isinstance(value, int):
        return str(int(value))
    return str(value) if isinstance(value, uuid.UUID) else None


def _is_model_key(text: str) -> bool:
    """Return whether text has the form ``app.model:pk``."""
    label, colon, _ = text.partition(":")
    app, dot, model = label.partition(".")
    return bool(colon and dot) and app.isidentifier() and model.isidentifier()


def _auth_user_label() -> str:
    app, _, model = auth_user_model().partition(".")
    return f"{app}.{model.lower()}"


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


def _problem_of_room(name: str) -> str | None:
    """Return what is wrong with the name of a room; None if nothing is. The name isn't quoted: clients send them."""
    limit = max_room_name()
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "a room name must be encodable as UTF-8"
    if not size:
        return "a room name must not be empty"
    if size > limit:
        return f"a room name must not be longer than {limit} bytes (MAX_ROOM_NAME), this one has {size}"
    return f"room names that begin with {RESERVED!r} are reserved" if name.startswith(RESERVED) else None


def _require_text(what: str, text: str) -> None:
    if not text:
        raise ValueError(f"{what} must not be empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be encodable as UTF-8: {text!r}") from None
