"""
Publishing, from wherever code runs: consumers, views, Celery tasks, signal receivers, shells.

An event is checked and encoded at the call, so a mistake is the publisher's and disturbs no subscriber. Synchronous
functions wait for the commit of a transaction; their async twins (with an ``a``) send at once.
"""

from __future__ import annotations

from .addresses import Audience, Everyone, Room, User
from .cluster.sending import Outgoing, prepare, require_no_loop, send, send_on_commit
from .protocol.events import Event
from .realms import NOT_GIVEN, Tenant
from .tenants import recipient_tenant
from .types import Publication

__all__ = [
    "abroadcast",
    "apublish_to_audience",
    "apublish_to_room",
    "apublish_to_user",
    "broadcast",
    "publish_to_audience",
    "publish_to_room",
    "publish_to_user",
]


def publish_to_room(
    room: str,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> Publication | None:
    """
    Publish an event to everybody in a room.

    Inside a transaction of the database ``using`` it is sent after the commit, and never on a rollback; a failure is
    then logged, counted and signalled, not raised. Outside, or with ``on_commit=False``, it is sent at once: when this
    returns, the layer has accepted it.

    Args:
        tenant: whose room it is, where the consumers of the namespace have tenants; None for the connections without
            one. Not given: what ``WSRT["TENANT"]`` returns.

    Returns:
        The position in the room's history where one is kept and the event was sent at once, else None.

    Raises:
        UnknownNamespace, TenantRequired, UndeclaredEvent, UnsendableEvent, TypeError, ValueError: the call is wrong;
            nothing was sent.
        BackplaneUnavailable: the layer did not accept it.
        WrongContext: an event loop runs in this thread; await apublish_to_room().
    """
    return _publish(Room(room), event, namespace, tenant, on_commit, using, "apublish_to_room")


def publish_to_user(
    user: object,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> Publication | None:
    """Publish an event to all connections of a user: an int, str, UUID or model instance. See publish_to_room()."""
    return _publish(User(user), event, namespace, tenant, on_commit, using, "apublish_to_user")


def publish_to_audience(
    audience: Audience,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> Publication | None:
    """Publish an event to an address or an expression of addresses. See publish_to_room()."""
    return _publish(audience, event, namespace, tenant, on_commit, using, "apublish_to_audience")


def broadcast(
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> Publication | None:
    """Publish an event to every connection of a namespace. See publish_to_room()."""
    return _publish(Everyone(), event, namespace, tenant, on_commit, using, "abroadcast")


async def apublish_to_room(
    room: str, event: Event, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN
) -> Publication | None:
    """Publish to a room, at once whatever transaction is open. See publish_to_room()."""
    return await send(_prepare(Room(room), event, namespace, tenant))


async def apublish_to_user(
    user: object, event: Event, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN
) -> Publication | None:
    """Publish to a user, at once. See publish_to_user()."""
    return await send(_prepare(User(user), event, namespace, tenant))


async def apublish_to_audience(
    audience: Audience, event: Event, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN
) -> Publication | None:
    """Publish to an audience, at once. See publish_to_audience()."""
    return await send(_prepare(audience, event, namespace, tenant))


async def abroadcast(event: Event, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> Publication | None:
    """Publish to everyone, at once. See broadcast()."""
    return await send(_prepare(Everyone(), event, namespace, tenant))


def _publish(
    audience: Audience,
    event: Event,
    namespace: str,
    tenant: Tenant,
    on_commit: bool,
    using: str | None,
    twin: str,
) -> Publication | None:
    require_no_loop(twin)
    send_on_commit(_prepare(audience, event, namespace, tenant), on_commit, using)
    return None


def _prepare(audience: Audience, event: Event, namespace: str, tenant: Tenant) -> Outgoing:
    return prepare(audience, event, namespace, recipient_tenant(tenant, namespace))
