"""
One connection, from its handshake to its end.

The parts of a connection are created here, and its reader runs here: the ASGI call itself, which always waits in
``receive()``. A server whose messages are not received stops reading pongs, and then closes healthy clients.

Set-up, handlers and commands run one at a time in a task of the dispatcher, which exists only while there is work. The
other modules of this package hold one step each: the handshake, the set-up, the frames, the heartbeat and the end.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
import types
from typing import Any

from channels.layers import get_channel_layer

from .. import close_codes
from ..close_codes import Close, Closed
from ..cluster.layers import note_use_by_hand
from ..cluster.node import Node
from ..delivery.inbox import Inbox
from ..delivery.jitter import jittered
from ..delivery.outbox import Outbox
from ..delivery.subscriber import Subscriber
from ..delivery.transport import TRANSPORT, Transport, Writer
from ..metrics import counters
from ..presence.places import places_of_loop
from ..presence.tracker import tracker_of_loop
from ..protocol import envelope
from ..protocol.claims import Claims
from ..protocol.events import Event
from ..protocol.frame import Frame
from ..protocol.session import SUBPROTOCOL, RawFrame, Session
from ..types import Limits, Message, Receive, Scope, Send
from .admission import Seat, admission_of_loop
from .closing import Disconnect, clean_up
from .commands import Commands
from .concurrency import ConcurrentRuns
from .credentials import Credentials
from .dispatcher import Dispatcher, Work
from .explanations import Explanations
from .frames import FrameHandler
from .groups import Groups
from .handshake import accept, choose_subprotocol, refuse_foreign_origin
from .heartbeat import HeartbeatTimer
from .hooks import Hooks, call
from .layer_channel import LayerChannel
from .places import ConnectionPlaces
from .presence import ConnectionPresence, PresenceHooks
from .recovery import Recovery
from .revalidation import Revalidation
from .setup import set_up
from .subscriptions import Subscriptions
from .tasks import ConnectionTasks
from .users import is_signed_in

HANDSHAKE_SECONDS = 4.0
"""
How long we wait for the client to answer our close frame, in seconds. Then its socket is reset.

A reset discards what the client's system has not received yet. With less time, clients that are far away or whose
machine is busy would lose the close frame.
"""

MAX_COMMANDS = 100
"""How many control commands may wait for the handlers of one connection, in addition to two for each allowed room."""

logger = logging.getLogger("wsrt")


class ConnectionHandler:
    """
    Runs one connection of a consumer.

    Args:
        hooks: The consumer, whose hooks and handlers are called.
        node: The node that holds the connection.
        limits: The limits of the connection.
        scope: The ASGI scope.
        receive: The server's ``receive``.
        send: The server's ``send``.
        alias: The alias of the channel layer of the consumer's namespace.

    Attributes:
        name: The name of the consumer, for the log.
        subprotocol: The subprotocol that is accepted, or None.
        seat: The share of the connection in the limits of its process. None if it was refused because of them.
        is_visible: Whether the set-up has succeeded, so that the connection is online.
        needs_on_disconnect: Whether ``on_connect`` was started, so that ``on_disconnect`` is called.
        disconnect: The disconnect that the server reported, None until then.
        send_failed: Whether the server's ``send`` raised an exception.
        closed: How the connection ended, None until then.
        ended: Resolved with ``closed`` when the connection has ended.
    """

    def __init__(
        self, hooks: Hooks, node: Node, limits: Limits, scope: Scope, receive: Receive, send: Send, alias: str
    ) -> None:
        self.hooks = hooks
        self.node = node
        self.limits = limits
        self.name = type(hooks).__name__
        self.is_visible = False
        self.needs_on_disconnect = False
        self.disconnect: Disconnect | None = None
        self.send_failed = False
        self.closed: Closed | None = None
        self.ended: asyncio.Future[Closed] = node.loop.create_future()
        self._scope = scope
        self._receive = receive
        self._send = send

        transport = (scope.get("extensions") or {}).get(TRANSPORT)
        if isinstance(transport, Transport):
            node.servers.add(transport.server)
        else:
            transport = Transport(send)
        self.transport: Transport = transport
        self.subprotocol = choose_subprotocol(scope.get("subprotocols") or (), hooks.subprotocols)
        self._explanations = Explanations(hooks, self.name)
        connection_id = node.new_connection_id()
        self.session = Session(
            hooks.catalog,
            limits,
            connection_id,
            extended=self.subprotocol == SUBPROTOCOL,
            can_ping=self.transport.can_ping,
            now=node.wheel.time(),
            jitter=jittered(1, 0),
            on_rejected=self._explanations.rejected,
            on_claims=self._on_claims,
        )
        self.outbox = Outbox(
            send,
            limits,
            node.wheel,
            on_overflow=lambda: self.close(close_codes.BACKPRESSURE_OVERFLOW, discard=True),
            on_error=self._on_send_error,
            on_closed=self._on_outbox_closed,
            abort=self.transport.abort,
        )
        self.seat: Seat | None = None
        self.subscriber = Subscriber(
            connection_id, hooks.namespace, self.outbox, self, is_extended=self.session.extended
        )
        self.heartbeat = HeartbeatTimer(
            self.session,
            self.outbox,
            self.transport,
            node.wheel,
            connection_id=connection_id,
            close=self.close,
        )
        self.presence = ConnectionPresence(
            tracker_of_loop(),
            self.subscriber,
            consumer=self.name,
            scope=scope,
            presence=hooks.presence,
            hooks=PresenceHooks.of(hooks),
            wants_frames=self.session.extended,
            submit=self.submit,
            on_failed=self._on_hook_failed,
        )
        # The tracker was asked for above: it makes the places use its store.
        self.places = ConnectionPlaces(places_of_loop(), self.subscriber, scope=scope, limits=limits, close=self.close)
        self.recovery = Recovery(node, self.subscriber, namespace=hooks.namespace, close=self.close)
        self.groups = Groups(
            node,
            alias,
            self.subscriber,
            hooks=hooks,
            presence=self.presence,
            recovery=self.recovery,
            places=self.places,
            max_rooms=limits.max_rooms,
            announces=self.session.extended,
            is_open=lambda: self.session.is_open,
        )
        self.commands = Commands(
            node.loop,
            self.subscriber,
            hooks=hooks,
            groups=self.groups,
            submit=self.submit,
            close=self.close,
            answer_seconds=limits.setup_timeout,
            is_anonymous=lambda: self.is_anonymous,
        )
        self.revalidation = Revalidation(hooks, submit=self.submit, close=self.close)
        # The connection's own channel, for messages that other code sends through the channel layer.
        self.channel: LayerChannel | None = None
        if hooks.layer_handlers:
            self.channel = self._layer_channel(alias)
        self.credentials = Credentials(
            hooks,
            node,
            self.session,
            self.subscriber,
            commands=self.commands,
            note_expiry=self.presence.note_expiry,
            close=self.close,
        )
        context = contextvars.copy_context()
        self.runs = ConcurrentRuns(node.loop, context, owner=self.name, on_failed=self._on_hook_failed)
        self.frames = FrameHandler(
            hooks,
            self.session,
            self.outbox,
            node,
            self.runs,
            owner=self.name,
            renew=self.credentials.renew,
            close=self.close,
            on_violation=self._close_by_policy,
            explanations=self._explanations,
            subscriptions=Subscriptions(hooks.room_patterns, self.groups, hooks.refusal_for),
        )
        self.dispatcher = Dispatcher(
            node.loop,
            Inbox(limits.inbox_frames, limits.inbox_bytes),
            node.turns,
            self.frames.handle,
            self.runs,
            context,
            owner=self.name,
            on_failed=self._on_hook_failed,
        )
        self.tasks = ConnectionTasks(
            node.loop,
            context,
            limit=limits.max_tasks,
            owner=self.name,
            is_open=lambda: self.session.is_open,
            refusal_for=hooks.refusal_for,
        )
        # The seconds for which the process has stood still, as far as the session knows.
        self._excused = node.wheel.lost
        # Ends the reader some time after our own close. None while nothing is read.
        self._reading: asyncio.Timeout | None = None

    def _layer_channel(self, alias: str) -> LayerChannel | None:
        layer = get_channel_layer(alias)
        if layer is None:
            counters.count(
                "layer_channels_missing",
                "the @on_layer methods of %s are never called, because CHANNEL_LAYERS has no %r: configure "
                "channels_redis.pubsub.RedisPubSubChannelLayer",
                self.name,
                alias,
            )
            return None
        note_use_by_hand(self.name, alias)
        handlers = {
            kind: functools.partial(call, types.MethodType(method, self.hooks))
            for kind, method in self.hooks.layer_handlers.items()
        }
        return LayerChannel(layer, handlers, owner=self.name, submit=self.submit, on_failed=self._on_hook_failed)

    # The reader.

    async def run(self) -> None:
        """
        Serve the connection. Returns when it has ended and is cleaned up.

        This is the ASGI call. The server may cancel it at any ``await``, for example when it shuts down.
        """
        message = await self._receive()
        if message["type"] != "websocket.connect":
            return
        if self.hooks.check_origin and await refuse_foreign_origin(self._scope, self._send):
            return
        self.heartbeat.observe_pongs()
        self.seat = admission_of_loop().admit(self.node.loop.time())
        is_accepted = False
        try:
            is_accepted = await accept(self._send, self.subprotocol)
        finally:
            if not is_accepted and self.seat is not None:
                self.seat.release()
        if not is_accepted:
            return
        self.session.accept()
        self.node.handlers.add(self)
        self.node.arriving[self] = []
        self.outbox.use(self._writer())
        logger.debug("= %s open", self.subscriber.id)
        try:
            if self.seat is None:
                self.close(close_codes.TOO_MANY_CONNECTIONS)
            else:
                self.dispatcher.start(functools.partial(set_up, self))
            if self.node.is_draining:
                self.drain(0.0)
            await self._read()
        finally:
            # The client left, our close frame was not answered, the server cancelled this call, or there is an error in
            # wsrt. The clean-up runs in a task of its own: a cancellation of this call doesn't interrupt it.
            ending = self._end()
            await asyncio.shield(self.node.spawn(ending))

    async def _end(self) -> None:
        try:
            await clean_up(self)
        finally:
            # Until here a drain waits for this connection.
            self.node.handlers.discard(self)

    def _writer(self) -> Writer | None:
        """Return a writer that passes frames to the server without a coroutine for each; None if there isn't one."""
        writer = self.transport.prepared_writer() if self.limits.fast_path else None
        if writer is None and self.outbox.is_plain:
            return self.transport.framing_writer()
        return writer

    async def _read(self) -> None:
        try:
            # Without a deadline, until _on_outbox_closed() sets one.
            async with asyncio.timeout(None) as self._reading:
                while True:
                    message = await self._receive()
                    if message["type"] == "websocket.receive":
                        started = time.perf_counter()
                        # After a close, frames are received and ignored, until the server reports the disconnect.
                        if self.session.is_open:
                            await self._receive_frame(message)
                        # Suspends if this connection has used up its turn of the loop.
                        await self.node.turns.spend(time.perf_counter() - started)
                    elif message["type"] == "websocket.disconnect":
                        self.disconnect = Disconnect(message.get("code"), message.get("reason") or "")
                        return
        except TimeoutError:
            # The client didn't answer our close frame in time.
            return
        finally:
            self._reading = None

    async def _receive_frame(self, message: Message) -> None:
        text = message.get("text")
        frame = text if text is not None else message.get("bytes") or b""
        wheel = self.node.wheel
        now = wheel.time()
        if wheel.lost > self._excused:
            # The process stood still. The frames that the client sent in that time arrive together, which isn't its
            # fault.
            self.session.excuse(wheel.lost - self._excused)
            self._excused = wheel.lost
        outcome = self.session.receive_frame(frame, now)
        match outcome:
            case RawFrame() if self.credentials.receive(outcome):
                # The set-up continues with it.
                pass
            case RawFrame():
                self.dispatcher.put(outcome, outcome.size)
                if self.dispatcher.inbox.crowded:
                    # Let the handlers run once. If they take frames out, the client sends no faster than they work.
                    # The reader itself must not wait for them any longer: it has to receive pongs and the disconnect.
                    await asyncio.sleep(0)
                    if self.dispatcher.inbox.overfull:
                        counters.count(
                            "inbox_overflows",
                            "closed a connection with 4429: its frames arrive faster than they are handled",
                        )
                        self.close(close_codes.RATE_LIMIT_EXCEEDED)
            case Frame():
                self.outbox.put_direct(outcome)
            case Close():
                self._close_by_policy(outcome)

    # Sending and closing.

    async def send(self, event: Event) -> None:
        """
        Send an event to this client only, when there is room in the outbox.

        Raises:
            UndeclaredEvent, UnsendableEvent, TypeError: The event can't be sent.
        """
        started = time.perf_counter()
        self.hooks.catalog.check_sends(event)
        frame = envelope.encode(event).frame()
        spent = time.perf_counter() - started
        await self.outbox.wait_for_space()
        # The connection may have been closed in the meantime.
        if self.session.is_open:
            started = time.perf_counter()
            self.outbox.put_direct(frame)
            spent += time.perf_counter() - started
        # Neither of these suspends for a client that reads, or after the end. A task that sends in a loop would
        # otherwise keep the loop from all other connections.
        await self.node.turns.spend(spent)

    def close(self, close: Close, *, discard: bool = False, release: bool = False) -> None:
        """
        Begin to close the connection; the first close wins. Frames that have not been handled are dropped.

        From now on no publication reaches the connection. The reader goes on until the server reports the disconnect,
        or until the client has not answered the close frame for HANDSHAKE_SECONDS.

        Args:
            close: The close code and its reason.
            discard: Whether to drop the frames in the outbox, instead of sending them first.
            release: Whether to send, too, the publications that wait for the end of the set-up.
        """
        if not self.session.close(close):
            return
        self._explanations.closed(close)
        if release:
            self.outbox.release()
        self.dispatcher.drop()
        self.credentials.end()
        self.node.hub.remove(self.subscriber)
        self.outbox.close(close, discard=discard)

    def _close_by_policy(self, close: Close) -> None:
        counters.count("connections_closed_by_policy")
        logger.info("x %s %s %s", self.subscriber.id, close.code, close.reason)
        self.close(close)

    def _on_outbox_closed(self) -> None:
        # The close frame was sent, or given up. Servers then report the disconnect when the client has answered, but
        # not all of them do so for a client that never answers.
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(self.node.loop.time() + HANDSHAKE_SECONDS)

    def _on_send_error(self, error: BaseException) -> None:
        # The client has left, or the server refuses the frame. The close frame shows which: it fails, too, if the
        # client has left.
        counters.count("sends_failed")
        logger.info("! %s send failed: %r", self.subscriber.id, error)
        self.send_failed = True
        self.close(close_codes.OUTBOUND_PUBLISH_FAILED, discard=True)

    def _on_claims(self, claims: Claims | None) -> None:
        self.recovery.receive(claims)

    def _on_hook_failed(self) -> None:
        self.close(close_codes.MESSAGE_HANDLING_FAILED)

    # The work of the dispatcher.

    def submit(self, work: Work) -> bool:
        """Run ``work`` in its turn among the handlers; return whether it will run. A closed connection runs none."""
        if self.session.is_open and self.dispatcher.inbox.uncounted >= MAX_COMMANDS + 2 * self.limits.max_rooms:
            self.commands_overflowed()
        if self.session.is_open:
            self.dispatcher.put(work, None)
        return self.session.is_open

    def command(self, name: str, arguments: dict[str, Any]) -> None:
        """Carry out a control command, see Commands."""
        self.commands.receive(name, arguments)

    def commands_overflowed(self) -> None:
        """
        Close the connection, because a dropped command may have been one that takes a permission away.

        The client reconnects, and its permissions are checked again.
        """
        counters.count("commands_overflowed", "closed a connection: too many control commands are waiting for it")
        self.close(close_codes.MESSAGE_HANDLING_FAILED)

    # The end of the process.

    def drain(self, retry_after: float) -> None:
        """
        Close the connection for a shutdown, once all received frames have been handled.

        Args:
            retry_after: The seconds after which a client that speaks ``wsrt.v1`` is asked to reconnect.
        """
        if self.credentials.is_waiting:
            # Nothing has been received that could be handled, and the client may never log in.
            self._close_for_drain(retry_after)
        else:
            self.submit(lambda: self._drain(retry_after))

    async def _drain(self, retry_after: float) -> None:
        # Of all received frames, only those of concurrent handlers may still be at work.
        await self.runs.wait()
        self._close_for_drain(retry_after)

    def _close_for_drain(self, retry_after: float) -> None:
        if self.session.extended:
            closing = envelope.reserved("wsrt.closing", {"retry_after_ms": round(retry_after * 1000)})
            self.outbox.put_direct(closing)
        self.close(close_codes.SERVER_SHUTTING_DOWN)

    def force_close(self) -> None:
        """Close for a shutdown now, even while a handler is running."""
        self.close(close_codes.SERVER_SHUTTING_DOWN)

    def close_at_exit(self) -> None:
        """Send the close frame of a shutdown and do nothing else, because the process is ending."""
        self.needs_on_disconnect = False
        self.outbox.close(close_codes.SERVER_SHUTTING_DOWN, discard=True)

    # Properties.

    @property
    def id(self) -> str:
        """The id of the connection."""
        return self.subscriber.id

    @property
    def is_idle(self) -> bool:
        """Whether no work is running or waiting, and no frame waits to be sent."""
        return self.dispatcher.is_idle and self.outbox.is_idle

    @property
    def is_anonymous(self) -> bool:
        """Whether the scope has a user that is not signed in."""
        user = self._scope.get("user")
        return user is not None and not is_signed_in(user)
