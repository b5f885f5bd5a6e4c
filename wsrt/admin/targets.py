"""Targets: on whom an operator acts."""

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
from ..control import disconnect
from ..presence.access import is_connected, run
from ..presence.base import EVERYONE
from ..realms import split_realm
from ..tenants import has_tenants
from .queries import connections_of, count_in_room, known_namespaces, require_shown, shown_namespaces

MAX_SPARED = 100
"""Users whom a command may leave out."""

Kind = Literal["everyone", "room", "user", "connection"]


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """
    Everyone in a namespace, a room, a user, or one connection.

    Attributes:
        namespace: a realm. Of a user alone: None for all of them without a tenant, "@red" for all of the tenant "red".
        name: of the room, the user or the connection.

    Raises:
        ValueError: when it is made: there can be no such target.
    """

    kind: Kind
    namespace: str | None
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no such target: {self.kind!r}")
        if self.namespace == "" or (self.kind != "user" and not self.name_of_namespace):
            raise ValueError(f"a {self.kind} is in a namespace")
        require_shown(self.namespace or "")
        # These raise for names that nobody can have.
        (self.namespace or "").encode()
        self.audience.to_message()
        if self.kind == "connection":
            parts_of(self.name)

    @classmethod
    def from_token(cls, token: str) -> Target:
        """Return what a form carried. Raises ValueError."""
        try:
            parts: Any = json.loads(token)
        except RecursionError:
            raise ValueError("no target: it is nested too deeply") from None
        match parts:
            case [str() as kind, str() | None as namespace, str() as name]:
                return cls(kind, namespace, name)  # type: ignore[arg-type]  # checked when it is made
        raise ValueError(f"no target: {token!r}")

    @property
    def token(self) -> str:
        """The target as a form carries it: browsers change line breaks in the fields of forms, but not these."""
        return json.dumps([self.kind, self.namespace, self.name])

    @property
    def name_of_namespace(self) -> str | None:
        """Its namespace without the tenant; None for all."""
        return split_realm(self.namespace or "")[0] or None

    @property
    def tenant(self) -> str | None:
        """Its tenant; None where it has none."""
        return split_realm(self.namespace or "")[1]

    @property
    def audience(self) -> Audience:
        """Its address."""
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
            case "user" if self.name_of_namespace is None and self.tenant is None:
                return _("user “%(name)s”") % names
            case "user":
                return _("user “%(name)s” of %(namespace)s") % names
            case "connection":
                return _("connection %(name)s of %(namespace)s") % names
            case _:
                return _("everyone in %(namespace)s") % names

    def count(self) -> int:
        """Return how many connections it has. Raises StoreUnavailable, WrongContext: nobody knows."""
        number: int = run(self.acount)
        return number

    async def acount(self) -> int:
        """Return how many connections it has. See count()."""
        if self.kind == "connection":
            return int(await is_connected([self.namespace or ""], self.name))
        if self.name_of_namespace is not None:
            spaces = [self.namespace or ""]
        else:
            spaces = [realm for realm in await shown_namespaces() if split_realm(realm)[1] == self.tenant]
        if self.kind == "user":
            found = [await connections_of(space, [self.name]) for space in spaces]
            return sum(number for numbers in found for _user, number in numbers)
        room = self.name if self.kind == "room" else EVERYONE
        return sum([(await count_in_room(space, room)).connections for space in spaces])

    def disconnect(self, spared: Iterable[UserKey] = ()) -> None:
        """
        Close its connections, 4410, at once.

        Args:
            spared: Users whose connections stay.

        Raises:
            UnknownNamespace, BackplaneUnavailable: nothing was closed.
        """
        audience = functools.reduce(operator.sub, map(User, spared), self.audience)
        one = self.name_of_namespace
        for namespace in known_namespaces() if one is None else [one]:
            if one is None and self.tenant is not None and not has_tenants(namespace):
                continue
            disconnect(audience, namespace=namespace, tenant=self.tenant, on_commit=False)


def spared_by(who: Any) -> list[UserKey]:
    """
    Return the superusers, whom an operator who is none may not disconnect; of many, MAX_SPARED and one more.

    Queries the database. Connections that belong to no user of Django's are those of no superuser.
    """
    model: Any = get_user_model()
    names = {field.name for field in model._meta.get_fields()}
    if getattr(who, "is_superuser", False) or "is_superuser" not in names:
        return []
    keys = model._default_manager.filter(is_superuser=True).order_by("pk").values_list("pk", flat=True)
    return [auth_user_key(key) for key in keys[: MAX_SPARED + 1]]
