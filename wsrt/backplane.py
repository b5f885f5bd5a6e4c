"""
The backplane: how a node hears what other nodes publish.

One channel a node. It is in the group of a room while the room has a local connection, likewise for users and
namespaces, and in the group of its own id and of control for good. The layer does not say which group a message was
for, so the message carries its address.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from .addresses import CONTROL_GROUP, node_group
from .delivery.ledger import ledger
from .delivery.tasks import start_task
from .exceptions import BackplaneUnavailable
from .layers import Layer, ask, drop_layer, is_pubsub, layer_of_loop

PROBE_SECONDS = 5.0
"""How often a node sends itself a message."""

ANSWER_SECONDS = 2.5
"""How long that message may take."""

MISSES = 2
"""Probes that must fail before everything is rebuilt."""

RETRY_SECONDS = 1.0
"""The longest pause between attempts to reach a layer that is down."""

LISTEN_SECONDS = 0.05
"""The pause before a receive loop that was cancelled goes on."""

PROBE = "wsrt.probe"

logger = logging.getLogger("wsrt")

OnMessage = Callable[[dict[str, Any]], Awaitable[None]]


class _Group:
    """A group that the node wants to be in."""

    __slots__ = ("is_joined", "lock", "references")

    def __init__(self) -> None:
        self.references = 0
        self.is_joined = False
        # A second joiner waits for the first one's group_add; a leave cannot overtake a join.
        self.lock = asyncio.Lock()


class Backplane:
    """
    The membership of one node in the groups of one layer, and its receive loop.

    The wanted groups are kept here whatever the layer does: after a restart of Redis, or when connections die without
    being closed, they are joined again, and no client notices.

    Args:
        alias: the channel layer.
        node_id: the node.
        on_message: called with every message; what it raises is logged.
    """

    def __init__(self, alias: str, node_id: str, on_message: OnMessage) -> None:
        self.alias = alias
        self._on_message = on_message
        self._own_groups = (CONTROL_GROUP, node_group(node_id))
        self._groups: dict[str, _Group] = {}
        self._opening: asyncio.Lock = asyncio.Lock()

        # Set once open.
        self._layer: Layer | None = None
        self._channel = ""
        self._loop: asyncio.AbstractEventLoop
        # Grows with every rebuild, and ends the receive loops of before.
        self._generation = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._receiver: asyncio.Task[None] | None = None

        # The probe that is under way, and its answer.
        self._probes = itertools.count()
        self._awaited: tuple[int, asyncio.Event] | None = None

    @property
    def groups(self) -> list[str]:
        """The groups the node is in or wants to be in, its own ones aside."""
        return list(self._groups)

    @property
    def is_up(self) -> bool:
        """Whether the layer answered when it was last asked."""
        return self._layer is not None

    async def open(self) -> None:
        """
        Connect, unless that is done.

        Raises:
            BackplaneUnavailable: the layer is down; what is wanted is kept, and retried.
        """
        async with self._opening:
            if self._generation:
                if self._layer is None:
                    raise BackplaneUnavailable(f"the channel layer {self.alias!r} is down; its groups are kept")
                return
            await self._connect()
            self._spawn(self._supervise())

    async def acquire(self, group: str) -> None:
        """
        Join a group for one more connection; when this returns, publications arrive.

        Raises:
            BackplaneUnavailable: the layer did not take it. Nothing is held then.
        """
        await self.open()
        state = self._groups.setdefault(group, _Group())
        state.references += 1
        try:
            async with state.lock:
                if not state.is_joined:
                    await self._join(group)
                    state.is_joined = True
        except BaseException:
            self.release(group)
            raise

    def release(self, group: str) -> None:
        """Give back what acquire() gave; the node leaves the group with the last one."""
        state = self._groups.get(group)
        if state is None:
            return
        state.references -= 1
        if state.references <= 0:
            self._spawn(self._leave(group, state))

    # Groups.

    async def _join(self, group: str) -> None:
        if self._layer is None:
            raise BackplaneUnavailable(f"the channel layer {self.alias!r} is down")
        await ask("join a group", self._layer.group_add(group, self._channel))

    async def _leave(self, group: str, state: _Group) -> None:
        async with state.lock:
            if state.references > 0 or self._groups.get(group) is not state:
                return
            if state.is_joined and self._layer is not None:
                state.is_joined = False
                try:
                    await ask("leave a group", self._layer.group_discard(group, self._channel))
                except BackplaneUnavailable as error:
                    # It costs a message that nobody wants, until the layer's own expiry.
                    ledger.count("groups_left_late", "%s", error)
            # Forgotten only now: who came meanwhile waits for the lock, and joins after the layer has let go.
            if state.references <= 0:
                del self._groups[group]

    async def _rejoin(self) -> None:
        for group in self._own_groups:
            await self._join(group)
        for group, state in list(self._groups.items()):
            async with state.lock:
                if state.references > 0:
                    await self._join(group)
                    state.is_joined = True

    # The layer and its receive loop.

    async def _connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        layer = layer_of_loop(self.alias)
        channel = await ask("open a channel", layer.new_channel("wsrt."))
        self._layer, self._channel = layer, channel
        self._generation += 1
        try:
            await self._rejoin()
        except BackplaneUnavailable:
            self._layer = None
            if self._generation == 1:
                self._generation = 0
                # The channel that it opened is nobody's.
                self._spawn(drop_layer(self.alias, layer))
            raise
        self._listen(layer, channel)

    def _listen(self, layer: Layer, channel: str) -> None:
        generation = self._generation
        self._receiver = self._spawn(self._receive(layer, channel, generation))
        # Not at once: a loop that ends cancels all its tasks, and wants no new ones.
        self._receiver.add_done_callback(
            lambda _: self._loop.call_later(LISTEN_SECONDS, self._listen_again, layer, channel, generation)
        )

    def _listen_again(self, layer: Layer, channel: str, generation: int) -> None:
        # Ended by somebody else, who cancelled the task that happened to run: messages wait in the layer.
        if generation == self._generation:
            ledger.count("backplane_receivers_ended", "the receive loop of %r was cancelled: it goes on", self.alias)
            self._listen(layer, channel)

    async def _receive(self, layer: Layer, channel: str, generation: int) -> None:
        pause = 0.05
        while generation == self._generation:
            try:
                message = await layer.receive(channel)
            except Exception as error:
                if type(error).__name__ == "TimeoutError":
                    # redis-py's socket_timeout on an idle connection. Were it dead, the probe would find out.
                    continue
                ledger.count("backplane_errors", "the channel layer %r failed: %r", self.alias, error)
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads nodes
                pause = min(2 * pause, RETRY_SECONDS)
                try:
                    # Redis may have come back empty.
                    await self._rejoin()
                except BackplaneUnavailable:
                    continue
                ledger.count("backplane_rejoins")
                continue
            pause = 0.05
            if message.get("type") == PROBE:
                self._answered(message)
                continue
            try:
                await self._on_message(message)
            except Exception:
                ledger.count("backplane_bad_messages")
                logger.exception("a message from the channel layer %r could not be handled", self.alias)

    async def _supervise(self) -> None:
        """Probe, refresh before groups expire, and rebuild what has died."""
        loop = asyncio.get_running_loop()
        expiry = None if is_pubsub(self._layer) else getattr(self._layer, "group_expiry", None)
        refresh_at = loop.time() + expiry / 3 if expiry else float("inf")
        misses = 0
        while True:
            if not misses:
                until_refresh = max(0.1, refresh_at - loop.time())
                await asyncio.sleep(min(PROBE_SECONDS * random.uniform(0.9, 1), until_refresh))  # noqa: S311 - spreads nodes
            misses = 0 if await self._probe() else misses + 1
            if misses >= MISSES:
                await self._rebuild()
                misses = 0
            if loop.time() >= refresh_at:
                try:
                    await self._rejoin()
                except BackplaneUnavailable as error:
                    ledger.count("backplane_errors", "%s", error)
                else:
                    refresh_at = loop.time() + (expiry or 0) / 3

    async def _probe(self) -> bool:
        """Send a message to our own group; return whether it came back. That it is in the group is seen with it."""
        number, arrived = next(self._probes), asyncio.Event()
        self._awaited = number, arrived
        layer = self._layer
        assert layer is not None  # noqa: S101 - a rebuild does not return before there is one
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await layer.group_send(self._own_groups[1], {"type": PROBE, "number": number})
                await arrived.wait()
        except Exception:
            ledger.count("backplane_probe_misses")
            return False
        return True

    def _answered(self, message: dict[str, Any]) -> None:
        if self._awaited is not None and message.get("number") == self._awaited[0]:
            self._awaited[1].set()

    async def _rebuild(self) -> None:
        """Replace connections, channel and groups; try until it works."""
        ledger.count("backplane_rebuilds", "the channel layer %r does not answer: connecting anew", self.alias)
        pause = 0.05
        stale: list[str] = []
        while True:
            receiver, self._receiver = self._receiver, None
            layer, self._layer = self._layer, None
            if self._channel:
                stale.append(self._channel)
            self._generation += 1
            if receiver is not None:
                receiver.cancel()
            for state in self._groups.values():
                state.is_joined = False
            self._spawn(drop_layer(self.alias, layer))
            await asyncio.sleep(0)  # let the old layer leave the table before a new one is made
            try:
                await self._connect()
            except BackplaneUnavailable:
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads nodes
                pause = min(2 * pause, RETRY_SECONDS)
            else:
                logger.warning("the channel layer %r is back: %d groups joined", self.alias, len(self._groups))
                self._spawn(self._forget(stale))
                return

    async def _forget(self, channels: list[str]) -> None:
        """Take channels of before out of their groups: a layer that keeps them would go on filling them."""
        layer = self._layer
        if layer is None or is_pubsub(layer):
            return  # there they were gone with their connections
        for group in (*self._own_groups, *self._groups):
            for channel in channels:
                try:
                    await ask("leave a group", layer.group_discard(group, channel))
                except BackplaneUnavailable:
                    return

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        # A context of its own: not that of the connection which happened to be first.
        task = start_task(asyncio.get_running_loop(), work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
