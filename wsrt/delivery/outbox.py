"""
The outbox: the bounded queue through which everything is sent to a client.

Most frames never wait. While nothing is queued, ``put`` starts the server's own ``send`` immediately by stepping its
coroutine. If the coroutine ends without suspending, no task was needed. If it suspends, the server applies
back-pressure: a task finishes the coroutine, and the outbox queues further frames, within its limits. So an idle
connection has no task. Under load the hub corks the outbox, and frames that arrive within 2 ms are sent together.

If middleware has wrapped ``send``, each call runs completely in a task of the outbox. All calls for a connection run in
one context, a copy of the context in which the connection was opened. A ``ContextVar`` that middleware sets, or a span
or cancel scope that it opens around ``send``, therefore belongs to the recipient and never to the publisher.

All methods must be called in the thread of the node's loop, so state can only change during an ``await``. Only the task
that drains the queue awaits ``send``.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import types
from collections.abc import Awaitable, Callable
from typing import Any

from ..addresses import Audience
from ..close_codes import Close
from ..metrics import counters
from ..protocol.frame import Frame
from ..types import Limits, Send
from .eager import Remainder, is_plain
from .tasks import start_task
from .timer_wheel import TimerWheel
from .transport import Writer

CLOSE_SECONDS = 5.0
"""The time that a close allows for sending the close frame and the frames queued before it, in seconds."""

ABORT_SECONDS = 1.0
"""The time allowed for sending a close frame to a client that doesn't read, in seconds."""

PIECE_BYTES = 16_384
"""The number of bytes passed to a writer at a time, by which a server may exceed its own buffer limit."""


class Outbox:
    """
    The bounded, ordered queue of one connection, and the one place that calls the server's ``send``.

    Args:
        send: The server's ``send``, perhaps wrapped by middleware.
        limits: The maximum number of frames and bytes, and how long a frame may wait, in seconds.
        wheel: The timers and the clock of the node.
        on_overflow: Called once when a limit is exceeded. It must call close().
        on_error: Called once with the exception of ``send``.
        on_closed: Called once when nothing will be sent any more.
        abort: Closes the connection of a client that doesn't read, without a close frame.

    Attributes:
        limits: The limits, as passed.
        close_sent: Whether the close frame was passed to the server.
        last_sent: When a frame was last passed to the server, in seconds of the wheel's clock. Up to one resolution of
            the wheel too early. Only kept up to date while the wheel turns, which it does if there is a heartbeat.
    """

    __slots__ = (
        "_abort",
        "_close_by",
        "_closing",
        "_coalesced",
        "_context",
        "_drainer",
        "_has_begun",
        "_held",
        "_is_corked",
        "_is_done",
        "_is_plain",
        "_is_stalled",
        "_is_starting",
        "_is_watched",
        "_on_closed",
        "_on_error",
        "_on_overflow",
        "_queue",
        "_ready",
        "_send",
        "_since",
        "_size",
        "_space",
        "_wheel",
        "_writer",
        "close_sent",
        "last_sent",
        "limits",
    )

    def __init__(
        self,
        send: Send,
        limits: Limits,
        wheel: TimerWheel,
        *,
        on_overflow: Callable[[], None],
        on_error: Callable[[BaseException], None],
        on_closed: Callable[[], None],
        abort: Callable[[], object] = bool,
    ) -> None:
        self._send = send
        # Whether ``send`` may be stepped by hand: it depends neither on its task nor on its context.
        self._is_plain = is_plain(send)
        self._context = contextvars.copy_context()
        self._abort = abort
        # Writes frames immediately. None if they have to go through ``send``.
        self._writer: Writer | None = None
        # Whether the queue is waiting for uncork().
        self._is_corked = False
        self._wheel = wheel
        self.limits = limits
        self._on_overflow = on_overflow
        self._on_error = on_error
        self._on_closed = on_closed

        # Whether a frame can be sent immediately: the outbox is open, nothing is queued, and no send is under way.
        self._ready = True
        # The waiting frames, each with the time since when it has waited.
        self._queue: collections.deque[tuple[Frame, float]] = collections.deque()
        # Publications that wait for release(). None once released.
        self._held: collections.deque[tuple[Frame, float]] | None = collections.deque()
        # The bytes in both queues.
        self._size = 0
        # The waiting frames that a newer frame with the same key replaces.
        self._coalesced: dict[str, Frame] = {}
        # The task that finishes a send under way and sends what is queued. None while nothing is under way.
        self._drainer: asyncio.Task[None] | None = None
        # Whether the task has run its first step.
        self._has_begun = False
        # Whether the task was created for frames that no send has delayed yet: until its first step, they wait for the
        # loop and not for the client.
        self._is_starting = False
        # Since when the frame that is being sent has waited.
        self._since = 0.0
        # Whether a timer checks that time, and whether the timer has cancelled the task for it.
        self._is_watched = False
        self._is_stalled = False
        # Resolved when there is space again. None while no handler waits for it.
        self._space: asyncio.Future[None] | None = None
        # The close frame, which is sent last, and the time at which sending it is given up.
        self._closing: Close | None = None
        self._close_by = 0.0
        self.close_sent = False
        # Whether nothing will be sent any more.
        self._is_done = False
        self.last_sent = wheel.time()

    # Public methods for sending.

    def put(self, frame: Frame) -> bool:
        """
        Send a publication: immediately if possible, otherwise after the frames that are queued.

        Until release() is called, publications are only queued.

        Returns:
            Whether the frame was passed to the server immediately.
        """
        if self._ready and self._held is None:
            self._start(frame)
            return True
        if self._closing is None and not self._is_done:
            self._enqueue(frame, self._queue if self._held is None else self._held)
        return False

    def put_corked(self, frame: Frame) -> bool:
        """
        Send a publication like put(), but let it wait for uncork() if that saves the server some writes.

        Returns:
            Whether the caller must call uncork() later.
        """
        is_first = self._ready and self._held is None and self._writer is not None
        if is_first or (self._is_corked and not self._is_full):
            self._ready = False
            self._is_corked = True
            self._add(frame, self._queue)
            return is_first
        self.uncork()
        self.put(frame)
        return False

    def uncork(self) -> None:
        """Send the frames that put_corked() has queued, with one write if possible."""
        if not self._is_corked:
            return
        self._is_corked = False
        if self._drainer is not None or self._is_done:
            return  # close() was called in the meantime, and its task sends the queue
        if self._writer is not None and self._write_all(self._writer):
            self._ready = self._closing is None
            return
        if not self._is_plain:
            self._drain_later()
            return
        # _start() clears _ready when a send suspends or fails; the task then sends the rest of the queue.
        self._ready = True
        while self._queue and self._ready:
            self._start(self._next()[0])

    def put_direct(self, frame: Frame) -> None:
        """Send a frame that is for this connection only. It doesn't wait for release()."""
        if self._is_corked:
            self.uncork()
        if self._ready:
            self._start(frame)
        elif self._closing is None and not self._is_done:
            self._enqueue(frame, self._queue)

    def purge(self, audience: Audience) -> None:
        """Drop the waiting frames that were published to exactly this audience, which the connection has left."""
        for queue in (self._queue, self._held):
            waiting = list(queue or ())
            kept = [item for item in waiting if item[0].audience != audience]
            if queue is not None and len(kept) < len(waiting):
                for frame, _ in waiting:
                    if frame.audience == audience:
                        self._forget(frame)
                queue.clear()
                queue.extend(kept)
                counters.count("frames_purged", times=len(waiting) - len(kept))

    def overflow(self) -> None:
        """Close the connection, because more frames are waiting than its limits allow."""
        counters.count(
            "outbox_overflows",
            "closing the connection of a client that doesn't read fast enough: its outbox exceeds a limit",
        )
        self._on_overflow()

    async def wait_for_space(self) -> None:
        """
        Wait until the outbox is at most half full.

        The connection's own handler awaits this before it sends a frame. Otherwise a burst of sends could fill the
        outbox, and the connection would be closed as too slow. The other half is reserved for publications, which
        can't wait.
        """
        # Only a running drain task makes space. During set-up there is none: the held frames wait for release(), which
        # comes after the caller. After each await the outbox may have been filled again, closed or abandoned.
        while self._is_crowded and self._drainer is not None and self._closing is None and not self._is_done:
            if self._space is None:
                self._space = self._wheel.loop.create_future()
            # Shielded, because several handlers may wait for the same future, and one of them may be cancelled.
            await asyncio.shield(self._space)

    def use(self, writer: Writer | None) -> None:
        """Use a writer from now on for frames that can be sent immediately. The order of frames is kept."""
        self._writer = writer

    def release(self) -> None:
        """Send the publications that were held, and don't hold further ones."""
        held, self._held = self._held, None
        if held and not self._is_done and self._closing is None:
            # Restart their time limit: they were waiting for the set-up, not for the client.
            now = self._wheel.time()
            self._queue.extend((frame, now) for frame, _ in held)
            if self._drainer is None:
                self._drain_later()

    # Public methods for ending.

    def close(self, close: Close, *, discard: bool = False) -> None:
        """
        Send a close frame after all queued frames. Frames that are put afterwards are ignored.

        Args:
            close: The close code and reason.
            discard: Whether to drop the queued frames, for a client that doesn't read. The close frame then has
                ABORT_SECONDS to be sent, instead of CLOSE_SECONDS.
        """
        if self._closing is not None or self._is_done:
            return
        self._closing = close
        self._ready = False
        if self._held:
            # These publications were waiting for the end of a set-up that has failed.
            self._discard(self._held)
        if discard:
            self._discard(self._queue)
        self._close_by = self._wheel.time() + (ABORT_SECONDS if discard else CLOSE_SECONDS)
        self._watch(self._close_by)
        self._wake()
        if self._drainer is None:
            self._drain_later()

    def abandon(self) -> None:
        """Stop immediately: drop all waiting frames, and cancel a send under way."""
        if self._is_done:
            return
        self._is_done = True
        self._ready = False
        if self._drainer is not None:
            # The send doesn't finish, so neither would the server's buffers for this client be freed. Abort its socket.
            self._abort()
        self._discard(self._queue)
        if self._held:
            self._discard(self._held)
        self._coalesced.clear()
        self._wake()
        if self._drainer is not None and self._has_begun:
            # A task that hasn't begun checks _is_done in its first step, and cancels itself there if a send was started
            # before it: the send is suspended and can only be cancelled from within the task.
            self._drainer.cancel()
        self._end()

    # Public facts.

    def __len__(self) -> int:
        return len(self._queue) + (len(self._held) if self._held else 0)

    @property
    def is_crowded(self) -> bool:
        """Whether over half of a limit is used. If so, the caller should let the event loop run, which sends frames."""
        if self._drainer is None and self._held is None:
            return False  # empty, or corked for some milliseconds
        return 2 * len(self) > self.limits.outbox_frames or 2 * self._size > self.limits.outbox_bytes

    @property
    def is_open(self) -> bool:
        """Whether the outbox still accepts frames."""
        return self._closing is None and not self._is_done

    @property
    def is_plain(self) -> bool:
        """Whether ``send`` is the server's own, without middleware around it."""
        return self._is_plain

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued and no send is under way."""
        return self._drainer is None and not self._queue

    # Private methods for sending.

    @property
    def _is_full(self) -> bool:
        return len(self) >= self.limits.outbox_frames or self._size >= self.limits.outbox_bytes

    @property
    def _is_crowded(self) -> bool:
        """Whether half of a limit is used, which is the part that the connection's own handler may use."""
        return 2 * len(self) >= self.limits.outbox_frames or 2 * self._size >= self.limits.outbox_bytes

    def _start(self, frame: Frame) -> None:
        """Run ``send`` up to where it suspends, and let a task finish it; or run all of it in a task."""
        self.last_sent = self._wheel.now
        try:
            if self._writer is not None and self._writer.one(frame):
                return
            if not self._is_plain:
                self._add(frame, self._queue)
                self._drain_later()
                return
            sending: Any = self._send({"type": "websocket.send", "text": frame.text})
            if type(sending) is not types.CoroutineType:
                # Only a native coroutine can be stepped by hand. Granian returns an awaitable of its own.
                self._drain_later(sending)
                return
            step = Remainder(sending, self._context.run(sending.send, None))
        except StopIteration:
            return  # it has finished without suspending
        except (Exception, asyncio.CancelledError) as error:
            # No await happens here, so a CancelledError can't be for the running task. The server raised it, and it
            # must not end a delivery to other connections.
            self._fail(error)
            return
        self._drain_later(step)

    def _write_all(self, writer: Writer) -> bool:
        """Pass all queued frames to the writer in a few pieces; return whether it accepted them."""
        queue = self._queue
        try:
            while queue:
                piece, size = [], 0
                for frame, _ in queue:
                    piece.append(frame)
                    size += frame.size
                    if size >= PIECE_BYTES:
                        break
                if not writer.many(piece):
                    return False
                for _ in piece:
                    self._next()
        except Exception as error:
            self._fail(error)
            return True
        self.last_sent = self._wheel.now
        return True

    def _next(self) -> tuple[Frame, float]:
        """Remove and return the oldest queued frame, with the time since when it has waited."""
        frame, since = self._queue.popleft()
        self._forget(frame)
        return frame, since

    def _forget(self, frame: Frame) -> None:
        """Update the size and the keys for a frame that was removed from a queue."""
        self._size -= frame.size
        if frame.key is not None:
            self._coalesced.pop(frame.key, None)

    def _enqueue(self, frame: Frame, queue: collections.deque[tuple[Frame, float]]) -> None:
        if frame.overflow == "drop" and (self._is_full or not self._is_starting):
            counters.count("events_dropped")
            return
        if self._replaces(frame, queue):
            return
        if self._is_full:
            self.overflow()
            return
        self._append(frame, queue)

    def _add(self, frame: Frame, queue: collections.deque[tuple[Frame, float]]) -> None:
        if not self._replaces(frame, queue):
            self._append(frame, queue)

    def _append(self, frame: Frame, queue: collections.deque[tuple[Frame, float]]) -> None:
        wheel = self._wheel
        queue.append((frame, wheel.now if wheel.turns else wheel.time()))
        self._size += frame.size

    def _replaces(self, new: Frame, queue: collections.deque[tuple[Frame, float]]) -> bool:
        """Replace the waiting frame with the same key, if there is one; return whether there was."""
        if new.overflow != "latest" or new.key is None:
            return False
        old = self._coalesced.get(new.key)
        self._coalesced[new.key] = new
        for index, (frame, since) in enumerate(queue if old is not None else ()):
            if frame is old:
                queue[index] = (new, since)
                self._size += new.size - frame.size
                counters.count("events_coalesced")
                return True
        return False

    def _drain_later(self, rest: Awaitable[None] | None = None) -> None:
        """
        Start a task that sends the queued frames and then the close frame.

        Args:
            rest: A send under way, which the task finishes first.
        """
        self._ready = False
        self._has_begun = False
        self._is_starting = not isinstance(rest, Remainder)
        self._since = now = self._wheel.time()
        self._drainer = start_task(self._wheel.loop, self._drain(rest), context=self._context)
        if not self._is_watched:
            self._watch(now + self.limits.outbox_seconds)

    async def _drain(self, rest: Awaitable[None] | None) -> None:
        self._has_begun, self._is_starting = True, False
        if self._is_done:
            # abandon() was called before this first step.
            if rest is None or self._drainer is None:
                return
            # Cancel this task itself. The CancelledError is raised at the await below, inside the suspended send, which
            # can then clean up.
            self._drainer.cancel()
        try:
            if rest is not None:
                await rest
            # During each await, frames may be put or purged, close() may drop the queue and set _closing, and abandon()
            # may set _is_done and cancel this task.
            while self._queue:
                frame, self._since = self._next()
                self._is_stalled = False
                if self._space is not None and not self._is_crowded:
                    self._wake()
                self.last_sent = self._wheel.now
                # Raises CancelledError if _tick() found that the frame has waited too long (_is_stalled), if abandon()
                # was called (_is_done), or if the server or other code cancels. The server raises various exceptions
                # for a peer that is gone.
                await self._send({"type": "websocket.send", "text": frame.text})
            if self._closing is not None:
                await self._send_close(self._closing)
                self.close_sent = True
                if not self._is_done:
                    self._end()
        except (Exception, asyncio.CancelledError) as error:
            # The cancellation ends here: this task has no caller that waits for it.
            if self._is_done:
                return
            self._drainer = None
            # A TimeoutError comes from middleware with a time-out around the server's send.
            if (self._is_stalled or isinstance(error, TimeoutError)) and self._closing is None:
                self._stalled()
            else:
                self._fail(error)
        else:
            # No frame can have been added since the queue was found empty: either there was no await, or the outbox was
            # closing.
            self._drainer = None
            self._ready = self._closing is None and not self._is_done
            self._wake()

    def _watch(self, when: float) -> None:
        self._is_watched = True
        self._wheel.add(self._tick, when)

    def _tick(self, now: float) -> float | None:
        """
        Give up on a send or a close that takes too long; return when to check again.

        Called by the wheel, whose clock doesn't count standstills of this process.
        """
        if self._closing is not None:
            if now < self._close_by:
                return self._close_by
            self.abandon()
        elif self._drainer is not None:
            if self._drainer.done():
                # Other code cancelled the task before its first step, so its exception handling never ran.
                self._drainer = None
                self._fail(asyncio.CancelledError())
            elif now < self._since + self.limits.outbox_seconds:
                return self._since + self.limits.outbox_seconds
            else:
                if self._has_begun:
                    self._is_stalled = True
                    self._drainer.cancel()
                # Check again, because middleware may swallow the cancellation.
                return now + self.limits.outbox_seconds
        self._is_watched = False
        return None

    async def _send_close(self, close: Close) -> None:
        message = {"type": "websocket.close", "code": close.code, "reason": close.wire_reason}
        try:
            await self._send(message)
        except Exception:
            if close.fallback_code == close.code:
                raise
            # Stock Daphne raises for the codes of RFC 6455 before it has written anything.
            await self._send({**message, "code": close.fallback_code})

    def _stalled(self) -> None:
        waited = self._wheel.time() - self._since
        counters.count(
            "outbox_overflows",
            "closing the connection of a client that doesn't read: a frame has waited for %.1f s",
            waited,
        )
        self._on_overflow()

    def _fail(self, error: BaseException) -> None:
        """
        Handle an exception of ``send``.

        Servers raise the same exceptions for a peer that is gone and for a frame that they refuse.
        """
        if self._closing is not None:
            self.abandon()
            return
        self._ready = False
        self._discard(self._queue)
        self._on_error(error)

    def _discard(self, queue: collections.deque[tuple[Frame, float]]) -> None:
        counters.count("frames_abandoned", times=len(queue))
        self._size -= sum(frame.size for frame, _ in queue)
        queue.clear()

    def _end(self) -> None:
        self._is_done = True
        self._wheel.discard(self._tick)
        self._on_closed()

    def _wake(self) -> None:
        if self._space is not None:
            if not self._space.done():
                self._space.set_result(None)
            self._space = None
