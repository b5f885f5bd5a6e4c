"""
The sending of one publication, control command or presence change, from asynchronous and synchronous code.

What is kept in the history of a room gets its position first. Then it goes straight to the nodes of this process, if
the layer is local, and otherwise through the channel layer. Several messages are sent by batch.py.
"""

from __future__ import annotations

import asyncio

from ..exceptions import BackplaneUnavailable, WrongContext
from ..metrics import counters
from ..types import Publication
from . import background_loop
from .in_process import carry_out_here, node_of_running_loop, send_here, send_here_from_sync, stays_in_process
from .keeping import keep
from .layers import Layer, ask, drop_layer_soon, layer_of_loop
from .outgoing import Outgoing


async def send(outgoing: Outgoing) -> Publication | None:
    """
    Send immediately, from a running loop. The nodes of this process have carried out a command when this returns.

    Returns:
        The position of a publication that is kept in history; None for anything else.

    Raises:
        BackplaneUnavailable: The layer did not accept the message, or another event loop of this process is blocked.
        StoreUnavailable: The history didn't keep the publication, which was not sent.
    """
    publication = await keep(outgoing)
    if stays_in_process(outgoing):
        await send_here(outgoing)
    else:
        await carry_out_here(outgoing)
        await send_through_layer(outgoing)
    return publication


def send_from_sync(outgoing: Outgoing) -> Publication | None:
    """
    Send immediately, from a thread without a running loop.

    Returns:
        The position of a publication that is kept in history; None for anything else.

    Raises:
        BackplaneUnavailable, StoreUnavailable: As for send().
    """
    if not stays_in_process(outgoing):
        return background_loop.run(send(outgoing))
    publication = None if outgoing.append is None else background_loop.run(keep(outgoing))
    send_here_from_sync(outgoing)
    return publication


async def send_through_layer(outgoing: Outgoing, seconds: float | None = None) -> None:
    """
    Send to all groups of a message, through a layer that isn't local.

    Args:
        outgoing: The message.
        seconds: The time limit for each group, in seconds; None for LAYER_SECONDS.

    Raises:
        BackplaneUnavailable: The layer did not accept the message.
    """
    message = outgoing.item.to_message()
    for group in outgoing.groups:
        # Looked up for each group: a node that rebuilds its backplane replaces the layer during the awaits.
        layer = layer_of_loop(outgoing.alias)
        try:
            await ask("accept a publication", layer.group_send(group, message), seconds)
        except BackplaneUnavailable as error:
            counters.count("publications_failed")
            if isinstance(error.__cause__, TimeoutError):
                drop_dead(outgoing.alias, layer)
            raise


def drop_dead(alias: str, layer: Layer) -> None:
    """Replace a layer that doesn't answer, in a loop without a node, whose probes would do so."""
    if node_of_running_loop() is None:
        drop_layer_soon(alias, layer)


def require_no_loop(twin: str) -> None:
    """
    Check that no event loop runs in this thread, which a synchronous call would block.

    Args:
        twin: The name of the asynchronous function, for the message of the error.

    Raises:
        WrongContext: An event loop runs in this thread.
    """
    # Cheaper than get_running_loop(), which raises an exception if no loop is running.
    if asyncio._get_running_loop() is not None:
        raise WrongContext(f"an event loop runs in this thread, which this call would block: await {twin}(...) instead")
