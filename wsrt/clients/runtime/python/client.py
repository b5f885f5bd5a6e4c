"""The client: typed events over a link."""

from __future__ import annotations

import functools
import logging
import random as _random
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeVar, cast, overload

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import PydanticSerializationError

from .connection import Handshake, clock
from .credentials import Credentials, GetToken
from .errors import InvalidFrame
from .events import Delivery, Incoming, Outgoing, Sends
from .frame import Frame
from .listeners import Listeners, Report, with_delivery
from .options import Limits, Timings
from .rooms import Member, Room, RoomChange
from .state import Reason, State, Status
from .stream import Stream
from .supervisor import Sent, Supervisor

E = TypeVar("E", bound=Incoming)
R = TypeVar("R")

Unsubscribe = Callable[[], None]

logger = logging.getLogger("wsrt.client")


class Client:
    """
    A client of one consumer; generated ones declare its events.

        async with ChatClient("wss://example.org/ws/lobby/") as client:
            client.on(MessageSent, lambda message: print(message.text))
            await client.request(SendMessage(text="hi"))

    It comes back by itself after a connection is lost, by the rules of the close table, until ``close()``. Handlers are
    called one after the other, in the order of what happened; a handler that raises disturbs nobody.

    Args:
        url: ws:// or wss://.
        token: credentials, sent as the subprotocol ``bearer.<token>``.
        get_token: gives them, sync or async; called where there are none, and after 4401. Raises Unauthorized where
            nobody is signed in; after any other error it is called again.
        bearer: "header" sends them as ``Authorization: Bearer <token>`` instead.
        headers, cookies, origin, subprotocols: of the handshake.
        timings, limits: see there.
        on_error: is told of errors that have no caller: of handlers, and what the server complains of; default: a log.
        clock: seconds, not moved by anybody.
        random: a number from 0 to 1, for every random choice.
        options: for ``websockets.connect``: ``ssl``, ``proxy``, ``compression``.
    """

    schema_hash: ClassVar[str | None] = None
    """Of the events that this client was generated from; compared with the server's hello."""

    receives: ClassVar[Mapping[str, type[BaseModel]]] = {}
    """The models of the events that the server sends, by name; those that are only replies need not be here."""

    sends: ClassVar[Mapping[type[BaseModel], Sends]] = {}
    """The events that the client sends, by model."""

    member_model: ClassVar[type[BaseModel] | None] = None
    """What the members of a room show of themselves; None for plain JSON."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        get_token: GetToken | None = None,
        bearer: Literal["subprotocol", "header"] = "subprotocol",
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        timings: Timings | None = None,
        limits: Limits | None = None,
        on_error: Report | None = None,
        clock: Callable[[], float] = clock,
        random: Callable[[], float] = _random.random,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.on_error = on_error
        sent = dict(headers or {})
        if cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())

        def offer(current: str | None) -> Handshake:
            names, fields = list(subprotocols), dict(sent)
            if current is not None and bearer == "header":
                fields["Authorization"] = f"Bearer {current}"
            elif current is not None:
                names.append(f"bearer.{current}")
            return Handshake(url, names, fields, origin, options or {})

        self._supervisor = Supervisor(
            offer,
            Credentials(token, get_token),
            schema_hash=self.schema_hash,
            read_member=self._read_member,
            timings=timings or Timings(),
            limits=limits or Limits(),
            report=self._report,
            now=clock,
            random=random,
        )
        self._handlers: dict[str, Listeners[[Any, Delivery]]] = {}
        # By event; weakly, so that nothing is kept for a loop that was left.
        self._streams: dict[str, weakref.WeakSet[Stream[Any]]] = {}
        self._supervisor.on_frame.add(self._deliver)
        self._supervisor.on_status.add(self._end_streams)

    def __repr__(self) -> str:
        # Without the query, which may hold a ticket: this is in every line of the log.
        return f"<{type(self).__name__} {self.url.partition('?')[0]} {self.state.value}>"

    # Its life.

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """
        Connect, and return when the server has said hello; it is tried until then.

        Where it does not return (it raises, or is cancelled by ``asyncio.timeout``) nothing is left behind: the client
        is closed, unless somebody else has called ``start()`` or waits in ``connect()`` too. A client that is being
        closed ends before it connects again.

        Raises:
            Disconnected: there will be no connection: the server refuses for good.
            RuntimeError: called by a handler of a client that is closed, which ends only after the handler. Do it in
                a task of its own.
        """
        await self._supervisor.open()

    def start(self) -> None:
        """
        Begin to connect, and return at once; does nothing where that is under way.

        Raises:
            RuntimeError: the client is closed, and has not ended: see ``wait_closed()``.
        """
        self._supervisor.start()

    async def close(self) -> None:
        """
        End the connection with 1000; the server answers within 2 s, or not.

        The client is closed from now on: handlers are told of that, and of nothing else that waits. Requests that wait
        raise ConnectionLost. A handler that runs gets a second. Called by a handler it returns at once, and the end
        comes after the handler.
        """
        await self._supervisor.close()

    async def wait_closed(self) -> Reason:
        """
        Wait until the client is closed, by ``close()`` or because the server refuses for good; return why.

        By then the socket is gone, and handlers were told of what came. Not for handlers, which would wait for
        themselves.
        """
        return await self._supervisor.wait_closed()

    # What it knows.

    @property
    def state(self) -> State:
        """Whether there is a connection."""
        return self._supervisor.status.state

    @property
    def reason(self) -> Reason | None:
        """Why there is none; None while connecting or open."""
        return self._supervisor.status.reason

    @property
    def outdated(self) -> bool:
        """Whether the server's events are others than those that this client was generated from."""
        return self._supervisor.status.outdated

    @property
    def rooms(self) -> Mapping[str, Room]:
        """The rooms that the server has put this client into, with positions and members."""
        return self._supervisor.rooms

    # Receiving.

    @overload
    def on(self, event: type[E], handler: Callable[[E, Delivery], object]) -> Unsubscribe: ...

    @overload
    def on(self, event: type[E], handler: Callable[[E], object]) -> Unsubscribe: ...

    def on(self, event: type[E], handler: Callable[..., object]) -> Unsubscribe:
        """
        Call a handler, sync or async, for each event of a kind; return what ends that.

        A handler with two parameters gets the Delivery as well: the room that it came to, and its place there. The
        socket is read while a handler waits; the next handler is not called before.

        Raises:
            TypeError: this client does not receive it.
        """
        wrapped = with_delivery(handler)
        removals = [
            self._handlers.setdefault(name, Listeners(self._report, self._supervisor.generation)).add(wrapped)
            for name in self._event_names(event)
        ]

        def remove() -> None:
            for each in removals:
                each()

        return remove

    def events(self, event: type[E], *, limit: int = 1000) -> Stream[E]:
        """
        Return the events of a kind from now on, for ``async for``: over reconnects, until the client is closed.

        It may be called before the client is connected for the first time. Of a client that was closed, by ``close()``
        or because the server refuses for good, it ends at once: call it after ``start()`` or ``connect()``.

        Args:
            limit: how many wait for a reader that is behind; then the oldest is dropped, and counted in ``dropped``.

        Raises:
            TypeError: this client does not receive it.
            ValueError: ``limit`` is below 1.
        """
        if limit < 1:
            raise ValueError(f"limit is 1 or more, not {limit}")
        stream: Stream[E] = Stream(limit)
        names = self._event_names(event)
        if self.state is State.CLOSED and self.reason is not None:
            stream.close()
            return stream
        for name in names:
            self._streams.setdefault(name, weakref.WeakSet()).add(stream)
        return stream

    def on_any(self, handler: Callable[[Delivery, Any], object]) -> Unsubscribe:
        """Call a handler with the delivery and the plain data of every event, whatever its name."""
        return self._supervisor.on_frame.add(lambda frame: handler(_delivery(frame), frame.data))

    def on_state(self, handler: Callable[[Status], object]) -> Unsubscribe:
        """Call a handler when the state changes, or ``outdated`` does."""
        return self._supervisor.on_status.add(handler)

    def on_room(self, handler: Callable[[RoomChange], object]) -> Unsubscribe:
        """Call a handler when the client came into a room or out of it, and when somebody else did."""
        return self._supervisor.on_room.add(handler)

    def on_retry(self, handler: Callable[[int, float], object]) -> Unsubscribe:
        """Call a handler with the number of the attempt, and the seconds until it is made."""
        return self._supervisor.on_retry.add(handler)

    # Sending.

    async def send(self, event: Outgoing[Any], *, queue: bool = False, volatile: str | None = None) -> Sent:
        """
        Send an event. Nobody knows whether it arrives: for that there is ``request()``.

        Args:
            queue: let it wait for a connection where there is none, within the limits. Not while the client is closed.
            volatile: a key: while the socket takes no more, only the latest event of that key waits.

        Returns:
            "sent" when it was handed to the socket, "queued" when it waits, "dropped" when there is no connection.

        Raises:
            TypeError: this client does not send it.
            ValueError: it cannot be written as JSON, such as half a character.
            QueueFull: too much waits.
            PayloadTooLarge: the server would not take it.
        """
        sends = self._sends(event)
        return await self._supervisor.send(sends.name, _dump(event), queue=queue, volatile=volatile)

    async def request(self, event: Outgoing[R], *, timeout: float | None = None, queue: bool = False) -> R:
        """
        Send an event and return its answer, or None where the server answers ``wsrt.ok``.

        Args:
            timeout: seconds, of which waiting for a connection is a part; default: ``Limits.request_timeout``.
            queue: let it wait for a connection where there is none, within the limits. Not while the client is closed.

        Raises:
            RequestError: the server refused it; ``errors`` says which fields.
            RequestTimeout: no answer in time.
            ConnectionLost: there is no connection, or it ended before the answer came.
            QueueFull, QueueExpired, PayloadTooLarge: it was not sent.
            InvalidFrame: the answer is none that this client knows.
            TypeError: this client does not send it.
            ValueError: it cannot be written as JSON, such as half a character.
        """
        sends = self._sends(event)
        answer = await self._supervisor.request(sends.name, _dump(event), timeout=timeout, queue=queue)
        if answer.event == "wsrt.ok":
            return cast(R, None)
        model = sends.replies.get(answer.event) or self.receives.get(answer.event)
        if model is None:
            raise InvalidFrame(f"{sends.name} was answered by {answer.event!r}, which this client does not know")
        return cast(R, _load(model, answer))

    # Private.

    async def _deliver(self, frame: Frame) -> None:
        handlers, streams = self._handlers.get(frame.event), self._streams.get(frame.event)
        if handlers is None and not streams:
            return
        event = _load(self.receives[frame.event], frame)
        for stream in list(streams or ()):
            stream.put(event)
        if handlers is not None:
            await handlers.call(event, _delivery(frame))

    def _end_streams(self, status: Status) -> None:
        if status.state is State.CLOSED:
            for streams in self._streams.values():
                for stream in list(streams):
                    stream.close()
            self._streams.clear()

    def _event_names(self, event: type[BaseModel]) -> list[str]:
        names = [name for name, model in self.receives.items() if model is event]
        if not names:
            known = ", ".join(sorted(model.__name__ for model in self.receives.values()))
            raise TypeError(f"{type(self).__name__} does not receive {event!r}; it receives {known or 'nothing'}")
        return names

    def _sends(self, event: BaseModel) -> Sends:
        sends = self.sends.get(type(event))
        if sends is None:
            known = ", ".join(sorted(model.__name__ for model in self.sends))
            raise TypeError(
                f"{type(self).__name__} does not send {type(event).__name__}; it sends {known or 'nothing'}"
            )
        return sends

    def _read_member(self, data: Any) -> Member[Any]:
        shown = data["data"]
        if self.member_model is not None and shown is not None:
            shown = self.member_model.model_validate(shown)
        return Member(data["user_id"], data["connections"], shown)

    def _report(self, error: Exception) -> None:
        if self.on_error is None:
            logger.error("%r: %r", self, error, exc_info=error)
            return
        try:
            self.on_error(error)
        except Exception:
            logger.exception("%r: on_error failed", self)


@functools.cache
def _frame_model(model: type[BaseModel]) -> type[BaseModel]:
    # The data is read from JSON, by whose rules some types differ from those for plain data.
    return create_model("Frame", __config__=ConfigDict(extra="ignore"), data=(model, ...))


def _load(model: type[BaseModel], frame: Frame) -> Any:
    try:
        return cast(Any, _frame_model(model).model_validate_json(frame.text)).data
    except ValidationError as error:
        raise InvalidFrame(f"{frame.event} is not what this client was generated for: {error}") from error


def _dump(event: BaseModel) -> str:
    try:
        return event.model_dump_json(by_alias=True)
    except (PydanticSerializationError, UnicodeError) as error:
        raise ValueError(f"{type(event).__name__} cannot be sent: {error}") from error


def _delivery(frame: Frame) -> Delivery:
    return Delivery(frame.event, frame.room, frame.epoch, frame.offset)
