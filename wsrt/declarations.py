"""
The checks of a consumer class when it is created.

What can't work raises DeclarationError when the module is imported, with a message that names the fix, and doesn't fail
only when the first client connects. The handlers are checked in handlers.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.urls.resolvers import RoutePattern
from pydantic import BaseModel

from .addresses import RESERVED
from .connection.room_patterns import RoomPattern, room_patterns
from .exceptions import DeclarationError
from .handlers import unmarked_methods
from .protocol.catalog import Catalog
from .protocol.events import Event, meta
from .protocol.namespaces import namespaces
from .realms import SEPARATOR

CHANNELS_METHODS = {
    "connect": "on_connect",
    "disconnect": "on_disconnect(self, closed)",
    "receive": "a handler marked with @on",
    "receive_json": "a handler marked with @on",
    "websocket_connect": "authorize and on_connect",
    "websocket_receive": "a handler marked with @on",
    "websocket_disconnect": "on_disconnect(self, closed)",
}
"""The methods of Channels' own consumers, which wsrt never calls, and what to write instead."""

HOOK_PREFIXES = ("on_", "authori", "authent", "expire")
"""The beginnings of names that are compared with those of the hooks, because the method may be a misspelt hook."""

PARAMETER = re.compile(r"<(?:[^<>:]+:)?([^<>:]+)>")
"""A parameter of a path, such as "<slug:room>"."""


def check_channels_methods(cls: type) -> None:
    """Raise DeclarationError for a method that Channels calls and wsrt doesn't, and for ``groups``."""
    for name, instead in CHANNELS_METHODS.items():
        if getattr(cls, name, None) is not None:
            raise DeclarationError(f"{cls.__name__}.{name} would never be called: write {instead} instead")
    if isinstance(getattr(cls, "groups", None), list | tuple):
        raise DeclarationError(
            f"{cls.__name__}.groups would never be joined: write `await self.join(room)` in on_connect instead"
        )


def check_hook_names(cls: type, base: type, hooks: Collection[str]) -> None:
    """Raise DeclarationError for a method that looks like a misspelt hook."""
    for name, _ in unmarked_methods(cls, base):
        meant = difflib.get_close_matches(name, hooks, 1, 0.85) if name.startswith(HOOK_PREFIXES) else []
        if meant:
            raise DeclarationError(
                f"{cls.__name__}.{name} would never be called. Did you mean {meant[0]}? If not, rename it to _{name}"
            )


def check_attributes(cls: type[Any]) -> None:
    """Raise DeclarationError for a wrong namespace, ``out_events`` or ``presence``, and for an async refusal_for()."""
    name, namespace, presence = cls.__name__, cls.namespace, cls.presence
    if iscoroutinefunction(cls.refusal_for):
        raise DeclarationError(
            f"{name}: refusal_for must be a def, not an async def: it is called without await, in the event loop, "
            "which it must not block"
        )
    if not isinstance(namespace, str) or not namespace:
        raise DeclarationError(f"{name}: namespace must be a non-empty string, not {namespace!r}")
    if SEPARATOR in namespace:
        raise DeclarationError(
            f"{name}: namespace {namespace!r} must not contain {SEPARATOR!r}; to keep tenants apart, define tenant()"
        )
    if namespace.startswith(RESERVED) and not cls.__module__.startswith("wsrt."):
        raise DeclarationError(f"{name}: namespaces that begin with {RESERVED!r} are reserved")
    if not isinstance(cls.out_events, Iterable) or isinstance(cls.out_events, type):
        raise DeclarationError(
            f"{name}: out_events must be a tuple of event classes, such as (SomeEvent,), not {cls.out_events!r}"
        )
    if not (isinstance(presence, bool) or (isinstance(presence, type) and issubclass(presence, BaseModel))):
        raise DeclarationError(
            f"{name}: presence must be True, False or the Pydantic model that member() returns, not {presence!r}"
        )


def check_layer(cls: type[Any]) -> None:
    """Raise DeclarationError if another consumer of the namespace names another channel layer."""
    space = namespaces.get(cls.namespace)
    for other in space.consumers if space is not None else ():
        theirs = getattr(other, "channel_layer_alias", None)
        # A class without an alias is left to the system checks: the settings may not be ready when it is created.
        if theirs is None or cls.channel_layer_alias is None:
            continue
        if theirs != cls.channel_layer_alias and other.__qualname__ != cls.__qualname__:
            raise DeclarationError(
                f"{cls.__name__}: namespace {cls.namespace!r} uses the channel layer {theirs!r} "
                f"(see {other.__name__}), not {cls.channel_layer_alias!r}; one namespace has one layer"
            )


def own_path(cls: type, base: type) -> str | None:
    """
    Return the ``path`` that a class or one of its mixins sets, None if there is none.

    The route of another consumer isn't inherited: each path leads to one class. A subclass that was made for another
    purpose, such as a test, must neither take its base's route nor compete for it.

    Args:
        cls: The consumer class.
        base: TypedEventConsumer.

    Raises:
        DeclarationError: The path isn't a valid route.
    """
    owner = next(base for base in cls.__mro__ if "path" in vars(base))
    if owner is not cls and issubclass(owner, base):
        return None
    path = vars(owner)["path"]
    if path is None:
        return None
    problem = _problem_of_path(path)
    if problem:
        raise DeclarationError(f"{cls.__name__}: path {problem}")
    return str(path)


def _problem_of_path(path: object) -> str:
    """Return the problem with a path, as the end of a sentence that begins with "path"; "" if it is valid."""
    example = 'such as "ws/chat/<slug:room>/"'
    if not isinstance(path, str):
        return f"must be a string, {example}, not {path!r}"
    if path.startswith("/"):
        return f"must not begin with a slash, as in Django's path(): write {path.lstrip('/')!r}, not {path!r}"
    if "(?P<" in path or path.startswith("^") or path.endswith("$"):
        return f"has the syntax of path(), {example}, not that of re_path(): {path!r}"
    if set(PARAMETER.sub("", path)) & set("<>"):
        return f"has an angle bracket outside of a parameter: write a parameter, {example}, not {path!r}"
    if "?" in path or "#" in path:
        return f"must not contain a query or a fragment: {path!r}. Read the query string from self.query"
    names = PARAMETER.findall(path)
    if len(set(names)) < len(names):
        return f"has two parameters of one name: {path!r}"
    try:
        RoutePattern(path)
    except ImproperlyConfigured as error:
        hint = ". Register a converter of your own above the class" if "converter" in str(error) else ""
        return f"{path!r} isn't a valid route: {error}{hint}"
    return ""


def own_room_patterns(cls: type[Any]) -> tuple[RoomPattern, ...]:
    """Return the compiled ``subscriptions`` of a class. Raises DeclarationError."""
    try:
        patterns = room_patterns(cls.subscriptions)
    except ValueError as error:
        raise DeclarationError(f"{cls.__name__}: subscriptions: {error}") from None
    if patterns and "authorize_room" not in cls.overridden_hooks:
        raise DeclarationError(
            f"{cls.__name__}: subscriptions need authorize_room, or every client could be in each of these rooms: "
            "override `async def authorize_room(self, room: str) -> bool`"
        )
    return patterns


def catalog_of(cls: type[Any], login: type[Event] | None) -> Catalog:
    """
    Return the events that a class receives and sends.

    Args:
        cls: The consumer class, with its handlers and room patterns.
        login: The event that its authenticate() takes, if it overrides it.

    Raises:
        DeclarationError: The login event also has a handler, what is declared isn't an event, or two events have one
            name.
    """
    if login is not None and login in cls.handlers:
        raise DeclarationError(
            f"{cls.__name__}.{cls.handlers[login].name}: {login.__name__} is already handled by authenticate, also "
            "when a client sends it to renew its credentials"
        )
    received, answers = [*cls.handlers], {}
    sent = [*cls.out_events, *(reply for handler in cls.handlers.values() for reply in handler.replies)]
    try:
        for event, handler in cls.handlers.items():
            done = ["wsrt.ok"] if handler.may_return_none else []
            answers[meta(event).name] = [*(meta(reply).name for reply in handler.replies), *done]
        if login is not None:
            received.append(login)
            answers[meta(login).name] = ["wsrt.ok"]
        member_model = cls.presence if isinstance(cls.presence, type) else None
        return Catalog(received, sent, answers, member_model, login, [pattern.text for pattern in cls.room_patterns])
    except TypeError as error:
        raise DeclarationError(f"{cls.__name__}: {error}") from error
