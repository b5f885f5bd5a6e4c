"""The client: typed events over a connection that is kept alive."""

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
from .history import History
from .listeners import Listeners, Report, with_delivery
from .options import Limits, Timings
from .position import Position, position_of
from .rooms import Forgotten, Member, Recovery, Room, RoomChange
from .state import Reason, State, Status
from .stream import Stream
from .subscriptions import Subscription
from .supervisor import Sent, Supervisor
from .tickets import TicketHeaders, Tickets

E = TypeVar("E", bound=Incoming)
R = TypeVar("R")

Unsubscribe = Callable[[], None]

logger = logging.getLogger("wsrt.client")


class Client:
    """
    The client of one consumer. Generated subclasses declare its events.

        async with ChatClient("wss://example.org/ws/lobby/") as client:
            client.on(MessageSent, lambda message: print(message.text))
            await client.request(SendMessage(text="hi"))

    When the connection ends, the close code decides whether and when the client reconnects; the page "Close codes" of
    wsrt's documentation lists the rule for each code. After ``close()`` it stays closed. Handlers are called one after
    the other, in the order in which events happened. An error in a handler doesn't affect the others.

    Args:
        url: The URL of the consumer, ``ws://`` or ``wss://``.
        token: The credentials, sent as the subprotocol ``bearer.<token>``.
        get_token: A function, sync or async, that returns a token. Called when there is no token, after 4401, and
            before the token expires if the consumer has a login event, which renews it over the open connection. It
            raises Unauthorized if the user isn't signed in. After any other error it is called again later.
        bearer: "header" sends the token as ``Authorization: Bearer <token>`` instead, "frame" in the login event, as
            the first frame.
        ticket_url: The URL of the server's TicketView, or a path on the same host. Before each connection, a ticket is
            requested there, with ``cookies``, and sent as the subprotocol ``ticket.<ticket>`` instead of a token.
        ticket_headers: Headers of these requests, such as Authorization, or a function, sync or async, that returns
            them.
        headers, cookies, origin, subprotocols: Additional parameters of the handshake.
        history: Where to fetch missed events if there are more than the server sends: ``history_from(url)``.
        timings: Time limits and delays. See Timings.
        limits: Limits of the queue, of requests and of handlers. See Limits.
        on_error: Receives errors that can't be raised to a caller, such as those of handlers. Without it they are
            logged.
        clock: Returns the time in seconds, from a monotonic clock.
        random: Returns a number from 0 to 1, used for every random choice.
        options: Further arguments of ``websockets.connect``, such as ``ssl``, ``proxy`` and ``compression``.

    Raises:
        TypeError: There is both a ``ticket_url`` and a token.
        ValueError: ``ticket_url`` isn't an HTTP URL.
    """

    schema_hash: ClassVar[str | None] = None
    """The hash of the events that this client was generated from, which is compared with the one in ``wsrt.hello``."""

    login_event: ClassVar[str | None] = None
    """The name of the event that sends a token in its field ``token``. None if the consumer has none."""

    receives: ClassVar[Mapping[str, type[BaseModel]]] = {}
    """The models of the events that the server sends, by name. Events that are only replies may be left out."""

    sends: ClassVar[Mapping[type[BaseModel], Sends]] = {}
    """The events that the client sends, by their models."""

    member_model: ClassVar[type[BaseModel] | None] = None
    """The model of the data shown for the members of a room. None for plain JSON."""

    subscriptions: ClassVar[Sequence[str] | None] = None
    """The patterns of the rooms that the client may subscribe to. None if they aren't known."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        get_token: GetToken | None = None,
        bearer: Literal["subprotocol", "header", "frame"] = "subprotocol",
        ticket_url: str | None = None,
        ticket_headers: TicketHeaders | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        history: History | None = None,
        timings: Timings | None = None,
        limits: Limits | None = None,
        on_error: Report | None = None,
        clock: Callable[[], float] = clock,
        random: Callable[[], float] = _random.random,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if bearer == "frame" and self.login_event is None:
            raise TypeError(f"{type(self).__name__} can't send the token in a frame: its consumer has no login event")
        self.url = url
        self.on_error = on_error
        fields = dict(headers or {})
        if cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())

        def handshake(current: str | None) -> Handshake:
            names, sent = list(subprotocols), dict(fields)
            if current is not None and ticket_url is not None:
                names.append(f"ticket.{current}")
            elif current is not None and bearer == "header":
                sent["Authorization"] = f"Bearer {current}"
            elif current is not None and bearer == "subprotocol":
                names.append(f"bearer.{current}")
            return Handshake(url, names, sent, origin, options or {})

        credentials: Credentials | Tickets = Credentials(token, get_token)
        if ticket_url is not None:
            if token is not None or get_token is not None:
                raise TypeError("a client has a ticket_url, or a token or get_token, not both")
            credentials = Tickets(
                ticket_url,
                url,
                ticket_headers or {},
                cookies=cookies or {},
                timeout=(timings or Timings()).connect,
                options=options or {},
            )
        self._supervisor = Supervisor(
            handshake,
            credentials,
            login=self.login_event,
            logs_in=bearer == "frame" and ticket_url is None,
            schema_hash=self.schema_hash,
            read_member=self._read_member,
            history=history,
            timings=timings or Timings(),
            limits=limits or Limits(),
            report=self._report,
            now=clock,
            random=random,
        )
        self._handlers: dict[str, Listeners[[Any, Delivery]]] = {}
        # By event. Weak references, so that a stream that isn't iterated any more is garbage-collected.
        self._streams: dict[str, weakref.WeakSet[Stream[Any]]] = {}
        self._supervisor.receiver.on_frame.add(self._deliver)
        self._supervisor.on_status.add(self._end_streams)

    def __repr__(self) -> str:
        # Logged with every error, so it must not include the query, which may contain a ticket.
        return f"<{type(self).__name__} {self.url.partition('?')[0]} {self.state.value}>"

    # Opening and closing.

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """
        Connect, and return when the server has sent its hello. Retry until then.

        If this raises or is cancelled, such as by ``asyncio.timeout``, the client is closed, unless ``start()`` was
        called or another task also waits in ``connect()``. A client that is closing finishes before it connects again.

        Raises:
            Disconnected: The client was closed, or the server rejects it permanently.
            RuntimeError: A handler called this while the client is closing, which waits for that handler. Connect from
                another task.
        """
        await self._supervisor.open()

    def start(self) -> None:
        """
        Start connecting and return immediately. Do nothing if the client is already connecting or connected.

        Raises:
            RuntimeError: The client is still closing. Call ``wait_closed()`` first.
        """
        self._supervisor.start()

    async def close(self) -> None:
        """
        Close the client: end the connection with 1000, waiting at most 2 seconds for the server's answer.

        Handlers are notified of the closed state, but events that wait for handlers are discarded. Pending requests
        raise ConnectionLost. A running handler gets one second to finish. If a handler calls this, it returns
        immediately, and the client ends after the handler.
        """
        await self._supervisor.close()

    async def wait_closed(self) -> Reason:
        """
        Wait until the client is closed, by ``close()`` or because the server rejects it permanently. Return the reason.

        When this returns, the socket is closed and handlers have been called for all events. Don't call it in a
        handler, which would wait for itself.
        """
        return await self._supervisor.wait_closed()

    # State.

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._supervisor.status.state

    @property
    def reason(self) -> Reason | None:
        """Why there is no connection. None while connecting or open."""
        return self._supervisor.status.reason

    @property
    def outdated(self) -> bool:
        """Whether the server's events differ from those this client was generated from."""
        return self._supervisor.status.outdated

    @property
    def rooms(self) -> Mapping[str, Room]:
        """The rooms that this client is in, with their positions and members."""
        return self._supervisor.rooms

    def set_position(self, room: str, position: Position) -> None:
        """
        Start from a position in a room, such as one that was loaded along with the state of the room.

        Publications after it are received, and those up to it are duplicates. Call it before the client connects:
        positions are sent in the first frame.

        Raises:
            TypeError: The position is neither a Position nor a list of an epoch and an offset, as in JSON.
            ValueError: Its epoch or its offset isn't valid.
        """
        if not isinstance(position, tuple | list):
            raise TypeError(f"position must be a Position, Position(epoch, offset), not {type(position).__name__}")
        if len(position) != 2 or position_of(Position(*position)._asdict()) is None:
            raise ValueError("a position has an epoch, a str, and an offset, an int of at least 0")
        self._supervisor.rooms.set_position(room, Position(*position))

    def subscribe(self, room: str, handler: Callable[[Subscription], object] | None = None) -> Subscription:
        """
        Subscribe to a room: be in it as long as there are subscriptions to it, also after a reconnect.

            async with client.subscribe("order.7"):
                ...

        Parts of a program that use the same room each call this, and each end their own subscription. It may be called
        before the client is connected. Without a handler, and if nothing waits for ``ready()``, a refusal is reported
        to ``on_error``.

        Args:
            room: The name of the room. It has one of the patterns in ``subscriptions``.
            handler: Called with the subscription when its state changes.

        Raises:
            TypeError: The consumer doesn't let its clients subscribe to rooms.
        """
        if self.subscriptions is not None and not self.subscriptions:
            raise TypeError(f"{type(self).__name__} can't subscribe: its consumer declares no `subscriptions`")
        return self._supervisor.subscriptions.add(room, handler)

    # Receiving.

    @overload
    def on(self, event: type[E], handler: Callable[[E, Delivery], object]) -> Unsubscribe: ...

    @overload
    def on(self, event: type[E], handler: Callable[[E], object]) -> Unsubscribe: ...

    def on(self, event: type[E], handler: Callable[..., object]) -> Unsubscribe:
        """
        Call a handler for each event of a kind. Return a function that removes the handler.

        While an async handler waits, frames are still read, but no other handler is called.

        Args:
            event: The event's model.
            handler: A function, sync or async. If it has two required parameters, it also gets the Delivery: the
                event's room, and its position there.

        Raises:
            TypeError: This client doesn't receive the event.
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
        Return a stream of future events of a kind, for ``async for``. It ends when the client is closed.

        The stream continues across reconnects. It may be created before the client is connected for the first time. The
        stream of a client that has been closed ends immediately; call ``start()`` or ``connect()`` first.

        Args:
            event: The event's model.
            limit: The number of events buffered for a slow reader. Older events are dropped and counted in ``dropped``.

        Raises:
            TypeError: This client doesn't receive the event.
            ValueError: ``limit`` is less than 1.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        stream: Stream[E] = Stream(limit)
        names = self._event_names(event)
        if self.state is State.CLOSED and self.reason is not None:
            stream.close()
            return stream
        for name in names:
            self._streams.setdefault(name, weakref.WeakSet()).add(stream)
        return stream

    def on_any(self, handler: Callable[[Delivery, Any], object]) -> Unsubscribe:
        """Call a handler with the delivery and the JSON data of every event, including unknown events."""
        return self._supervisor.receiver.on_frame.add(lambda frame: handler(_delivery(frame), frame.data))

    def on_state(self, handler: Callable[[Status], object]) -> Unsubscribe:
        """Call a handler when the state or ``outdated`` changes."""
        return self._supervisor.on_status.add(handler)

    def on_room(self, handler: Callable[[RoomChange], object]) -> Unsubscribe:
        """Call a handler when the client joins or leaves a room, and when the members of a room change."""
        return self._supervisor.on_room.add(handler)

    def on_recovered(self, handler: Callable[[Recovery], object]) -> Unsubscribe:
        """
        Call a handler after a reconnect, with whether the client has received the events that it missed in a room.

        It is called after the missed events, or immediately if events are missing: then load the data of the room
        again. It is also called when the history of a room is lost while the client is connected.
        """
        return self._supervisor.receiver.on_recovered.add(handler)

    def on_forgotten(self, handler: Callable[[Forgotten], object]) -> Unsubscribe:
        """
        Call a handler when the server has deleted an event from the history of a room.

        The handler gets the position that the event was delivered with (see Delivery). If your application still shows
        or keeps the event, remove it there: the client doesn't keep events.
        """
        return self._supervisor.receiver.on_forgotten.add(handler)

    def on_retry(self, handler: Callable[[int, float], object]) -> Unsubscribe:
        """Call a handler when a retry is scheduled, with the number of the attempt and the delay in seconds."""
        return self._supervisor.on_retry.add(handler)

    # Sending.

    async def send(self, event: Outgoing[Any], *, queue: bool = False, volatile: str | None = None) -> Sent:
        """
        Send an event without waiting for an answer. Use ``request()`` to know whether the server handled it.

        Args:
            event: The event.
            queue: Whether the event waits for a connection if there is none, within the limits. A closed client
                doesn't queue.
            volatile: A key. While the socket is congested, only the latest event with this key is kept. While not
                connected, the event is dropped unless ``queue`` is set.

        Returns:
            "sent" if the event was written to the socket, "queued" if it waits, "dropped" if there is no connection.

        Raises:
            TypeError: This client doesn't send the event.
            ValueError: The event can't be written as JSON, for example because of a lone surrogate.
            QueueFull: The queue is full.
            PayloadTooLarge: The event is larger than the server accepts.
        """
        sends = self._sends(event)
        return await self._supervisor.send(sends.name, _dump(event), queue=queue, volatile=volatile)

    async def request(self, event: Outgoing[R], *, timeout: float | None = None, queue: bool = False) -> R:
        """
        Send an event and return the server's answer, or None if the server answers ``wsrt.ok``.

        Args:
            event: The event.
            timeout: Seconds to wait for a connection and for the answer. None: ``Limits.request_timeout``.
            queue: Whether the request waits for a connection if there is none, within the limits. A closed client
                doesn't queue.

        Raises:
            RequestError: The server refused the request. ``errors`` has the errors by field.
            RequestTimeout: The answer didn't arrive in time.
            ConnectionLost: There is no connection, or it ended before the answer arrived.
            QueueFull, QueueExpired, PayloadTooLarge: The request was not sent.
            InvalidFrame: This client doesn't know the event that the server answered with.
            TypeError: This client doesn't send the event.
            ValueError: The event can't be written as JSON, for example because of a lone surrogate.
        """
        sends = self._sends(event)
        answer = await self._supervisor.request(sends.name, _dump(event), timeout=timeout, queue=queue)
        if answer.event == "wsrt.ok":
            return cast(R, None)
        model = sends.replies.get(answer.event) or self.receives.get(answer.event)
        if model is None:
            raise InvalidFrame(f"{sends.name} was answered with {answer.event!r}, which this client doesn't know")
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
            raise TypeError(f"{type(self).__name__} doesn't receive {event!r}; it receives {known or 'nothing'}")
        return names

    def _sends(self, event: BaseModel) -> Sends:
        sends = self.sends.get(type(event))
        if sends is None:
            known = ", ".join(sorted(model.__name__ for model in self.sends))
            raise TypeError(f"{type(self).__name__} doesn't send {type(event).__name__}; it sends {known or 'nothing'}")
        return sends

    def _read_member(self, data: Any) -> Member[Any]:
        value = data["data"]
        if self.member_model is not None and value is not None:
            value = self.member_model.model_validate(value)
        return Member(data["user_id"], data["connections"], value)

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
    # Validated from the JSON text, because Pydantic accepts other types for some fields in JSON than in Python values.
    return create_model("Frame", __config__=ConfigDict(extra="ignore"), data=(model, ...))


def _load(model: type[BaseModel], frame: Frame) -> Any:
    try:
        return cast(Any, _frame_model(model).model_validate_json(frame.text)).data
    except ValidationError as error:
        raise InvalidFrame(f"{frame.event} doesn't match the model of this client: {error}") from error


def _dump(event: BaseModel) -> str:
    try:
        # Pydantic 2.12 warns about unset fields in unions, although it leaves them out as it should.
        return event.model_dump_json(by_alias=True, warnings=False)
    except (PydanticSerializationError, UnicodeError) as error:
        raise ValueError(f"{type(event).__name__} can't be sent: {error}") from error


def _delivery(frame: Frame) -> Delivery:
    return Delivery(frame.event, frame.room, frame.epoch, frame.offset)
