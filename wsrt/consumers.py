"""TypedEventConsumer: what an application subclasses."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import types
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from asgiref.sync import iscoroutinefunction
from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer
from django.http import QueryDict
from pydantic import BaseModel

from . import close_codes
from .addresses import RESERVED, Audience, Connection, Everyone, Room, User, UserKey, user_key
from .close_codes import Close, Closed
from .cluster.node import current_node, note_server
from .cluster.sending import prepare, send
from .conf import conf, validation_error
from .connection.lifecycle import ConnectionHandler
from .connection.sync import SyncMethods
from .connection.users import is_signed_in, reload
from .exceptions import DeclarationError, WrongContext
from .handlers import Handler, check_channels_methods, event_handlers, layer_handlers
from .protocol.catalog import Catalog, namespaces
from .protocol.events import Event, meta
from .realms import SEPARATOR, split_realm
from .types import Limits, OnViolation, Publication, Receive, Scope, Send

__all__ = ["TypedEventConsumer"]

T = TypeVar("T")

FIXED = frozenset(
    {"namespace", "out_events", "channel_layer_alias", "catalog", "handlers", "layer_handlers", "overridden_hooks"}
)
"""Attributes that the class statement settles; an instance cannot have its own."""

HOOKS = frozenset(
    {
        "tenant",
        "authorize",
        "identity",
        "reload_user",
        "authorize_room",
        "on_connect",
        "on_disconnect",
        "on_removed",
        "member",
        "on_presence_join",
        "on_presence_leave",
    }
)
"""What a subclass may override."""


class _FromSettings:
    """A class attribute that is read from the settings when it is used, unless a subclass sets its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(conf, self.name)


def _setting(name: str) -> Any:
    return _FromSettings(name)


class TypedEventConsumer(AsyncConsumer):
    """
    A WebSocket endpoint with typed events, rooms and users.

        class ChatConsumer(TypedEventConsumer):
            namespace = "chat"
            out_events = (MessageSent,)

            async def on_connect(self) -> None:
                await self.join(self.kwargs["slug"])

            @on
            async def send_message(self, event: SendMessage) -> None:
                await self.publish_to_room(self.kwargs["slug"], MessageSent(text=event.text))

    Order of life: accept, ``tenant``, ``authorize``, ``identity``, ``on_connect``, visible to others, handlers one at a
    time in the order of their frames, ``on_disconnect``. One instance serves one connection. It is a Channels consumer:
    route it with ``as_asgi()``, below any middleware of Channels.

    Raises:
        DeclarationError: when a subclass is made that cannot work.
    """

    namespace: ClassVar[str] = "default"
    """The scope of its rooms and users. Consumers of one namespace share them, and the union of their events."""

    out_events: ClassVar[Iterable[type[Event]]] = ()
    """What it sends and publishes, besides what its handlers are annotated to return."""

    subprotocols: ClassVar[Iterable[str]] = ()
    """Subprotocols of the application's own that it accepts, best first; ``wsrt.v1`` goes before them."""

    presence: ClassVar[bool | type[BaseModel]] = False
    """Whether members of its rooms are shown to each other, with data of this model if it is one."""

    channel_layer_alias: str | None = None
    """The channel layer of its namespace; None for the setting."""

    # The limits of a connection: the settings, unless a subclass says otherwise.
    heartbeat: float | None = _setting("heartbeat")
    heartbeat_timeout: float | None = _setting("heartbeat_timeout")
    setup_timeout: float | None = _setting("setup_timeout")
    max_payload: int = _setting("max_payload")
    max_values: int = _setting("max_values")
    inbox_frames: int = _setting("inbox_frames")
    inbox_bytes: int = _setting("inbox_bytes")
    outbox_frames: int = _setting("outbox_frames")
    outbox_bytes: int = _setting("outbox_bytes")
    outbox_seconds: float = _setting("outbox_seconds")
    on_violation: OnViolation = _setting("on_violation")
    max_violations: int = _setting("max_violations")
    max_rooms: int = _setting("max_rooms")
    max_connections_per_user: int | None = _setting("max_connections_per_user")
    connection_limit_policy: str = _setting("connection_limit_policy")
    rate: str | None = _setting("rate")
    rate_burst: int = _setting("rate_burst")
    rate_bytes: str | None = _setting("rate_bytes")
    check_origin: bool = _setting("check_origin")
    fast_path: bool = _setting("fast_path")
    revalidate: float | None = _setting("revalidate")

    # Made when the class is made.
    catalog: ClassVar[Catalog] = Catalog((), ())
    handlers: ClassVar[Mapping[type[Event], Handler]] = {}
    layer_handlers: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    overridden_hooks: ClassVar[frozenset[str]] = frozenset()

    scope: Scope
    _connection: ConnectionHandler

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_channels_methods(cls)
        if iscoroutinefunction(cls.refusal_for):
            raise DeclarationError(f"{cls.__name__}: refusal_for only says what an exception means: def, not async def")
        if not isinstance(cls.namespace, str) or not cls.namespace:
            raise DeclarationError(f"{cls.__name__}: namespace is a non-empty string, not {cls.namespace!r}")
        if SEPARATOR in cls.namespace:
            raise DeclarationError(
                f"{cls.__name__}: a namespace doesn't contain {SEPARATOR!r}, as {cls.namespace!r} does; to keep "
                "tenants apart, define tenant()"
            )
        if cls.namespace.startswith(RESERVED) and not cls.__module__.startswith("wsrt."):
            raise DeclarationError(f"{cls.__name__}: namespaces that begin with {RESERVED!r} are reserved")
        # Events that are local to the function that makes the class can be named in annotations too.
        local_names = sys._getframe(1).f_locals
        cls.handlers = types.MappingProxyType(event_handlers(cls, TypedEventConsumer, local_names))
        cls.layer_handlers = layer_handlers(cls, TypedEventConsumer)
        cls.overridden_hooks = frozenset(
            name for name in HOOKS if getattr(cls, name) is not getattr(TypedEventConsumer, name)
        )
        if not isinstance(cls.out_events, Iterable) or isinstance(cls.out_events, type):
            raise DeclarationError(
                f"{cls.__name__}: out_events is a tuple of event classes, such as (SomeEvent,), not {cls.out_events!r}"
            )
        try:
            sends = [*cls.out_events, *(reply for handler in cls.handlers.values() for reply in handler.replies)]
            replies = {
                meta(event).name: [
                    *(meta(reply).name for reply in handler.replies),
                    *(["wsrt.ok"] if handler.may_return_none else []),
                ]
                for event, handler in cls.handlers.items()
            }
            shown = cls.presence if isinstance(cls.presence, type) else None
            cls.catalog = Catalog(cls.handlers, sends, replies, shown)
        except TypeError as error:
            raise DeclarationError(f"{cls.__name__}: {error}") from error
        shows = cls.presence
        if not (isinstance(shows, bool) or (isinstance(shows, type) and issubclass(shows, BaseModel))):
            raise DeclarationError(
                f"{cls.__name__}: presence is True, False or a Pydantic model of what members show, not {shows!r}"
            )
        for name, value in vars(cls).items():
            _check_limit(cls, name, value)
        _check_layer(cls)
        namespaces.add(cls.namespace, cls, cls.catalog)

    def __init__(self, **attributes: Any) -> None:
        """Set attributes of this instance, as given to ``as_asgi()``. Raises TypeError for an unknown one."""
        for name, value in attributes.items():
            if name in FIXED:
                raise TypeError(
                    f"{type(self).__name__}.as_asgi() got {name!r}, which belongs to the class: subclass it"
                )
            if not hasattr(type(self), name) or callable(getattr(type(self), name)):
                raise TypeError(f"{type(self).__name__}.as_asgi() got {name!r}, which is no attribute of the class")
            _check_limit(type(self), name, value)
            setattr(self, name, value)

    @classmethod
    def as_asgi(cls, **attributes: Any) -> Any:
        """Return the ASGI application for a route; every connection gets an instance with these attributes."""
        cls(**attributes)  # raises here, not at the first connection
        note_server()
        return super().as_asgi(**attributes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "websocket":
            raise ValueError(f"{type(self).__name__} serves websocket connections, not {scope['type']!r}")
        self.scope = scope
        limits = Limits(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Limits)})
        self._connection = ConnectionHandler(self, current_node(), limits, scope, receive, send, self._layer_alias())
        await self._connection.run()

    # Hooks.

    async def tenant(self) -> str | None:
        """
        Return the tenant to which the connection belongs; None for none.

        Asked once, before every other hook, and fixed for the life of the connection. Rooms, users, everyone and
        presence of one tenant are out of reach of any other: each has its own, also where they have the same names.
        A refusal, such as ``Http404``, closes the connection.
        """
        return None

    async def authorize(self) -> bool:
        """
        Say whether the client may connect; it was accepted, so that it can read why not.

        False or PermissionDenied closes 4401 if the scope has an anonymous user, else 4403.
        """
        return True

    async def identity(self) -> object:
        """
        Return the user to whom the connection belongs: an int, str, UUID or model instance; None for no user.

        Asked once, after ``authorize`` and before anything reaches the connection, unless ``authorize`` called
        ``set_user_id`` or ``clear_user_id``, which win. Without this method, it is the user of the scope if it is
        authenticated.
        """
        user = self.user
        return user if is_signed_in(user) else None

    async def reload_user(self) -> Any:
        """
        Return the user of the scope as it is now; None where it is gone or inactive, which closes the connection 4401.

        Asked on ``permissions_changed`` where the scope has an authenticated user; the answer takes its place. Without
        this method, the user is loaded by the default manager of its own class, and a user that isn't a model instance
        stays as it is.
        """
        return await reload(self.user)

    async def authorize_room(self, room: str) -> bool:
        """Say whether the client may be in a room. Asked by every join, and again on ``permissions_changed``."""
        return True

    def refusal_for(self, error: Exception) -> Exception | None:
        """
        Return the refusal that an exception of a hook or handler stands for; None, as by default, where it is a bug.

            def refusal_for(self, error):
                match error:
                    case SoldOut():
                        return Refused("sold_out", str(error))
                return super().refusal_for(error)

        Asked about every exception that is not a refusal of wsrt's own, before those of Django REST framework and of
        databases are read. Called in the event loop: a ``def`` that doesn't block.
        """
        return None

    async def on_connect(self) -> None:
        """Prepare the connection: load, join, send. Publications wait until this returns."""

    async def on_disconnect(self, closed: Closed) -> None:
        """
        Clean up; called once if ``on_connect`` was started, whatever ended the connection.

        ``rooms`` and ``user`` are still readable. It has 4 seconds. ``send`` does nothing any more; publishing works.
        """

    async def on_removed(self, room: str) -> None:
        """
        Called when the connection was taken out of a room by ``remove_from_room``, in turn with the handlers.

        Nothing that was published after the removal has reached the client, whatever handler was running.
        """

    async def member(self, room: str) -> BaseModel | None:
        """
        Return what the members of a room see of this one, of the model in ``presence``; 4 KiB at most.

        Asked when the connection joins, and again when it joins a room that it is in. None shows nothing from then on;
        a class without this method says nothing, and what other connections of the user said stays.
        """
        return None

    async def on_presence_join(self, user: str | None, room: str) -> None:
        """
        Hear that a user came to a room of this connection: their first connection, wherever in the cluster.

        Called in turn with the handlers, with ``presence`` set, in rooms of up to 1,000 members. None stands for the
        first of the guests.
        """

    async def on_presence_leave(self, user: str | None, room: str) -> None:
        """Hear that a user has left a room with their last connection. See on_presence_join()."""

    # Facts.

    @property
    def id(self) -> str:
        """The connection's id: its address is ``Connection(id)``."""
        return self._connection.subscriber.id

    @property
    def node_id(self) -> str:
        """The id of the node that holds the connection."""
        return self._connection.node.id

    @property
    def kwargs(self) -> dict[str, Any]:
        """What the URL route captured."""
        route: dict[str, Any] = self.scope.get("url_route") or {}
        return dict(route.get("kwargs") or {})

    @property
    def query(self) -> QueryDict:
        """The query string of the handshake."""
        return QueryDict(self.scope.get("query_string", b""))

    @property
    def user(self) -> Any:
        """Django's user of the handshake, or AnonymousUser."""
        user = self.scope.get("user")
        if user is None:
            # Importing it needs the app registry, which is not there when this module is first imported.
            from django.contrib.auth.models import AnonymousUser

            return AnonymousUser()
        return user

    @property
    def tenant_id(self) -> str | None:
        """The tenant to which the connection belongs: what ``tenant`` returned."""
        return split_realm(self._connection.subscriber.realm)[1]

    @property
    def user_id(self) -> UserKey | None:
        """The key of the user to whom the connection belongs: what ``identity`` returned, or ``set_user_id`` said."""
        return self._connection.subscriber.user_id

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms it is in, oldest first."""
        return tuple(self._connection.subscriber.rooms)

    @property
    def sync(self) -> SyncMethods:
        """The methods below for ``def`` handlers and hooks: ``self.sync.join(room)`` for ``await self.join(room)``."""
        return SyncMethods(self._connection.node.loop, self)

    @property
    def channel_layer(self) -> Any:
        """The channel layer, as Channels gives it, or None."""
        return get_channel_layer(self._layer_alias())

    @property
    def channel_name(self) -> str:
        """The connection's own channel. Raises AttributeError where the class has no ``@on_layer`` method."""
        channel = self._connection.channel
        if channel is None:
            raise AttributeError(
                f"{type(self).__name__} has no channel of its own: its node has one for all connections. Publish to "
                "Connection(self.id), or declare a method with @on_layer to get one"
            )
        return channel.name

    # Sending.

    def send(self, event: Event) -> Coroutine[Any, Any, None]:
        """
        Send an event to this client alone; waits for room in the outbox. Does nothing when it is closed.

        Raises:
            UndeclaredEvent, UnsendableEvent, TypeError: the event is wrong.
        """
        self._require_loop("send")
        return self._connection.send(event)

    def publish_to_room(self, room: str, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish to everybody in a room of this namespace. See wsrt.publish_to_room()."""
        return self._publish(Room(room), event, "publish_to_room")

    def publish_to_others(self, room: str, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish to everybody in a room but this connection."""
        return self._publish(Room(room) - Connection(self.id), event, "publish_to_others")

    def publish_to_user(self, user: object, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish to all connections of a user in this namespace."""
        return self._publish(User(user), event, "publish_to_user")

    def publish_to_audience(self, audience: Audience, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish to an address or expression, in this namespace."""
        return self._publish(audience, event, "publish_to_audience")

    def broadcast(self, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish to every connection of this namespace."""
        return self._publish(Everyone(), event, "broadcast")

    # Rooms and users.

    def join(self, room: str) -> Coroutine[Any, Any, None]:
        """
        Join a room, if ``authorize_room`` allows; when this returns, nothing published to it is missed.

        In a room that it is in already it shows what ``member()`` returns now.

        Raises:
            PermissionDenied: ``authorize_room`` refused.
            TooManyRooms: the connection is in ``max_rooms`` rooms.
            BackplaneUnavailable: the channel layer did not take it.
            TypeError, ValueError: it is no name of a room.
        """
        self._require_loop("join")
        return self._connection.groups.join(Room(room).name)

    def leave(self, room: str) -> Coroutine[Any, Any, None]:
        """Leave a room; does nothing if the connection is not in it."""
        self._require_loop("leave")
        return self._leave(room)

    def set_user_id(self, user: object) -> Coroutine[Any, Any, None]:
        """
        Belong to a user from now on, in place of the one before.

        Called by ``authorize``, it takes the place of ``identity``, which isn't asked.

        Raises:
            TypeError, ValueError: there can't be such a user; see wsrt.addresses.user_key().
        """
        self._require_loop("set_user_id")
        return self._connection.groups.bind(user_key(user))

    def clear_user_id(self) -> Coroutine[Any, Any, None]:
        """Belong to nobody from now on."""
        self._require_loop("clear_user_id")
        return self._connection.groups.bind(None)

    # Ending.

    def close(self, code: int = close_codes.NORMAL.code, reason: str = "") -> Coroutine[Any, Any, None]:
        """
        Close the connection, after what was sent before; the first close wins.

        Args:
            code: 1000, or an application's own: 4500-4749 (clients come back) or 4750-4999 (they stay away).
            reason: cut at 123 bytes.

        Raises:
            ValueError: the code cannot be sent.
        """
        self._require_loop("close")
        return self._close(Close(code, reason, close_codes.reconnect_for(code)))

    def wait_for_close(self) -> Coroutine[Any, Any, Closed]:
        """Wait until the connection is over, and return how it ended. Any number of tasks may wait."""
        self._require_loop("wait_for_close", "on_disconnect(self, closed)")
        return self._wait_for_close()

    # Private.

    def _publish(self, audience: Audience, event: Event, method: str) -> Coroutine[Any, Any, Publication | None]:
        self._require_loop(method)
        return send(prepare(audience, event, self.namespace, self.tenant_id))

    async def _leave(self, room: str) -> None:
        self._connection.groups.leave(room)

    async def _close(self, close: Close) -> None:
        self._connection.close(close, release=True)

    async def _wait_for_close(self) -> Closed:
        return await asyncio.shield(self._connection.ended)

    @classmethod
    def _layer_alias(cls) -> str:
        return cls.channel_layer_alias or conf.channel_layer_alias

    def _require_loop(self, method: str, instead: str = "") -> None:
        """A coroutine that no loop runs would be dropped in silence."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            instead = instead or f"self.sync.{method}(...)"
            raise WrongContext(f"no event loop runs here, so self.{method}() would do nothing: use {instead}") from None


def _check_limit(cls: type[TypedEventConsumer], name: str, value: object) -> None:
    """Check an attribute that stands for a setting, as ``manage.py check`` does. Raises DeclarationError."""
    if not isinstance(vars(TypedEventConsumer).get(name), _FromSettings):
        return
    problem = validation_error(name.upper(), value)
    if problem is not None:
        raise DeclarationError(f"{cls.__name__}: {name} {problem}, not {value!r}")


def _check_layer(cls: type[TypedEventConsumer]) -> None:
    space = namespaces.get(cls.namespace)
    for other in space.consumers if space is not None else ():
        theirs = getattr(other, "channel_layer_alias", None)
        # One that names none is told by the system checks: settings may not be there when a class is made.
        if theirs is None or cls.channel_layer_alias is None:
            continue
        if theirs != cls.channel_layer_alias and other.__qualname__ != cls.__qualname__:
            raise DeclarationError(
                f"{cls.__name__}: namespace {cls.namespace!r} uses the channel layer {theirs!r} "
                f"(see {other.__name__}), not {cls.channel_layer_alias!r}; one namespace has one layer"
            )
