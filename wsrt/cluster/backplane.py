"""
The backplane: a node's connection to a channel layer, through which it receives what other nodes publish.

Each node has one channel. The channel is in the group of a room while the room has a local connection; likewise for
users and namespaces. It is always in the group of the node's id and in the control group. The layer doesn't report the
group that a message was sent to, so each message carries its address.
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
from .memberships import Line, Memberships, late_until
from .messages import UnknownMessage
from .pubsub import PubSubLayer, is_pubsub

PROBE_SECONDS = 5.0
"""The interval between the messages that a node sends to itself to test the layer, in seconds."""

ANSWER_SECONDS = 2.5
"""How long such a message may take, in seconds."""

BUSY_SECONDS = 30.0
"""How long it may take while the node receives other messages, which are ahead of it in the queue, in seconds."""

MISSES = 2
"""The number of consecutive failed probes after which connections, channel and groups are rebuilt."""

PROOF_SECONDS = 0.25
"""After how many seconds a message that proves a membership is sent to the group again."""

RETRY_SECONDS = 1.0
"""The longest pause between attempts to reach a layer that is down, in seconds."""

RESTART_SECONDS = 0.05
"""The pause before a task of the backplane that was cancelled by other code is started again, in seconds."""

CALLS_AT_ONCE = 50
PIPELINED_AT_ONCE = 2_000
"""The maximum number of concurrent calls: on layers that use a connection for each, and on the pub/sub layer."""

PROBE = "wsrt.probe"

logger = logging.getLogger("wsrt")

OnMessage = Callable[[dict[str, Any]], Awaitable[None]]


class Backplane:
    """
    The memberships of one node in the groups of one layer, and the loop that receives its messages.

    The set of wanted groups doesn't depend on the state of the layer. After a restart of Redis, or when connections die
    without being closed, the groups are joined again while all clients stay connected. The work is done in tasks of the
    node, so a caller may be cancelled at any time.

    Args:
        alias: The alias of the channel layer.
        node_id: The id of the node.
        on_message: Called with every message. Exceptions are logged.
        on_rejoined: Called when the groups were joined again after a failure, in which messages may have been lost.
    """

    def __init__(
        self, alias: str, node_id: str, on_message: OnMessage, on_rejoined: Callable[[], object] = bool
    ) -> None:
        self.alias = alias
        self._on_message = on_message
        self._on_rejoined = on_rejoined
        self._own_groups = (CONTROL_GROUP, node_group(node_id))
        self._memberships = Memberships(self._spawn, lambda: self._line, self._join, self._leave)
        # The line in use. None before the first use and while the layer is down.
        self._line: Line | None = None
        self._has_answered = False
        # The task of the first attempt to connect. Once it has succeeded, the supervisor keeps the layer connected.
        self._opening: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._rejoining: asyncio.Task[None] | None = None
        # The last session in which all wanted groups were joined.
        self._complete: object | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Messages to the node itself that haven't arrived yet, by number.
        self._numbers = itertools.count()
        self._awaited: dict[int, asyncio.Event] = {}
        # The number of received messages.
        self._received = 0

    @property
    def groups(self) -> list[str]:
        """The groups that connections of the node need, without the node's own groups."""
        return self._memberships.wanted

    @property
    def is_up(self) -> bool:
        """Whether the layer answered the last probe."""
        return self._line is not None and self._has_answered

    async def open(self) -> None:
        """
        Connect to the layer, unless the node is connected.

        Raises:
            BackplaneUnavailable: The layer is down. If it worked before, the node keeps trying to reconnect.
        """
        while self._line is None:
            if self._supervisor is not None:
                raise BackplaneUnavailable(f"the channel layer {self.alias!r} is down; wsrt keeps trying to reconnect")
            if self._opening is None or self._opening.done():
                self._opening = self._spawn(self._open())
            # Several callers may wait for the same attempt. wait() doesn't cancel it when one of them is cancelled.
            opening = self._opening
            await asyncio.wait({opening})
            # Another caller may have started the next attempt by now, so use the one that was awaited. If other code
            # cancelled it, try again.
            if not opening.cancelled():
                opening.result()

    async def acquire(self, group: str) -> None:
        """
        Join a group for one more connection. When this returns, publications to the group reach the node.

        Raises:
            BackplaneUnavailable: The layer did not accept the join; there is nothing to release then.
        """
        await self.open()
        await self._memberships.acquire(group)

    def release(self, group: str) -> None:
        """Undo one acquire(). The node leaves the group when no connection needs it any more."""
        self._memberships.release(group)

    # The line to the layer.

    async def _open(self) -> None:
        line = await self._connect()
        self._use(line)
        self._complete = line.session
        self._supervise_on()

    async def _connect(self) -> Line:
        """Return a new Line (a layer and a channel), whose receive loop runs and which is in the node's own groups."""
        layer = layer_of_loop(self.alias)
        try:
            channel = await ask("open a channel", layer.new_channel("wsrt."))
            return await self._connect_line(_line(layer, channel))
        except BaseException:
            # Also on CancelledError. A channel that may have been opened isn't used, so drop the layer with it. An
            # instance that can't be closed is used again: a new one with each attempt would leak connections.
            if is_closable(layer):
                self._drop(layer)
            raise

    async def _connect_line(self, line: Line) -> Line:
        session = line.session
        # Receiving starts before the groups are joined: proving a membership needs a message to come back.
        self._receive_on(line)
        try:
            for group in self._own_groups:
                await self._join(line, group)
            if line.session is not session:
                # The receive loop failed in the meantime, so the joins may have been lost.
                raise BackplaneUnavailable(
                    f"the channel layer {self.alias!r} failed while the node was connecting to it"
                )
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
            self._memberships.leave_later(group, line, late_until())

    async def _join(self, line: Line, group: str) -> None:
        async with line.slots:
            # The line may have been given up while this call waited for a slot.
            if line.is_over:
                raise BackplaneUnavailable(f"the channel layer {self.alias!r} is down")
            await ask("join a group", line.layer.group_add(group, line.channel))
        if not _confirms(line.layer):
            await ask("deliver to a group that was joined", self._prove(line, group))

    async def _leave(self, line: Line, group: str, channel: str) -> None:
        async with line.slots:
            await ask("leave a group", line.layer.group_discard(group, channel))

    async def _rejoin(self, line: Line) -> None:
        """Join all groups, and repeat until it has worked in one session or the line is over."""
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
                # If the session was replaced during the joins, some of them may have been lost: start again.
                if session is line.session:
                    self._complete = session
                    counters.count("backplane_rejoins")
                    self._on_rejoined()
                    return

    def _rejoin_soon(self, line: Line) -> None:
        if line is self._line and (self._rejoining is None or self._rejoining.done()):
            self._rejoining = self._spawn(self._rejoin(line))

    # Receiving.

    def _receive_on(self, line: Line) -> None:
        self._receiver = self._spawn(self._receive(line))

        def restart() -> None:
            # The loop only ends by itself when the line is over. Otherwise other code has cancelled the task. Messages
            # wait in the layer in the meantime.
            if not line.is_over:
                counters.count(
                    "backplane_receivers_ended", "the receive loop of %r was cancelled: restarting it", self.alias
                )
                self._receive_on(line)

        _after(self._receiver, restart)

    async def _receive(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.05
        while not line.is_over:
            try:
                # Never wrapped in a time-out: cancelling receive() of some layers loses a message.
                message = await line.layer.receive(line.channel)
            except Exception as error:
                if loop.is_closed():
                    # This task is being garbage-collected, and the layer's own clean-up needs the loop.
                    return
                if type(error).__name__ == "TimeoutError":
                    # redis-py's socket_timeout on an idle connection. If the connection were dead, probes would fail.
                    continue
                counters.count("backplane_errors", "the channel layer %r failed: %r", self.alias, error)
                # Redis may have restarted without its data. No group counts as joined until Redis has confirmed it in
                # the new session.
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
                # Sent by a version that is too new or too old, or by other code that uses the same group.
                counters.count(
                    "backplane_unknown_messages", "dropped a message from the channel layer %r: %s", self.alias, error
                )
            except Exception:
                counters.count("backplane_bad_messages")
                logger.exception("failed to handle a message from the channel layer %r", self.alias)

    # Messages to the node itself.

    async def _probe(self) -> bool:
        """Send a message to the node's own group, and return whether it came back. This also tests the membership."""
        # Kept: the supervisor, which is the only caller, replaces self._line only between probes.
        line = self._line
        if line is None:
            return False
        number, arrived = self._await_message()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await line.layer.group_send(self._own_groups[1], _message(line, number))
            await self._until(arrived)
            if isinstance(line.layer, PubSubLayer):
                # Each Redis host has its own connections. The message has tested those of one host only.
                async with asyncio.timeout(ANSWER_SECONDS):
                    await line.layer.check()
        except Exception:
            counters.count("backplane_probe_misses")
            return False
        finally:
            del self._awaited[number]
        return True

    async def _until(self, arrived: asyncio.Event) -> None:
        """
        Wait for a message to the node itself. Wait longer while other messages arrive, which are ahead of it.

        Raises:
            TimeoutError: No message arrived for ANSWER_SECONDS, or BUSY_SECONDS have passed.
        """
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
        """
        Return when a message to the group has come back, which proves the membership.

        The message is repeated: the layer may drop the first ones, which can precede the membership.
        """
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
        # A message to a group reaches all its members: other nodes, and perhaps an earlier channel of this node.
        if arrived is not None and message.get("channel") == line.channel:
            arrived.set()

    # Supervision.

    def _supervise_on(self) -> None:
        self._supervisor = self._spawn(self._supervise())
        _after(self._supervisor, self._supervise_on)

    async def _supervise(self) -> None:
        """Probe the layer, refresh memberships before they expire, and rebuild the line when the layer has failed."""
        loop = asyncio.get_running_loop()
        misses = 0
        refresh_at = loop.time() + _refresh_seconds(self._line)
        while True:
            if self._line is None or misses >= MISSES:
                await self._rebuild()
                misses = 0
            # After a first miss, probe again at once.
            if not misses:
                until_refresh = max(0.1, refresh_at - loop.time())
                await asyncio.sleep(min(jittered(PROBE_SECONDS, 0.9), until_refresh))
            self._has_answered = await self._probe()
            misses = 0 if self._has_answered else misses + 1
            line = self._line
            # While the layer doesn't answer, joining and leaving would only time out.
            if line is None or misses:
                continue
            await self._memberships.sweep(line)
            if loop.time() >= refresh_at:
                refresh_at = loop.time() + _refresh_seconds(line)
                # A new session makes all groups join again, which renews their expiry.
                line.session = object()
            if self._complete is not line.session:
                self._rejoin_soon(line)

    async def _rebuild(self) -> None:
        """Replace connections, channel and memberships. Repeat until it works."""
        counters.count("backplane_rebuilds", "the channel layer %r does not answer: reconnecting", self.alias)
        # From here until _use(), open() and acquire() raise BackplaneUnavailable, but release() works.
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
        # In an empty context. Otherwise the task would run in the context of the connection that happened to be first.
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
    """
    Call a function RESTART_SECONDS after a task has ended.

    The pause is needed because a loop that shuts down cancels all its tasks, and must not get new ones then.
    """
    task.add_done_callback(lambda done: done.get_loop().call_later(RESTART_SECONDS, function))


def _line(layer: Layer, channel: str) -> Line:
    at_once = PIPELINED_AT_ONCE if isinstance(layer, PubSubLayer) else CALLS_AT_ONCE
    return Line(layer, channel, at_once=at_once, outlives=not is_pubsub(layer))


def _confirms(layer: Layer) -> bool:
    """Return whether the membership is certain to exist when group_add() returns."""
    return isinstance(layer, PubSubLayer) or any(
        base.__module__ == "channels_redis.core" for base in type(layer).__mro__
    )


def _message(line: Line, number: int) -> dict[str, Any]:
    return {"type": PROBE, "channel": line.channel, "number": number}


def _refresh_seconds(line: Line | None) -> float:
    expiry = None if line is None or is_pubsub(line.layer) else getattr(line.layer, "group_expiry", None)
    return expiry / 3 if expiry else float("inf")
