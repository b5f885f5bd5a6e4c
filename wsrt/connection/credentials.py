"""The credentials of one connection: how the client logs in, when they expire, and how the client renews them."""

from __future__ import annotations

import asyncio
import datetime
import math
import time
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied, SynchronousOnlyOperation
from pydantic import ValidationError

from .. import close_codes
from ..addresses import user_key
from ..close_codes import Close
from ..cluster.node import Node
from ..delivery.subscriber import Subscriber
from ..metrics import counters
from ..protocol.catalog import Received
from ..protocol.envelope import reserved
from ..protocol.events import Event
from ..protocol.frame import Frame
from ..protocol.session import RawFrame, Session
from ..realms import realm_of
from ..tenants import check_tenant
from ..types import Ref
from .commands import Commands
from .frames import FrameHandler
from .handshake import bearer_token
from .hooks import Hooks, call
from .refusals import refusal_of
from .threads import run_in_thread
from .users import is_active, is_signed_in

MAX_LOGIN_BYTES = 8192
"""The maximum size of a frame that is parsed before the client is authorized."""

CLOCK_SECONDS = 60.0
"""How often the clock is read while credentials are valid. It may be set in the meantime, or the process be stopped."""

TEMPORARY = frozenset({"unavailable", "rate_limited"})
"""The refusals of ``authenticate`` that say nothing about the credentials."""


class Credentials:
    """
    The credentials of one connection.

    A class that overrides ``authenticate`` is given the token of the handshake, or else the first frame. Nothing else
    that the client sends is parsed before ``authorize`` has allowed the client.

    Args:
        hooks: The consumer, whose hooks are called.
        node: The node that holds the connection.
        session: The session of the connection.
        subscriber: The connection.
        commands: Asks the hooks for their permission again.
        note_expiry: Called with the time at which the credentials expire, in seconds since 1970, or None.
        close: Closes the connection.

    Attributes:
        is_waiting: Whether the connection waits for the first frame.
    """

    def __init__(
        self,
        hooks: Hooks,
        node: Node,
        session: Session,
        subscriber: Subscriber,
        *,
        commands: Commands,
        note_expiry: Callable[[float | None], None],
        close: Callable[[Close], None],
    ) -> None:
        self._hooks = hooks
        self._wheel = node.wheel
        self._session = session
        self._subscriber = subscriber
        self._commands = commands
        self._note_expiry = note_expiry
        self._close = close
        # Where a ticket is required, it has said who the client is, and the event only renews the credentials.
        login = None if hooks.requires_ticket else hooks.catalog.login
        # The token of the handshake, None if there is none that the login event takes.
        self._token = bearer_token(hooks.scope) if login is not None and hooks.catalog.login_takes_token else None
        # The first frame, None if the connection has ended before it came. There is no future if none is awaited.
        self._first: asyncio.Future[RawFrame | None] | None = None
        if login is not None and self._token is None and not is_signed_in(hooks.scope.get("user")):
            self._first = node.loop.create_future()
        self._ref: Ref | None = None
        # When the credentials expire, in seconds since 1970. None if they don't.
        self._expires: float | None = None

    @property
    def is_waiting(self) -> bool:
        return self._first is not None and not self._first.done()

    @property
    def expires_in(self) -> float | None:
        """The seconds until the credentials expire. None if they don't."""
        return None if self._expires is None else round(max(0.0, self._expires - time.time()), 3)

    # Logging in.

    def receive(self, raw: RawFrame) -> bool:
        """Take a received frame if it is the first one and is awaited; return whether it was taken."""
        if self._first is None or self._first.done():
            return False
        self._first.set_result(raw)
        return True

    async def log_in(self, frames: FrameHandler) -> bool:
        """
        Let the client log in, if the class has ``authenticate``; return whether the set-up may go on.

        The user that the hook returns becomes the user of the scope. If the client is refused, the connection is
        closed, with 4401 unless the frame itself isn't valid.

        Raises:
            Exception: Anything that ``authenticate`` raises, except for a refusal.
        """
        raw = None
        if self._first is not None:
            raw = await self._first
            if raw is None:
                return False
        elif self._token is None:
            return True
        # Imported here, because it needs the app registry.
        from django.contrib.auth.models import AnonymousUser

        # Until the login has succeeded. A token takes precedence over the session of the same handshake.
        self._hooks.scope["user"] = AnonymousUser()
        try:
            outcome: Event | Close | None
            if raw is not None:
                outcome = await self._read(raw, frames)
            else:
                outcome = await event_of_token(self._hooks, self._token) or close_codes.UNAUTHENTICATED
            user = await authenticate(self._hooks, outcome) if isinstance(outcome, Event) else None
        except Exception as error:
            refusal = refusal_of(error, self._hooks.refusal_for)
            if refusal is None or refusal.code in TEMPORARY:
                raise
            outcome = close_codes.UNAUTHENTICATED
        if isinstance(outcome, Close):
            counters.count("logins_refused")
            self._close(outcome)
            return False
        self._hooks.scope["user"] = user
        return self._session.is_open

    def answer(self) -> Frame | None:
        """Return the answer to the first frame, if that is a request. Called when the client is authorized."""
        return None if self._ref is None else self._accepted(self._ref)

    # Expiry and renewal.

    async def read_expiry(self) -> bool:
        """
        Ask ``expires_at``, and close the connection at that time; return whether the credentials are still valid.

        Raises:
            Exception: Anything that ``expires_at`` raises.
            TypeError, ValueError: Its result isn't a time.
        """
        self._expires = seconds_since_1970(await call(self._hooks.expires_at))
        if not self._session.is_open:
            return False
        self._note_expiry(self._expires)
        when = self._tick(self._wheel.time())
        if when is None:
            self._wheel.discard(self._tick)
        else:
            self._wheel.add(self._tick, when)
        return self._session.is_open

    async def renew(self, received: Received) -> Frame | None:
        """
        Replace the credentials by those of an event, in its turn among the handlers; return the answer to a request.

        The new credentials must be those of the same user and tenant, or else the connection is closed. The hooks that
        check permissions are called again. Publications are delivered while they run.

        Raises:
            PermissionDenied: The credentials were refused. The connection keeps those that it has.
            Exception: Anything that the hooks raise.
        """
        try:
            user = await authenticate(self._hooks, received.event)
        except Exception:
            counters.count("renewals_refused")
            raise
        scope = self._hooks.scope
        is_same = is_same_user(user, scope.get("user"))
        scope["user"] = user
        if is_same and "tenant" in self._hooks.overridden_hooks:
            tenant = check_tenant(await call(self._hooks.tenant))
            is_same = realm_of(self._hooks.namespace, tenant) == self._subscriber.realm
        if not is_same:
            # The client reconnects, and becomes the other user.
            counters.count("renewals_refused")
            self._close(close_codes.UNAUTHENTICATED)
            return None
        await self._commands.recheck_renewed()
        if not await self.read_expiry() or received.ref is None:
            return None
        return self._accepted(received.ref)

    def end(self) -> None:
        """Stop waiting for the first frame and for the expiry, because the connection has ended."""
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._wheel.discard(self._tick)

    # Private.

    async def _read(self, raw: RawFrame, frames: FrameHandler) -> Event | Close:
        """Return the login event of the first frame."""
        if raw.size > MAX_LOGIN_BYTES:
            return close_codes.MESSAGE_TOO_LARGE
        outcome = await frames.decode(raw)
        if isinstance(outcome, Received):
            self._ref = outcome.ref
            return outcome.event
        # None: the connection was closed in the meantime.
        return outcome if isinstance(outcome, Close) else close_codes.UNAUTHENTICATED

    def _accepted(self, ref: Ref) -> Frame:
        return reserved("wsrt.ok", {"expires_in": self.expires_in}, ref=ref)

    def _tick(self, now: float) -> float | None:
        """Close the connection if the credentials have expired; return the next time of the wheel to check, if any."""
        if self._expires is None or not self._session.is_open:
            return None
        left = self._expires - time.time()
        if left > 0:
            return now + min(left, CLOCK_SECONDS)
        counters.count("credentials_expired")
        self._close(close_codes.CREDENTIALS_EXPIRED)
        return None


async def event_of_token(hooks: Hooks, token: str | None) -> Event | None:
    """
    Return the login event with a token that the client has sent outside of a frame. None if its model refuses it.

    Args:
        hooks: A consumer that overrides ``authenticate``.
        token: The token.
    """
    login: Any = hooks.catalog.login
    data = {"token": token}
    try:
        try:
            event: Event = login.model_validate(data)
        except SynchronousOnlyOperation:
            # A validator queries the database.
            event = await run_in_thread(login.model_validate, data)
    except ValidationError:
        return None
    return event


async def authenticate(hooks: Hooks, event: Event) -> Any:
    """
    Return the user of a login event.

    Raises:
        PermissionDenied: The credentials were refused.
        Exception: Anything that the hook raises.
    """
    user = await call(hooks.authenticate, event)
    if user is not None and not hasattr(user, "is_authenticated"):
        raise TypeError(
            f"{type(hooks).__name__}.authenticate() must return a user (an object with is_authenticated), or None to "
            f"refuse, not {type(user).__name__}"
        )
    if not is_signed_in(user) or not is_active(user):
        raise PermissionDenied("The credentials aren't valid")
    return user


def seconds_since_1970(value: object) -> float | None:
    """
    Return the result of ``expires_at`` in seconds since 1970, or None if the credentials don't expire.

    Raises:
        TypeError: The value is neither an aware datetime nor a number nor None.
        ValueError: The number isn't finite.
    """
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        if value.utcoffset() is None:
            raise TypeError("expires_at() returned a naive datetime: return an aware one, or seconds since 1970")
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"expires_at() must return an aware datetime, seconds since 1970, or None, not {type(value).__name__}"
        )
    if not math.isfinite(value):
        raise ValueError("expires_at() must return a finite time, or None if the credentials don't expire")
    return float(value)


def is_same_user(one: Any, other: Any) -> bool:
    """Return whether two users are the same one: they have the same key, or are equal if they can't have a key."""
    if not (is_signed_in(one) and is_signed_in(other)):
        return False
    try:
        return user_key(one) == user_key(other)
    except (TypeError, ValueError):
        return bool(one == other)
