"""
The pump: one connection, from the handshake to the end.

It feeds the session, takes what comes of it to the handlers and to the client, and keeps the deadlines. The reader is
the ASGI call itself and always sits in ``receive()``: a server that is not read stops reading pongs, and kills healthy
clients. Set-up, handlers and commands run one at a time in a task that exists only while there is work.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import types
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation

from .. import close_codes
from ..close_codes import Close, Closed
from ..cluster.node import Node
from ..delivery.inbox import Inbox
from ..delivery.jitter import jittered
from ..delivery.outbox import Outbox
from ..delivery.subscriber import Subscriber
from ..delivery.transport import Transport, Writer
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from ..presence.tracker import tracker_of_loop
from ..protocol import envelope
from ..protocol.catalog import Received
from ..protocol.envelope import ref_of
from ..protocol.events import Event
from ..protocol.frame import Frame
from ..protocol.session import SUBPROTOCOL, RawFrame, Session
from ..realms import check_tenant, realm_of
from ..types import Limits, Message, Receive, Ref, Scope, Send
from .commands import Commands
from .db import database_care
from .dispatcher import Dispatcher, Work
from .groups import Groups
from .hooks import Hooks, call
from .layer_channel import LayerChannel
from .origin import check_origin
from .presence import ConnectionPresence, PresenceHooks
from .refusals import NOT_AUTHORIZED, Refusal, refusal_of
from .threads import run_in_thread
from .users import is_signed_in

DISCONNECT_SECONDS = 4.0
"""How long on_disconnect may take: with the worker's FINISH_SECONDS less than the 10 s after which Daphne cancels."""

HANDSHAKE_SECONDS = 2.0
"""How long we wait for the peer to answer our close."""

MAX_COMMANDS = 100
"""Control commands that may wait for the handlers of one connection, besides two for each room that it may be in."""

LINGER_SECONDS = 12.0
"""After how long a socket that we closed is cut: longer than servers take for the closing handshake."""

ABNORMAL = {None, 1005, 1006}
"""Codes by which servers report, each in its own way, that nobody said goodbye."""

TRANSPORT = "wsrt.transport"
"""The extension of the ASGI scope by which wsrt.asgi offers what the server can do."""

SERVICE_RESTART = 1012
"""What uvicorn tells the application when it goes down."""

logger = logging.getLogger("wsrt")


class ConnectionHandler:
    """
    Runs one connection of a consumer.

    Args:
        hooks: the consumer, whose hooks and handlers are called.
        node: where the connection lives.
        limits: of this connection.
        alias: the channel layer of its namespace.
    """

    def __init__(
        self, hooks: Hooks, node: Node, limits: Limits, scope: Scope, receive: Receive, send: Send, alias: str
    ) -> None:
        self.hooks = hooks
        self.node = node
        self.limits = limits
        # What the log calls it.
        self._name = type(hooks).__name__
        self._scope = scope
        self._receive = receive
        self._send = send
        transport = (scope.get("extensions") or {}).get(TRANSPORT)
        if isinstance(transport, Transport):
            node.servers.add(transport.server)
        else:
            transport = Transport(send)
        self.transport: Transport = transport
        offered = scope.get("subprotocols") or ()
        self.subprotocol = choose_subprotocol(offered, hooks.subprotocols)

        connection_id = node.new_connection_id()
        self.session = Session(
            hooks.catalog,
            limits,
            connection_id,
            extended=self.subprotocol == SUBPROTOCOL,
            can_ping=self.transport.can_ping,
            now=node.wheel.time(),
            jitter=jittered(1, 0),
        )
        self.outbox = Outbox(
            send,
            limits,
            node.wheel,
            on_overflow=lambda: self.close(close_codes.BACKPRESSURE_OVERFLOW, discard=True),
            on_error=self._send_failed,
            on_closed=self._stop_reading,
            abort=self.transport.abort,
        )
        self.subscriber = Subscriber(connection_id, hooks.namespace, self.outbox, self)
        self.presence = ConnectionPresence(
            tracker_of_loop(),
            self.subscriber,
            consumer=self._name,
            scope=scope,
            shows=hooks.presence,
            hooks=PresenceHooks.of(hooks),
            wants_frames=self.session.extended,
            submit=self.submit,
            on_failed=self._hook_failed,
        )
        self.groups = Groups(
            node,
            alias,
            self.subscriber,
            hooks=hooks,
            presence=self.presence,
            max_rooms=limits.max_rooms,
            announces=self.session.extended,
            is_open=lambda: self.session.is_open,
        )
        self._commands = Commands(
            node.loop,
            self.subscriber,
            hooks=hooks,
            groups=self.groups,
            submit=self.submit,
            close=self.close,
            answer_seconds=limits.setup_timeout,
            is_anonymous=lambda: self.is_anonymous,
        )
        # A channel of its own, for messages that are sent through the layer by hand.
        self.channel: LayerChannel | None = None
        if hooks.layer_handlers and hooks.channel_layer is not None:
            handlers = {
                kind: functools.partial(call, types.MethodType(method, hooks))
                for kind, method in hooks.layer_handlers.items()
            }
            self.channel = LayerChannel(
                hooks.channel_layer, handlers, owner=self._name, submit=self.submit, on_failed=self._hook_failed
            )
        self._dispatcher = Dispatcher(
            node.loop,
            Inbox(limits.inbox_frames, limits.inbox_bytes),
            node.turns,
            self._handle_frame,
            owner=self._name,
            on_failed=self._hook_failed,
        )
        # Standstills of the process that the session knows of, in seconds.
        self._excused = node.wheel.lost
        # Ends the reader some time after our own close. None until it reads.
        self._reading: asyncio.Timeout | None = None
        # Whether set-up is done: the connection is one of those that are online.
        self.is_visible = False
        # Whether on_connect was started, so that on_disconnect is owed.
        self._is_connected = False
        # How it ended; None until it has.
        self.closed: Closed | None = None
        # What the server reported when the peer was gone.
        self._peer_left = False
        self._peer_code: int | None = None
        self._peer_reason = ""
        self._lost = False
        self.ended: asyncio.Future[Closed] = node.loop.create_future()

    # The life of a connection.

    async def run(self) -> None:
        """Serve the connection; returns when it is over and cleaned up."""
        message = await self._receive()
        if message["type"] != "websocket.connect":
            return
        if self.hooks.check_origin:
            refused = check_origin(self._scope)
            if refused is not None:
                counters.count("origins_refused", "refused a handshake: %s", refused)
                # Before accept: any page of the web can make a browser come here (H8).
                await self._answer_handshake({"type": "websocket.close", "code": close_codes.FORBIDDEN.code})
                return
        if self.session.heartbeat is not None and self.transport.can_ping:
            self.transport.observe_pongs(lambda: self.session.note_activity(self.node.wheel.time()))
        if not await self._answer_handshake({"type": "websocket.accept", "subprotocol": self.subprotocol}):
            return
        self.session.accept()
        self.node.handlers.add(self)
        self.node.arriving[self] = []
        self.outbox.use(self._writer())
        logger.debug("= %s open", self.subscriber.id)
        try:
            self._dispatcher.start(self._set_up)
            if self.node.is_draining:
                self.drain(0.0)
            await self._read()
        finally:
            # Whatever ended it: a disconnect, our close, a cancellation by the server.
            ending = self._end()
            await asyncio.shield(self.node.spawn(ending))

    def _writer(self) -> Writer | None:
        """Return how frames get to the server without a coroutine each, if they can."""
        writer = self.transport.prepared_writer() if self.limits.fast_path else None
        if writer is None and self.outbox.is_plain:
            return self.transport.framing_writer()
        return writer

    async def _answer_handshake(self, message: Message) -> bool:
        try:
            await self._send(message)
        except Exception:  # the peer is gone already: servers differ in what they raise
            counters.count("connections_lost_in_handshake")
            return False
        return True

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(None) as self._reading:
                while True:
                    message = await self._receive()
                    if message["type"] == "websocket.receive":
                        begun = time.perf_counter()
                        if self.session.is_open:
                            await self._take(message)
                        await self.node.turns.spend(time.perf_counter() - begun)
                    elif message["type"] == "websocket.disconnect":
                        self._peer_left = True
                        self._peer_code = message.get("code")
                        self._peer_reason = message.get("reason") or ""
                        return
        except TimeoutError:
            # Our close was not answered in time.
            return
        finally:
            self._reading = None

    async def _take(self, message: Message) -> None:
        text = message.get("text")
        frame = text if text is not None else message.get("bytes") or b""
        wheel = self.node.wheel
        now = wheel.time()
        if wheel.lost > self._excused:
            self.session.excuse(wheel.lost - self._excused)
            self._excused = wheel.lost
        outcome = self.session.receive_frame(frame, now)
        match outcome:
            case RawFrame():
                self._dispatcher.put(outcome, outcome.size)
                if self._dispatcher.inbox.crowded:
                    # The handlers get a turn; a client that sends faster than they work still fills the inbox.
                    await asyncio.sleep(0)
                    if self._dispatcher.inbox.overfull:
                        counters.count("inbox_overflows", "a client sends faster than its handlers work: closed 4429")
                        self.close(close_codes.RATE_LIMIT_EXCEEDED)
            case Frame():
                self.outbox.put_direct(outcome)
            case Close():
                self._close_by_policy(outcome)

    def _close_by_policy(self, close: Close) -> None:
        counters.count("connections_closed_by_policy")
        logger.info("x %s %s %s", self.subscriber.id, close.code, close.reason)
        self.close(close)

    def close(self, close: Close, *, discard: bool = False, release: bool = False) -> None:
        """
        Close: what is queued goes out first, unless discarded; frames that were not yet handled are dropped.

        Args:
            release: send also the publications that wait for the end of the set-up.
        """
        if not self.session.close(close):
            return
        if release:
            self.outbox.release()
        self._dispatcher.drop()
        self.node.hub.remove(self.subscriber)
        self.outbox.close(close, discard=discard)

    def _stop_reading(self) -> None:
        # The close frame is out, or given up. The server now reports the disconnect, or does not.
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(self.node.loop.time() + HANDSHAKE_SECONDS)

    def _send_failed(self, error: BaseException) -> None:
        """The server's send raised: the peer is gone, or the server refuses the frame. Only a close frame can tell."""
        counters.count("sends_failed")
        logger.info("! %s send failed: %r", self.subscriber.id, error)
        self._lost = True
        self.close(close_codes.OUTBOUND_PUBLISH_FAILED, discard=True)

    async def _end(self) -> None:
        try:
            await self._clean_up()
        finally:
            self.node.handlers.discard(self)

    async def _clean_up(self) -> None:
        """Clean up, however it ended: at once from the hub, then in order what takes time."""
        node, session = self.node, self.session
        self.groups.end()
        self._commands.end()
        node.arriving.pop(self, None)
        node.wheel.discard(self._tick)
        if session.is_open and not self._peer_left:
            # Cancelled by the server, or by an error of ours.
            self.close(close_codes.SERVER_SHUTTING_DOWN, discard=True)
            await asyncio.sleep(0)
        self.closed = self._how()
        self.presence.end(self.closed)
        session.receive_disconnect()
        self.outbox.abandon()
        if not self._peer_left:
            # It did not answer our close, or the server gives the connection up.
            self.transport.abort()
        elif session.close_sent is not None and self.transport.can_abort:
            # Some servers say so at once, and then wait for ever that the peer reads what they still hold.
            node.loop.call_later(LINGER_SECONDS, self.transport.abort)
        if not self.ended.done():
            self.ended.set_result(self.closed)
        logger.debug("= %s closed %s", self.subscriber.id, self.closed)
        await self._dispatcher.finish()
        if self._is_connected:
            await self._run_on_disconnect(self.closed)
        if self.channel is not None:
            await self.channel.close()

    async def _run_on_disconnect(self, closed: Closed) -> None:
        task = self._dispatcher.spawn(database_care.run(lambda: call(self.hooks.on_disconnect, closed)))
        done, _ = await asyncio.wait([task], timeout=DISCONNECT_SECONDS)
        if not done:
            task.cancel()
            counters.count("disconnect_hooks_cancelled", "on_disconnect took over %s s: cancelled", DISCONNECT_SECONDS)
        elif not task.cancelled() and task.exception() is not None:
            logger.error("on_disconnect of %s failed", self._name, exc_info=task.exception())

    def _how(self) -> Closed:
        sent = self.session.close_sent
        if sent is not None and (self.outbox.close_sent or not self._lost):
            return Closed(sent.code, sent.reason, "server")
        code = self._peer_code
        if code is None or code in ABNORMAL:
            return Closed(1006 if code is None else code, self._peer_reason, "network")
        return Closed(code, self._peer_reason, "server" if code == SERVICE_RESTART else "client")

    # Sending.

    async def send(self, event: Event) -> None:
        """Send an event to this client alone; waits for room in the outbox. Raises UndeclaredEvent, UnsendableEvent."""
        self.hooks.catalog.check_sends(event)
        frame = envelope.encode(event).frame()
        await self.outbox.room()
        if self.session.is_open:
            self.outbox.put_direct(frame)

    # Set-up, handlers and commands: one at a time.

    async def _set_up(self) -> None:
        # Closes whatever hooks do: one of them may swallow its cancellation and go on.
        late: asyncio.TimerHandle | None = None
        if self.limits.setup_timeout is not None:
            late = self.node.loop.call_later(self.limits.setup_timeout, self._set_up_late)
        try:
            async with asyncio.timeout(self.limits.setup_timeout) as deadline:
                if self.channel is not None:
                    await self.channel.open(self.node)
                # First of all: whatever a hook joins or publishes is the tenant's.
                tenant = check_tenant(await call(self.hooks.tenant))
                self.subscriber.realm = realm_of(self.hooks.namespace, tenant)
                if not await call(self.hooks.authorize):
                    self._fail_set_up(NOT_AUTHORIZED.close(is_anonymous=self.is_anonymous))
                    return
                await self.groups.identify()
                if not self.session.is_open:
                    # The client left while it was asked for: it never was connected.
                    self._dispatcher.drop()
                    return
                if not await self._register():
                    return
                self._is_connected = True
                await call(self.hooks.on_connect)
                if self.session.is_open:
                    await self.presence.begin()
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                self._set_up_late()
                return
            refusal = refusal_of(error, self.hooks.refusal_for)
            if refusal is not None:
                if isinstance(error, BackplaneUnavailable):
                    counters.count("setups_unavailable", "a connection could not be set up: %s", error)
                self._fail_set_up(refusal.close(is_anonymous=self.is_anonymous))
                return
            logger.exception("the set-up of %s failed", self._name)
            self._fail_set_up(close_codes.CONNECTION_SETUP_FAILED)
        else:
            self.is_visible = self.session.is_open
            self.outbox.release()
        finally:
            if late is not None:
                late.cancel()

    def _set_up_late(self) -> None:
        if self.session.is_open:
            counters.count("setup_timeouts", "authorize and on_connect took over %s s", self.limits.setup_timeout)
            self._fail_set_up(close_codes.CONNECTION_SETUP_TIMEOUT)

    def _fail_set_up(self, close: Close) -> None:
        self.close(close)
        # Also when the client left first: no frame is handled by a consumer that was not set up.
        self._dispatcher.drop()

    async def _register(self) -> bool:
        """Greet, and become one of everyone and of the user's connections; return whether it is still open."""
        hello = self.session.hello(time.time())
        if hello is not None:
            self.outbox.put_direct(hello)
        # From now on frames may be parsed; what is reserved among those that wait is answered before on_connect runs.
        self.session.authorize()
        self._dispatcher.inbox.sift(self._still_waits)
        if self.session.heartbeat is not None:
            self.node.wheel.add(self._tick, self.session.heartbeat.due)
        await self.groups.enter()
        # Commands that came in the meantime are carried out before on_connect.
        self.node.register(self.subscriber)
        await self._commands.settle()
        return self.session.is_open

    def _still_waits(self, item: RawFrame | Work) -> bool:
        if not isinstance(item, RawFrame):
            return True
        outcome = self.session.admit(item)
        if isinstance(outcome, Frame):
            self.outbox.put_direct(outcome)
        return outcome is item

    async def _handle_frame(self, raw: RawFrame) -> None:
        """Decode a frame, and handle its event or answer what is wrong with it."""
        try:
            outcome = await self._decode(raw)
        except Exception as error:
            # A validator of the application raised what is not a ValueError.
            ref = ref_of(raw.payload)
            refusal = refusal_of(error, self.hooks.refusal_for)
            if refusal is not None:
                answer = self._refuse(ref, refusal)
                if answer is not None:
                    await self._answer_with(answer)
                return
            counters.count("handlers_failed")
            logger.exception("an event for %s could not be validated", self._name)
            self._fail(ref)
            return
        match outcome:
            case Received():
                await self._handle(outcome)
            case Frame():
                await self._answer_with(outcome)
            case Close():
                self._close_by_policy(outcome)

    async def _decode(self, raw: RawFrame) -> Received | Frame | Close | None:
        try:
            if self.session.is_heavy(raw):
                return await self.node.turns.alone(lambda: self._decode_heavy(raw))
            return self.session.decode(raw, self.node.wheel.time())
        except SynchronousOnlyOperation:
            # A validator has asked the database, which refuses in the loop before it does anything.
            decoded: Received | Frame | Close | None = await run_in_thread(
                self.session.decode, raw, self.node.wheel.time()
            )
            return decoded

    def _decode_heavy(self, raw: RawFrame) -> Received | Frame | Close | None:
        if self.session.close_sent is not None:
            # Closed while it waited for its turn.
            counters.count("frames_unhandled")
            return None
        begun = time.thread_time()
        try:
            return self.session.decode(raw, self.node.wheel.time())
        finally:
            self.session.charge(time.thread_time() - begun)

    async def _handle(self, received: Received) -> None:
        handler = self.hooks.handlers[type(received.event)]
        ref = received.ref
        try:
            reply = await call(getattr(self.hooks, handler.name), received.event)
            answer = self._answer(reply, ref)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self._is_cancelled():
                raise
            refusal = refusal_of(error, self.hooks.refusal_for) if isinstance(error, Exception) else None
            if refusal is None:
                # Somebody else's CancelledError that leaked out of the handler is a defect like any other.
                counters.count("handlers_failed")
                logger.exception("%s.%s failed", self._name, handler.name)
                self._fail(ref)
                if not isinstance(error, Exception | asyncio.CancelledError):
                    raise
                return
            if isinstance(error, BackplaneUnavailable):
                counters.count("requests_unavailable", "a handler could not do its work: %s", error)
            answer = self._refuse(ref, refusal)
        if answer is not None:
            await self._answer_with(answer)

    async def _answer_with(self, frame: Frame) -> None:
        # A client that reads slowly slows its own handlers down, and is not closed for many large answers.
        await self.outbox.room()
        if self.session.is_open:
            self.outbox.put_direct(frame)

    def _hook_failed(self) -> None:
        self.close(close_codes.MESSAGE_HANDLING_FAILED)

    def _fail(self, ref: Ref | None) -> None:
        """A handler or a validator failed: answer the request, if it was one, and close."""
        if ref is not None:
            self.outbox.put_direct(envelope.error("internal", "Internal error", ref=ref))
        self.close(close_codes.MESSAGE_HANDLING_FAILED)

    def _answer(self, reply: Any, ref: Any) -> Frame | None:
        if reply is None:
            return None if ref is None else envelope.reserved("wsrt.ok", {}, ref=ref)
        if not isinstance(reply, Event):
            raise TypeError(f"a handler returns an event or None, not {type(reply).__name__}")
        self.hooks.catalog.check_sends(reply)
        return envelope.encode(reply).frame(ref=ref)

    def _refuse(self, ref: Ref | None, refusal: Refusal) -> Frame | None:
        if ref is None:
            counters.count("refusals_unanswered")
            return None
        return envelope.error(refusal.code, refusal.message, errors=refusal.errors, ref=ref)

    def command(self, name: str, arguments: dict[str, Any]) -> None:
        """Carry out a control command, see Commands."""
        self._commands.receive(name, arguments)

    def commands_overflowed(self) -> None:
        """Close: none may be lost, for permissions may have changed. The client reconnects, and is asked again."""
        counters.count("commands_overflowed", "too many commands wait for one connection: closed")
        self.close(close_codes.MESSAGE_HANDLING_FAILED)

    # The end of the process.

    def drain(self, retry_after: float) -> None:
        """Close for a shutdown once what was received is handled; the client shall come back after these seconds."""
        self.submit(lambda: self._drain(retry_after))

    async def _drain(self, retry_after: float) -> None:
        if self.session.extended:
            closing = envelope.reserved("wsrt.closing", {"retry_after_ms": round(retry_after * 1000)})
            self.outbox.put_direct(closing)
        self.close(close_codes.SERVER_SHUTTING_DOWN)

    def force_close(self) -> None:
        """Close for a shutdown now, whatever is still being handled."""
        self.close(close_codes.SERVER_SHUTTING_DOWN)

    def close_at_exit(self) -> None:
        """Send the close frame of a shutdown and do nothing else: the process ends."""
        self._is_connected = False
        self.outbox.close(close_codes.SERVER_SHUTTING_DOWN, discard=True)

    def submit(self, work: Work) -> bool:
        """Run something in the order of the handlers; return whether it will be."""
        if self.session.is_open and self._dispatcher.inbox.uncounted >= MAX_COMMANDS + 2 * self.limits.max_rooms:
            self.commands_overflowed()
        if self.session.is_open:
            self._dispatcher.put(work, None)
        return self.session.is_open

    def _is_cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    # Facts.

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being worked on, and nothing waits to go out."""
        return self._dispatcher.is_idle and self.outbox.is_idle

    @property
    def is_anonymous(self) -> bool:
        """Whether the scope has a user that is not signed in."""
        user = self._scope.get("user")
        return user is not None and not is_signed_in(user)

    # The heartbeat.

    def _tick(self, now: float) -> float | None:
        heartbeat = self.session.heartbeat
        if heartbeat is None or not self.session.is_open:
            return None
        heartbeat.last_sent = max(heartbeat.last_sent, self.outbox.last_sent)
        match self.session.tick(now):
            case Frame() as ping:
                self._ping(ping)
            case Close() as close:
                counters.count("heartbeat_timeouts")
                self.close(close)
                return None
        return heartbeat.due

    def _ping(self, ping: Frame) -> None:
        if self.session.extended:
            self.outbox.put_direct(ping)
            return
        try:
            self.transport.ping()
        except Exception as error:
            # The server has lost the peer, and will say so.
            counters.count("pings_failed")
            logger.debug("! %s ping failed: %r", self.subscriber.id, error)


def choose_subprotocol(offered: Iterable[str], known: Iterable[str]) -> str | None:
    """Return the subprotocol to accept: ``wsrt.v1`` where it is offered, else the first of the consumer's own."""
    offers = list(offered)
    return next((name for name in (SUBPROTOCOL, *known) if name in offers), None)
