"""
The functions that publish events, for consumers, views, Celery tasks, signal receivers and shells.

An event is validated and encoded at the call. A mistake therefore raises in the publisher and never affects a
subscriber. The synchronous functions send after the commit of a transaction; their async twins, whose names begin with
``a``, send immediately.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .addresses import Audience, Everyone, Room, User
from .cluster.batch import send_all
from .cluster.commits import send_all_on_commit, send_on_commit
from .cluster.outgoing import Outgoing, Preparation, prepare
from .cluster.sending import require_no_loop, send
from .delivery.calls import must_be_awaited
from .exceptions import BackplaneUnavailable, PublicationsFailed
from .protocol.events import Event
from .realms import NOT_GIVEN, Tenant
from .tenants import recipient_tenant
from .types import Publication

__all__ = [
    "abroadcast",
    "apublish_many",
    "apublish_to_audience",
    "apublish_to_room",
    "apublish_to_user",
    "broadcast",
    "publish_many",
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
    idempotency_key: str | None = None,
) -> Publication | None:
    """
    Publish an event to every connection in a room.

        publish_to_room("lobby", MessageSent(text="hi"), namespace="chat")

    Inside a transaction the event is sent after the commit, and never on a rollback. A failure is then logged, counted
    and reported by the signal ``publication_failed`` instead of raised. Outside a transaction, or with
    ``on_commit=False``, the event is sent immediately: when this returns, the channel layer has accepted it. The call
    doesn't wait for clients.

    Args:
        room: The name of the room.
        event: The event, which a consumer of the namespace must declare.
        namespace: The namespace of the room.
        tenant: The tenant that the room belongs to, or None for the connections without a tenant. If it isn't given
            and a consumer of the namespace defines ``tenant``, the tenant is the result of ``WSRT["TENANT"]``.
        on_commit: Whether to wait for the commit if a transaction is open.
        using: The alias of the database whose transaction ``on_commit`` refers to. None for the default database.
        idempotency_key: For an event with history, a string of 1 to 255 characters that makes it safe to repeat a call
            that has failed: if the room already has a publication with this key, the call sends that publication again,
            and clients drop the duplicate. The history remembers keys for the number of seconds in its option
            ``IDEMPOTENCY``, 300 by default.

    Returns:
        The position in the history of the room, for an event with history that is sent immediately. None otherwise.

    Raises:
        UnknownNamespace: No consumer of this process has the namespace.
        TenantRequired: The namespace has tenants, and the call doesn't say which one is meant.
        UndeclaredEvent: No consumer of the namespace declares that it sends the event.
        UnsendableEvent: The event can't be encoded, or is larger than 1 MiB.
        InvalidRoom: The text can't be the name of a room.
        TypeError, ValueError: Another argument isn't valid.
        StoreUnavailable: The history didn't store the event, and nothing was sent; or only its answer was lost, and
            clients get the event from the history. A subclass of BackplaneUnavailable.
        BackplaneUnavailable: The channel layer didn't accept the event, or only the layer's answer was lost. An event
            with history was stored before, and reaches clients from the history. After any exception other than these
            two, nothing was sent.
        WrongContext: An event loop is running in this thread; await apublish_to_room() instead.
    """
    require_no_loop("apublish_to_room")
    return send_on_commit(_prepare(Room(room), event, namespace, tenant, idempotency_key), on_commit, using)


def publish_to_user(
    user: object,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> Publication | None:
    """
    Publish an event to all connections of a user.

    Args:
        user: The user: an int, str, UUID, saved model instance, or other object with a ``pk``.

    The other arguments and the exceptions are those of publish_to_room().

    Raises:
        TypeError: The argument can't be a user, such as None or an anonymous user.
    """
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
    """
    Publish an event to every connection of an audience. A connection that is addressed twice receives it once.

        publish_to_audience(to.Room("lobby") - to.User(7), event)

    Args:
        audience: An address from wsrt.addresses, or an expression of addresses.

    The other arguments and the exceptions are those of publish_to_room().
    """
    return _publish(audience, event, namespace, tenant, on_commit, using, "apublish_to_audience")


def broadcast(
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> Publication | None:
    """Publish an event to every connection of a namespace. Arguments and exceptions are those of publish_to_room()."""
    return _publish(Everyone(), event, namespace, tenant, on_commit, using, "abroadcast")


@must_be_awaited
async def apublish_to_room(
    room: str,
    event: Event,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    idempotency_key: str | None = None,
) -> Publication | None:
    """
    Publish an event to every connection in a room, immediately, even inside a transaction.

    Arguments and exceptions are those of publish_to_room(), without ``on_commit``, ``using`` and WrongContext.
    """
    return await send(_prepare(Room(room), event, namespace, tenant, idempotency_key))


@must_be_awaited
async def apublish_to_user(
    user: object, event: Event, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN
) -> Publication | None:
    """Publish an event to all connections of a user, immediately. See publish_to_user() and apublish_to_room()."""
    return await send(_prepare(User(user), event, namespace, tenant))


@must_be_awaited
async def apublish_to_audience(
    audience: Audience, event: Event, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN
) -> Publication | None:
    """Publish an event to an audience, immediately. See publish_to_audience() and apublish_to_room()."""
    return await send(_prepare(audience, event, namespace, tenant))


@must_be_awaited
async def abroadcast(event: Event, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> Publication | None:
    """Publish an event to every connection of a namespace, immediately. See broadcast() and apublish_to_room()."""
    return await send(_prepare(Everyone(), event, namespace, tenant))


def publish_many(
    publications: Iterable[tuple[Audience, Event]],
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> list[Publication | None]:
    """
    Publish several events as one batch, which takes much less time than as many calls.

        publish_many([(to.Room(job.slug), JobDone(id=job.id)) for job in jobs], namespace="jobs")

    All events are validated and encoded before the first one is sent. Those to one room arrive in the order of the
    list. The publications of one transaction are always sent as one batch, whichever functions made them.

    Args:
        publications: The audience and the event of each.

    The other arguments are those of publish_to_room().

    Returns:
        The positions that publish_to_room() would return, in the same order.

    Raises:
        PublicationsFailed: Some of the events weren't accepted; its ``errors`` names them. The others were sent.

    The other exceptions are those of publish_to_room(). After any of them, nothing was sent.
    """
    require_no_loop("apublish_many")
    return _positions(send_all_on_commit(_prepare_all(publications, namespace, tenant), on_commit, using))


@must_be_awaited
async def apublish_many(
    publications: Iterable[tuple[Audience, Event]], *, namespace: str = "default", tenant: Tenant = NOT_GIVEN
) -> list[Publication | None]:
    """Publish several events as one batch, immediately. See publish_many() and apublish_to_room()."""
    return _positions(await send_all(_prepare_all(publications, namespace, tenant)))


def _prepare_all(publications: Iterable[tuple[Audience, Event]], namespace: str, tenant: Tenant) -> list[Outgoing]:
    preparation = Preparation(namespace, recipient_tenant(tenant, namespace))
    return [preparation.prepare(audience, event) for audience, event in publications]


def _positions(outcomes: Sequence[Publication | BackplaneUnavailable | None]) -> list[Publication | None]:
    """Return the positions. Raises PublicationsFailed."""
    failed = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, BackplaneUnavailable)}
    positions = [None if isinstance(outcome, BackplaneUnavailable) else outcome for outcome in outcomes]
    if failed:
        raise PublicationsFailed(failed, positions)
    return positions


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
    return send_on_commit(_prepare(audience, event, namespace, tenant), on_commit, using)


def _prepare(
    audience: Audience, event: Event, namespace: str, tenant: Tenant, idempotency_key: str | None = None
) -> Outgoing:
    return prepare(audience, event, namespace, recipient_tenant(tenant, namespace), idempotency_key)
