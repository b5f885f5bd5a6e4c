"""
Addresses: the recipients of a publication.

    from wsrt import addresses as to

    to.Room("lobby") - to.User(7)          # all connections in the room except those of user 7
    to.Room("a") | to.Room("b")            # each connection once, even if it is in both rooms
    to.Room("staff") & to.User(7)          # the connections of user 7 that are in the room
    to.Users(team.member_ids)              # the connections of any of these users
    to.Connection(consumer.id)
    to.Everyone()

In Python, ``-`` binds more tightly than ``&``, and ``&`` more tightly than ``|``; ``repr`` shows the parentheses. An
address doesn't include a namespace, which is a separate argument of each call. Equal names in different namespaces are
different rooms and users.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .exceptions import InvalidRoom

__all__ = [
    "Audience",
    "Connection",
    "Everyone",
    "Room",
    "Rooms",
    "User",
    "UserKey",
    "Users",
    "node_of",
    "user_key",
]

RESERVED = "wsrt."
"""The prefix of wsrt's own names."""

MAX_GROUP_NAME = 99
"""The maximum length of a group's name: Channels requires fewer than 100 characters of ``[a-zA-Z0-9._-]``."""

MAX_LISTED = 10_000
"""The maximum number of users or rooms in one address."""

auth_user_model: Callable[[], str] = str
"""Returns AUTH_USER_MODEL. ``wsrt.conf`` sets it, because this module can't import Django. Empty until then."""


max_room_name: Callable[[], int] = functools.partial(int, 255)
"""Returns MAX_ROOM_NAME, in bytes of UTF-8. ``wsrt.conf`` sets it."""


class UserKey(str):
    """
    The key of a user, as consumers and presence return it. It is a string that is unique for each user.

    The key is ``"7"`` for the id ``7`` and for the instance of AUTH_USER_MODEL with that primary key. It is
    ``"fleet.device:7"`` for an instance of another model. All functions that accept a user also accept a key. Wrap keys
    that you have stored, or read from ``wsrt.presence`` frames, in ``UserKey(text)``. A plain string is an id, and an
    id of the form ``a.b:c`` is refused, so that clients can't impersonate a model instance by a name.

    Raises:
        ValueError: The text is empty, or can't be encoded as UTF-8.
    """

    __slots__ = ()

    def __new__(cls, key: str) -> UserKey:
        _require_text("a user key", key)
        return super().__new__(cls, str.__str__(key))  # for a member of an enumeration its value, not its name

    def __repr__(self) -> str:
        text = str.__repr__(self)
        return f"UserKey({text})" if _is_model_key(self) else text


class Audience:
    """Base class of all addresses, and of their combinations with ``|``, ``-`` and ``&``."""

    __slots__ = ()

    def __or__(self, other: Audience) -> Audience:
        return _combine("|", self, other)

    def __sub__(self, other: Audience) -> Audience:
        return _combine("-", self, other)

    def __and__(self, other: Audience) -> Audience:
        return _combine("&", self, other)

    def groups(self, namespace: str) -> frozenset[str]:
        """Return the names of the channel-layer groups that reach all nodes with a connection in this audience."""
        raise NotImplementedError  # pragma: no cover - every subclass overrides it

    def to_message(self) -> list[Any]:
        """Return the address as plain data for the layer. ``from_message`` parses it."""
        raise NotImplementedError  # pragma: no cover - every subclass overrides it


@dataclasses.dataclass(frozen=True, slots=True)
class Room(Audience):
    """
    The connections in a room.

    Args:
        name: The room's name: a non-empty string of at most MAX_ROOM_NAME bytes that doesn't begin with ``wsrt.``.

    Raises:
        TypeError: The name is not a string.
        InvalidRoom: The string isn't a valid room name.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"room must be a str, not {type(self.name).__name__}; convert it with str()")
        problem = _room_name_error(self.name)
        if problem is not None:
            raise InvalidRoom(problem)

    def groups(self, namespace: str) -> frozenset[str]:
        return _groups_of_room(namespace, self.name)

    def to_message(self) -> list[Any]:
        return ["room", self.name]

    def __repr__(self) -> str:
        return f"Room({self.name!r})"


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class User(Audience):
    """
    All connections of one user, on all devices.

    Args:
        user: An int, str, UUID, saved model instance, or other object with a ``pk``. 7, "7" and the instance of
            AUTH_USER_MODEL with that primary key are the same user. Instances of other models are other users. See
            user_key().

    Raises:
        TypeError: The object is anything else, such as None or AnonymousUser.
        ValueError: The text is empty, or looks like the key of a model instance.
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


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class Rooms(Audience):
    """
    The connections in any of several rooms, each of them once.

    Publishing to this address sends one message to each node that has a connection in the namespace, however many rooms
    there are. If the layer has several Redis hosts, there is no order between these publications and those to a single
    room.

    Args:
        names: The rooms' names, at most 10,000. If there are none, nothing is sent.

    Raises:
        TypeError: The argument is a string or not iterable, or a name isn't a string.
        InvalidRoom: A string isn't a valid room name.
        ValueError: There are too many.
    """

    names: tuple[str, ...]

    def __init__(self, names: Iterable[str]) -> None:
        listed = _listed("rooms", names)
        object.__setattr__(self, "names", tuple(dict.fromkeys(Room(name).name for name in listed)))

    def groups(self, namespace: str) -> frozenset[str]:
        return Everyone().groups(namespace) if self.names else frozenset()

    def to_message(self) -> list[Any]:
        return ["rooms", *self.names]

    def __repr__(self) -> str:
        return f"Rooms({list(self.names)!r})"


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class Users(Audience):
    """
    All connections of several users, each of them once.

    Publishing to this address sends one message to each node that has a connection in the namespace, however many users
    there are. If the layer has several Redis hosts, there is no order between these publications and those to a single
    user.

    Args:
        users: The users, as for User, at most 10,000. If there are none, nothing is sent.

    Raises:
        TypeError: The argument is a string or not iterable, or one of the objects can't be a user.
        ValueError: There are too many, or one isn't valid. See User.
    """

    ids: tuple[UserKey, ...]

    def __init__(self, users: Iterable[object]) -> None:
        object.__setattr__(self, "ids", tuple(dict.fromkeys(map(user_key, _listed("users", users)))))

    def groups(self, namespace: str) -> frozenset[str]:
        return Everyone().groups(namespace) if self.ids else frozenset()

    def to_message(self) -> list[Any]:
        return ["users", *self.ids]

    def __repr__(self) -> str:
        return f"Users({list(self.ids)!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Connection(Audience):
    """
    One connection.

    Args:
        id: The ``id`` of its consumer.

    Raises:
        TypeError: The id is not a string.
        ValueError: The id is empty, or can't be encoded as UTF-8.
    """

    id: str

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise TypeError(f"a connection id must be a str, not {type(self.id).__name__}; pass consumer.id")
        _require_text("a connection id", self.id)

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([node_group(node_of(self.id))])

    def to_message(self) -> list[Any]:
        return ["connection", self.id]

    def __repr__(self) -> str:
        return f"Connection({self.id!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Everyone(Audience):
    """All connections of the namespace."""

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset([group_name("everyone", namespace, "")])

    def to_message(self) -> list[Any]:
        return ["everyone"]

    def __repr__(self) -> str:
        return "Everyone()"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Session(Audience):
    """
    The connections that were opened with one Django session. ``wsrt.sessions`` makes these addresses.

    Args:
        hashes: The keyed hashes of the session's key, one for each secret key of the project. The session's key itself
            is a credential, so it is neither sent nor stored.
    """

    hashes: tuple[str, ...]

    def groups(self, namespace: str) -> frozenset[str]:
        # Nodes don't join a group for each session, because only log-outs are sent to sessions.
        return Everyone().groups(namespace)

    def to_message(self) -> list[Any]:
        return ["session", *self.hashes]

    def __repr__(self) -> str:
        return "Session(...)"


@dataclasses.dataclass(frozen=True, slots=True)
class AnyOf(Audience):
    """
    Two or more audiences, combined with ``|``.

    Nested ones are merged, so that an audience of a thousand users isn't nested a thousand levels deep.
    """

    parts: tuple[Audience, ...]

    def groups(self, namespace: str) -> frozenset[str]:
        return frozenset().union(*(part.groups(namespace) for part in self.parts))

    def to_message(self) -> list[Any]:
        return ["|", *(part.to_message() for part in self.parts)]

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.parts))})"


@dataclasses.dataclass(frozen=True, slots=True)
class Expression(Audience):
    """Two audiences, combined with ``-`` or ``&``."""

    operator: str
    left: Audience
    right: Audience

    def groups(self, namespace: str) -> frozenset[str]:
        # All connections in a-b or a&b are also in a, so the groups of a reach their nodes.
        return self.left.groups(namespace)

    def to_message(self) -> list[Any]:
        return [self.operator, self.left.to_message(), self.right.to_message()]

    def __repr__(self) -> str:
        return f"({self.left!r} {self.operator} {self.right!r})"


def from_message(data: Sequence[Any]) -> Audience:
    """
    Return the audience for the data that ``to_message`` has returned.

    Raises:
        ValueError: The data has an unknown form. A newer version of wsrt may have sent it.
    """
    match data:
        case ["room", str(name)]:
            return Room(name)
        case ["user", str(user)]:
            return User(UserKey(user))
        case ["rooms", *names]:
            return Rooms(names)
        case ["users", *users] if all(isinstance(user, str) for user in users):
            return Users(map(UserKey, users))
        case ["connection", str(connection)]:
            return Connection(connection)
        case ["everyone"]:
            return Everyone()
        case ["session", *hashes] if all(isinstance(each, str) for each in hashes):
            return Session(tuple(hashes))
        case ["|", _, _, *_]:
            return AnyOf(tuple(map(from_message, data[1:])))
        case ["-" | "&" as operator, left, right]:
            return Expression(operator, from_message(left), from_message(right))
    raise ValueError(f"unknown address: {data!r}")


def room_of(audience: Audience) -> str | None:
    """Return the room whose group reaches all recipients; None if the audience isn't a part of one room."""
    while isinstance(audience, Expression):
        audience = audience.left
    return audience.name if isinstance(audience, Room) else None


def user_key(user: object) -> UserKey:
    """
    Return the key of a user, which addresses, groups and presence use for comparisons.

    The key of an int, str or UUID is its text. The key of an instance of AUTH_USER_MODEL, of its proxies, or of models
    that inherit from it, is its primary key. The key of a user that isn't a model instance but has a ``pk``, such as
    simplejwt's TokenUser, is that ``pk``. The key of an instance of any other model is ``app.model:pk``, with its
    concrete model.

    The key of an instance of another model never equals any other key: an id that looks like ``app.model:pk`` is
    refused, and if a user of AUTH_USER_MODEL has such a primary key, the key begins with ``auth.user:``, the label of
    this model.

    Raises:
        TypeError: The value isn't one of these, such as an instance that isn't saved, or the user is anonymous.
        ValueError: The text is empty, or looks like the key of a model instance.
    """
    if isinstance(user, UserKey):
        return user
    text = _text_of(user)
    if text is None:
        return _instance_key(user)
    if _is_model_key(text):
        raise ValueError(
            f"{text!r} looks like the key of a model instance, so it isn't accepted as the id of a user: pass the "
            "instance, or UserKey(...) for a key from presence or a consumer; your own ids must not look like a.b:c"
        )
    return UserKey(text)


def auth_user_key(pk: object) -> UserKey:
    """
    Return the key of the instance of AUTH_USER_MODEL with a primary key.

    Raises:
        TypeError: The primary key is not an int, str or UUID.
        ValueError: The primary key is empty, or can't be encoded as UTF-8.
    """
    text = _text_of(pk)
    if text is None:
        raise TypeError(f"the primary key of a user must be an int, str or UUID, not {type(pk).__name__}")
    _require_text("a user id", text)
    return UserKey(f"{_auth_user_label()}:{text}" if _is_model_key(text) else text)


def auth_user_pk(key: str) -> str | None:
    """Return the primary key in AUTH_USER_MODEL for the key of a user; None for the key of another model's instance."""
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
        if pk is not None:
            raise TypeError(
                f"the pk of a user must be an int, str or UUID, but that of {type(user).__name__} is a "
                f"{type(pk).__name__}: pass str() of it instead of the user"
            )
        raise TypeError(
            f"a user must be an int, str, UUID or saved model instance, not {type(user).__name__}"
            + (" without a pk: save it first (an anonymous user has no address)" if hasattr(user, "pk") else "")
        )
    meta: Any = getattr(user, "_meta", None)
    if meta is None:
        if getattr(user, "is_anonymous", False) is True:
            raise TypeError(
                f"a user must be signed in, and {type(user).__name__} is an anonymous user, which has no address"
            )
        return auth_user_key(pk)
    label = _auth_user_label()
    for model in (meta.concrete_model, *meta.get_parent_list()):
        if model._meta.label_lower == label:
            # With multi-table inheritance, the primary key of the user's row may differ from the instance's own.
            return auth_user_key(pk if model is meta.concrete_model else getattr(user, model._meta.pk.attname))
    _require_text("a user id", text)
    return UserKey(f"{meta.concrete_model._meta.label_lower}:{text}")


def _text_of(value: object) -> str | None:
    """Return the text of an id; None if the value isn't an int, str or UUID."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return str.__str__(value)  # for a member of an enumeration its value, not its name
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
    """
    Return the node and the number in a connection id.

    Raises:
        ValueError: The text is not a connection id.
    """
    parts = re.fullmatch(r"([0-9a-f]+)-([0-9]{1,20})", connection_id)
    if parts is None:
        raise ValueError(
            f"{connection_id!r} is not the id of a connection; `manage.py wsrt_presence --user` shows the ids of the "
            "connections of a user"
        )
    return parts[1], int(parts[2])


def node_of(connection_id: str) -> str:
    """Return the id of the node in a connection id."""
    return connection_id.partition("-")[0]


def node_group(node_id: str) -> str:
    """Return the name of a node's own group."""
    return group_name("node", "", node_id)


CONTROL_GROUP = "wsrt.control"
"""The group that every node joins."""


def group_name(kind: str, namespace: str, name: str) -> str:
    """
    Return the name of a channel-layer group. It is unique for each combination of kind, namespace and name.

    Group names are readable if possible, such as ``wsrt.room.chat.lobby``. A byte outside of ``[A-Za-z0-9-]`` becomes
    ``_xx``, except "." in the name. A group name that would be too long contains a SHA-256 hash instead, and its kind
    ends with "_", which readable kinds don't.
    """
    readable = f"wsrt.{kind}.{_escape(namespace, '-')}.{_escape(name, '.-')}"
    if len(readable) <= MAX_GROUP_NAME:
        return readable
    # The length of the namespace keeps ("a", "bc") and ("ab", "c") apart.
    text = f"{len(namespace)}:{namespace}{name}".encode("utf-8", "surrogatepass")
    return f"wsrt.{kind}_.{hashlib.sha256(text).hexdigest()}"


@functools.lru_cache(maxsize=1024)
def _groups_of_room(namespace: str, name: str) -> frozenset[str]:
    """Return the group of a room. It is remembered, as most publications go to rooms that others go to."""
    return frozenset([group_name("room", namespace, name)])


_SAFE = {also_safe: re.compile(rf"[A-Za-z0-9{re.escape(also_safe)}]*", re.ASCII) for also_safe in ("-", ".-")}
"""By the characters that are safe too: matches names that need no escapes. Compiled once: every publication asks."""


def _escape(text: str, also_safe: str) -> str:
    if _SAFE[also_safe].fullmatch(text):
        return text
    return "".join(
        chr(byte) if byte < 128 and (chr(byte).isalnum() or chr(byte) in also_safe) else f"_{byte:02x}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def _combine(operator: str, left: Audience, right: object) -> Audience:
    if not isinstance(right, Audience):
        return NotImplemented  # type: ignore[no-any-return]  # Python then raises TypeError
    if operator == "|":
        return AnyOf((*_parts(left), *_parts(right)))
    return Expression(operator, left, right)


def _parts(audience: Audience) -> tuple[Audience, ...]:
    return audience.parts if isinstance(audience, AnyOf) else (audience,)


def _listed(what: str, items: Iterable[Any]) -> list[Any]:
    """Return the items of an address as a list. Raises TypeError, ValueError."""
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise TypeError(
            f"{what} must be an iterable of {what}, not {items!r}; for a single one use {what[:-1].title()}"
        )
    listed = list(itertools.islice(items, MAX_LISTED + 1))
    if len(listed) > MAX_LISTED:
        raise ValueError(f"an address takes at most {MAX_LISTED:,} {what}; publish to several addresses instead")
    return listed


def _room_name_error(name: str) -> str | None:
    """Return the error for an invalid room name; None for a valid one. Names come from clients, so don't quote them."""
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
