"""
Messages for the nodes of this process.

With a local layer, that is all there is to send. Through other layers, commands are carried out here as well, so that
they are done when the call returns.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable

from asgiref.sync import SyncToAsync

from ..delivery.mailbox import Taken
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from .layers import is_local
from .messages import CommandMessage, PublishMessage
from .node import Item, Node, nodes
from .outgoing import Outgoing, layer_aliases

ACT_SECONDS = 5.0
"""How long a call waits for the event loops of other threads of this process, in seconds."""

observers: list[Callable[[Outgoing], None]] = []
"""Called with everything that is sent. While there is an observer, nothing leaves this process (see wsrt.testing)."""


def stays_in_process(outgoing: Outgoing) -> bool:
    """Return whether a message is only for the nodes of this process."""
    return bool(observers) or is_local(outgoing.alias)


async def send_here(outgoing: Outgoing) -> None:
    """
    Send a message that stays in this process, from a running loop.

    Raises:
        BackplaneUnavailable: Another event loop of this process is blocked.
    """
    waits_for = _post_observed(outgoing)
    await _wait(waits_for)
    _require_taken(outgoing, waits_for)
    node = node_of_running_loop()
    if node is not None:
        await node.hub.checkpoint()


def send_here_from_sync(outgoing: Outgoing) -> None:
    """
    Send a message that stays in this process, from a thread without a running loop.

    Raises:
        BackplaneUnavailable: An event loop of this process is blocked.
    """
    waits_for = _post_observed(outgoing)
    if waits_for:
        concurrent.futures.wait(waits_for, timeout=ACT_SECONDS)
        _require_taken(outgoing, waits_for)


async def carry_out_here(outgoing: Outgoing) -> None:
    """
    Carry out a command in this process before it is sent through the layer. Do nothing with other messages.

    The nodes recognise the copy from the layer by its id, and drop it.
    """
    if isinstance(outgoing.item, CommandMessage):
        await _wait(_post(outgoing.item))


async def _wait(waits_for: list[Taken]) -> None:
    if waits_for:
        await asyncio.wait([asyncio.wrap_future(taken) for taken in waits_for], timeout=ACT_SECONDS)


def _require_taken(outgoing: Outgoing, waits_for: list[Taken]) -> None:
    """Raise BackplaneUnavailable for a publication that a loop of this process hasn't taken yet."""
    if isinstance(outgoing.item, PublishMessage) and not all(taken.done() for taken in waits_for):
        counters.count("publications_failed")
        problem = f"an event loop of this process did not accept a publication within {ACT_SECONDS:g} s"
        raise BackplaneUnavailable(problem) from TimeoutError()


def _post_observed(outgoing: Outgoing) -> list[Taken]:
    """
    Pass a message to the observers and to the nodes of this process.

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


def node_of_running_loop() -> Node | None:
    """Return the node of the running loop, if the loop has one."""
    loop = asyncio.get_running_loop()
    return next((node for node in nodes() if node.loop is loop), None)
