"""
The link: a client without types.

It keeps one connection alive: dials, greets, answers pings, comes back. One task runs through it all; whatever ends it,
one ``finally`` cleans up. There is never a second socket before the first one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random as _random
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from pydantic_core import to_json

from .connection import Connection, Failed, Offer, clock, dial
from .credentials import Credentials
from .envelope import RESERVED, Envelope, decode, encode, size_of
from .errors import (
    ConnectionLost,
    Disconnected,
    InvalidFrame,
    PayloadTooLarge,
    RequestError,
    RequestTimeout,
    Unauthorized,
)
from .handlers import GRACE, Dispatcher, Listeners, Report
from .outbox import Limits, Outbox
from .policy import Backoff, Ending, Reconnect, Timings, reconnect_for
from .requests import Requests
from .rooms import Member, RoomChange, Rooms
from .state import Reason, State, Status

Sent = Literal["sent", "queued", "dropped"]

CLOSED_BY_CLIENT = Reason("client")


class Link:
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
        offer: Callable[[str | None], Offer],
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
        self._random = random

        self.status = Status(State.CLOSED)
        self.rooms = Rooms()
        self.on_envelope: Listeners[[Envelope]] = Listeners(report)
        self.on_room: Listeners[[RoomChange]] = Listeners(report)
        self.on_status: Listeners[[Status]] = Listeners(report)
        self.on_retry: Listeners[[int, float]] = Listeners(report)

        self._backoff = Backoff(timings, random)
        self._requests = Requests()
        self._outbox = Outbox(limits)
        self._dispatcher = Dispatcher(limits.inbox, report)
        self._connection: Connection | None = None
        self._retry_after: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        # Set at every change of the status.
        self._changed = asyncio.Event()

    # The life of a link.

    def start(self) -> None:
        """Begin to connect; does nothing while that is under way."""
        if not self._is_running:
            self._is_closing = False
            self._backoff.reset()
            self._task = asyncio.create_task(self._run(), name="wsrt-client")

    async def open(self) -> None:
        """
        Begin to connect, and wait for the server's hello.

        Raises:
            Disconnected: it is never going to come.
        """
        if self._is_closing and self._task is not None:
            await asyncio.wait({self._task})
        self.start()
        task = self._task
        while self.status.state is not State.OPEN:
            if task is None or task.done():
                raise Disconnected(self.status.reason or CLOSED_BY_CLIENT)
            self._changed.clear()
            change = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({change, task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()

    async def until_closed(self) -> Reason:
        """Wait until there is no connection, and none will be made; return why."""
        if self._task is not None:
            await asyncio.wait({self._task})
        return self.status.reason or CLOSED_BY_CLIENT

    async def close(self) -> None:
        """End it; a handler that calls this goes on, and the end comes after it."""
        task = self._task
        if task is None or task.done():
            return
        self._is_closing = True
        task.cancel()
        if not self._dispatcher.is_current:
            await asyncio.wait({task})
            # Where it was cancelled before its first step, nothing of it has run.
            self._finish(CLOSED_BY_CLIENT)

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
        connection = self._open_connection
        if connection is None:
            if not queue or not self._is_running:
                return "dropped"
            self._outbox.put(text, self._report)
            return "queued"
        connection.check(size_of(text))
        try:
            if volatile is not None:
                return "sent" if await connection.write_latest(volatile, text) else "queued"
            await connection.write(text)
        except Failed:
            return "dropped"
        return "sent"

    async def request(self, event: str, data: str, *, timeout: float | None = None, queue: bool = False) -> Envelope:
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
        lose = functools.partial(self._requests.fail, ref)
        item = None
        try:
            async with asyncio.timeout(seconds) as limit:
                connection = self._open_connection
                if connection is not None:
                    connection.check(size_of(text))
                    self._requests.note_sent(ref)
                    await connection.write(text)
                elif queue and self._is_running:
                    item = self._outbox.put(text, lose, ref)
                else:
                    raise ConnectionLost("there is no connection")
                return await answer
        except Failed as error:
            raise ConnectionLost(f"the connection was lost: {error}") from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimeout(f"{event}: no answer within {seconds:g} s") from None
        finally:
            self._requests.forget(ref)
            if item is not None:
                # Nobody waits for its answer any more.
                self._outbox.discard(item)

    @property
    def _open_connection(self) -> Connection | None:
        connection = self._connection
        return connection if connection is not None and connection.hello_at is not None else None

    @property
    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    # The one task.

    async def _run(self) -> None:
        reason = Reason("invalid", None, "an error of the client itself")
        grace: float | None = GRACE
        self._dispatcher.start()
        try:
            reason = await self._keep_connected()
            grace = None
        except asyncio.CancelledError:
            reason = CLOSED_BY_CLIENT
            self._dispatcher.clear()
        except Exception as error:
            reason = Reason("invalid", None, repr(error))
            self._report(error)
        finally:
            self._finish(reason)
            with contextlib.suppress(asyncio.CancelledError):
                await self._dispatcher.end(grace)

    def _finish(self, reason: Reason) -> None:
        if self.status.state is not State.CLOSED or self.status.reason is None:
            self._outbox.clear(Disconnected(reason))
            self._set(Status(State.CLOSED, reason, self.status.outdated))

    async def _keep_connected(self) -> Reason:
        """Connect again and again; return why no longer."""
        while True:
            self._set(Status(State.CONNECTING, None, self.status.outdated))
            ending = await self._connect_once()
            delay = self._next(ending)
            if delay is None:
                return self._final(ending.reason)
            self._set(Status(State.WAITING, ending.reason, self.status.outdated))
            self._tell(functools.partial(self.on_retry.call, self._backoff.attempt, delay))
            await asyncio.sleep(delay)

    def _next(self, ending: Ending) -> float | None:
        """Return after how many seconds to come back; None for not at all."""
        match ending.reason.kind:
            case "invalid" | "unauthorized":
                return None
            case "token":
                # Spread wider than a first retry: whoever gives out tokens is down for all.
                self._backoff.after(ending, Reconnect.LATER)
                return self._timings.later * (1 + self._random())
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

    def _final(self, reason: Reason) -> Reason:
        is_refused = reason.kind == "server" and reconnect_for(reason.code, reason.text) is Reconnect.AUTH
        return Reason("unauthorized", reason.code, reason.text) if is_refused else reason

    async def _connect_once(self) -> Ending:
        """Serve one connection to its end."""
        try:
            token = await self._credentials.get()
        except Unauthorized as error:
            return Ending(Reason("unauthorized", None, str(error)))
        except Exception as error:
            self._report(error)
            return Ending(Reason("token", None, str(error) or repr(error)))
        try:
            ws = await dial(self._offer(token), self._timings, self._limits)
        except Failed as error:
            return Ending(error.reason)
        connection = self._connection = Connection(ws, self._timings, self._now)
        self._retry_after = None
        watch = asyncio.create_task(connection.watch(), name="wsrt-client-watch")
        end: Callable[[], Awaitable[None]] = connection.abort
        try:
            return await self._serve(connection)
        except asyncio.CancelledError:
            end = connection.close
            raise
        finally:
            self._connection = None
            watch.cancel()
            self._requests.lose(ConnectionLost("the connection was lost before the answer came"))
            self.rooms.lose()
            await end()
            # It must not outlive its connection, and its own errors are not lost.
            await asyncio.wait({watch})
            if not watch.cancelled() and (problem := watch.exception()) is not None:
                self._report(problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))

    async def _serve(self, connection: Connection) -> Ending:
        try:
            # The first frame, without waiting for the hello: it saves a round trip.
            await connection.write(encode("wsrt.resume", to_json(self.rooms.positions()).decode()))
            while True:
                text = await connection.read()
                try:
                    await self._take(connection, decode(text))
                except (InvalidFrame, KeyError, TypeError, ValueError, AttributeError) as error:
                    self._report(
                        error if isinstance(error, InvalidFrame) else InvalidFrame(f"{error!r} in {text:.200}")
                    )
                if not self._dispatcher.has_room:
                    with connection.not_reading():
                        await self._dispatcher.until_room()
        except Failed as error:
            return Ending(error.reason, connection.open_for, self._retry_after)

    # What comes.

    async def _take(self, connection: Connection, envelope: Envelope) -> None:
        match envelope.event:
            case "wsrt.ping":
                await connection.write(encode("wsrt.pong", ref=envelope.ref))
            case "wsrt.hello":
                await self._open(connection, envelope.data)
            case "wsrt.closing":
                self._retry_after = max(0.0, float(envelope.data["retry_after_ms"]) / 1000)
            case "wsrt.joined" | "wsrt.left" | "wsrt.presence":
                change = self.rooms.take(envelope, self._read_member)
                if change is not None:
                    self._tell(functools.partial(self.on_room.call, change))
            case _ if envelope.ref is not None:
                self._requests.answer(envelope)
            case "wsrt.error":
                self._report(RequestError.of(envelope.data))
            case name if not name.startswith(RESERVED) and self.rooms.is_new(envelope):
                self._tell(functools.partial(self.on_envelope.call, envelope))

    async def _open(self, connection: Connection, hello: Any) -> None:
        if connection.hello_at is not None:
            return
        # What waits leaves first, and what is sent from now on waits for its turn behind it.
        async with connection.turn:
            connection.take_hello(hello)
            schema = hello.get("schema")
            outdated = self._schema_hash is not None and schema is not None and schema != self._schema_hash
            self._set(Status(State.OPEN, None, outdated))
            while (item := self._outbox.take()) is not None:
                try:
                    connection.check(item.size)
                except PayloadTooLarge as error:
                    item.on_lost(error)
                    continue
                if item.ref is not None:
                    self._requests.note_sent(item.ref)
                await connection.write_in_turn(item.text)

    # What is told.

    def _set(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._changed.set()
            self._tell(functools.partial(self.on_status.call, status))

    def _tell(self, call: Callable[[], Awaitable[None]]) -> None:
        self._dispatcher.post(call)
