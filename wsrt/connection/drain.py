"""Drain: an orderly end of all connections, while handlers, database and Redis are still there."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading

from ..cluster.node import Node, current_node, nodes
from ..conf import conf
from ..delivery.jitter import jittered
from ..presence.backends import close_stores
from ..presence.base import StoreUnavailable
from ..presence.tracker import known_tracker

BATCH_SECONDS = 0.05
"""Between two batches of closes."""

BATCH = 50
"""Closes of a batch, or more where they would not be done in time."""

HANDLERS_SHARE = 0.6
"""The part of the time that handlers under way may take; the rest is for closing and cleaning up."""

RECONNECTS_A_SECOND = 100
"""How many clients shall come back in a second; what the other servers are spared."""

WINDOW = (1.0, 30.0)
"""The shortest and the longest time in seconds over which clients are spread."""

EXIT_SECONDS = 0.5
"""How long an exit without a drain waits for its close frames to be handed over."""

logger = logging.getLogger("wsrt")

_aborted = threading.Event()


def is_draining() -> bool:
    """Return whether this process ends its connections, and wants no new ones."""
    return any(node.is_draining for node in nodes())


async def drain(seconds: float | None = None) -> None:
    """
    End the connections of the running loop, and return when they are cleaned up or the time is over.

    New connections are refused from now on. What was received is handled, what is queued is sent, each client gets
    1001 ``Server shutting down``, in batches; those that speak ``wsrt.v1`` are told when to come back. Called twice,
    it waits for the first.

    Args:
        seconds: all of it may take; None for the setting DRAIN_SECONDS.
    """
    node = current_node()
    if node.drain is None:
        node.drain = node.spawn(_drain(node, conf.drain_seconds if seconds is None else seconds))
    await asyncio.shield(node.drain)


def abort_drain() -> None:
    """Let a drain that is under way end at once."""
    _aborted.set()


def is_aborted() -> bool:
    """Return whether somebody wants the process to end at once."""
    return _aborted.is_set()


def close_at_exit() -> None:
    """Send every client its close frame from the thread that ends the process, where loops run in others."""
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
    await _drain_connections(node, seconds, deadline)
    tracker = known_tracker(node)
    if tracker is not None and not is_aborted():
        try:
            # The leases of nodes that do not manage to say so end by themselves.
            async with asyncio.timeout_at(max(deadline, node.loop.time() + EXIT_SECONDS)):
                await tracker.end()
        except (StoreUnavailable, TimeoutError) as error:
            logger.warning("presence of this node ends with its lease: %r", error)
    await close_stores()


async def _drain_connections(node: Node, seconds: float, deadline: float) -> None:
    handlers = list(node.handlers)
    if not handlers:
        return
    logger.info("draining: %d connections, within %s s", len(handlers), seconds)
    random.shuffle(handlers)
    shortest, longest = WINDOW
    window = min(longest, max(shortest, len(handlers) / RECONNECTS_A_SECOND))
    # All are told within a third of the time.
    batch = max(BATCH, math.ceil(len(handlers) * BATCH_SECONDS * 3 / seconds))
    for start in range(0, len(handlers), batch):
        for handler in handlers[start : start + batch]:
            handler.drain(jittered(window, 0))
        await asyncio.sleep(BATCH_SECONDS)
    await _until_gone(node, deadline - seconds * (1 - HANDLERS_SHARE))
    for handler in list(node.handlers):
        handler.force_close()
    await _until_gone(node, deadline)
    if node.handlers:
        logger.warning("drained, but for %d connections that took longer than %s s", len(node.handlers), seconds)


async def _until_gone(node: Node, deadline: float) -> None:
    # Polled: what is waited for ends in other tasks, and a signal handler may cut it short.
    while node.handlers and node.loop.time() < deadline and not is_aborted():  # noqa: ASYNC110
        await asyncio.sleep(BATCH_SECONDS / 2)


def _close_all(node: Node, done: threading.Event) -> None:
    node.is_draining = True
    for handler in list(node.handlers):
        handler.close_at_exit()
    tracker = known_tracker(node)
    if tracker is None:
        # The closes are tasks: they have had their turn when this comes again.
        node.loop.call_later(BATCH_SECONDS, done.set)
    else:
        ending = node.spawn(tracker.end())
        ending.add_done_callback(lambda task: task.cancelled() or task.exception())
        ending.add_done_callback(lambda _: node.loop.call_later(BATCH_SECONDS, done.set))
