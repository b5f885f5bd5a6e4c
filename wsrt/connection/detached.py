"""
Consumers without a connection, whose hooks decide whether an HTTP request may read a room.

The hooks are called as in the set-up of a connection, up to ``authorize_room``: ``authenticate``, ``tenant``,
``authorize``, ``expires_at`` and ``identity``. ``on_connect`` isn't called. Methods that need a connection raise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from django.core.exceptions import PermissionDenied

from ..addresses import Room, UserKey, user_key
from ..exceptions import WrongContext
from ..realms import RoomId, realm_of
from ..tenants import check_tenant
from .credentials import authenticate, event_of_token, seconds_since_1970
from .handshake import bearer_token
from .hooks import Hooks, allows, call
from .refusals import NOT_AUTHORIZED, Refusal, refusal_of
from .subscriptions import ALIKE
from .users import is_signed_in

SOCKET_METHODS = (
    "send",
    "publish_to_room",
    "publish_to_others",
    "publish_to_user",
    "publish_to_audience",
    "broadcast",
    "join",
    "leave",
    "create_task",
    "close",
    "wait_for_close",
)
"""The methods of a consumer that raise WrongContext without a connection. Publishing is among them: a GET changes
nothing."""

EXPIRED = Refusal("forbidden", "The credentials have expired", wants_login=True)

NO_ROOM = Refusal("not_found", "There is no such room, or you may not read it")
"""The refusal for a room that doesn't exist and for one that is forbidden, so that clients can't distinguish them."""


class HookRefused(Exception):
    """
    Raised if a hook refuses a request.

    Attributes:
        refusal: The refusal.
        wants_login: Whether signing in may help.
    """

    def __init__(self, refusal: Refusal, *, is_anonymous: bool) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.wants_login = refusal.wants_login or (refusal.wants_login is None and is_anonymous)


class Consumer(Hooks, Protocol):
    """A consumer, with the connection that its methods use."""

    _connection: Any


async def require_permission(consumer: Consumer, room: str) -> RoomId:
    """
    Ask the hooks of a consumer without a connection whether a client may read a room.

    Args:
        consumer: A new consumer, whose ``scope`` is that of a request, with its user.
        room: The name of the room.

    Returns:
        The realm and the name of the room.

    Raises:
        InvalidRoom: The text can't be the name of a room.
        HookRefused: A hook refused.
        Exception: Any other exception of a hook.
    """
    name = Room(room).name
    detached = _Detached(consumer)
    await _asked(consumer, _log_in(consumer))
    await _asked(consumer, detached.set_tenant())
    if not await _asked(consumer, allows(consumer.authorize)):
        raise HookRefused(NOT_AUTHORIZED, is_anonymous=_is_anonymous(consumer))
    expires = seconds_since_1970(await _asked(consumer, call(consumer.expires_at)))
    if expires is not None and expires <= time.time():
        raise HookRefused(EXPIRED, is_anonymous=False)
    await _asked(consumer, detached.identify())
    try:
        may_read = await _asked(consumer, allows(consumer.authorize_room, name))
    except HookRefused as error:
        if error.refusal.code not in ALIKE or error.refusal.wants_login:
            raise
        may_read = False
    if not may_read:
        # A visitor who isn't signed in is asked to, whether or not there is such a room.
        refusal = NOT_AUTHORIZED if _is_anonymous(consumer) else NO_ROOM
        raise HookRefused(refusal, is_anonymous=_is_anonymous(consumer))
    return detached.realm, name


class _Detached:
    """
    Stands in for the connection of a consumer.

    Args:
        consumer: The consumer. Its methods that need a connection are replaced by ones that raise.

    Attributes:
        realm: The realm, once the tenant is known.
        user_id: The key of the user. None if there is no user, and until ``identity`` was called.
        rooms: The rooms of the connection: none.
        channel: The channel of the connection: none.
        loop: The event loop, for ``self.sync`` in ``def`` hooks.
    """

    def __init__(self, consumer: Consumer) -> None:
        self.realm = consumer.namespace
        self.user_id: UserKey | None = None
        self.rooms: tuple[str, ...] = ()
        self.channel = None
        self._consumer = consumer
        self.loop = asyncio.get_running_loop()
        self._is_user_set = False
        consumer._connection = self
        for name in SOCKET_METHODS:
            setattr(consumer, name, _refusing(type(consumer).__name__, name))

    async def set_tenant(self) -> None:
        self.realm = realm_of(self._consumer.namespace, check_tenant(await call(self._consumer.tenant)))

    async def identify(self) -> None:
        if not self._is_user_set:
            user = await call(self._consumer.identity)
            self.user_id = None if user is None else user_key(user)

    async def bind(self, user_id: UserKey | None) -> None:
        """Record the user that ``authorize`` has set with ``set_user_id``."""
        self._is_user_set = True
        self.user_id = user_id

    # The parts of a connection that the consumer reads.

    @property
    def subscriber(self) -> _Detached:
        return self

    @property
    def groups(self) -> _Detached:
        return self

    @property
    def node(self) -> _Detached:
        return self

    @property
    def id(self) -> str:
        _refuse(type(self._consumer).__name__, "id")


async def _log_in(consumer: Consumer) -> None:
    """Let the client log in with its token, if the class has ``authenticate``, as in a handshake with a token."""
    login = consumer.catalog.login
    if login is None:
        return
    token = bearer_token(consumer.scope) if consumer.catalog.login_takes_token else None
    if token is None and is_signed_in(consumer.scope.get("user")):
        return
    # Imported here, because it needs the app registry.
    from django.contrib.auth.models import AnonymousUser

    # A token takes precedence over the session of the same request.
    consumer.scope["user"] = AnonymousUser()
    event = await event_of_token(consumer, token) if token is not None else None
    if event is None:
        raise PermissionDenied
    consumer.scope["user"] = await authenticate(consumer, event)


async def _asked(consumer: Consumer, answer: Any) -> Any:
    """Return the answer of a hook. Raises HookRefused if it refuses."""
    try:
        return await answer
    except Exception as error:
        refusal = refusal_of(error, consumer.refusal_for)
        if refusal is None:
            raise
        raise HookRefused(refusal, is_anonymous=_is_anonymous(consumer)) from error


def _is_anonymous(consumer: Consumer) -> bool:
    return not is_signed_in(consumer.scope.get("user"))


def _refusing(consumer: str, name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        _refuse(consumer, f"{name}()")

    return refuse


def _refuse(consumer: str, name: str) -> NoReturn:
    raise WrongContext(
        f"{consumer}.{name} needs a connection, but a hook called it for an HTTP request to HistoryView: don't send, "
        "join or publish in hooks that check permissions"
    )
