"""
The link: a client without types.

It keeps one connection alive: dials, greets, answers pings, comes back. One task runs through it all; whatever ends it,
one ``finally`` cleans up. There is never a second socket before the first one is gone.
"""

from __future__ import annotations

import asyncio
import functools
import random as _random
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from pydantic_core import to_json

from .backoff import Backoff, Ending
from .connection import Connection, ConnectionFailed, Handshake, NotSent, clock, dial
from .credentials import Credentials
from .dispatcher import GRACE, Dispatcher
from .errors import (
    ConnectionLost,
    Disconnected,
    InvalidFrame,
    PayloadTooLarge,
    QueueFull,
    RequestError,
    RequestTimeout,
    Unauthorized,
)
from .frame import RESERVED, Frame, decode, encode, size_of
from .listeners import Listeners, Report, cancelled_within, is_cancelled
from .options import Limits, Timings
from .queue import Queue
from .reconnect import Reconnect, reconnect_for
from .requests import Requests
from .rooms import Member, RoomChange, Rooms
from .state import Reason, State, Status

Sent = Literal["sent", "queued", "dropped"]

CLOSED_BY_CLIENT = Reason("client")


class Supervisor:
    """
    Sends and receives envelopes over whatever connection there is.

    Args:
        offer: makes the handshake, from the token.
        read_member: makes a member of a room from the wire.
        report: is told of errors that have no caller.
        now: seconds of a clock.
        random: a number from 0 to 1, for every choice.
    """

    def __init__(
        self,
        offer: Callable[[str | None], Handshake],
        credentials: Credentials,
        *,
        schema_hash: str | None,
        read_member: Callable[[Any], Member[Any]],
        timings: Timings,
        limits: Limits,
        report: Report,
        now: Callable[[], float] = clock,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._offer = offer
        self._credentials = credentials
        self._schema_hash = schema_hash
        self._read_member = read_member
        self._timings = timings
        self._limits = limits
        self._report = report
        self._now = now

        self.status = Status(State.CLOSED)
        self.rooms = Rooms()
        self._dispatcher = Dispatcher(limits.inbox, report, self._interrupt)
        self.on_frame: Listeners[[Frame]] = Listeners(report, self.generation)
        self.on_room: Listeners[[RoomChange]] = Listeners(report, self.generation)
        self.on_status: Listeners[[Status]] = Listeners(report)
        self.on_retry: Listeners[[int, float]] = Listeners(report, self.generation)

        self._backoff = Backoff(timings, random)
        self._requests = Requests()
        self._queue = Queue(limits)
        self._connection: Connection | None = None
        self._retry_after: float | None = None
        self._task: asyncio.Task[None] | None = None
        # How many wait in open(), and whether the link stays if all of them give up.
        self._openers = 0
        self._is_wanted = False
        # Set at every change of the status.
        self._changed = asyncio.Event()

    # The life of a link.

    def start(self) -> None:
        """
        Begin to connect; does nothing while that is under way.

        Raises:
            RuntimeError: the link is ending, and has not ended.
        """
        self._start_task()
        self._is_wanted = True

    async def open(self) -> None:
        """
        Begin to connect, and wait for the server's hello. Where it fails, what it has begun is ended.

        Raises:
            Disconnected: it is never going to come.
            RuntimeError: the link is ending, and waits for the handler that calls this.
        """
        while self._task is not None and self._is_ending and not self._dispatcher.is_current:
            await asyncio.wait({self._task})
        self._start_task()
        self._openers += 1
        try:
            while self.status.state is not State.OPEN:
                if self.status.state is State.CLOSED:
                    raise Disconnected(self.status.reason or CLOSED_BY_CLIENT)
                self._changed.clear()
                await self._changed.wait()
            self._is_wanted = True
        except BaseException:
            if self._openers == 1 and not self._is_wanted:
                await self.close()
            raise
        finally:
            self._openers -= 1

    async def wait_closed(self) -> Reason:
        """Wait until there is no connection, and none will be made; return why."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        return self.status.reason or CLOSED_BY_CLIENT

    async def close(self) -> None:
        """End it; no event is told any more. A handler that calls this goes on, and the end comes after it."""
        task = self._task
        if task is None or task.done():
            return
        self._dispatcher.discard()
        self._finish(CLOSED_BY_CLIENT)
        self._interrupt()
        if not self._dispatcher.is_current:
            await asyncio.wait({task})
            if self._task is task:
                # Where it was cancelled before its first step, nothing of it has run.
                await self._dispatcher.end(GRACE)

    def generation(self) -> int:
        """Return a number that changes when what happened until now is not told any more."""
        return self._dispatcher.generation()

    def _start_task(self) -> None:
        if self._is_ending:
            raise RuntimeError(
                "the client is closed, but has not ended: it waits for its handlers, and for the socket. "
                "Call this in a task of your own, after wait_closed()"
            )
        if self._is_running:
            return
        self._is_wanted = False
        self._backoff.reset()
        # Anew: it belongs to the loop in which it was waited for.
        self._changed = asyncio.Event()
        # Before the dispatcher's: whatever a handler does, the first step of this task was done.
        self._task = asyncio.create_task(self._run(), name="wsrt-client")
        self._dispatcher.start()
        self._set_status(Status(State.CONNECTING, None, self.status.outdated))

    def _interrupt(self) -> None:
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    # Sending.

    async def send(self, event: str, data: str, *, queue: bool = False, volatile: str | None = None) -> Sent:
        """
        Send an event.

        Returns:
            "sent" when it was handed to the socket, "queued" when it waits, "dropped" when there is no connection.

        Raises:
            QueueFull: too much waits.
            PayloadTooLarge: the server would not take it.
        """
        text = encode(event, data)
        key = None if volatile is None else (event, volatile)

        async def write(connection: Connection) -> bool:
            if key is not None:
                return await connection.write_latest(key, text, outlives_connection=queue)
            await connection.write(text)
            return True

        try:
            # A server that does not read may be waiting for us to read, and a handler for the server.
            with self._dispatcher.unlimited():
                is_written = await self._write(size_of(text), write, queue=queue)
        except ConnectionFailed:
            return "dropped"
        if is_written is not None:
            return "sent" if is_written else "queued"
        if not queue or not self._may_queue:
            return "dropped"
        self._queue.put(text, self._report, key=key)
        return "queued"

    async def request(self, event: str, data: str, *, timeout: float | None = None, queue: bool = False) -> Frame:
        """
        Send a request and return its answer.

        Raises:
            RequestError: the server refused it.
            RequestTimeout: no answer came in time.
            ConnectionLost: there is no connection, or it ended before the answer came.
            QueueFull, QueueExpired, PayloadTooLarge: it was not sent.
        """
        seconds = self._limits.request_timeout if timeout is None else timeout
        ref, answer = self._requests.open()
        text = encode(event, data, ref)
        fail = functools.partial(self._requests.fail, ref)
        limit = asyncio.timeout(seconds)
        item = None

        async def write(connection: Connection) -> bool:
            await connection.write(text, functools.partial(self._requests.note_sent, ref))
            return True

        try:
            async with limit:
                # The answer may be behind more events than may wait for handlers, and one of these may wait here.
                with self._dispatcher.unlimited():
                    if await self._write(size_of(text), write, queue=queue) is None:
                        if not queue or not self._may_queue:
                            raise ConnectionLost("there is no connection")
                        item = self._queue.put(text, fail, ref)
                    return await answer
        except ConnectionFailed as error:
            raise ConnectionLost(f"the connection was lost: {error}") from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimeout(f"{event}: no answer within {seconds:g} s") from None
        finally:
            self._requests.forget(ref)
            if item is not None:
                # Nobody waits for its answer any more.
                self._queue.discard(item)

    async def _write(self, size: int, write: Callable[[Connection], Awaitable[bool]], *, queue: bool) -> bool | None:
        """
        Have the open connection write a frame; return what ``write`` does, and None where there is no connection.

        Args:
            size: bytes of the frame.
            queue: whether it goes to the next connection where this one ends before it is the frame's turn.

        Raises:
            Failed: the connection has ended; the frame may have been sent, or not.
            PayloadTooLarge: the server would not take it.
        """
        ended: Connection | None = None
        while (connection := self._open_connection) is not None and connection is not ended:
            connection.check(size)
            try:
                return await write(connection)
            except NotSent:
                if not queue:
                    raise
                # The next one may be open already, where many were waiting.
                ended = connection
        return None

    @property
    def _open_connection(self) -> Connection | None:
        # A connection that was lost is given up before the state says so.
        return self._connection if self.status.state is State.OPEN else None

    @property
    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def _may_queue(self) -> bool:
        """Whether there will perhaps be a connection."""
        return self._is_running and self.status.state is not State.CLOSED

    @property
    def _is_ending(self) -> bool:
        """Whether it is closed, and still tells handlers or waits for them and the socket."""
        return self._is_running and self.status.state is State.CLOSED

    # The one task.

    async def _run(self) -> None:
        reason = Reason("invalid", None, "an error of the client itself")
        grace: float | None = GRACE
        try:
            reason = await self._keep_connected()
            grace = None
        except asyncio.CancelledError:
            reason = CLOSED_BY_CLIENT
            self._dispatcher.discard()
        except Exception as error:
            reason = Reason("invalid", None, repr(error))
            self._dispatcher.discard()
            self._report(error)
        finally:
            self._finish(reason)
            try:
                await self._dispatcher.end(grace)
            except asyncio.CancelledError:
                # Closed while handlers took their time: no longer.
                await self._dispatcher.end(GRACE)

    def _finish(self, reason: Reason) -> None:
        if self.status.state is not State.CLOSED:
            self._queue.clear(Disconnected(reason))
            self._set_status(Status(State.CLOSED, reason, self.status.outdated))

    async def _keep_connected(self) -> Reason:
        """Connect again and again; return why no longer."""
        while True:
            self._set_status(Status(State.CONNECTING, None, self.status.outdated))
            ending = await self._connect_once()
            delay = self._next_delay(ending)
            if delay is None:
                return self._final_reason(ending.reason)
            self._set_status(Status(State.WAITING, ending.reason, self.status.outdated))
            self._notify(functools.partial(self.on_retry.call, self._backoff.attempt, delay))
            await asyncio.sleep(delay)

    def _next_delay(self, ending: Ending) -> float | None:
        """Return after how many seconds to come back; None for not at all."""
        if ending.reason.kind in ("invalid", "unauthorized"):
            return None
        reconnect = Reconnect.BACKOFF
        if ending.reason.kind == "server":
            reconnect = reconnect_for(ending.reason.code, ending.reason.text, outdated=self.status.outdated)
        if reconnect is Reconnect.NEVER:
            return None
        if reconnect is Reconnect.AUTH:
            self._credentials.expire()
            if not self._credentials.can_refresh:
                return None
        return self._backoff.after(ending, reconnect)

    def _final_reason(self, reason: Reason) -> Reason:
        is_refused = reason.kind == "server" and reconnect_for(reason.code, reason.text) is Reconnect.AUTH
        return Reason("unauthorized", reason.code, reason.text) if is_refused else reason

    async def _connect_once(self) -> Ending:
        """Serve one connection to its end."""
        try:
            try:
                async with asyncio.timeout(self._timings.connect):
                    token = await self._credentials.get()
            finally:
                if is_cancelled():
                    # Whatever get_token has made of it.
                    raise asyncio.CancelledError
        except Unauthorized as error:
            return Ending(Reason("unauthorized", None, str(error)))
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            reported = cancelled_within("get_token", error)
            self._report(reported)
            return Ending(Reason("token", None, str(reported)))
        except Exception as error:
            self._report(error)
            return Ending(Reason("token", None, str(error) or repr(error)))
        try:
            ws = await dial(self._offer(token), self._timings, self._limits)
        except ConnectionFailed as error:
            return Ending(error.reason)
        connection = self._connection = Connection(ws, self._timings, self._now)
        self._retry_after = None
        monitor = asyncio.create_task(connection.monitor(), name="wsrt-client-monitor")
        end: Callable[[], Awaitable[None]] = connection.abort
        try:
            return await self._serve(connection)
        except asyncio.CancelledError:
            end = connection.close
            raise
        finally:
            self._connection = None
            monitor.cancel()
            self._requests.fail_sent(ConnectionLost("the connection was lost before the answer came"))
            self._requeue_latest(connection)
            self.rooms.connection_lost()
            await end()
            # It must not outlive its connection, and its own errors are not lost.
            await asyncio.wait({monitor})
            if not monitor.cancelled() and (problem := monitor.exception()) is not None:
                self._report(problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))

    def _requeue_latest(self, connection: Connection) -> None:
        """Let what waited for room in a socket that is gone wait for the next, where it may."""
        for key, (text, outlives_connection) in connection.pop_latest().items():
            try:
                if not outlives_connection or not self._may_queue:
                    raise ConnectionLost(f"{key[0]} was not sent: the connection was lost")
                self._queue.put(text, self._report, key=key)
            except (ConnectionLost, QueueFull) as error:
                self._report(error)

    async def _serve(self, connection: Connection) -> Ending:
        try:
            # The first frame, without waiting for the hello: it saves a round trip.
            await connection.write(encode("wsrt.resume", to_json(self.rooms.positions()).decode()))
            while True:
                text = await connection.read()
                try:
                    await self._handle_frame(connection, decode(text))
                except (InvalidFrame, KeyError, TypeError, ValueError, AttributeError) as error:
                    self._report(
                        error if isinstance(error, InvalidFrame) else InvalidFrame(f"{error!r} in {text:.200}")
                    )
                if connection.hello_at is not None and not self._dispatcher.has_room:
                    with connection.reading_paused():
                        await self._dispatcher.wait_for_room()
        except ConnectionFailed as error:
            return Ending(error.reason, connection.open_for, self._retry_after)

    # What comes.

    async def _handle_frame(self, connection: Connection, frame: Frame) -> None:
        match frame.event:
            case "wsrt.ping":
                await connection.write(encode("wsrt.pong", ref=frame.ref))
            case "wsrt.hello":
                await self._handle_hello(connection, frame.data)
            case "wsrt.closing":
                self._retry_after = max(0.0, float(frame.data["retry_after_ms"]) / 1000)
            case "wsrt.joined" | "wsrt.left" | "wsrt.presence":
                change = self.rooms.apply(frame, self._read_member)
                if change is not None:
                    self._notify(functools.partial(self.on_room.call, change))
            case _ if frame.ref is not None:
                self._requests.answer(frame)
            case "wsrt.error":
                self._report(RequestError.of(frame.data))
            case name if not name.startswith(RESERVED) and self.rooms.is_new(frame):
                self._notify(functools.partial(self.on_frame.call, frame))

    async def _handle_hello(self, connection: Connection, hello: Any) -> None:
        if connection.hello_at is not None:
            return
        # What waits leaves first, and what is sent from now on waits for its turn behind it.
        async with connection.write_lock:
            connection.note_hello(hello)
            schema = hello.get("schema")
            outdated = self._schema_hash is not None and schema is not None and schema != self._schema_hash
            self._set_status(Status(State.OPEN, None, outdated))
            while (item := self._queue.take()) is not None:
                try:
                    connection.check(item.size)
                except PayloadTooLarge as error:
                    item.on_lost(error)
                    continue
                if item.ref is not None:
                    self._requests.note_sent(item.ref)
                await connection.write_locked(item.text)

    # What is told.

    def _set_status(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._changed.set()
            self._dispatcher.post(functools.partial(self.on_status.call, status), keep=True)

    def _notify(self, call: Callable[[], Awaitable[None]]) -> None:
        self._dispatcher.post(call)
