"""
The outbox: the only way to a client.

Most frames never wait: while nothing is queued, ``put`` starts the server's own ``send`` at once by stepping its
coroutine. If that ends without suspending, nothing was scheduled. If it suspends, the server applies back-pressure: a
task finishes it, and the outbox collects what follows, within its limits. An idle connection needs no task.
Under load the hub corks it: what comes within 2 ms then goes out together.

Where middleware has wrapped ``send``, each call runs from beginning to end in a task of the outbox. Everything that a
connection sends runs in one context, a copy of that in which the connection was opened: what middleware sets in a
``contextvars.ContextVar``, a span or a cancel scope around ``send`` belongs to the recipient, never to the publisher.
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
"""How long a close waits for what is queued before it."""

ABORT_SECONDS = 1.0
"""How long we try to tell a client that does not read why it is closed."""

PIECE_BYTES = 16_384
"""How much is handed to a writer at a time: what a server buffers at most beyond its own limit."""


class Outbox:
    """
    The bounded, ordered queue of one connection, and the one place that calls the server's ``send``.

    Args:
        send: the server's send.
        limits: frames, bytes, and for how many seconds a frame may wait.
        wheel: The timers of the node, and its clock.
        on_overflow: called once when the limits are passed; must close.
        on_error: called once with what ``send`` raised.
        on_closed: called once when nothing will go out any more.
        abort: cuts the connection of a client that does not read.
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
        # Whether it can be stepped: the server's own neither knows its task nor leaves anything in its context.
        self._is_plain = is_plain(send)
        self._context = contextvars.copy_context()
        self._abort = abort
        # Takes frames at once. None where they go through ``send``.
        self._writer: Writer | None = None
        # Whether frames wait to be sent together.
        self._is_corked = False
        self._wheel = wheel
        self.limits = limits
        self._on_overflow = on_overflow
        self._on_error = on_error
        self._on_closed = on_closed

        # Whether a frame may start at once: open, nothing queued, nothing under way.
        self._ready = True
        # Frames that wait, with the time since when.
        self._queue: collections.deque[tuple[Frame, float]] = collections.deque()
        # Publications that wait for release(). None once released.
        self._held: collections.deque[tuple[Frame, float]] | None = collections.deque()
        # Bytes in both.
        self._size = 0
        # The waiting frames that a newer one with the same key replaces.
        self._coalesced: dict[str, Frame] = {}
        # Finishes what was started. None while nothing is under way.
        self._drainer: asyncio.Task[None] | None = None
        # Whether its first step was run; and whether what waits until then waits for the loop, not for the client.
        self._has_begun = False
        self._is_starting = False
        # Since when the frame that is being sent has waited.
        self._since = 0.0
        # Whether the wheel will look at that, and whether it found that it is too long ago.
        self._is_watched = False
        self._is_stalled = False
        # Resolved when there is room again. None while nobody waits.
        self._space: asyncio.Future[None] | None = None
        # The close frame that goes out last, and when we give up on it.
        self._closing: Close | None = None
        self._close_by = 0.0
        # Whether the close frame was handed to the server.
        self.close_sent = False
        # Nothing goes out any more.
        self._is_done = False
        # When a frame was last handed to the server; as coarse as the wheel, which turns where there is a heartbeat.
        self.last_sent = wheel.time()

    # Public methods for sending.

    def put(self, frame: Frame) -> bool:
        """
        Send a publication: at once if possible, else when its turn comes; before release() it waits.

        Returns:
            Whether it was handed to the server at once.
        """
        if self._ready and self._held is None:
            self._start(frame)
            return True
        if self._closing is None and not self._is_done:
            self._enqueue(frame, self._queue if self._held is None else self._held)
        return False

    def put_corked(self, frame: Frame) -> bool:
        """
        The same, but let it wait for uncork() where the server then has less to do.

        Returns:
            Whether uncork() is to be called.
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
        """Send what waits because of put_corked(), in one write where that is possible."""
        if not self._is_corked:
            return
        self._is_corked = False
        if self._drainer is not None or self._is_done:
            return  # it is being closed, and the drain takes all along
        if self._writer is not None and self._write_all(self._writer):
            self._ready = self._closing is None
            return
        if not self._is_plain:
            self._drain_later()
            return
        self._ready = True
        while self._queue and self._ready:
            self._start(self._next()[0])

    def put_direct(self, frame: Frame) -> None:
        """Send what is meant for this connection alone; it does not wait for release()."""
        if self._is_corked:
            self.uncork()
        if self._ready:
            self._start(frame)
        elif self._closing is None and not self._is_done:
            self._enqueue(frame, self._queue)

    def purge(self, audience: Audience) -> None:
        """Drop the frames that wait and were published to exactly this audience, which the connection has left."""
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
        """Close a connection that more waits for than its limits allow."""
        counters.count("outbox_overflows", "a client does not read fast enough: its outbox is over the limits")
        self._on_overflow()

    async def wait_for_space(self) -> None:
        """
        Wait until a frame fits, so that a burst of the connection's own handler is not taken for a slow client.

        It leaves half of the outbox to publications, which do not wait and would close the connection.
        """
        # Frames that are held until release() wait for the caller itself: only what is under way makes room.
        while self._is_crowded and self._drainer is not None and self._closing is None and not self._is_done:
            if self._space is None:
                self._space = self._wheel.loop.create_future()
            await asyncio.shield(self._space)

    def use(self, writer: Writer | None) -> None:
        """Hand frames to a writer from now on, wherever nothing waits; the order stays."""
        self._writer = writer

    def release(self) -> None:
        """Let publications go out: first those that waited."""
        held, self._held = self._held, None
        if held and not self._is_done and self._closing is None:
            # They waited for the set-up, which says nothing of the client.
            now = self._wheel.time()
            self._queue.extend((frame, now) for frame, _ in held)
            if self._drainer is None:
                self._drain_later()

    # Public methods for ending.

    def close(self, close: Close, *, discard: bool = False) -> None:
        """
        Send a close frame after everything that is queued; nothing can be put any more.

        Args:
            discard: drop what is queued, and do not try for long: the client does not read.
        """
        if self._closing is not None or self._is_done:
            return
        self._closing = close
        self._ready = False
        if self._held:
            # What waited for the end of a set-up that failed is for nobody.
            self._discard(self._held)
        if discard:
            self._discard(self._queue)
        self._close_by = self._wheel.time() + (ABORT_SECONDS if discard else CLOSE_SECONDS)
        self._watch(self._close_by)
        self._wake()
        if self._drainer is None:
            self._drain_later()

    def abandon(self) -> None:
        """Give up at once: what waits is dropped, a send under way is cancelled."""
        if self._is_done:
            return
        self._is_done = True
        self._ready = False
        if self._drainer is not None:
            # It does not get through: whatever the server holds for this client would stay for ever.
            self._abort()
        self._discard(self._queue)
        if self._held:
            self._discard(self._held)
        self._coalesced.clear()
        self._wake()
        if self._drainer is not None and self._has_begun:
            # Else it sees by itself that it is over: what was begun before it must be cancelled through it.
            self._drainer.cancel()
        self._end()

    # Public facts.

    def __len__(self) -> int:
        return len(self._queue) + (len(self._held) if self._held else 0)

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of a limit is used: whoever can should give the loop a turn, so that it drains."""
        if self._drainer is None and self._held is None:
            return False  # corked at most
        return 2 * len(self) > self.limits.outbox_frames or 2 * self._size > self.limits.outbox_bytes

    @property
    def is_open(self) -> bool:
        """Whether anything can still be put."""
        return self._closing is None and not self._is_done

    @property
    def is_plain(self) -> bool:
        """Whether nothing stands between the outbox and the server: ``send`` is the server's own."""
        return self._is_plain

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._drainer is None and not self._queue

    # Private methods for sending.

    @property
    def _is_full(self) -> bool:
        return len(self) >= self.limits.outbox_frames or self._size >= self.limits.outbox_bytes

    @property
    def _is_crowded(self) -> bool:
        """Whether it is half full, which is all that the connection's own handler may fill."""
        return 2 * len(self) >= self.limits.outbox_frames or 2 * self._size >= self.limits.outbox_bytes

    def _start(self, frame: Frame) -> None:
        """Run a send up to where it suspends; a task finishes it, or runs it where it cannot be stepped."""
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
                # Only a coroutine can be stepped by hand (granian gives something of its own).
                self._drain_later(sending)
                return
            step = Remainder(sending, self._context.run(sending.send, None))
        except StopIteration:
            return
        except (Exception, asyncio.CancelledError) as error:
            # Nobody cancels us here: it is the send's own, and no reason to end a delivery to others.
            self._fail(error)
            return
        self._drain_later(step)

    def _write_all(self, writer: Writer) -> bool:
        """Hand all that is queued to the writer in a few pieces; return whether it took them."""
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
        """Take the oldest frame that is queued, with the time since when."""
        frame, since = self._queue.popleft()
        self._forget(frame)
        return frame, since

    def _forget(self, frame: Frame) -> None:
        """A frame waits no longer."""
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
        """Put a frame in the place of the waiting one with the same key, and return whether there was one."""
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
        """Have a task send what is queued, and the close frame; first it finishes ``rest``."""
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
            if rest is None or self._drainer is None:
                return
            self._drainer.cancel()
        try:
            if rest is not None:
                await rest  # where it waits, a cancellation from above is raised in it
            while self._queue:
                frame, self._since = self._next()
                self._is_stalled = False
                if self._space is not None and not self._is_crowded:
                    self._wake()
                self.last_sent = self._wheel.now
                # A CancelledError is ours if the frame is too old or the connection was given up, else the server's.
                await self._send({"type": "websocket.send", "text": frame.text})
            if self._closing is not None:
                await self._send_close(self._closing)
                self.close_sent = True
                if not self._is_done:
                    self._end()
        except (Exception, asyncio.CancelledError) as error:
            if self._is_done:
                return
            self._drainer = None
            # Middleware may have a time-out of its own around the server's send.
            if (self._is_stalled or isinstance(error, TimeoutError)) and self._closing is None:
                self._stalled()
            else:
                self._fail(error)
        else:
            self._drainer = None
            self._ready = self._closing is None and not self._is_done
            self._wake()

    def _watch(self, when: float) -> None:
        self._is_watched = True
        self._wheel.add(self._tick, when)

    def _tick(self, now: float) -> float | None:
        """Give up on what takes too long. Called by the wheel, whose clock leaves our own standstills out."""
        if self._closing is not None:
            if now < self._close_by:
                return self._close_by
            self.abandon()
        elif self._drainer is not None:
            if self._drainer.done():
                # Cancelled by somebody else before it began.
                self._drainer = None
                self._fail(asyncio.CancelledError())
            elif now < self._since + self.limits.outbox_seconds:
                return self._since + self.limits.outbox_seconds
            else:
                if self._has_begun:
                    self._is_stalled = True
                    self._drainer.cancel()
                # Middleware may swallow that.
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
            # Stock Daphne refuses the protocol's own codes in the application, before anything is on the wire.
            await self._send({**message, "code": close.fallback_code})

    def _stalled(self) -> None:
        waited = self._wheel.time() - self._since
        counters.count("outbox_overflows", "a client does not read: a frame waited for %.1f s", waited)
        self._on_overflow()

    def _fail(self, error: BaseException) -> None:
        """``send`` raised. Servers raise for a peer that is gone as for a frame that they refuse."""
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
