"""The base class of an application's consumers, TypedEventConsumer."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import functools
import sys
import types
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

import typing_extensions
from channels.layers import get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from django.http import QueryDict
from pydantic import BaseModel

from . import close_codes
from .addresses import Audience, Connection, Everyone, Room, User, UserKey, user_key
from .close_codes import Close, Closed
from .cluster.layers import note_use_by_hand
from .cluster.node import current_node, note_server
from .cluster.outgoing import prepare
from .cluster.sending import send
from .conf import conf, require_installed, validation_error
from .connection.holds import check_key
from .connection.lifecycle import ConnectionHandler
from .connection.room_patterns import RoomPattern
from .connection.sync import SyncMethods
from .connection.users import is_signed_in, reload
from .declarations import (
    catalog_of,
    check_attributes,
    check_channels_methods,
    check_hook_names,
    check_layer,
    own_path,
    own_room_patterns,
)
from .delivery.calls import reported
from .exceptions import DeclarationError, WrongContext
from .handlers import Handler, check_unmarked, event_handlers, layer_handlers, login_event, unmarked_handlers
from .metrics import counters
from .protocol.catalog import Catalog
from .protocol.events import Event, meta
from .protocol.namespaces import namespaces
from .realms import split_realm
from .types import ConnectionLimitPolicy, Limits, OnViolation, Publication, Receive, RoomPresence, Scope, Send

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser
    from django.contrib.auth.models import User as DefaultUser

    U = typing_extensions.TypeVar("U", covariant=True, default=DefaultUser | AnonymousUser)

    class AsyncConsumer:
        """Channels' class for type checkers. The real one isn't annotated, so they would accept any attribute."""

        @classmethod
        def as_asgi(cls, **attributes: Any) -> Any: ...

else:
    from channels.consumer import AsyncConsumer

    # Models can't be imported yet when this module is.
    U = TypeVar("U", covariant=True)

__all__ = ["TypedEventConsumer"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

FIXED = frozenset(
    {
        "namespace",
        "path",
        "out_events",
        "subscriptions",
        "room_patterns",
        "channel_layer_alias",
        "requires_ticket",
        "catalog",
        "handlers",
        "unmarked_handlers",
        "layer_handlers",
        "overridden_hooks",
    }
)
"""Attributes that are fixed when the class is created; ``as_asgi()`` can't set them for one route."""

HOOKS = frozenset(
    {
        "authenticate",
        "tenant",
        "authorize",
        "expires_at",
        "identity",
        "reload_user",
        "authorize_room",
        "on_connect",
        "on_disconnect",
        "on_removed",
        "room_presence",
        "member",
        "on_presence_join",
        "on_presence_leave",
    }
)
"""The hooks that a subclass may override."""

CHANNELS_ATTRIBUTES = {
    "accept": "wsrt accepts the connection before authorize(). To refuse a client, return False from authorize()",
    "groups": "join rooms with `await self.join(room)`; self.rooms are those that the connection is in",
    "send_json": "send an event, `await self.send(MessageSent(...))`",
    "encode_json": "an event is encoded when it is sent, by its own Pydantic model",
    "decode_json": "frames are decoded before the handler of their event is called, by its own Pydantic model",
    "base_send": "send an event, `await self.send(MessageSent(...))`",
}
"""The attributes of Channels' own consumers that this class doesn't have, and what to use instead."""


class _ChannelsAttribute:
    """An attribute of Channels' own consumers, which raises AttributeError with what to use instead."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__} has no {self.name}: {CHANNELS_ATTRIBUTES[self.name]}")


def _explains_arguments(send: F) -> F:
    """Make ``send()`` explain how to send if it is called like that of Channels' own consumers."""

    @functools.wraps(send)
    def explained(self: Any, event: Any = None, **arguments: Any) -> Any:
        if event is None or arguments:
            raise TypeError(
                f"self.send() takes an event, `await self.send(MessageSent(...))`, not {', '.join(arguments) or event}"
            )
        return send(self, event)

    return explained  # type: ignore[return-value]  # with the signature of send()


class _FromSettings:
    """A class attribute that reads the setting of the same name on every access, unless a subclass sets a value."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(conf, self.name)


def _setting(name: str) -> Any:
    return _FromSettings(name)


class TypedEventConsumer(AsyncConsumer, Generic[U]):
    """
    A WebSocket endpoint with typed events, rooms and users.

    Subclass it, mark the methods that handle events with ``@on``, and give it a ``path``, which
    ``wsrt.asgi.with_runtime()`` serves. Or route it with ``as_asgi()``, inside any middleware of Channels.

        class ChatConsumer(TypedEventConsumer):
            namespace = "chat"
            path = "ws/chat/<slug:slug>/"
            out_events = (MessageSent,)

            async def on_connect(self) -> None:
                await self.join(self.kwargs["slug"])

            @on
            async def send_message(self, event: SendMessage) -> None:
                await self.publish_to_room(self.kwargs["slug"], MessageSent(text=event.text))

    One instance serves one connection, in this order:

    1. The ``Origin`` header is checked and the connection is accepted. The client can therefore read the close code of
       anything that fails later.
    2. If a ticket is required, it is checked. ``authenticate()``, if the class has it, ``tenant()``, ``authorize()``,
       ``expires_at()`` and ``identity()`` are called.
    3. The connection is registered. From here on, publications for it are queued.
    4. ``on_connect()`` is called. When it returns, the queued publications are sent.
    5. Handlers run one at a time, in the order in which their frames arrived.
    6. The connection ends. ``on_disconnect()`` is called once, if ``on_connect()`` was started.

    Hooks and handlers may be ``async def`` or ``def``. A ``def`` runs in a thread, where ``self.sync`` offers the
    methods of this class as synchronous ones.

    For type checkers, ``self.user`` is a ``User | AnonymousUser``. ``TypedEventConsumer[Account]`` declares another
    type: that of another model, or ``TypedEventConsumer[User]`` where ``authorize`` refuses anonymous users.

    Every limit in ``settings.WSRT`` is also an attribute, in lower case: ``rate = "5/s"`` sets it for a class,
    ``as_asgi(rate="5/s")`` for a route.

    Attributes:
        namespace: The scope of room names and user ids. Consumers with the same namespace share rooms, users and the
            union of their events.
        path: The route, in the syntax of Django's ``path()``: "ws/chat/<slug:room>/". None if the class is only served
            where it is routed with ``as_asgi()``. A subclass doesn't inherit the route of another consumer.
        out_events: The event classes that the consumer sends and publishes, in addition to those in the return
            annotations of its handlers.
        subprotocols: The application's own subprotocols, in order of preference. ``wsrt.v1`` takes precedence.
        subscriptions: The patterns of the rooms that clients may subscribe to, such as "order.<int:pk>", in the syntax
            of Django's ``path()``. A class with patterns must override ``authorize_room``, which decides about each
            room.
        presence: Whether members of a room can see each other: True, or the Pydantic model that ``member()`` returns.
        requires_ticket: Whether a handshake must present a ticket, which ``wsrt.views.TicketView`` issues.
        channel_layer_alias: The alias of the channel layer that the namespace uses. None for the one in the setting
            ``CHANNEL_LAYER_ALIAS``.
        catalog: The events that the class receives and sends, by wire name. Created with the class.
        handlers: The handler of each event class. Created with the class.
        unmarked_handlers: The names of the methods that take one event but aren't marked with ``@on``, by wire name.
            Created with the class.
        layer_handlers: The methods marked with ``@on_layer``, by message type. Created with the class.
        overridden_hooks: The names of the hooks that the class overrides. Created with the class.
        room_patterns: The compiled patterns of ``subscriptions``. Created with the class.
        scope: The ASGI scope of the connection.

    Raises:
        DeclarationError: The declaration of a subclass is invalid. Raised when the subclass is created. The message
            says what to change.
    """

    namespace: ClassVar[str] = "default"
    """The scope of room names and user ids. Consumers with the same namespace share them, and their events."""

    path: ClassVar[str | None] = None
    """The route, in the syntax of Django's ``path()``. A subclass doesn't inherit the route of another consumer."""

    out_events: ClassVar[Iterable[type[Event]]] = ()
    """The event classes that it sends, in addition to those in the return annotations of its handlers."""

    subprotocols: ClassVar[Iterable[str]] = ()
    """The application's own subprotocols, in order of preference. ``wsrt.v1`` takes precedence."""

    subscriptions: ClassVar[Iterable[str]] = ()
    """The patterns of the rooms that clients may subscribe to, such as "order.<int:pk>"."""

    presence: ClassVar[bool | type[BaseModel]] = False
    """Whether members of a room can see each other: True, or the Pydantic model that ``member()`` returns."""

    requires_ticket: ClassVar[bool] = False
    """Whether a handshake must present a ticket, which ``wsrt.views.TicketView`` issues."""

    channel_layer_alias: str | None = None
    """The alias of the channel layer that the namespace uses. None for the setting."""

    # The limits of a connection. They are read from the settings unless a subclass sets them.
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
    max_tasks: int = _setting("max_tasks")
    max_connections_per_user: int | None = _setting("max_connections_per_user")
    connection_limit_policy: ConnectionLimitPolicy = _setting("connection_limit_policy")
    max_connections_per_address: int | None = _setting("max_connections_per_address")
    rate: str | None = _setting("rate")
    rate_burst: int = _setting("rate_burst")
    rate_bytes: str | None = _setting("rate_bytes")
    check_origin: bool = _setting("check_origin")
    fast_path: bool = _setting("fast_path")
    revalidate: float | None = _setting("revalidate")

    # Created with the class, see __init_subclass__().
    catalog: ClassVar[Catalog] = Catalog((), ())
    handlers: ClassVar[Mapping[type[Event], Handler]] = {}
    unmarked_handlers: ClassVar[Mapping[str, str]] = {}
    layer_handlers: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    overridden_hooks: ClassVar[frozenset[str]] = frozenset()
    room_patterns: ClassVar[Sequence[RoomPattern]] = ()

    scope: Scope
    _connection: ConnectionHandler

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_channels_methods(cls)
        check_hook_names(cls, TypedEventConsumer, HOOKS)
        check_attributes(cls)
        cls.path = own_path(cls, TypedEventConsumer)
        cls.overridden_hooks = frozenset(
            name for name in HOOKS if getattr(cls, name) is not getattr(TypedEventConsumer, name)
        )
        cls.room_patterns = own_room_patterns(cls)
        # Annotations may also name events that are local to the function in which the class is defined.
        local_names = sys._getframe(1).f_locals
        cls.handlers = types.MappingProxyType(event_handlers(cls, TypedEventConsumer, local_names))
        cls.layer_handlers = layer_handlers(cls, TypedEventConsumer)
        cls.catalog = catalog_of(cls, login_event(cls, TypedEventConsumer, local_names))
        unmarked = unmarked_handlers(cls, TypedEventConsumer, local_names)
        check_unmarked(cls, unmarked, {*cls.handlers, *cls.catalog.sends.values()})
        cls.unmarked_handlers = {meta(event).name: name for event, name in unmarked.items()}
        for name, value in vars(cls).items():
            _check_limit(cls, name, value)
        check_layer(cls)
        namespaces.add(cls.namespace, cls, cls.catalog)

    def __init__(self, *route: typing_extensions.Never, **attributes: Any) -> None:
        """
        Create the instance of one connection. Called by the application that ``as_asgi()`` returns.

        Args:
            route: Don't pass any. If ``as_asgi()`` was forgotten, a router passes the arguments of an ASGI application
                here, which raises TypeError.
            attributes: Values for attributes of the class, such as limits.

        Raises:
            TypeError: The class has no such attribute, it is fixed for the class, or ``as_asgi()`` was forgotten.
            DeclarationError: The value isn't valid for the limit.
        """
        _require_as_asgi(type(self), route)
        for name, value in attributes.items():
            if name in FIXED:
                raise TypeError(
                    f"{type(self).__name__}.as_asgi() got {name!r}, which is fixed for the class: set it in a subclass"
                )
            if not hasattr(type(self), name) or callable(getattr(type(self), name)):
                raise TypeError(
                    f"{type(self).__name__}.as_asgi() got {name!r}, which isn't an attribute that can be set"
                )
            _check_limit(type(self), name, value)
            setattr(self, name, value)

    @classmethod
    def as_asgi(cls, *route: typing_extensions.Never, **attributes: Any) -> Any:
        """
        Return the ASGI application for a route.

            path("ws/chat/<slug:slug>/", ChatConsumer.as_asgi(rate="5/s"))

        Args:
            route: Don't pass any. It exists so that type checkers report a route without ``as_asgi()``.
            attributes: Values for attributes of the class, such as limits, that hold for this route.

        Raises:
            TypeError: The class has no such attribute, or it is fixed for the class, such as ``namespace``.
            DeclarationError: The value isn't valid for the limit.
            ImproperlyConfigured: ``"wsrt"`` isn't in INSTALLED_APPS.
        """
        _require_as_asgi(cls, route)
        require_installed()
        cls(**attributes)  # raises here rather than at the first connection
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

    async def authenticate(self, event: Any) -> Any:
        """
        Override to let clients log in with a token, and renew it. The parameter's annotation is the event they send.

            class Login(Event, name="login"):
                token: str

            class ChatConsumer(TypedEventConsumer):
                async def authenticate(self, event: Login) -> User | None:
                    return await user_of(event.token)

        Called before every other hook, with the token of the handshake in the field ``token``: that of the header
        ``Authorization: Bearer``, or of the subprotocol ``bearer.<token>``. If there is none, and no middleware has
        put an authenticated user into the scope, it is called with the first frame that the client sends, at most 8
        KiB, which must be this event. No other frame is parsed before ``authorize`` has allowed the client.

        It is called again whenever the client sends the event to renew its credentials. They must be those of the same
        user, otherwise the connection is closed with 4401. ``tenant``, ``authorize``, ``authorize_room`` for each room,
        and ``expires_at`` are then called again, too. The connection stays in its rooms.

        Returns:
            The user, an object with ``is_authenticated``, which becomes ``self.user``. To refuse, return None or an
            inactive user, or raise a refusal. A refused login closes the connection with 4401. A refused renewal is
            answered with ``wsrt.error``, and the connection keeps the credentials that it has.
        """
        return None

    async def tenant(self) -> str | None:
        """
        Override to return the tenant that the connection belongs to, 1 to 255 bytes, or None for no tenant.

        Called before every other hook but ``authenticate``. The tenant doesn't change during the life of the
        connection: if renewed credentials lead to another tenant, the connection is closed with 4401.

        Each tenant has rooms, users, presence and broadcasts of its own. Tenants may use the same names without
        reaching each other. A refusal, such as ``Http404``, closes the connection.
        """
        return None

    async def authorize(self) -> bool:
        """
        Override to decide whether the client may connect.

        Called after ``tenant``, and again on ``permissions_changed`` and when a client has renewed its credentials.
        False or PermissionDenied closes the connection with 4401 if the scope has an anonymous user, else with 4403.
        The client can read the code, because the connection has already been accepted.
        """
        return True

    async def expires_at(self) -> datetime.datetime | float | None:
        """
        Override to return the time when the credentials expire: an aware datetime, seconds since 1970, or None for
            never.

        Called after ``authorize``, and again after each renewal, see authenticate(). At that time the connection is
        closed with 4401 ``Credentials expired``. A ``wsrt.v1`` client receives the number of seconds left, so that it
        can renew its token in time.
        """
        return None

    async def identity(self) -> object:
        """
        Override to return the user that the connection belongs to, as ``set_user_id`` takes it, or None for no user.

        Called once, after ``authorize`` and before any publication can reach the connection. It isn't called if
        ``authorize`` has called ``set_user_id`` or ``clear_user_id``. By default the connection belongs to the user of
        the scope, if that user is authenticated.
        """
        user = self.scope.get("user")
        return user if is_signed_in(user) else None

    async def reload_user(self) -> Any:
        """
        Override to load the user in ``scope["user"]`` again. The returned user becomes ``self.user``.

        If the scope has an authenticated user, it is called on ``permissions_changed``, and every ``revalidate``
        seconds if a class overrides it. If it returns None, an inactive user or an anonymous one, the connection is
        closed with 4401.

        By default a model instance is loaded again with the default manager of its own class. Any other user is
        returned unchanged.
        """
        return await reload(self.scope.get("user"))

    async def authorize_room(self, room: str) -> bool:
        """
        Override to decide whether the connection may be in a room.

        Called by every ``join`` and ``add_to_room``, when a client subscribes to a room, and again for each room on
        ``permissions_changed``, after which the connection leaves the rooms that are refused. To refuse, return False
        or raise any refusal, such as ``Http404``.
        """
        return True

    def refusal_for(self, error: Exception) -> Exception | None:
        """
        Override to translate an exception of a hook or handler into a refusal.

            def refusal_for(self, error):
                match error:
                    case SoldOut():
                        return Refused("sold_out", str(error))
                return super().refusal_for(error)

        Not called for Refused and BackplaneUnavailable, nor for Django's ``PermissionDenied``, ``Http404`` and
        ``ValidationError``. Called before wsrt translates exceptions of Django REST framework and of databases. It runs
        in the event loop: it must be a ``def`` and must not block.

        Args:
            error: The exception that was raised.

        Returns:
            A refusal, such as Refused or PermissionDenied. None, the default, if the exception is an error of the
            program: it is logged, and the connection is closed with 1011.
        """
        return None

    async def on_connect(self) -> None:
        """
        Called when the client is authorized: load data, join rooms, send the first events.

        Publications for the connection are queued until this returns. Events that it sends itself are sent at once. A
        refusal closes the connection. All hooks up to this one, and the wait for a token that the client sends in its
        first frame (see ``authenticate``), together have ``setup_timeout`` seconds, else the connection is closed with
        4408.
        """

    async def on_disconnect(self, closed: Closed) -> None:
        """
        Called once when the connection has ended, for whatever reason, if ``on_connect`` was started.

        ``rooms``, ``user`` and ``user_id`` can still be read. ``send`` does nothing; publishing works. The call is
        cancelled after 4 seconds.

        Args:
            closed: The close code, its reason, and whether the client, the server or the network ended the connection.
        """

    async def on_removed(self, room: str) -> None:
        """
        Called when ``remove_from_room`` has removed the connection from a room.

        The removal itself takes effect at once, even while a handler is running: no later publication to the room
        reaches the client. This hook is called afterwards, but never at the same time as a handler of the connection.
        """

    async def room_presence(self, room: str) -> RoomPresence:
        """
        Override to decide how the connection takes part in the presence of a room.

            async def room_presence(self, room: str) -> RoomPresence:
                if room == "news":
                    return "off"
                return "invisible" if self.user.is_staff else "visible"

        Called before ``member``, when the connection joins a room, and again when it joins a room that it is already
        in. It must not call ``join`` or ``set_user_id`` itself.

        Returns:
            "visible", the default: the connection counts in the room, and members see its user. "invisible": it is
            neither counted nor shown, but its client sees the members. "off": it is neither counted nor shown, and its
            client doesn't see the members; joining such a room writes nothing to the presence store.
        """
        return "visible"

    async def member(self, room: str) -> BaseModel | None:
        """
        Override to return the data that other members of a room see for this user.

        Called when the connection joins a room, and again when it joins a room that it is already in. It must not call
        ``join`` or ``set_user_id`` itself. Without this method, data set by the user's other connections is kept.

        Returns:
            An instance of the model in ``presence``, at most 4 KiB as JSON. None clears the data.
        """
        return None

    async def on_presence_join(self, user: str | None, room: str) -> None:
        """
        Called when a user joins one of this connection's rooms with their first connection, on any node.

        Called if ``presence`` is set, in rooms of up to 1,000 members, and not for the connection's own user. It is
        never called at the same time as a handler of the connection.

        Args:
            user: The key of the user. None for the first connection without a user.
            room: The name of the room.
        """

    async def on_presence_leave(self, user: str | None, room: str) -> None:
        """
        Called when a user leaves one of this connection's rooms with their last connection, on any node.

        See on_presence_join().

        Args:
            user: The key of the user. None for the last connection without a user.
            room: The name of the room.
        """

    # Properties.

    @property
    def id(self) -> str:
        """The id of the connection. Its address is ``Connection(id)``."""
        return self._connection.subscriber.id

    @property
    def node_id(self) -> str:
        """The id of the node that holds the connection."""
        return self._connection.node.id

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments that the URL pattern captured."""
        route: dict[str, Any] = self.scope.get("url_route") or {}
        return dict(route.get("kwargs") or {})

    @property
    def query(self) -> QueryDict:
        """The query string of the handshake."""
        return QueryDict(self.scope.get("query_string", b""))

    @property
    def user(self) -> U:
        """
        The user of the scope, or an AnonymousUser if it has none.

        Its type is the type parameter of the class, by default ``User | AnonymousUser``.
        """
        user = self.scope.get("user")
        if user is None:
            if "user" not in self.scope:
                counters.count(
                    "users_missing",
                    "%s reads self.user, but no middleware of its route sets the user, so every client is anonymous: "
                    "wrap the route in channels.auth.AuthMiddlewareStack(...)",
                    type(self).__name__,
                )
            # The import needs the app registry, which isn't ready when this module is first imported.
            from django.contrib.auth.models import AnonymousUser

            user = AnonymousUser()
        return user  # type: ignore[return-value]  # of whatever class the middleware takes its users

    @property
    def tenant_id(self) -> str | None:
        """The tenant that the connection belongs to, as returned by ``tenant``. None for no tenant."""
        return split_realm(self._connection.subscriber.realm)[1]

    @property
    def user_id(self) -> UserKey | None:
        """The key of the connection's user, from ``identity`` or ``set_user_id``. None if there is no user."""
        return self._connection.subscriber.user_id

    @property
    def rooms(self) -> tuple[str, ...]:
        """The names of the rooms that the connection is in, in the order in which it joined them."""
        return tuple(self._connection.subscriber.rooms)

    @property
    def sync(self) -> SyncMethods:
        """The methods of this class for ``def`` handlers and hooks: ``self.sync.join(room)`` joins a room."""
        return SyncMethods(self._connection.node.loop, self)

    @property
    def channel_layer(self) -> Any:
        """
        The channel layer of the namespace, as returned by Channels, for messages of the application's own.

        Raises:
            ImproperlyConfigured: It isn't configured. Rooms and publications of one process work without it.
        """
        alias = self._layer_alias()
        layer = get_channel_layer(alias)
        if layer is None:
            raise ImproperlyConfigured(
                f"CHANNEL_LAYERS has no {alias!r}. Rooms don't need it: use `await self.join(room)` and "
                "`await self.publish_to_room(room, event)`. To use a channel layer, configure "
                "channels_redis.pubsub.RedisPubSubChannelLayer"
            )
        note_use_by_hand(type(self).__name__, alias)
        return layer

    @property
    def channel_name(self) -> str:
        """
        The name of the connection's own channel in the channel layer.

        Raises:
            AttributeError: The class has no ``@on_layer`` method, so the connection has no channel of its own.
        """
        channel = self._connection.channel
        if channel is None:
            raise AttributeError(
                f"{type(self).__name__} has no channel of its own: its node has one channel for all connections. "
                "Join a room with `await self.join(room)`, publish to Connection(self.id), or declare a method with "
                "@on_layer to get one"
            )
        return channel.name

    # Sending.

    @_explains_arguments
    def send(self, event: Event) -> Coroutine[Any, Any, None]:
        """
        Send an event to this client only.

        Waits while the outbox is more than half full. Does nothing if the connection is closed.

        Args:
            event: An instance of one of ``out_events``, or of an event in the return annotation of a handler.

        Raises:
            UndeclaredEvent: The class doesn't declare that it sends this event.
            UnsendableEvent: The event can't be encoded, or is larger than 1 MiB.
            TypeError: The argument isn't an event.
            WrongContext: No event loop is running in this thread; use ``self.sync.send()``.
        """
        return self._call("send", self._connection.send(event))

    def publish_to_room(
        self, room: str, event: Event, *, idempotency_key: str | None = None
    ) -> Coroutine[Any, Any, Publication | None]:
        """
        Publish an event to every connection in a room of this namespace, including this one if it is in the room.

        The event is published immediately, even in a transaction. The connection needn't be in the room. When the
        channel layer has accepted the publication, returns its position for an event with history, else None. For the
        arguments and the exceptions, see wsrt.apublish_to_room().
        """
        return self._publish(Room(room), event, "publish_to_room", idempotency_key)

    def publish_to_others(self, room: str, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish an event to every connection in a room except this one. See publish_to_room()."""
        return self._publish(Room(room) - Connection(self.id), event, "publish_to_others")

    def publish_to_user(self, user: object, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish an event to all connections of a user in this namespace. See publish_to_room()."""
        return self._publish(User(user), event, "publish_to_user")

    def publish_to_audience(self, audience: Audience, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish an event to an address, or an expression of addresses, in this namespace. See publish_to_room()."""
        return self._publish(audience, event, "publish_to_audience")

    def broadcast(self, event: Event) -> Coroutine[Any, Any, Publication | None]:
        """Publish an event to every connection of this namespace. See publish_to_room()."""
        return self._publish(Everyone(), event, "broadcast")

    # Rooms and users.

    def join(self, room: str, *, key: str | None = None) -> Coroutine[Any, Any, None]:
        """
        Join a room, if ``authorize_room`` allows it.

        When this returns, the connection receives everything that is published to the room from now on. In a room that
        the connection is already in, it only records the key and calls ``member`` again to update presence. Does
        nothing if the connection is closed.

        If several parts of a page need the same room, each of them can join and leave it with a key of its own. A key
        holds the room from its ``join`` to its ``leave``, and the connection stays in the room while any key holds it.
        After ``remove_from_room``, and after a refusal on ``permissions_changed``, no key holds the room any longer.

        Args:
            room: The name of the room.
            key: The key that is to hold the room, at most 255 characters. A join without a key is independent of those
                with a key. Joining twice with the same key holds the room once: one ``leave`` ends it.

        Raises:
            PermissionDenied: ``authorize_room`` refused, or the connection was removed from the room in the meantime.
            TooManyRooms: The connection is already in ``max_rooms`` rooms, including those that it is joining.
            TooManyKeys: 100 other keys of the connection hold the room already.
            BackplaneUnavailable: The channel layer didn't confirm that the node joined the group of the room.
            InvalidRoom: The text can't be the name of a room.
            InvalidKey: The key is too long.
            TypeError: The name or the key isn't a string.
            WrongContext: No event loop is running in this thread, or ``member`` or ``room_presence`` called this.
        """
        return self._call("join", self._connection.groups.join(Room(room).name, check_key(key)))

    def leave(self, room: str, *, key: str | None = None) -> Coroutine[Any, Any, None]:
        """
        Undo a ``join`` with the same key. The connection leaves the room, unless another key holds it.

        Does nothing if this key doesn't hold the room. To leave the room regardless of the keys that hold it, call
        ``wsrt.aremove_from_room(Connection(self.id), room, ...)``.

        Args:
            room: The name of the room.
            key: The key that was passed to ``join``. None for a join without a key.

        Raises:
            InvalidKey: The key is too long.
            TypeError: The key isn't a string.
        """
        return self._call("leave", self._leave(room, check_key(key)))

    def set_user_id(self, user: object) -> Coroutine[Any, Any, None]:
        """
        Make the connection belong to a user, in place of the user that it belongs to now.

        Queued frames whose audience is the previous user alone are dropped. If ``authorize`` calls this,
        ``identity`` isn't called.

        Args:
            user: An int, str, UUID, saved model instance, or other object with a ``pk``.

        Raises:
            TypeError, ValueError: The argument can't be a user; see wsrt.addresses.user_key().
            BackplaneUnavailable: The channel layer didn't confirm that the node joined the group of the user.
        """
        return self._call("set_user_id", self._connection.groups.bind(user_key(user)))

    def clear_user_id(self) -> Coroutine[Any, Any, None]:
        """Make the connection belong to no user. See set_user_id()."""
        return self._call("clear_user_id", self._connection.groups.bind(None))

    # Tasks.

    def create_task(self, coroutine: Coroutine[Any, Any, T], /, *, name: str | None = None) -> asyncio.Task[T]:
        """
        Run a coroutine in a task of the connection, alongside the handlers. It may use all methods of the consumer.

            self.answer = self.create_task(self.write_answer(event.prompt))

        The task sees the context variables that ``on_connect`` and handlers have set, but handlers don't see those that
        the task sets. When the connection ends, the task is cancelled and has 5 seconds to clean up; ``on_disconnect``
        is called afterwards. An exception of the task is logged and counted, and doesn't close the connection. On a
        closed connection, the task is cancelled before its first step.

        Args:
            coroutine: The coroutine to run.
            name: The name of the task, for the log. None for that of the coroutine.

        Raises:
            TooManyTasks: ``max_tasks`` tasks of the connection are running already.
            WrongContext: The event loop doesn't run in this thread, as in a ``def`` handler.
            TypeError: The argument isn't a coroutine.
        """
        return self._connection.tasks.create(coroutine, name)

    # Ending.

    def close(self, code: int = close_codes.NORMAL.code, reason: str = "") -> Coroutine[Any, Any, None]:
        """
        Close the connection after sending the queued frames. If it is called again, the first code and reason remain.

        Frames that have been received but not handled are dropped. Returns without waiting for the client; see
        wait_for_close().

        Args:
            code: 1000, another code of the table of close codes, such as 4401, or one of the application's own:
                4500-4749, after which clients reconnect, or 4750-4999, after which they don't.
            reason: The text of the close frame, cut off at 123 bytes.

        Raises:
            ValueError: The code can't be sent.
        """
        return self._call("close", self._close(Close(code, reason, close_codes.reconnect_for(code))))

    def wait_for_close(self) -> Coroutine[Any, Any, Closed]:
        """
        Wait until the connection has ended. Any number of tasks may wait.

        Returns:
            The close code, its reason, and whether the client, the server or the network ended the connection.
        """
        return self._call("wait_for_close", self._wait_for_close(), "use on_disconnect(self, closed)")

    # Private.

    def _publish(
        self, audience: Audience, event: Event, method: str, idempotency_key: str | None = None
    ) -> Coroutine[Any, Any, Publication | None]:
        return self._call(method, send(prepare(audience, event, self.namespace, self.tenant_id, idempotency_key)))

    async def _leave(self, room: str, key: str | None) -> None:
        self._connection.groups.leave(room, key)

    async def _close(self, close: Close) -> None:
        self._connection.close(close, release=True)

    async def _wait_for_close(self) -> Closed:
        return await asyncio.shield(self._connection.ended)

    @classmethod
    def _layer_alias(cls) -> str:
        return cls.channel_layer_alias or conf.channel_layer_alias

    def _call(self, method: str, coroutine: Coroutine[Any, Any, T], instead: str = "") -> Coroutine[Any, Any, T]:
        """
        Return the coroutine of a method, which is reported if it is never awaited.

        Raises:
            WrongContext: No event loop runs in this thread, so the coroutine would be dropped without being run.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            coroutine.close()
            instead = instead or f"use self.sync.{method}(...), or make the method an async def and await it"
            raise WrongContext(
                f"no event loop is running in this thread, so self.{method}() would do nothing: {instead}"
            ) from None
        return reported(coroutine, f"self.{method}")


for _name in CHANNELS_ATTRIBUTES:
    setattr(TypedEventConsumer, _name, _ChannelsAttribute(_name))


def _require_as_asgi(cls: type, route: tuple[object, ...]) -> None:
    """Raise TypeError if a router has called a class, or its as_asgi(), as if it were the ASGI application."""
    if route:
        raise TypeError(f"{cls.__name__} must be routed with as_asgi(): path(..., {cls.__name__}.as_asgi())")


def _check_limit(cls: type[TypedEventConsumer[Any]], name: str, value: object) -> None:
    """Raise DeclarationError if an attribute is a limit and its value isn't valid for the setting of the same name."""
    if not isinstance(vars(TypedEventConsumer).get(name), _FromSettings):
        return
    problem = validation_error(name.upper(), value)
    if problem is not None:
        raise DeclarationError(f"{cls.__name__}: {name} {problem}")
