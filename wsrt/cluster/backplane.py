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
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..addresses import CONTROL_GROUP, node_group
from ..delivery.jitter import jittered
from ..delivery.tasks import start_task
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from .layers import Layer, ask, close_layer, forget_layer, is_closable, layer_of_loop
from .memberships import Line, Memberships
from .messages import UnknownMessage
from .pubsub import PubSubLayer, is_pubsub

PROBE_SECONDS = 5.0
"""How often a node sends itself a message."""

ANSWER_SECONDS = 2.5
"""How long that message may take."""

BUSY_SECONDS = 30.0
"""How long it may take while the node receives other messages, which are ahead of it."""

MISSES = 2
"""Probes that must fail before everything is rebuilt."""

PROOF_SECONDS = 0.25
"""After how long a message through a group is sent again that shall prove a membership."""

RETRY_SECONDS = 1.0
"""The longest pause between attempts to reach a layer that is down."""

RESTART_SECONDS = 0.05
"""The pause before a task of the backplane that was cancelled by somebody else goes on."""

CALLS_AT_ONCE = 50
PIPELINED_AT_ONCE = 2_000
"""Calls that run at a time on layers that take a connection for each, and on the pub/sub layer, which needs but one."""

PROBE = "wsrt.probe"

logger = logging.getLogger("wsrt")

OnMessage = Callable[[dict[str, Any]], Awaitable[None]]


class Backplane:
    """
    The membership of one node in the groups of one layer, and its receive loop.

    The wanted groups are kept here whatever the layer does: after a restart of Redis, or when connections die without
    being closed, they are joined again, and no client notices. All of it happens in tasks of the node's own, so that a
    caller can be cancelled at any time.

    Args:
        alias: the channel layer.
        node_id: the node.
        on_message: called with every message; what it raises is logged.
    """

    def __init__(self, alias: str, node_id: str, on_message: OnMessage) -> None:
        self.alias = alias
        self._on_message = on_message
        self._own_groups = (CONTROL_GROUP, node_group(node_id))
        self._memberships = Memberships(self._spawn, lambda: self._line, self._join, self._leave)
        # What is connected to; None while the layer is down, and before the first use.
        self._line: Line | None = None
        self._has_answered = False
        # The first attempt to connect, while it lasts; afterwards what keeps the connection.
        self._opening: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._rejoining: asyncio.Task[None] | None = None
        # The session in which all groups were joined last.
        self._complete: object | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Messages to ourselves that are under way.
        self._numbers = itertools.count()
        self._awaited: dict[int, asyncio.Event] = {}
        # The number of messages that came in.
        self._received = 0

    @property
    def groups(self) -> list[str]:
        """The groups the node is in or wants to be in, its own ones aside."""
        return self._memberships.wanted

    @property
    def is_up(self) -> bool:
        """Whether the layer answered when it was last asked."""
        return self._line is not None and self._has_answered

    async def open(self) -> None:
        """
        Connect, unless that is done.

        Raises:
            BackplaneUnavailable: the layer is down; what is wanted is kept, and retried.
        """
        while self._line is None:
            if self._supervisor is not None:
                raise BackplaneUnavailable(f"the channel layer {self.alias!r} is down; its groups are kept")
            if self._opening is None or self._opening.done():
                self._opening = self._spawn(self._open())
            opening = self._opening
            await asyncio.wait({opening})
            if not opening.cancelled():
                opening.result()

    async def acquire(self, group: str) -> None:
        """
        Join a group for one more connection; when this returns, publications arrive.

        Raises:
            BackplaneUnavailable: the layer did not take it. Nothing is held then.
        """
        await self.open()
        await self._memberships.acquire(group)

    def release(self, group: str) -> None:
        """Give back what acquire() gave; the node leaves the group with the last one."""
        self._memberships.release(group)

    # The line to the layer.

    async def _open(self) -> None:
        line = await self._connect()
        self._use(line)
        self._complete = line.session
        self._supervise_on()

    async def _connect(self) -> Line:
        """Return a new line, received from and in the node's own groups."""
        layer = layer_of_loop(self.alias)
        try:
            channel = await ask("open a channel", layer.new_channel("wsrt."))
            return await self._connect_line(_line(layer, channel))
        except BaseException:
            # The channel that it may have opened is nobody's. Without a way to close it, it is tried again as it is: a
            # new one every second would leak connections.
            if is_closable(layer):
                self._drop(layer)
            raise

    async def _connect_line(self, line: Line) -> Line:
        session = line.session
        self._receive_on(line)
        try:
            for group in self._own_groups:
                await self._join(line, group)
            if line.session is not session:
                raise BackplaneUnavailable(f"the channel layer {self.alias!r} failed while it was connected to")
        except BaseException:
            self._end(line)
            raise
        return line

    def _use(self, line: Line) -> None:
        self._line = line
        self._has_answered = True

    def _end(self, line: Line) -> None:
        line.is_over = True
        if self._receiver is not None:
            self._receiver.cancel()
        self._memberships.strand(line)
        for group in self._own_groups:
            self._memberships.leave_later(group, line)

    async def _join(self, line: Line, group: str) -> None:
        async with line.slots:
            if line.is_over:
                raise BackplaneUnavailable(f"the channel layer {self.alias!r} is down")
            await ask("join a group", line.layer.group_add(group, line.channel))
        if not _confirms(line.layer):
            await ask("deliver to a group that was joined", self._prove(line, group))

    async def _leave(self, line: Line, group: str, channel: str) -> None:
        async with line.slots:
            await ask("leave a group", line.layer.group_discard(group, channel))

    async def _rejoin(self, line: Line) -> None:
        """Join all groups, until that has worked."""
        pause = 0.05
        while not line.is_over:
            session = line.session
            try:
                for group in self._own_groups:
                    await self._join(line, group)
                await self._memberships.join_all(line)
            except BackplaneUnavailable as error:
                counters.count("backplane_errors", "%s", error)
                await asyncio.sleep(jittered(pause))
                pause = min(2 * pause, RETRY_SECONDS)
            else:
                if session is line.session:
                    self._complete = session
                    counters.count("backplane_rejoins")
                    return

    def _rejoin_soon(self, line: Line) -> None:
        if line is self._line and (self._rejoining is None or self._rejoining.done()):
            self._rejoining = self._spawn(self._rejoin(line))

    # Receiving.

    def _receive_on(self, line: Line) -> None:
        self._receiver = self._spawn(self._receive(line))

        def go_on() -> None:
            # Ended by somebody else, who cancelled the task that happened to run: messages wait in the layer.
            if not line.is_over:
                counters.count(
                    "backplane_receivers_ended", "the receive loop of %r was cancelled: it goes on", self.alias
                )
                self._receive_on(line)

        _after(self._receiver, go_on)

    async def _receive(self, line: Line) -> None:
        pause = 0.05
        while not line.is_over:
            try:
                message = await line.layer.receive(line.channel)
            except Exception as error:
                if type(error).__name__ == "TimeoutError":
                    # redis-py's socket_timeout on an idle connection. Were it dead, the probe would find out.
                    continue
                counters.count("backplane_errors", "the channel layer %r failed: %r", self.alias, error)
                # Redis may have come back empty: nothing counts as joined until it has said so again.
                line.session = object()
                await asyncio.sleep(jittered(pause))
                pause = min(2 * pause, RETRY_SECONDS)
                self._rejoin_soon(line)
                continue
            pause = 0.05
            self._received += 1
            if message.get("type") == PROBE:
                self._answered(line, message)
                continue
            try:
                await self._on_message(message)
            except UnknownMessage as error:
                # Of a version that is too new or too old, or of other code that uses the same group.
                counters.count("backplane_unknown_messages", "dropped from the channel layer %r: %s", self.alias, error)
            except Exception:
                counters.count("backplane_bad_messages")
                logger.exception("a message from the channel layer %r could not be handled", self.alias)

    # Messages to ourselves.

    async def _probe(self) -> bool:
        """Send a message to our own group; return whether it came back. That it is in the group is seen with it."""
        line = self._line
        if line is None:
            return False
        number, arrived = self._await_message()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await line.layer.group_send(self._own_groups[1], _message(line, number))
            await self._until(arrived)
            if isinstance(line.layer, PubSubLayer):
                # Each host has connections of its own, and the message took those of one.
                async with asyncio.timeout(ANSWER_SECONDS):
                    await line.layer.check()
        except Exception:
            counters.count("backplane_probe_misses")
            return False
        finally:
            del self._awaited[number]
        return True

    async def _until(self, arrived: asyncio.Event) -> None:
        """Wait for a message to ourselves, longer while others come in: it waits behind those. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        end = loop.time() + BUSY_SECONDS
        while True:
            received = self._received
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await arrived.wait()
                    return
            except TimeoutError:
                if received == self._received or loop.time() >= end:
                    raise

    async def _prove(self, line: Line, group: str) -> None:
        """Return when a message through a group has come back. It is repeated, as the first may come too early."""
        number, arrived = self._await_message()
        try:
            while not arrived.is_set() and not line.is_over:
                await line.layer.group_send(group, _message(line, number))
                try:
                    async with asyncio.timeout(PROOF_SECONDS):
                        await arrived.wait()
                except TimeoutError:
                    continue
        finally:
            del self._awaited[number]

    def _await_message(self) -> tuple[int, asyncio.Event]:
        number = next(self._numbers)
        self._awaited[number] = arrived = asyncio.Event()
        return number, arrived

    def _answered(self, line: Line, message: dict[str, Any]) -> None:
        arrived = self._awaited.get(message.get("number", -1))
        # A message through a group reaches all that are in it: other nodes, and a channel of ours from before.
        if arrived is not None and message.get("channel") == line.channel:
            arrived.set()

    # Supervision.

    def _supervise_on(self) -> None:
        self._supervisor = self._spawn(self._supervise())
        _after(self._supervisor, self._supervise_on)

    async def _supervise(self) -> None:
        """Probe, refresh before groups expire, and rebuild what has died."""
        loop = asyncio.get_running_loop()
        misses = 0
        refresh_at = loop.time() + _refresh_seconds(self._line)
        while True:
            if self._line is None or misses >= MISSES:
                await self._rebuild()
                misses = 0
            if not misses:
                until_refresh = max(0.1, refresh_at - loop.time())
                await asyncio.sleep(min(jittered(PROBE_SECONDS, 0.9), until_refresh))
            self._has_answered = await self._probe()
            misses = 0 if self._has_answered else misses + 1
            line = self._line
            if line is None or misses:
                continue
            await self._memberships.sweep(line)
            if loop.time() >= refresh_at:
                refresh_at = loop.time() + _refresh_seconds(line)
                line.session = object()
            if self._complete is not line.session:
                self._rejoin_soon(line)

    async def _rebuild(self) -> None:
        """Replace connections, channel and groups; try until it works."""
        counters.count("backplane_rebuilds", "the channel layer %r does not answer: connecting anew", self.alias)
        line, self._line = self._line, None
        if line is not None:
            self._end(line)
            self._drop(line.layer)
        pause = 0.05
        while True:
            try:
                line = await self._connect()
                break
            except Exception as error:
                counters.count("backplane_errors", "%s", error)
                await asyncio.sleep(jittered(pause))
                pause = min(2 * pause, RETRY_SECONDS)
        self._use(line)
        logger.warning("the channel layer %r is back: joining %d groups", self.alias, len(self.groups))
        self._rejoin_soon(line)

    def _drop(self, layer: Layer) -> None:
        if forget_layer(self.alias, layer):
            self._close(layer)

    def _close(self, layer: Layer) -> None:
        closing = self._spawn(close_layer(layer))
        _after(closing, lambda: self._close(layer) if closing.cancelled() else None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # A context of its own: not that of the connection which happened to be first.
        task = start_task(asyncio.get_running_loop(), work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, BackplaneUnavailable):
            counters.count("backplane_errors", "a task of the backplane failed: %r", error)


def _after(task: asyncio.Task[None], function: Callable[[], None]) -> None:
    """Call a function a while after a task has ended; a loop that ends cancels its tasks and wants no new ones."""
    task.add_done_callback(lambda done: done.get_loop().call_later(RESTART_SECONDS, function))


def _line(layer: Layer, channel: str) -> Line:
    at_once = PIPELINED_AT_ONCE if isinstance(layer, PubSubLayer) else CALLS_AT_ONCE
    return Line(layer, channel, at_once=at_once, outlives=not is_pubsub(layer))


def _confirms(layer: Layer) -> bool:
    """Return whether group_add() returns when the membership is there, for sure."""
    return isinstance(layer, PubSubLayer) or any(
        base.__module__ == "channels_redis.core" for base in type(layer).__mro__
    )


def _message(line: Line, number: int) -> dict[str, Any]:
    return {"type": PROBE, "channel": line.channel, "number": number}


def _refresh_seconds(line: Line | None) -> float:
    expiry = None if line is None or is_pubsub(line.layer) else getattr(line.layer, "group_expiry", None)
    return expiry / 3 if expiry else float("inf")
