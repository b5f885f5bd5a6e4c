"""The drain: the orderly end of all connections, while handlers can still use the database and Redis."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading

from ..cluster.node import Node, current_node, nodes
from ..conf import conf
from ..delivery.jitter import jittered
from ..history import backends as history
from ..presence import backends as presence
from ..presence.base import StoreUnavailable
from ..presence.tracker import known_tracker

BATCH_SECONDS = 0.05
"""The pause between two batches of closes."""

BATCH = 50
"""The number of closes in a batch. Batches are larger if there isn't enough time."""

HANDLERS_SHARE = 0.6
"""The share of the time for running handlers. The rest is for closing and cleaning up."""

RECONNECTS_A_SECOND = 100
"""How many clients are asked to reconnect per second, to spare the other servers."""

WINDOW = (1.0, 30.0)
"""The shortest and the longest time, in seconds, over which the clients reconnect."""

EXIT_SECONDS = 0.5
"""How long an exit without a drain waits for the close frames to be handed to the server."""

logger = logging.getLogger("wsrt")

_aborted = threading.Event()


def is_draining() -> bool:
    """Return whether this process is closing its connections, new ones included."""
    return any(node.is_draining for node in nodes())


async def drain(seconds: float | None = None) -> None:
    """
    Close the connections of the running loop. Returns when they are cleaned up, or when the time is over.

    New connections are closed from now on, too. Frames that were received are handled, queued frames are sent, and each
    client is closed with 1001 ``Server shutting down``, in batches. Clients that speak ``wsrt.v1`` also receive the
    time after which to reconnect. If a drain is already running, this waits for it.

    Args:
        seconds: The time for the whole drain, in seconds. None for the setting DRAIN_SECONDS.
    """
    node = current_node()
    if node.drain is None:
        node.drain = node.spawn(_drain(node, conf.drain_seconds if seconds is None else seconds))
    # The drain goes on if this caller is cancelled, for example by a server that stops waiting for its lifespan.
    await asyncio.shield(node.drain)


def abort_drain() -> None:
    """Make a running drain end at once. May be called from any thread, or from a signal handler."""
    _aborted.set()


def is_aborted() -> bool:
    """Return whether abort_drain() was called."""
    return _aborted.is_set()


def close_at_exit() -> None:
    """Send every client its close frame. Called by the thread that ends the process; the loops run in others."""
    pending = []
    for node in nodes():
        if node.handlers and node.loop.is_running():
            done = threading.Event()
            node.loop.call_soon_threadsafe(_close_all, node, done)
            pending.append(done)
    for done in pending:
        done.wait(EXIT_SECONDS)


async def _drain(node: Node, seconds: float) -> None:
    deadline = node.loop.time() + seconds
    node.is_draining = True
    node.lingering.end_by(deadline)
    await _drain_connections(node, seconds, deadline)
    tracker = known_tracker(node)
    if tracker is not None and not is_aborted():
        try:
            # If this fails, the lease of the node expires by itself.
            async with asyncio.timeout_at(max(deadline, node.loop.time() + EXIT_SECONDS)):
                await tracker.end()
        except (StoreUnavailable, TimeoutError) as error:
            logger.warning(
                "failed to remove this node's presence, so its connections count until its lease expires: %r", error
            )
    await presence.close_stores()
    await history.close_stores()


async def _drain_connections(node: Node, seconds: float, deadline: float) -> None:
    handlers = list(node.handlers)
    if not handlers:
        return
    logger.info("draining: %d connections, within %s s", len(handlers), seconds)
    random.shuffle(handlers)
    shortest, longest = WINDOW
    window = min(longest, max(shortest, len(handlers) / RECONNECTS_A_SECOND))
    # All connections begin to drain within a third of the time.
    batch = max(BATCH, math.ceil(len(handlers) * BATCH_SECONDS * 3 / seconds))
    for start in range(0, len(handlers), batch):
        for handler in handlers[start : start + batch]:
            handler.drain(jittered(window, 0))
        # Connections of later batches may end in the meantime. Draining a closed connection does nothing.
        await asyncio.sleep(BATCH_SECONDS)
    # Handlers may run for this long. Connections that are still running one are then closed.
    await _until_gone(node, deadline - seconds * (1 - HANDLERS_SHARE))
    for handler in list(node.handlers):
        handler.force_close()
    await _until_gone(node, deadline)
    if node.handlers:
        logger.warning("drain timed out after %s s: %d connections still open", seconds, len(node.handlers))


async def _until_gone(node: Node, deadline: float) -> None:
    # Polling is simple enough here. Connections end in other tasks, and a signal handler may abort the drain.
    while node.handlers and node.loop.time() < deadline and not is_aborted():  # noqa: ASYNC110
        await asyncio.sleep(BATCH_SECONDS / 2)


def _close_all(node: Node, done: threading.Event) -> None:
    node.is_draining = True
    for handler in list(node.handlers):
        handler.close_at_exit()
    tracker = known_tracker(node)
    if tracker is None:
        # The close frames are sent by tasks of the outboxes, which run before this timer.
        node.loop.call_later(BATCH_SECONDS, done.set)
    else:
        ending = node.spawn(tracker.end())
        ending.add_done_callback(lambda task: task.cancelled() or task.exception())
        ending.add_done_callback(lambda _: node.loop.call_later(BATCH_SECONDS, done.set))
