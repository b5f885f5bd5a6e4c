"""
The functions that store publications in the database.

They validate and encode the event immediately, like those of wsrt.publish, and raise the same exceptions. Workers see a
row when its transaction has committed. On PostgreSQL, they are notified of the commit.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from asgiref.sync import sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from ..addresses import Audience, Room, User
from ..cluster.in_process import unreachable_layer
from ..cluster.messages import PublishMessage
from ..cluster.outgoing import Outgoing, Preparation, prepare
from ..cluster.sending import require_no_loop
from ..delivery.calls import must_be_awaited
from ..exceptions import WrongContext
from ..protocol.events import Event
from ..realms import NOT_GIVEN, Tenant, split_realm
from ..tenants import recipient_tenant
from .waking import wake_on_commit

__all__ = [
    "apublish_many",
    "apublish_to_room",
    "apublish_to_user",
    "publish_many",
    "publish_to_room",
    "publish_to_user",
    "publish_waiting",
]

IDEMPOTENCY_KEY_BYTES = 16


def publish_to_room(
    room: str,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    using: str | None = None,
    idempotency_key: str | None = None,
) -> None:
    """
    Store an event for every connection in a room. A worker publishes it after the transaction has committed.

        with transaction.atomic():
            message.save()
            publish_to_room("lobby", MessageSent.model_validate(message), namespace="chat")

    If the transaction commits, the event is published at least once, whatever fails afterwards. Generated clients
    receive an event with history once. If a transaction commits before another one stores an event for the same room,
    the events of the first transaction are published first.

    Args:
        room: The name of the room.
        event: The event, which a consumer of the namespace must declare.
        namespace: The namespace of the room.
        tenant: The tenant that the room belongs to. See wsrt.publish_to_room().
        using: The alias of the database whose transaction stores the event. None for the default database.
        idempotency_key: For an event with history, the key by which the history recognises a duplicate. Pass one if
            your code may store the same event twice. None for a random key, by which the history recognises an event
            that a worker publishes twice.

    Raises:
        UnknownNamespace, TenantRequired, UndeclaredEvent, UnsendableEvent, InvalidRoom, TypeError, ValueError,
            WrongContext: As for wsrt.publish_to_room(). Nothing was stored.
        django.core.exceptions.ImproperlyConfigured: "wsrt.durable" isn't in INSTALLED_APPS.
        django.db.DatabaseError: The database didn't store the event.
    """
    require_no_loop("wsrt.durable.apublish_to_room")
    _store([_prepare(Room(room), event, namespace, tenant, idempotency_key)], using)


def publish_to_user(
    user: object,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    using: str | None = None,
) -> None:
    """
    Store an event for all connections of a user. A worker publishes it after the transaction has committed.

    There is no history for users: the event reaches the connections that the user has when the worker publishes it. In
    rare cases, it reaches them twice.

    Args:
        user: The user: an int, str, UUID, saved model instance, or other object with a ``pk``.

    The other arguments and the exceptions are those of publish_to_room().

    Raises:
        TypeError: The argument can't be a user, such as None or an anonymous user.
    """
    require_no_loop("wsrt.durable.apublish_to_user")
    _store([_prepare(User(user), event, namespace, tenant)], using)


def publish_many(
    publications: Iterable[tuple[Audience, Event]],
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    using: str | None = None,
) -> None:
    """
    Store several events with one query. A worker publishes them after the transaction has committed.

        publish_many([(to.Room(job.slug), JobDone(id=job.id)) for job in jobs], namespace="jobs")

    All events are validated and encoded before the first one is stored. Those to one room or user are published in the
    order of the list.

    Args:
        publications: The audience and the event of each. An audience is one Room or one User.

    The other arguments and the exceptions are those of publish_to_room().

    Raises:
        ValueError: An audience is something other than one room or user.
    """
    require_no_loop("wsrt.durable.apublish_many")
    _store(_prepare_all(publications, namespace, tenant), using)


@must_be_awaited
async def apublish_many(
    publications: Iterable[tuple[Audience, Event]],
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    using: str | None = None,
) -> None:
    """Store several events with one query. See publish_many() and apublish_to_room()."""
    await sync_to_async(_store)(_prepare_all(publications, namespace, tenant), using)


@must_be_awaited
async def apublish_to_room(
    room: str,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    using: str | None = None,
    idempotency_key: str | None = None,
) -> None:
    """
    Store an event for every connection in a room, through the database connection of Django's async ORM.

    Arguments and exceptions are those of publish_to_room(), without WrongContext.
    """
    outgoing = _prepare(Room(room), event, namespace, tenant, idempotency_key)
    await sync_to_async(_store)([outgoing], using)


@must_be_awaited
async def apublish_to_user(
    user: object,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    using: str | None = None,
) -> None:
    """Store an event for all connections of a user. See publish_to_user() and apublish_to_room()."""
    await sync_to_async(_store)([_prepare(User(user), event, namespace, tenant)], using)


def publish_waiting(using: str | None = None) -> int:
    """
    Publish all events that wait in the database, as a worker does, and return their number.

    For tests and scripts. It skips events that another worker is publishing at the moment.

    Args:
        using: The alias of the database. None for the default database.

    Raises:
        django.core.exceptions.ImproperlyConfigured: "wsrt.durable" isn't in INSTALLED_APPS.
        WrongContext: Events wait, and nothing can receive them: this process holds no connections, its channel layer
            doesn't reach other processes, and no capture_publications() is open. The events still wait.
    """
    require_app()
    from .models import WaitingPublication
    from .rows import RowPublisher

    using = using or DEFAULT_DB_ALIAS
    alias = unreachable_layer(None)
    if alias is not None and WaitingPublication.objects.using(using).exists():
        raise WrongContext(
            f"nothing can receive the waiting events: the channel layer {alias!r} doesn't reach other processes, and "
            "this one holds no connections. Configure channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS; "
            "in a test, call publish_waiting() inside capture_publications(), or while a client is connected"
        )
    return RowPublisher(using).run()


def require_app() -> None:
    """Raise ImproperlyConfigured unless the app is installed."""
    if not apps.is_installed("wsrt.durable"):
        raise ImproperlyConfigured(
            'durable publishing needs its app: add "wsrt.durable" to INSTALLED_APPS, and run manage.py migrate'
        )


def _prepare(
    audience: Audience, event: Event, namespace: str, tenant: Tenant, idempotency_key: str | None = None
) -> Outgoing:
    return prepare(audience, event, namespace, recipient_tenant(tenant, namespace), idempotency_key)


def _prepare_all(publications: Iterable[tuple[Audience, Event]], namespace: str, tenant: Tenant) -> list[Outgoing]:
    preparation = Preparation(namespace, recipient_tenant(tenant, namespace))
    prepared = [preparation.prepare(audience, event) for audience, event in publications]
    for outgoing in prepared:
        audience = outgoing.item.audience
        if not isinstance(audience, Room | User):
            raise ValueError(f"the audience of a durable publication must be one Room or one User, not {audience!r}")
    return prepared


def _store(outgoing: Sequence[Outgoing], using: str | None) -> None:
    require_app()
    from .models import Kind, WaitingPublication, partition_of

    alias, now = using or DEFAULT_DB_ALIAS, timezone.now()
    rows = []
    for one in outgoing:
        message, append = one.item, one.append
        if not isinstance(message, PublishMessage):
            raise TypeError(f"only publications can be stored, not {one.description}")
        kind, name = message.audience.to_message()
        namespace, tenant = split_realm(message.realm)
        key = message.encoded.key if append is None else append.key
        idempotency_key = None if append is None else append.idempotency_key
        rows.append(
            WaitingPublication(
                partition=partition_of(message.realm, kind, name),
                namespace=namespace,
                tenant=tenant or "",
                kind=Kind(kind),
                name=name,
                event=message.encoded.event,
                data=message.encoded.data,
                key=key or "",
                idempotency_key=idempotency_key or secrets.token_hex(IDEMPOTENCY_KEY_BYTES),
                created=now,
            )
        )
    WaitingPublication.objects.using(alias).bulk_create(rows)
    wake_on_commit(alias)
