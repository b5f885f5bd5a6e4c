"""
The sending of publications, control commands and presence changes, from asynchronous and synchronous code.

With a local layer, they go straight to the nodes of this process, otherwise through the channel layer. They are sent
immediately or after the commit of a transaction.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import secrets
import time
import weakref
from collections.abc import Callable
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import transaction

from ..addresses import Audience, Room
from ..conf import conf, require_installed
from ..delivery.mailbox import Taken
from ..exceptions import BackplaneUnavailable, StoreUnavailable, UnknownNamespace, WrongContext
from ..history.backends import store_of_loop
from ..history.base import MAX_OFFSET, Append
from ..metrics import counters, quoted
from ..protocol.envelope import Encoded, encode, value_key
from ..protocol.events import Event, meta
from ..protocol.namespaces import namespaces
from ..realms import AllTenants, RoomId, realm_of, split_realm
from ..signals import publication_failed
from ..types import Position, Publication
from . import background_loop
from .layers import LAYER_SECONDS, ask, drop_layer_soon, is_local, layer_of_loop
from .messages import CommandMessage, Kept, PublishMessage
from .node import Item, Node, nodes

ACT_SECONDS = 5.0
"""How long a call waits for the event loops of other threads of this process, in seconds."""

PUBLICATION_ID_BYTES = 8
"""The random bytes of the id of a publication that is kept in history."""

MAX_IDEMPOTENCY_KEY = 255
"""The most characters of an idempotency key."""

LONGEST_POSITION = Position("0" * 64, MAX_OFFSET)

SHARE_SECONDS = 0.5
"""How long each publication of a commit may take before it counts against the time of the commit, in seconds."""

logger = logging.getLogger("wsrt")


class Outgoing:
    """
    A publication, command or presence change that is ready to be sent.

    Args:
        item: The message.
        groups: The groups that reach every node with a recipient.
        alias: The alias of the channel layer.
        event: The event, if it is a publication.
        append: What the history of the room keeps, if it keeps the publication.
    """

    __slots__ = ("alias", "append", "event", "groups", "item")

    def __init__(
        self,
        item: Item,
        groups: frozenset[str],
        alias: str,
        event: Event | None,
        append: Append | None = None,
    ) -> None:
        self.item = item
        self.groups = groups
        self.alias = alias
        self.event = event
        self.append = append

    @property
    def description(self) -> str:
        """The event or command, for the log."""
        if self.event is not None:
            return f"the event {meta(self.event).name!r}"
        return f"the command {self.item.name!r}" if isinstance(self.item, CommandMessage) else "a presence change"


observers: list[Callable[[Outgoing], None]] = []
"""Called with everything that is sent. While there is an observer, nothing leaves this process (see wsrt.testing)."""


def prepare(
    audience: Audience, event: Event, namespace: str, tenant: str | None, idempotency_key: str | None = None
) -> Outgoing:
    """
    Validate and encode an event, once for all recipients.

    Args:
        audience: The recipients.
        event: The event.
        namespace: The namespace to publish in.
        tenant: The tenant of the audience's rooms and users; None for the connections without one.
        idempotency_key: The key by which the history of the room recognises a repeated publication.

    Raises:
        UnknownNamespace: No consumer has the namespace.
        UndeclaredEvent: No consumer of the namespace sends the event.
        UnsendableEvent: The event can't be encoded or is too large.
        TypeError: The audience is not an address, or the event is not an event.
        ValueError: The event is kept in history and the audience is not one room; or there is an idempotency key that
            isn't valid, or without history.
    """
    if not isinstance(audience, Audience):
        raise TypeError(f"audience must be an address, such as wsrt.addresses.Room(...), not {type(audience).__name__}")
    declared = meta(event)
    try:
        namespaces.publishing(namespace, event)
    except UnknownNamespace:
        require_installed()
        raise
    room = audience.name if isinstance(audience, Room) else None
    if declared.history and room is None:
        raise ValueError(
            f"{declared.name!r} is declared with history={declared.history!r}, so it can only be published to exactly "
            "one room"
        )
    realm = realm_of(namespace, tenant)
    groups = audience.groups(realm)
    encoded = encode(event, address=audience.to_message() if declared.key else None)
    append = kept = None
    if declared.history and room is not None:
        append = _append_of(event, encoded, (realm, room), _require_key(idempotency_key))
        # The frame is checked with the longest position that it can get.
        kept = Kept(LONGEST_POSITION, append.id, append.key)
    elif idempotency_key is not None:
        raise ValueError(
            f"idempotency_key requires an event with history, which {declared.name!r} isn't: only the history of a "
            "room knows what was published before"
        )
    publication = PublishMessage(realm, audience, encoded, secrets.token_hex(8) if len(groups) > 1 else None, kept)
    return Outgoing(publication, groups, layer_alias(namespace), event, append)


def _append_of(event: Event, encoded: Encoded, room: RoomId, idempotency_key: str | None) -> Append:
    return Append(
        room, secrets.token_hex(PUBLICATION_ID_BYTES), encoded.event, encoded.data, value_key(event), idempotency_key
    )


def _require_key(key: object) -> str | None:
    """Return an idempotency key. Raises ValueError if it can't be one."""
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise ValueError(f"idempotency_key must be a string of 1 to {MAX_IDEMPOTENCY_KEY} characters, not {key!r}")
    return key


def layer_alias(namespace: str) -> str:
    """
    Return the alias of a namespace's channel layer: the one that a consumer names, else that of the setting.

    Raises:
        UnknownNamespace: No consumer has the namespace.
    """
    named = (getattr(consumer, "channel_layer_alias", None) for consumer in namespaces.of(namespace).consumers)
    return next((alias for alias in named if isinstance(alias, str)), conf.channel_layer_alias)


def layer_aliases(namespace: str | None) -> set[str]:
    """
    Return the aliases of the channel layers of a namespace, or of all namespaces for None.

    Raises:
        UnknownNamespace: No consumer has the namespace.
    """
    if namespace is not None:
        return {layer_alias(namespace)}
    consumers = [consumer for name in namespaces for consumer in namespaces[name].consumers]
    named = {getattr(consumer, "channel_layer_alias", None) for consumer in consumers}
    return {alias or conf.channel_layer_alias for alias in named} or {conf.channel_layer_alias}


async def send(outgoing: Outgoing) -> Publication | None:
    """
    Send immediately, from a running loop. When this returns, the nodes of this process have carried out a command.

    Returns:
        The position of a publication that is kept in history; None for anything else.

    Raises:
        BackplaneUnavailable: The layer did not accept the message, or another event loop of this process is blocked.
        StoreUnavailable: The history didn't keep the publication, which was not sent.
    """
    publication = None if outgoing.append is None else await _keep(outgoing, outgoing.append)
    stays_here = _stays_in_process(outgoing)
    waits_for = _send_here(outgoing, stays_here=stays_here)
    if waits_for:
        await asyncio.wait([asyncio.wrap_future(taken) for taken in waits_for], timeout=ACT_SECONDS)
        _require_taken(outgoing, waits_for)
    if not stays_here:
        await _send_through_layer(outgoing)
    elif (node := _node_of_running_loop()) is not None:
        await node.hub.checkpoint()
    return publication


async def _keep(outgoing: Outgoing, append: Append) -> Publication:
    """
    Keep a publication in the history of its room, from which it gets its position.

    Raises:
        StoreUnavailable: The store did not answer. The publication may have been kept.
    """
    try:
        [appended] = await store_of_loop().append([append])
    except StoreUnavailable:
        counters.count("publications_failed")
        raise
    message = outgoing.item
    if isinstance(message, PublishMessage):
        kept = Kept(appended.position, appended.id, append.key)
        outgoing.item = PublishMessage(message.realm, message.audience, message.encoded, message.id, kept)
    return Publication(appended.position.epoch, appended.position.offset)


async def _send_through_layer(outgoing: Outgoing, seconds: float | None = None) -> None:
    message = outgoing.item.to_message()
    for group in outgoing.groups:
        # Looked up for each group: a node that rebuilds its backplane replaces the layer during the awaits.
        layer = layer_of_loop(outgoing.alias)
        try:
            await ask("accept a publication", layer.group_send(group, message), seconds)
        except BackplaneUnavailable as error:
            counters.count("publications_failed")
            if isinstance(error.__cause__, TimeoutError) and _node_of_running_loop() is None:
                # In a loop without a node there are no probes that would replace dead connections.
                drop_layer_soon(outgoing.alias, layer)
            raise


def send_from_sync(outgoing: Outgoing, seconds: float | None = None) -> Publication | None:
    """
    Send immediately, from a thread without a running loop.

    Args:
        outgoing: The message.
        seconds: The time limit of the layer for each group, in seconds; None for LAYER_SECONDS.

    Returns:
        The position of a publication that is kept in history; None for anything else.

    Raises:
        BackplaneUnavailable, StoreUnavailable: As for send().
    """
    publication = None if outgoing.append is None else background_loop.run(_keep(outgoing, outgoing.append))
    stays_here = _stays_in_process(outgoing)
    waits_for = _send_here(outgoing, stays_here=stays_here)
    if waits_for:
        concurrent.futures.wait(waits_for, timeout=ACT_SECONDS)
        _require_taken(outgoing, waits_for)
    if not stays_here:
        background_loop.run(_send_through_layer(outgoing, seconds))
    return publication


def send_on_commit(outgoing: Outgoing, on_commit: bool, using: str | None) -> Publication | None:
    """
    Send after the commit of the open transaction, or immediately.

    Args:
        outgoing: The message.
        on_commit: Whether to wait for the commit if a transaction is open.
        using: The alias of the database; None for the default one.

    Returns:
        As for send(), if it was sent immediately; None otherwise.

    Raises:
        BackplaneUnavailable, StoreUnavailable: As for send(), if it was sent immediately. After a commit, errors are
            logged and reported by the signal publication_failed.
    """
    connection = transaction.get_connection(using)
    if on_commit and connection.in_atomic_block:
        commit = _commits.get(connection)
        if commit is None or commit.has_begun:
            commit = _commits[connection] = _Commit()
        transaction.on_commit(lambda: _send_after_commit(outgoing, commit), using=using, robust=True)
        return None
    return send_from_sync(outgoing)


def require_no_loop(twin: str) -> None:
    """
    Check that no event loop runs in this thread, which a synchronous call would block.

    Args:
        twin: The name of the asynchronous function, for the message of the error.

    Raises:
        WrongContext: An event loop runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongContext(f"an event loop runs in this thread, which this call would block: await {twin}(...) instead")


class _Commit:
    """
    The publications of one transaction, and the time that the layer may still delay the code that committed it.

    Attributes:
        has_begun: Whether the transaction was committed. Later publications belong to another transaction.
        seconds: The remaining time for publications that take longer than SHARE_SECONDS, in seconds.
    """

    __slots__ = ("has_begun", "seconds")

    def __init__(self) -> None:
        self.has_begun = False
        self.seconds = LAYER_SECONDS

    def send(self, outgoing: Outgoing) -> None:
        """
        Send a publication.

        Raises:
            BackplaneUnavailable: As for send_from_sync(). Raised immediately when no time is left.
        """
        self.has_begun = True
        if self.seconds <= 0:
            raise BackplaneUnavailable("the channel layer was too slow for earlier publications of the same commit")
        started = time.monotonic()
        try:
            send_from_sync(outgoing, min(LAYER_SECONDS, SHARE_SECONDS + self.seconds))
        finally:
            self.seconds -= max(0.0, time.monotonic() - started - SHARE_SECONDS)


# The current or last transaction of each database connection. A connection belongs to one thread.
_commits: weakref.WeakKeyDictionary[Any, _Commit] = weakref.WeakKeyDictionary()


def _send_after_commit(outgoing: Outgoing, commit: _Commit) -> None:
    is_given_up = commit.seconds <= 0
    try:
        commit.send(outgoing)
    except Exception as error:
        item = outgoing.item
        name = meta(outgoing.event).name if outgoing.event is not None else ""
        if is_given_up:
            counters.count(
                "publications_lost_after_commit",
                "did not send %s to %s after the commit: %s",
                outgoing.description,
                quoted(item.audience),
                error,
            )
        else:
            counters.count("publications_lost_after_commit")
            logger.exception("failed to send %s to %s after the commit", outgoing.description, quoted(item.audience))
        namespace, tenant = _place_of(item)
        publication_failed.send_robust(
            sender=None, namespace=namespace, tenant=tenant, audience=item.audience, event=name, error=error
        )


def _place_of(item: Item) -> tuple[str | None, str | AllTenants | None]:
    """Return the namespace and the tenant of a message's recipients."""
    return (item.namespace, item.tenant) if isinstance(item, CommandMessage) else split_realm(item.realm)


def _require_taken(outgoing: Outgoing, waits_for: list[Taken]) -> None:
    """Raise BackplaneUnavailable for a publication that a loop of this process hasn't taken yet."""
    if isinstance(outgoing.item, PublishMessage) and not all(taken.done() for taken in waits_for):
        counters.count("publications_failed")
        problem = f"an event loop of this process did not accept a publication within {ACT_SECONDS:g} s"
        raise BackplaneUnavailable(problem) from TimeoutError()


def send_locally(outgoing: Outgoing) -> list[Taken]:
    """
    Pass a message to the nodes of this process.

    Returns:
        Futures that the caller has to wait for. When they are done, the nodes of other threads have carried out the
        command, or have accepted a publication that was held up by too many others.
    """
    for observer in observers:
        observer(outgoing)
    if not nodes() and not observers and not is_below_a_server():
        counters.count(
            "publications_unheard",
            "publication discarded: this process holds no connections, and the channel layer %r doesn't reach other "
            "processes. Configure channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS",
            outgoing.alias,
        )
    return _post(outgoing.item)


def _send_here(outgoing: Outgoing, *, stays_here: bool) -> list[Taken]:
    """
    Pass a message to the nodes of this process, unless they receive it through the layer.

    Commands are posted even if they go through the layer, so that they are carried out here when the call returns. The
    nodes recognise the copy from the layer by its id, and drop it.
    """
    if stays_here:
        return send_locally(outgoing)
    return _post(outgoing.item) if isinstance(outgoing.item, CommandMessage) else []


def _post(item: Item) -> list[Taken]:
    """Post a message to every node of this process; return the futures that the caller has to wait for."""
    return [taken for node in nodes() if (taken := node.post(item)) is not None]


def unreachable_layer(namespace: str | None) -> str | None:
    """
    Return the alias of a channel layer if nothing that is sent to a namespace can reach a connection, otherwise None.

    That is so if the layers are local and this process holds no connections.

    Args:
        namespace: The namespace, or None for all namespaces.

    Raises:
        UnknownNamespace: No consumer has the namespace.
    """
    aliases = layer_aliases(namespace)
    if nodes() or observers or is_below_a_server() or not all(map(is_local, aliases)):
        return None
    return min(aliases)


def is_below_a_server() -> bool:
    """Return whether this code runs in or under the event loop of an ASGI server, which may get connections."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # A synchronous view runs in a thread for which the server's loop waits.
        loop = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        return loop is not None and loop.is_running()
    return True


def _stays_in_process(outgoing: Outgoing) -> bool:
    return bool(observers) or is_local(outgoing.alias)


def _node_of_running_loop() -> Node | None:
    loop = asyncio.get_running_loop()
    return next((node for node in nodes() if node.loop is loop), None)
