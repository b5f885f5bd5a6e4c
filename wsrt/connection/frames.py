"""The handling of a received frame: decoding, the call of the handler, and the answer."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation

from .. import close_codes
from ..close_codes import Close
from ..cluster.node import Node
from ..delivery.outbox import Outbox
from ..delivery.tasks import is_being_cancelled
from ..exceptions import BackplaneUnavailable
from ..handlers import Handler
from ..metrics import counters
from ..protocol import envelope
from ..protocol.catalog import Received
from ..protocol.envelope import ref_of
from ..protocol.events import Event
from ..protocol.frame import Frame
from ..protocol.session import RawFrame, Session, State
from ..types import Ref
from .concurrency import ConcurrentRuns
from .explanations import Explanations
from .hooks import Hooks, call
from .refusals import Refusal, refusal_of
from .subscriptions import SubscriptionRefused, Subscriptions, is_subscription
from .threads import run_in_thread

logger = logging.getLogger("wsrt")


class FrameHandler:
    """
    Handles the frames of one connection, one at a time. Concurrent handlers are only started.

    Args:
        hooks: The consumer, whose handlers are called.
        session: The session of the connection, which decodes frames.
        outbox: The outbox of the connection.
        node: The node that holds the connection.
        runs: The runs of concurrent handlers.
        owner: The name of the consumer, for the log.
        renew: Renews the credentials with a login event, and returns the answer, see Credentials.
        close: Closes the connection.
        on_violation: Called with the close code if a frame breaks the protocol. It must close the connection.
        explanations: Explains refusals in the log.
        subscriptions: Handles the client's subscriptions.
    """

    __slots__ = (
        "_close",
        "_explanations",
        "_hooks",
        "_node",
        "_on_violation",
        "_outbox",
        "_owner",
        "_renew",
        "_runs",
        "_session",
        "_subscriptions",
    )

    def __init__(
        self,
        hooks: Hooks,
        session: Session,
        outbox: Outbox,
        node: Node,
        runs: ConcurrentRuns,
        *,
        owner: str,
        renew: Callable[[Received], Coroutine[Any, Any, Frame | None]],
        close: Callable[[Close], None],
        on_violation: Callable[[Close], None],
        explanations: Explanations,
        subscriptions: Subscriptions,
    ) -> None:
        self._hooks = hooks
        self._session = session
        self._outbox = outbox
        self._node = node
        self._runs = runs
        self._owner = owner
        self._renew = renew
        self._close = close
        self._on_violation = on_violation
        self._explanations = explanations
        self._subscriptions = subscriptions

    async def handle(self, raw: RawFrame) -> None:
        """Decode a frame, call the handler of its event, and answer the request."""
        try:
            outcome = await self.decode(raw)
        except Exception as error:
            # A frame that isn't valid is an outcome, not an exception. This one comes from a validator of the
            # application, which may raise anything; Pydantic only catches ValueError and AssertionError.
            ref = ref_of(raw.payload)
            refusal = refusal_of(error, self._hooks.refusal_for)
            if refusal is not None:
                answer = self._refusal_frame(ref, refusal)
                if answer is not None:
                    await self._answer(answer)
                return
            counters.count("handlers_failed")
            logger.exception("a validator of an event for %s raised an exception", self._owner)
            self._fail(ref)
            return
        match outcome:
            case Received():
                await self._call_handler(outcome)
            case Frame():
                await self._answer(outcome)
            case Close():
                self._on_violation(outcome)

    # Decoding.

    async def decode(self, raw: RawFrame) -> Received | Frame | Close | None:
        """Decode a frame, see Session.decode(). Raises anything that a validator of the application raises."""
        try:
            if self._session.is_heavy(raw):
                # Waits while other connections of the loop decode theirs.
                return await self._node.turns.alone(self._decode_heavy(raw))
            return self._session.decode(raw, self._node.wheel.time())
        except SynchronousOnlyOperation:
            # A validator queries the database. Django raises this in the event loop before anything has happened, so
            # the frame can be decoded again in a thread.
            decoded: Received | Frame | Close | None = await run_in_thread(
                self._session.decode, raw, self._node.wheel.time()
            )
            return decoded

    def _decode_heavy(self, raw: RawFrame) -> Generator[None, None, Received | Frame | Close | None]:
        steps = self._session.decode_in_steps(raw, self._node.wheel.time())
        while self._session.close_sent is None:
            started = time.thread_time()
            try:
                next(steps)
            except StopIteration as end:
                outcome: Received | Frame | Close | None = end.value
                return outcome
            finally:
                self._session.charge(time.thread_time() - started)
            yield
        # The connection was closed while the frame waited for its turn, or between two steps.
        counters.count("frames_unhandled")
        return None

    # Calling the handler.

    async def _call_handler(self, received: Received) -> None:
        handler = self._hooks.handlers.get(type(received.event))
        if handler is None or handler.concurrent is None:
            await self._run_handler(handler, received)
            return
        await self._runs.wait_for_place(handler.name, handler.concurrent)
        if self._session.close_sent is not None:
            # The connection was closed while the frame waited. Like those in the inbox, it is dropped.
            counters.count("frames_unhandled")
            return
        await self._runs.start(handler.name, functools.partial(self._run_handler, handler, received))

    async def _run_handler(self, handler: Handler | None, received: Received) -> None:
        # Only the login event and those of subscriptions have no handler.
        name = handler.name if handler else "authorize_room" if is_subscription(received) else "authenticate"
        ref = received.ref
        answer: Frame | None
        try:
            if handler is not None:
                answer = self._reply_frame(await call(getattr(self._hooks, name), received.event), ref)
            elif is_subscription(received):
                await self._subscriptions.handle(received)
                answer = self._reply_frame(None, ref)
            else:
                answer = await self._renew(received)
        except BaseException as error:
            # A CancelledError may be meant for this task: the connection has ended, and the handler ran for too long.
            # It may also come from a task that the handler awaited and that was cancelled by other code. That one is an
            # error of the handler like any other.
            if isinstance(error, asyncio.CancelledError):
                if is_being_cancelled():
                    raise
                if self._session.state is State.CLOSED:
                    # The handler awaited a task of the connection, which has ended with it.
                    return
            refusal = refusal_of(error, self._hooks.refusal_for) if isinstance(error, Exception) else None
            if refusal is None:
                counters.count("handlers_failed")
                logger.exception("%s.%s failed", self._owner, name)
                self._fail(ref)
                if not isinstance(error, Exception | asyncio.CancelledError):
                    # KeyboardInterrupt and SystemExit end the process.
                    raise
                return
            if isinstance(error, BackplaneUnavailable):
                counters.count("requests_unavailable", "a handler could not use the channel layer: %s", error)
            if isinstance(error, SubscriptionRefused):
                name = error.by
            self._explanations.refused(received.name, name, refusal, is_answered=ref is not None)
            answer = self._refusal_frame(ref, refusal)
        if answer is not None:
            await self._answer(answer)

    # Answering.

    async def _answer(self, frame: Frame) -> None:
        # Waiting here slows down the handlers of a client that reads slowly. Without it, a few large answers would
        # overflow the outbox and close the connection.
        await self._outbox.wait_for_space()
        # The connection may have been closed in the meantime, by the client or by a publication that overflowed.
        if self._session.is_open:
            self._outbox.put_direct(frame)

    def _reply_frame(self, reply: Any, ref: Any) -> Frame | None:
        if reply is None:
            return None if ref is None else envelope.reserved("wsrt.ok", {}, ref=ref)
        if not isinstance(reply, Event):
            raise TypeError(f"a handler must return an event or None, not {type(reply).__name__}")
        self._hooks.catalog.check_sends(reply)
        return envelope.encode(reply).frame(ref=ref)

    def _refusal_frame(self, ref: Ref | None, refusal: Refusal) -> Frame | None:
        if ref is None:
            counters.count("refusals_unanswered")
            return None
        return envelope.error(refusal.code, refusal.message, errors=refusal.errors, ref=ref)

    def _fail(self, ref: Ref | None) -> None:
        """Answer a request whose handler or validator raised an unexpected exception, and close the connection."""
        if ref is not None:
            self._outbox.put_direct(envelope.error("internal", "Internal error", ref=ref))
        self._close(close_codes.MESSAGE_HANDLING_FAILED)
