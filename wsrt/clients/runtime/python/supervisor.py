"""
The supervisor of a client's connection: a client without types.

It keeps one connection alive: it connects, answers pings, and reconnects. A single task does all of this, and a single
``finally`` cleans up, whatever ends the task. A second socket is never opened before the first one is closed.
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
from .credentials import Credentials, within
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
from .history import History
from .listeners import Listeners, Report
from .options import Limits, Timings
from .queue import Queue
from .reconnect import Reconnect, reconnect_for
from .recovery import Receiver
from .renewal import Renewal
from .requests import Requests
from .rooms import Member, RoomChange, Rooms
from .state import Reason, State, Status
from .subscriptions import Subscriptions
from .tickets import TicketRefused, Tickets

Sent = Literal["sent", "queued", "dropped"]

CLOSED_BY_CLIENT = Reason("client")


class Supervisor:
    """
    Sends and receives frames over the current connection, and reconnects.

    Args:
        handshake: Returns the parameters of the handshake for a token.
        credentials: The token, and the function that provides it; or the source of tickets.
        login: The name of the event that the token is renewed with. None if the server has none.
        logs_in: Whether this event is the first frame of each connection.
        schema_hash: The hash of the client's schema. None to not compare it with the server's.
        read_member: Converts a member of a room from its JSON value.
        history: Fetches missed events that the server doesn't send. None if they can't be fetched.
        timings: The time limits, in seconds.
        limits: The limits of the queue, of requests and of handlers.
        report: Receives errors that can't be raised to a caller.
        now: Returns the time in seconds.
        random: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        handshake: Callable[[str | None], Handshake],
        credentials: Credentials | Tickets,
        *,
        login: str | None,
        logs_in: bool,
        schema_hash: str | None,
        read_member: Callable[[Any], Member[Any]],
        history: History | None,
        timings: Timings,
        limits: Limits,
        report: Report,
        now: Callable[[], float] = clock,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._handshake = handshake
        self._credentials = credentials
        self._login = login
        self._logs_in = logs_in
        # None if there is nothing to renew: a ticket is used once.
        self._renewal: Renewal | None = None
        if login is not None and isinstance(credentials, Credentials) and credentials.can_refresh:
            self._renewal = Renewal(credentials, self._send_token, timings, report, random)
        self._schema_hash = schema_hash
        self._read_member = read_member
        self._timings = timings
        self._limits = limits
        self._report = report
        self._now = now

        self.status = Status(State.CLOSED)
        self.rooms = Rooms(can_fetch=history is not None)
        self._dispatcher = Dispatcher(limits.inbox, report, self._interrupt)
        self.receiver = Receiver(self.rooms, self._dispatcher, history, limits.request_timeout, report)
        self.on_room: Listeners[[RoomChange]] = Listeners(report, self.generation)
        self.on_status: Listeners[[Status]] = Listeners(report)
        self.on_retry: Listeners[[int, float]] = Listeners(report, self.generation)

        self.subscriptions = Subscriptions(
            self.request,
            timings=timings,
            random=random,
            report=report,
            notify=self._notify,
            generation=self.generation,
        )

        self._backoff = Backoff(timings, random)
        self._requests = Requests()
        self._queue = Queue(limits)
        self._connection: Connection | None = None
        # The size of the largest frame that the server accepts, in bytes. None before the first hello.
        self._max_payload: int | None = None
        # The tasks that end with the connection.
        self._helpers: set[asyncio.Task[None]] = set()
        self._retry_after: float | None = None
        self._task: asyncio.Task[None] | None = None
        # The number of callers waiting in open(), and whether the client stays connected if all of them give up.
        self._openers = 0
        self._is_wanted = False
        # Set whenever the status changes.
        self._changed = asyncio.Event()

    # Opening and closing.

    def start(self) -> None:
        """
        Start connecting. Do nothing if the client is already connecting or connected.

        Raises:
            RuntimeError: The client is closed, but its task hasn't ended.
        """
        self._start_task()
        self._is_wanted = True

    async def open(self) -> None:
        """
        Start connecting and wait for the server's hello. On failure, close the client if this call started it.

        Raises:
            Disconnected: The client was closed, or the server rejects it permanently.
            RuntimeError: The client is closing, and waits for the handler that makes this call.
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
            # Disconnected, or CancelledError from a timeout of the caller. Others may still wait in open(), and start()
            # may have been called in the meantime: then the client stays.
            if self._openers == 1 and not self._is_wanted:
                await self.close()
            raise
        finally:
            self._openers -= 1

    async def wait_closed(self) -> Reason:
        """Wait until the client is closed. Return the reason."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        return self.status.reason or CLOSED_BY_CLIENT

    async def close(self) -> None:
        """
        Close the client. No more events are delivered.

        A handler that calls this continues, and the client ends after the handler.
        """
        task = self._task
        if task is None or task.done():
            return
        self._dispatcher.discard()
        self._finish(CLOSED_BY_CLIENT)
        self._interrupt()
        if not self._dispatcher.is_current:
            await asyncio.wait({task})
            if self._task is task:
                # If the task was cancelled before it reached its ``try``, the ``finally`` hasn't run.
                await self._dispatcher.end(GRACE)

    def generation(self) -> int:
        """Return a number that changes when the events received so far must not be delivered any more."""
        return self._dispatcher.generation()

    def _start_task(self) -> None:
        if self._is_ending:
            raise RuntimeError(
                "the client is still closing: it waits for its handlers and for the socket. "
                "Connect from another task, after wait_closed()"
            )
        if self._is_running:
            return
        self._is_wanted = False
        self._backoff.reset()
        # An asyncio.Event belongs to the loop in which it was awaited. The client may have been moved to another loop.
        self._changed = asyncio.Event()
        # Created before the dispatcher's task, so that this one is in its ``try`` before any handler can cancel it.
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

        Args:
            event: The event's name.
            data: The event's data, as JSON text.
            queue: Whether the event waits for a connection if there is none.
            volatile: A key. While the socket is congested, only the latest event with the key is kept.

        Returns:
            "sent" if the event was written to the socket, "queued" if it waits, "dropped" if there is no connection.

        Raises:
            QueueFull: The queue is full.
            PayloadTooLarge: The frame is larger than the server accepts.
        """
        text = encode(event, data)
        key = None if volatile is None else (event, volatile)

        async def write(connection: Connection) -> bool:
            if key is not None:
                return await connection.write_latest(key, text, outlives_connection=queue)
            await connection.write(text)
            return True

        try:
            # Keep reading while writing: a server may not read until the client does, and the handlers that block
            # reading may be waiting for this write.
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

        Args:
            event: The event's name.
            data: The event's data, as JSON text.
            timeout: Seconds to wait for a connection and for the answer, together. None: ``Limits.request_timeout``.
            queue: Whether the request waits for a connection if there is none.

        Raises:
            RequestError: The server refused the request.
            RequestTimeout: The answer didn't arrive in time.
            ConnectionLost: There is no connection, or it ended before the answer arrived.
            QueueFull, QueueExpired, PayloadTooLarge: The request was not sent.
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
                # Keep reading while waiting: the answer may be behind more events than the inbox holds, and the handler
                # that blocks the inbox may be the caller.
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
                raise  # a timeout of the caller
            raise RequestTimeout(f"{event}: no answer within {seconds:g} s") from None
        finally:
            self._requests.forget(ref)
            if item is not None:
                # The caller stopped waiting, so the request must not be sent later.
                self._queue.discard(item)

    async def _write(self, size: int, write: Callable[[Connection], Awaitable[bool]], *, queue: bool) -> bool | None:
        """
        Write a frame to the open connection. Return the result of ``write``, or None if there is no connection.

        Args:
            size: The size of the frame, in bytes.
            write: Writes the frame to a connection.
            queue: Whether the frame goes to the next connection if this one ends before the frame is written.

        Raises:
            ConnectionFailed: The connection ended. The frame may or may not have been sent.
            PayloadTooLarge: The frame is larger than the server accepts.
        """
        ended: Connection | None = None
        while (connection := self._open_connection) is not None and connection is not ended:
            connection.check(size)
            try:
                return await write(connection)
            except NotSent:
                if not queue:
                    raise
                # While this task waited for the lock, the next connection may already have been opened.
                ended = connection
        return None

    @property
    def _open_connection(self) -> Connection | None:
        # When a connection is lost, self._connection is cleared before the state changes.
        return self._connection if self.status.state is State.OPEN else None

    @property
    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def _may_queue(self) -> bool:
        """Whether the client is connected or trying to connect."""
        return self._is_running and self.status.state is not State.CLOSED

    @property
    def _is_ending(self) -> bool:
        """Whether the client is closed, but still waits for handlers or for the socket."""
        return self._is_running and self.status.state is State.CLOSED

    # The task.

    async def _run(self) -> None:
        reason = Reason("invalid", None, "internal error of the client")
        grace: float | None = GRACE
        # An eager task factory takes the first step within create_task(), before the dispatcher is started and the
        # status is set.
        await asyncio.sleep(0)
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
                # close() was called while handlers were still running: give them no more than GRACE.
                await self._dispatcher.end(GRACE)

    def _finish(self, reason: Reason) -> None:
        if self.status.state is not State.CLOSED:
            self._queue.clear(Disconnected(reason))
            self.subscriptions.closed(Disconnected(reason))
            self._set_status(Status(State.CLOSED, reason, self.status.outdated))

    async def _keep_connected(self) -> Reason:
        """Connect and reconnect until the client must close. Return the reason."""
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
        """Return the delay before the next attempt, in seconds. Return None if there must be no other attempt."""
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
        """Open one connection and serve it until it ends."""
        try:
            token = await within(self._timings.connect, self._credentials.get)
        except Unauthorized as error:
            return Ending(Reason("unauthorized", None, str(error)))
        except Exception as error:
            self._report(error)
            later = error.retry_after if isinstance(error, TicketRefused) else 0
            return Ending(Reason("token", None, str(error) or repr(error)), later=later)
        try:
            ws = await dial(self._handshake(token), self._timings, self._limits)
        except ConnectionFailed as error:
            return Ending(error.reason)
        connection = self._connection = Connection(ws, self._timings, self._now)
        self._retry_after = None
        self._helpers = {asyncio.create_task(connection.monitor(), name="wsrt-client-monitor")}
        end: Callable[[], Awaitable[None]] = connection.abort
        try:
            return await self._serve(connection, token if self._logs_in else None)
        except asyncio.CancelledError:
            # The client is being closed: end with a closing handshake.
            end = connection.close
            raise
        finally:
            # Cleared before anything is awaited, so that send() and request() no longer use this connection.
            self._connection = None
            for helper in self._helpers:
                helper.cancel()
            self._requests.fail_sent(ConnectionLost("the connection was lost before the answer arrived"))
            self._requeue_latest(connection)
            self.rooms.connection_lost()
            self.receiver.connection_lost()
            self.subscriptions.connection_lost()
            await end()
            # They must not outlive their connection, and their errors must be reported. Only a get_token that ignores
            # its cancellation takes longer.
            done, _ = await asyncio.wait(self._helpers, timeout=GRACE)
            for helper in done:
                if not helper.cancelled() and (problem := helper.exception()) is not None:
                    self._report(problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))

    def _requeue_latest(self, connection: Connection) -> None:
        """Queue the frames that waited for room in a lost socket, or report them as lost."""
        for key, (text, outlives_connection) in connection.pop_latest().items():
            try:
                if not outlives_connection or not self._may_queue:
                    raise ConnectionLost(f"{key[0]} was not sent: the connection was lost")
                self._queue.put(text, self._report, key=key)
            except (ConnectionLost, QueueFull) as error:
                self._report(error)

    async def _serve(self, connection: Connection, token: str | None) -> Ending:
        """
        Handle the server's frames until the connection ends; return the reason for its end.

        With a token, log in first. If close() cancels it, CancelledError propagates to the caller.
        """
        try:
            # Sent without waiting for the hello, which saves a round trip.
            if token is not None:
                await connection.write(encode(self._login or "", to_json({"token": token}).decode()))
            claims = self.rooms.claims(self._max_payload, self.subscriptions.is_wanted)
            await connection.write(encode("wsrt.resume", to_json(claims).decode()))
            while True:
                text = await connection.read()
                try:
                    await self._handle_frame(connection, decode(text))
                except (InvalidFrame, KeyError, TypeError, ValueError, AttributeError) as error:
                    self._report(
                        error
                        if isinstance(error, InvalidFrame)
                        else InvalidFrame(f"the server sent an invalid frame: {error!r} in {text:.200}")
                    )
                # Back-pressure: stop reading while handlers are behind, but never before the hello.
                if connection.hello_at is not None and not self._dispatcher.has_room:
                    with connection.reading_paused():
                        await self._dispatcher.wait_for_room()
        except ConnectionFailed as error:
            return Ending(error.reason, connection.open_for, self._retry_after)

    # Received frames.

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
                if frame.event != "wsrt.presence":
                    self.subscriptions.apply(frame.event, frame.data["room"])
                if change is not None:
                    self._notify(functools.partial(self.on_room.call, change))
                if frame.event == "wsrt.joined":
                    self.receiver.joined(frame.data["room"])
            case "wsrt.forgotten":
                self.receiver.receive(frame, frame.data["room"])
            case _ if frame.ref is not None:
                self._requests.answer(frame)
            case "wsrt.error":
                self._report(RequestError.of(frame.data))
            case name if not name.startswith(RESERVED):
                self.receiver.receive(frame, frame.room)

    async def _handle_hello(self, connection: Connection, hello: Any) -> None:
        if connection.hello_at is not None:
            return
        # The lock keeps the order: the queue is written first, and frames sent in the meantime wait behind it.
        async with connection.write_lock:
            connection.note_hello(hello)
            self._max_payload = connection.max_payload
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
        self.subscriptions.opened()
        expires_in = hello.get("expires_in")
        if self._renewal is not None and isinstance(expires_in, int | float):
            renewal = self._renew(self._renewal, connection, expires_in)
            self._helpers.add(asyncio.create_task(renewal, name="wsrt-client-renewal"))

    # The token.

    async def _renew(self, renewal: Renewal, connection: Connection, expires_in: float) -> None:
        try:
            await renewal.run(expires_in)
        except Unauthorized as error:
            connection.drop(Reason("unauthorized", None, str(error)))

    async def _send_token(self, token: str) -> Frame:
        return await self.request(self._login or "", to_json({"token": token}).decode())

    # Notifying handlers.

    def _set_status(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._changed.set()
            self._dispatcher.post(functools.partial(self.on_status.call, status), keep=True)

    def _notify(self, call: Callable[[], Awaitable[None]]) -> None:
        self._dispatcher.post(call)
