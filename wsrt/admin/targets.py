"""The targets of an operator's actions."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
from collections.abc import Iterable
from typing import Any, Literal, get_args

from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _

from ..addresses import Audience, Connection, Everyone, Room, User, UserKey, auth_user_key, parts_of
from ..close_codes import DISCONNECTED, Close
from ..control import disconnect
from ..presence.access import is_connected, run
from ..presence.base import EVERYONE
from ..realms import split_realm
from ..tenants import has_tenants
from .queries import count_connections, count_in_room, local_namespaces, require_visible, visible_realms

MAX_PROTECTED = 100
"""Number of users that one command can leave out."""

Kind = Literal["everyone", "room", "user", "connection"]


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """
    Everyone in a namespace, a room, a user, or one connection.

    Attributes:
        kind: "everyone", "room", "user" or "connection".
        namespace: A realm. For a user it may span namespaces: None means all namespaces without a tenant, "@red" all
            namespaces of the tenant "red".
        name: The name of the room, or the id of the user or connection.

    Raises:
        ValueError: The attributes don't form a valid target.
    """

    kind: Kind
    namespace: str | None
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} isn't a valid kind of target")
        if self.namespace == "" or (self.kind != "user" and not self.plain_namespace):
            raise ValueError(f"a target of kind {self.kind!r} needs a namespace")
        require_visible(self.namespace or "")
        # Encoding raises UnicodeEncodeError, a ValueError, for lone surrogates. The others validate the name.
        (self.namespace or "").encode()
        self.audience.to_message()
        if self.kind == "connection":
            parts_of(self.name)

    @classmethod
    def from_token(cls, token: str) -> Target:
        """Return the target that a form posted. Raises ValueError."""
        try:
            parts: Any = json.loads(token)
        except RecursionError:
            raise ValueError("the target isn't valid: it is nested too deeply") from None
        match parts:
            case [str() as kind, str() | None as namespace, str() as name]:
                return cls(kind, namespace, name)  # type: ignore[arg-type]  # checked by __post_init__
        raise ValueError(f"the target isn't valid: {token!r}")

    @property
    def token(self) -> str:
        """The target as JSON for a form, which escapes line breaks: browsers normalize them in form fields."""
        return json.dumps([self.kind, self.namespace, self.name])

    @property
    def plain_namespace(self) -> str | None:
        """The namespace without the tenant, None for all namespaces."""
        return split_realm(self.namespace or "")[0] or None

    @property
    def tenant(self) -> str | None:
        """The tenant, None if there is none."""
        return split_realm(self.namespace or "")[1]

    @property
    def audience(self) -> Audience:
        """The audience of the target, without its realm."""
        match self.kind:
            case "room":
                return Room(self.name)
            case "user":
                return User(UserKey(self.name))
            case "connection":
                return Connection(self.name)
            case _:
                return Everyone()

    def __str__(self) -> str:
        names = {"name": self.name, "namespace": self.namespace or ""}
        match self.kind:
            case "room":
                return _("room “%(name)s” of %(namespace)s") % names
            case "user" if self.plain_namespace is None and self.tenant is None:
                return _("user “%(name)s”") % names
            case "user":
                return _("user “%(name)s” of %(namespace)s") % names
            case "connection":
                return _("connection %(name)s of %(namespace)s") % names
            case _:
                return _("everyone in %(namespace)s") % names

    def count(self) -> int:
        """Return the number of its connections. Raises StoreUnavailable, WrongContext if presence can't be read."""
        number: int = run(self.acount)
        return number

    async def acount(self) -> int:
        """Return the number of its connections, like count()."""
        if self.kind == "connection":
            return int(await is_connected([self.namespace or ""], self.name))
        if self.plain_namespace is not None:
            spaces = [self.namespace or ""]
        else:
            spaces = [realm for realm in await visible_realms() if split_realm(realm)[1] == self.tenant]
        if self.kind == "user":
            found = [await count_connections(space, [self.name]) for space in spaces]
            return sum(number for numbers in found for _user, number in numbers)
        room = self.name if self.kind == "room" else EVERYONE
        return sum([(await count_in_room(space, room)).connections for space in spaces])

    def disconnect(self, protected: Iterable[UserKey] = (), close: Close = DISCONNECTED) -> None:
        """
        Close its connections, without waiting for a transaction to commit.

        Args:
            protected: Users whose connections stay open.
            close: The code and the reason that clients receive.

        Raises:
            UnknownNamespace, BackplaneUnavailable: No connection was closed.
        """
        audience = functools.reduce(operator.sub, map(User, protected), self.audience)
        one = self.plain_namespace
        for namespace in local_namespaces() if one is None else [one]:
            if one is None and self.tenant is not None and not has_tenants(namespace):
                continue
            disconnect(
                audience,
                namespace=namespace,
                tenant=self.tenant,
                code=close.code,
                reason=close.reason,
                on_commit=False,
            )


def protected_superusers(user: Any) -> list[UserKey]:
    """
    Return the superusers that a user may not disconnect. Queries the database.

    Connections are recognised by their user ids: one whose user isn't a Django user never counts as a superuser's.

    Returns:
        An empty list if the user is a superuser. At most MAX_PROTECTED + 1 users, one more than can be protected.
    """
    model: Any = get_user_model()
    fields = {field.name for field in model._meta.get_fields()}
    if getattr(user, "is_superuser", False) or "is_superuser" not in fields:
        return []
    keys = model._default_manager.filter(is_superuser=True).order_by("pk").values_list("pk", flat=True)
    return [auth_user_key(key) for key in keys[: MAX_PROTECTED + 1]]
