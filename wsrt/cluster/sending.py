"""
Sending: how what was checked and encoded leaves this process, from wherever code runs.

Publications and control commands take the same way: within a process straight to its nodes, else through the channel
layer; at once, or after the commit of a transaction.
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
from ..conf import conf
from ..delivery.mailbox import Taken
from ..exceptions import BackplaneUnavailable, WrongContext
from ..metrics import counters, quoted
from ..protocol.envelope import encode
from ..protocol.events import Event, meta
from ..protocol.namespaces import namespaces
from ..realms import AllTenants, realm_of, split_realm
from ..signals import publication_failed
from ..types import Publication
from . import background_loop
from .layers import LAYER_SECONDS, ask, drop_layer_soon, is_local, layer_of_loop
from .messages import CommandMessage, PublishMessage
from .node import Item, Node, nodes

ACT_SECONDS = 5.0
"""How long a command waits for the loops of other threads of this process."""

SHARE_SECONDS = 0.5
"""What each publication of a commit may take before it counts against the time of the commit."""

logger = logging.getLogger("wsrt")


class Outgoing:
    """A publication or command that is ready to go: checked and encoded."""

    __slots__ = ("alias", "event", "groups", "item")

    def __init__(
        self,
        item: Item,
        groups: frozenset[str],
        alias: str,
        event: Event | None,
    ) -> None:
        self.item = item
        self.groups = groups
        self.alias = alias
        self.event = event


observers: list[Callable[[Outgoing], None]] = []
"""Called with whatever is sent. While there is one, nothing leaves this process (see wsrt.testing)."""


def prepare(audience: Audience, event: Event, namespace: str, tenant: str | None) -> Outgoing:
    """
    Check and encode an event, once for all recipients.

    Args:
        tenant: whose rooms and users the audience names; None for the connections without one.

    Raises:
        UnknownNamespace, UndeclaredEvent, UnsendableEvent, TypeError, ValueError: the call is wrong.
    """
    if not isinstance(audience, Audience):
        raise TypeError(f"an address is needed, such as wsrt.addresses.Room(...), not {type(audience).__name__}")
    declared = meta(event)
    space = namespaces.of(namespace)
    space.check(event)
    room = audience.name if isinstance(audience, Room) else None
    if declared.history and room is None:
        raise ValueError(f"{declared.name!r} is kept in history, and history belongs to one room: publish it to a Room")
    realm = realm_of(namespace, tenant)
    groups = audience.groups(realm)
    publication = PublishMessage(
        realm,
        audience,
        encode(event, address=audience.to_message() if declared.key else None),
        secrets.token_hex(8) if len(groups) > 1 else None,
    )
    return Outgoing(publication, groups, layer_alias(namespace), event)


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
    Send at once, from a running loop. The nodes of this process have carried out a command when this returns.

    Raises:
        BackplaneUnavailable: the layer did not accept it.
    """
    stays = _stays_here(outgoing)
    waits_for = _send_here(outgoing, stays=stays)
    if waits_for:
        await asyncio.wait([asyncio.wrap_future(taken) for taken in waits_for], timeout=ACT_SECONDS)
        _require_taken(outgoing, waits_for)
    if not stays:
        await _send_through_layer(outgoing)
    elif (node := _node_of_running_loop()) is not None:
        await node.hub.checkpoint()
    return None


async def _send_through_layer(outgoing: Outgoing, seconds: float | None = None) -> None:
    message = outgoing.item.to_message()
    for group in outgoing.groups:
        # Taken anew for each: a node that rebuilds its backplane replaces the layer.
        layer = layer_of_loop(outgoing.alias)
        try:
            await ask("accept a publication", layer.group_send(group, message), seconds)
        except BackplaneUnavailable as error:
            counters.count("publications_failed")
            if isinstance(error.__cause__, TimeoutError) and _node_of_running_loop() is None:
                # Nobody else watches over the connections of a loop without a node.
                drop_layer_soon(outgoing.alias, layer)
            raise


def send_from_sync(outgoing: Outgoing, seconds: float | None = None) -> None:
    """
    Send at once, from code without a loop. Raises as send().

    Args:
        seconds: how long the layer may take for each group; None for LAYER_SECONDS.
    """
    stays = _stays_here(outgoing)
    waits_for = _send_here(outgoing, stays=stays)
    if waits_for:
        concurrent.futures.wait(waits_for, timeout=ACT_SECONDS)
        _require_taken(outgoing, waits_for)
    if not stays:
        background_loop.run(_send_through_layer(outgoing, seconds))


def send_on_commit(outgoing: Outgoing, on_commit: bool, using: str | None) -> None:
    """Send after the commit if a transaction is open and that is wanted, else at once. Raises as send()."""
    connection = transaction.get_connection(using)
    if on_commit and connection.in_atomic_block:
        commit = _commits.get(connection)
        if commit is None or commit.has_begun:
            commit = _commits[connection] = _Commit()
        transaction.on_commit(lambda: _send_after_commit(outgoing, commit), using=using, robust=True)
    else:
        send_from_sync(outgoing)


def require_no_loop(twin: str) -> None:
    """
    Check that a synchronous call cannot block an event loop.

    Raises:
        WrongContext: one runs in this thread; the text names the twin to await.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongContext(f"an event loop runs in this thread, which this call would block: await {twin}(...) instead")


class _Commit:
    """
    The publications of one transaction, and how long the layer may yet hold up the code that committed it.

    Attributes:
        has_begun: it was committed; what is published from then on belongs to another one.
        seconds: what may be spent on publications that take longer than SHARE_SECONDS.
    """

    __slots__ = ("has_begun", "seconds")

    def __init__(self) -> None:
        self.has_begun = False
        self.seconds = LAYER_SECONDS

    def send(self, outgoing: Outgoing) -> None:
        """Raises BackplaneUnavailable, at once when nothing is left."""
        self.has_begun = True
        if self.seconds <= 0:
            raise BackplaneUnavailable("the channel layer was too slow for other publications of the same commit")
        started = time.monotonic()
        try:
            send_from_sync(outgoing, min(LAYER_SECONDS, SHARE_SECONDS + self.seconds))
        finally:
            self.seconds -= max(0.0, time.monotonic() - started - SHARE_SECONDS)


# By database connection: its transaction, or the one before. A connection belongs to one thread.
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
                "publications_lost_after_commit", "%r to %s was not sent: %s", name, quoted(item.audience), error
            )
        else:
            counters.count("publications_lost_after_commit")
            logger.exception("%r to %s could not be sent after the commit", name, quoted(item.audience))
        namespace, tenant = _place_of(item)
        publication_failed.send_robust(
            sender=None, namespace=namespace, tenant=tenant, audience=item.audience, event=name, error=error
        )


def _place_of(item: Item) -> tuple[str | None, str | AllTenants | None]:
    """Return the namespace and the tenant that something was for."""
    return (item.namespace, item.tenant) if isinstance(item, CommandMessage) else split_realm(item.realm)


def _require_taken(outgoing: Outgoing, waits_for: list[Taken]) -> None:
    """Raise BackplaneUnavailable for a publication that a loop of this process hasn't taken yet."""
    if isinstance(outgoing.item, PublishMessage) and not all(taken.done() for taken in waits_for):
        counters.count("publications_failed")
        problem = f"an event loop of this process has not taken what was published for {ACT_SECONDS:g} s"
        raise BackplaneUnavailable(problem) from TimeoutError()


def send_locally(outgoing: Outgoing) -> list[Taken]:
    """
    Hand something to the nodes of this process.

    Returns:
        What the caller waits for: until nodes of other threads have carried out a command, or have taken a publication
        behind which there is too much.
    """
    for observer in observers:
        observer(outgoing)
    if not nodes() and not observers and not is_below_a_server():
        counters.count(
            "publications_unheard",
            "this process holds no connections, and the channel layer %r reaches no other process: what it publishes "
            "is heard by nobody. Configure channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS",
            outgoing.alias,
        )
    return _post(outgoing.item)


def _send_here(outgoing: Outgoing, *, stays: bool) -> list[Taken]:
    """
    Hand an item to the nodes of this process, as far as they don't receive it through the layer.

    Commands are posted even if they go through the layer, so that they are carried out here when the call returns. The
    nodes recognise the copy from the layer by its id, and drop it.
    """
    if stays:
        return send_locally(outgoing)
    return _post(outgoing.item) if isinstance(outgoing.item, CommandMessage) else []


def _post(item: Item) -> list[Taken]:
    """Post an item to every node of this process; return what the caller has to wait for."""
    return [taken for node in nodes() if (taken := node.post(item)) is not None]


def unreachable_layer(namespace: str | None) -> str | None:
    """
    Return the channel layer by which nothing leaves this process, which holds no connections.

    Args:
        namespace: None for all that there are.

    Returns:
        its alias; None where what is sent to the namespace may be heard by somebody.

    Raises:
        UnknownNamespace: no consumer has the namespace.
    """
    aliases = layer_aliases(namespace)
    if nodes() or observers or is_below_a_server() or not all(map(is_local, aliases)):
        return None
    return min(aliases)


def is_below_a_server() -> bool:
    """Return whether an event loop serves this code: that of an ASGI server, which may come to hold connections."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # A synchronous view runs in a thread that a loop waits for.
        loop = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        return loop is not None and loop.is_running()
    return True


def _stays_here(outgoing: Outgoing) -> bool:
    return bool(observers) or is_local(outgoing.alias)


def _node_of_running_loop() -> Node | None:
    loop = asyncio.get_running_loop()
    return next((node for node in nodes() if node.loop is loop), None)
