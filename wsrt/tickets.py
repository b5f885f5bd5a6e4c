"""
Tickets: credentials for one WebSocket handshake, valid for seconds.

A page gets a ticket by a POST request, which ``wsrt.views.TicketView`` answers, and offers it in the handshake of a
consumer with ``requires_ticket``. A ticket belongs to one user, one session, one tenant and one path, and the first
handshake that presents it uses it up.

Tickets are stored in one of Django's caches, by their hashes. The cache must be shared by all processes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import secrets
import threading
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.sessions.backends import signed_cookies
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.db import models

from .addresses import UserKey, user_key
from .conf import conf
from .metrics import counters
from .protocol.namespaces import namespaces
from .protocol.rate import parse_event_rate
from .realms import NOT_GIVEN, NotGiven, Tenant
from .tenants import has_tenants, tenant_of_call

__all__ = ["PREFIX", "Ticket", "aissue_ticket", "issue_ticket", "take_ticket"]

PREFIX = "ticket."
"""The beginning of the subprotocol in which a client offers its ticket."""

TICKET_BYTES = 32
"""The random bytes in a ticket."""

_TICKET = re.compile(r"[\w-]{43}", re.ASCII)
"""The text of a ticket: TICKET_BYTES in base64url, which is valid in the name of a subprotocol."""

_backends = threading.local()


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """
    What a ticket is valid for.

    Attributes:
        user_key: The key of the user, see wsrt.addresses.user_key().
        model: The label of the user's model, such as "auth.user".
        pk: The primary key of the user, as text.
        tenant: The tenant, or None.
        path: The path of the WebSocket URL, decoded, without the script prefix.
        session: The keyed hash of the session's key. None for a ticket that isn't bound to a session.
    """

    user_key: str
    model: str
    pk: str
    tenant: str | None
    path: str
    session: str | None

    def is_of_session(self, ticket: str, session: Any) -> bool:
        """Return whether the ticket may be used in a session: whether it is bound to this session, or to none."""
        if self.session is None:
            return True
        key = _session_key(session)
        return key is not None and hmac.compare_digest(self.session, _session_hash(ticket, key))

    def is_of_user(self, user: object) -> bool:
        """Return whether a signed-in user is the ticket's user."""
        try:
            return user_key(user) == UserKey(self.user_key)
        except (TypeError, ValueError):
            return False

    def load_user(self) -> models.Model | None:
        """Return the user from the database, or None if it doesn't exist any more."""
        try:
            model = apps.get_model(self.model)
            pk = model._meta.pk.to_python(self.pk)
        except (LookupError, ValidationError):
            return None
        found: models.Model | None = model._default_manager.filter(pk=pk).first()
        return found


def issue_ticket(user: models.Model, path: str, *, tenant: Tenant = NOT_GIVEN, session: Any = None) -> str:
    """
    Return a new ticket. It is valid for one handshake, within ``WSRT["TICKET_SECONDS"]`` seconds.

    ``wsrt.views.TicketView`` calls this for requests of pages with a session. Call it in a view of your own that
    authenticates its requests in another way, such as one of Django REST framework. Send the ticket in the body of a
    response that no cache stores, and never write it into a URL or a log.

    Args:
        user: The user, a saved instance of a model. The connection belongs to it.
        path: The path of the WebSocket URL, decoded, without the script prefix: "/ws/chat/lobby/".
        tenant: The tenant of the connection. If it isn't given, ``WSRT["TENANT"]`` returns it, if a consumer that
            requires tickets has tenants.
        session: The session in which the ticket is issued, ``request.session``. Only handshakes in the same session
            can then use the ticket. None if the ticket shouldn't be bound to a session.

    Raises:
        TypeError: The user isn't a saved instance of a model.
        ValueError: The path doesn't begin with "/".
        TenantRequired: A consumer that requires tickets has tenants, and neither the call nor the setting provides one.
        RuntimeError: The cache didn't store the ticket.
    """
    if not isinstance(user, models.Model):
        raise TypeError(f"user must be a saved model instance, not {type(user).__name__}")
    if not path.startswith("/"):
        raise ValueError('the path of a ticket is the path of the WebSocket URL, which begins with "/"')
    ticket = secrets.token_urlsafe(TICKET_BYTES)
    key = _session_key(session)
    issued = Ticket(
        user_key=str(user_key(user)),
        model=user._meta.concrete_model._meta.label_lower,  # type: ignore[union-attr]  # None for abstract models
        pk=user._meta.pk.value_to_string(user),
        tenant=_tenant_of_call(tenant),
        path=path,
        session=None if key is None else _session_hash(ticket, key),
    )
    # add() rather than set(), because it returns whether the cache has stored the value.
    if not caches[conf.ticket_cache].add(_key_of(ticket), dataclasses.asdict(issued), conf.ticket_seconds):
        raise RuntimeError(f'the cache {conf.ticket_cache!r} of WSRT["TICKET_CACHE"] didn\'t store a ticket')
    return ticket


async def aissue_ticket(user: models.Model, path: str, *, tenant: Tenant = NOT_GIVEN, session: Any = None) -> str:
    """See issue_ticket()."""
    return await sync_to_async(issue_ticket)(user, path, tenant=tenant, session=session)


def wait_for_ticket(user: models.Model) -> float | None:
    """
    Count a request for a ticket. Return the seconds until the user may have one; None if the user may have one now.

    ``WSRT["TICKET_RATE"]`` limits how many tickets a user gets in each second, minute or hour, from all processes
    together, as far as the cache counts exactly: of the caches of Django, the one in the database may miss some
    requests that arrive at once.

    Args:
        user: The user, a saved instance of a model.
    """
    rate = conf.ticket_rate
    if rate is None:
        return None
    per_second, limit = parse_event_rate(rate)
    window = limit / per_second
    number, elapsed = divmod(time.time(), window)
    cache = caches[conf.ticket_cache]
    key = f"wsrt:tickets:{hashlib.sha256(str(user_key(user)).encode()).hexdigest()}:{number:.0f}"
    # Kept for longer, because the clocks of the processes may differ.
    cache.add(key, 0, 2 * window)
    try:
        count = cache.incr(key)
    except ValueError:
        return None  # the cache has dropped it
    if count <= limit:
        return None
    counters.count("tickets_over_limit", "refused a ticket, because TICKET_RATE (%s) was reached", rate)
    return window - elapsed


def take_ticket(ticket: str) -> Ticket | None:
    """
    Use up a ticket, and return what it is valid for. Return None if it is forged, has expired, or was used before.

    If several calls present the same ticket, in any processes, only one of them succeeds: the one whose ``delete()``
    has removed the ticket from the cache. Redis, Memcached, databases and file systems confirm the deletion of a key
    only once. A ticket that the cache has lost is refused.

    Raises anything that the cache raises when it can't be reached.
    """
    # A text that can't be a ticket costs no access to the cache.
    if not _TICKET.fullmatch(ticket):
        return None
    cache, key = _backend(conf.ticket_cache), _key_of(ticket)
    record = cache.get(key)
    if record is None or not cache.delete(key):
        return None
    try:
        return Ticket(**record)
    except TypeError:
        return None  # issued by another version of wsrt


# Private.


def _tenant_of_call(tenant: Tenant) -> str | None:
    """Return the tenant of a call, as it is for the consumers that require tickets."""
    if not isinstance(tenant, NotGiven):
        return tenant_of_call(tenant, None)
    for namespace, space in namespaces.items():
        if any(getattr(consumer, "requires_ticket", False) for consumer in space.consumers) and has_tenants(namespace):
            return tenant_of_call(tenant, namespace)
    return None


def _key_of(ticket: str) -> str:
    return f"wsrt:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"


def _session_key(session: Any) -> str | None:
    """Return the key of a session, or None if the server stores nothing under a key."""
    if session is None or isinstance(session, signed_cookies.SessionStore):
        # The key of a session in a cookie is the whole session, and changes whenever it is saved.
        return None
    key: str | None = session.session_key
    return key or None


def _session_hash(ticket: str, key: str) -> str:
    # Keyed with the ticket, so that the store doesn't show which tickets belong to one session.
    return hmac.new(ticket.encode(), key.encode(), "sha256").hexdigest()


def _backend(alias: str) -> Any:
    """
    Return this thread's instance of a cache.

    ``caches`` would create one, with its own connections to the cache, for every WebSocket connection: it keeps them by
    context, and each WebSocket connection has its own context.
    """
    settings = caches.settings[alias]
    found: dict[str, tuple[Any, Any]] = vars(_backends).setdefault("by_alias", {})
    known, backend = found.get(alias, (None, None))
    if known is not settings:
        # The first use in this thread, or the settings were changed by a test.
        backend = caches.create_connection(alias)
        found[alias] = (settings, backend)
    return backend
