"""A typed test client that talks to a consumer without a server."""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic_core import from_json, to_json

from ..close_codes import MAX_REASON_BYTES, Close, is_sendable
from ..cluster.node import current_node
from ..connection.lifecycle import ConnectionHandler
from ..consumers import TypedEventConsumer
from ..delivery.tasks import start_task
from ..presence.tracker import known_tracker
from ..protocol.catalog import SUBSCRIBE, UNSUBSCRIBE
from ..protocol.envelope import MAX_FRAME_BYTES
from ..protocol.events import Event, meta
from ..protocol.session import SUBPROTOCOL
from ..types import FieldError, Message
from .waiting import SECONDS, soon, until

E = TypeVar("E", bound=Event)

CLEAN_UP_SECONDS = SECONDS + 10
"""How long disconnect() waits, in seconds: longer than the handlers and hooks of an ended connection may take."""

QUIET_TURNS = 5
"""Consecutive turns of the event loop without work after which the connections count as settled."""


class RequestRefused(AssertionError):
    """
    Raised by request(), subscribe() and unsubscribe() of Client when the answer is ``wsrt.error``.

    Attributes:
        code: The error's code.
        message: The error's message.
        errors: The errors of individual fields.
    """

    def __init__(self, code: str, message: str, errors: list[FieldError]) -> None:
        super().__init__(f"{code}: {message} {errors or ''}")
        self.code = code
        self.message = message
        self.errors = errors


def connect(
    consumer: type[TypedEventConsumer] | Any,
    path: str = "/",
    *,
    user: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    subprotocols: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    scope: Mapping[str, Any] | None = None,
    login: Event | None = None,
) -> Client:
    """
    Return a client for a consumer class, or for an ASGI application that wraps one. Enter it with ``async with``.

    Entering the client performs the handshake and waits until ``authorize`` and ``on_connect`` have finished or the
    connection was refused (see Client.assert_closed). Leaving the block disconnects.

    Args:
        consumer: The consumer class, or an ASGI application.
        path: The URL path, with its query string if there is one.
        user: The user in the ASGI scope; None for an anonymous user.
        kwargs: The keyword arguments captured by the URL route.
        subprotocols: The subprotocols that the client offers; pass ``["wsrt.v1"]`` to receive the reserved events.
        headers: The headers of the handshake request.
        scope: Further keys of the ASGI scope.
        login: The event that logs in, sent as the first frame to a consumer with ``authenticate``.
    """
    return Client(consumer, path, user, kwargs or {}, subprotocols, headers or {}, scope or {}, login)


class Client:
    """
    The client side of a WebSocket connection to a consumer. Create it with connect().

    Attributes:
        accepted: Whether the handshake was accepted.
        subprotocol: The subprotocol that the consumer chose; None without one.
        consumer: The consumer instance; None if connect() was given an ASGI application.
        reserved: The frames of the ``wsrt.`` events received so far, except answers to requests.
    """

    def __init__(
        self,
        consumer: Any,
        path: str,
        user: Any,
        kwargs: Mapping[str, Any],
        subprotocols: Sequence[str],
        headers: Mapping[str, str],
        scope: Mapping[str, Any],
        login: Event | None,
    ) -> None:
        if user is None:
            from django.contrib.auth.models import AnonymousUser

            user = AnonymousUser()
        url = urlsplit(path)
        self._scope = {
            "type": "websocket",
            "path": url.path,
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "subprotocols": list(subprotocols),
            "user": user,
            "url_route": {"args": (), "kwargs": dict(kwargs)},
            **scope,
        }
        is_class = isinstance(consumer, type) and issubclass(consumer, TypedEventConsumer)
        self._application = consumer() if is_class else consumer
        self.consumer: Any = self._application if is_class else None
        self._login = login
        self.accepted = False
        self.subprotocol: str | None = None
        self.reserved: list[dict[str, Any]] = []
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._frames: collections.deque[dict[str, Any]] = collections.deque()
        self._closed: tuple[int, str] | None = None
        self._refs = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        work = self._application(self._scope, self._to_app.get, self._on_message)
        self._task = start_task(asyncio.get_running_loop(), work)
        self._to_app.put_nowait({"type": "websocket.connect"})
        await self._until(lambda: self.accepted or self._is_over, "the handshake to be answered")
        if self._login is not None:
            await self.send(self._login)
        if self.consumer is not None:
            handler: ConnectionHandler = self.consumer._connection
            await self._until(lambda: handler.is_visible or self._is_over, "authorize and on_connect")
        else:
            await self.settle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    # Sending.

    async def send(self, event: Event, *, ref: str | int | None = None) -> None:
        """
        Send an event.

        Args:
            event: The event to send.
            ref: The reference that the answer carries; makes the event a request. request() chooses one itself.
        """
        head = meta(event).head
        tail = "" if ref is None else f',"ref":{to_json(ref).decode()}'
        await self.send_text(f"{head}{event.model_dump_json(by_alias=True)}{tail}}}")

    async def send_text(self, text: str) -> None:
        """Send a text frame unchanged."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary frame unchanged."""
        self._to_app.put_nowait({"type": "websocket.receive", "bytes": data})

    async def request(self, event: Event) -> Event | None:
        """
        Send a request and return the answer: an event, or None for ``wsrt.ok``.

        Raises:
            RequestRefused: The request was answered with ``wsrt.error``.
            AssertionError: The connection was closed before the answer, or no answer arrived in time.
        """
        ref = f"r{next(self._refs)}"
        await self.send(event, ref=ref)
        answer = await self._take_answer(ref, repr(event))
        if answer["event"] == "wsrt.ok":
            return None
        if self.consumer is None:
            raise AssertionError(
                "request() needs a client that was connected to a consumer class; use send() and receive()"
            )
        model: type[Event] = self.consumer.catalog.sends[answer["event"]]
        return model.model_validate(answer["data"])

    async def subscribe(self, room: str) -> None:
        """
        Subscribe to a room, as generated clients do.

        Raises:
            RequestRefused: The consumer refused the room.
            AssertionError: The client doesn't speak ``wsrt.v1``, the connection was closed before the answer, or no
                answer arrived in time.
        """
        await self._ask_for(SUBSCRIBE, room)

    async def unsubscribe(self, room: str) -> None:
        """End the subscription to a room. Raises the same as subscribe()."""
        await self._ask_for(UNSUBSCRIBE, room)

    async def disconnect(self, code: int = 1000) -> None:
        """
        Close the connection and wait until the consumer has cleaned up.

        Does nothing if the client was never connected. An exception that the application raised is raised here.

        Args:
            code: The close code that the consumer receives.
        """
        task = self._task
        if task is None:
            return
        if not task.done():
            self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        try:
            await until(task.done, "the consumer to clean up", seconds=CLEAN_UP_SECONDS)
        except BaseException:
            task.cancel()
            raise
        await task

    # Receiving.

    async def receive(self, event: type[E]) -> E:
        """
        Wait for the next event and return it. Reserved events are skipped; see the ``reserved`` attribute.

        Args:
            event: The class that the event must have.

        Raises:
            AssertionError: An event of another class arrived, the connection is closed, or nothing arrived in time.
        """
        frame = await self.receive_json()
        if frame["event"] != meta(event).name:
            raise AssertionError(f"expected {meta(event).name!r}, got {frame}")
        return event.model_validate(frame["data"])

    async def receive_json(self) -> dict[str, Any]:
        """
        Wait for the next frame that isn't a reserved event and return it as decoded JSON.

        Raises:
            AssertionError: The connection is closed, or nothing arrived in time.
        """
        await self._until(lambda: bool(self._frames) or self._is_over, "a frame")
        if not self._frames:
            raise AssertionError(f"nothing was received, and the connection is closed: {self._ending}")
        return self._frames.popleft()

    async def assert_silent(self) -> None:
        """Assert that, once the connections of this event loop have settled, no frame is waiting to be received."""
        await self.settle()
        if self._frames:
            raise AssertionError(f"expected nothing, got {list(self._frames)}")
        if self._is_over:
            raise AssertionError(f"expected nothing, but the connection is closed: {self._ending}")

    async def assert_closed(self, close: Close | int) -> None:
        """
        Wait until the consumer closes the connection, and assert that it does so as expected.

        Args:
            close: The expected close code, or a Close to compare the reason too.
        """
        await self._until(lambda: self._closed is not None or self._is_over, "the close")
        code, reason = self._ending
        if isinstance(close, Close):
            expected = (close.code, close.wire_reason)
            if (code, reason) != expected:
                raise AssertionError(f"expected {expected}, closed with {(code, reason)}")
        elif code != close:
            raise AssertionError(f"expected {close}, closed with {(code, reason)}")

    async def settle(self) -> None:
        """
        Wait until no connection of this event loop has work left and presence has been written.

        Tasks that consumers have started with ``create_task`` aren't waited for, because they may be endless.
        """
        quiet = 0

        def is_quiet() -> bool:
            nonlocal quiet
            quiet = 0 if self._is_busy() else quiet + 1
            return quiet == QUIET_TURNS

        await until(is_quiet, "the connections of this loop to settle", seconds=SECONDS)

    def _is_busy(self) -> bool:
        return (
            not _is_presence_written()
            or not (self._to_app.empty() or self._is_over)
            or any(
                isinstance(connection.handler, ConnectionHandler) and not connection.handler.is_idle
                for connection in list(current_node().hub.subscribers.values())
            )
        )

    # The server.

    async def _on_message(self, message: Message) -> None:
        """Handle a message from the application as an ASGI server would, and enforce a server's limits."""
        if self._closed is not None:
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r} after the connection was closed")
        match message["type"]:
            case "websocket.accept" if not self.accepted:
                self.accepted = True
                self.subprotocol = message.get("subprotocol")
            case "websocket.close":
                code, reason = message.get("code", 1000), message.get("reason") or ""
                if self.accepted and not is_sendable(code):
                    raise ValueError(f"invalid close code {code}")
                if len(reason.encode()) > MAX_REASON_BYTES:
                    raise ValueError("control frame too long")
                self._closed = (code, reason) if self.accepted else (403, "refused before accept")
                self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            case "websocket.send" if self.accepted:
                text = message["text"]
                if not text or len(text.encode()) > MAX_FRAME_BYTES + 1024:
                    raise ValueError("an empty frame, or one that is larger than servers accept")
                self._received(from_json(text, allow_inf_nan=False))
            case kind:
                raise RuntimeError(f"Unexpected ASGI message {kind!r}")

    def _received(self, frame: dict[str, Any]) -> None:
        if not frame["event"].startswith("wsrt.") or "ref" in frame:
            self._frames.append(frame)
            return
        self.reserved.append(frame)
        if frame["event"] == "wsrt.ping":
            self._to_app.put_nowait({"type": "websocket.receive", "text": '{"event":"wsrt.pong"}'})

    # Private.

    async def _ask_for(self, event: str, room: str) -> None:
        if self.subprotocol != SUBPROTOCOL:
            raise AssertionError(f'only clients of {SUBPROTOCOL} subscribe: connect(..., subprotocols=["wsrt.v1"])')
        ref = f"r{next(self._refs)}"
        await self.send_text(to_json({"event": event, "data": {"room": room}, "ref": ref}).decode())
        await self._take_answer(ref, f"{event} of {room!r}")

    async def _take_answer(self, ref: str, what: str) -> dict[str, Any]:
        """Wait for the answer to a request, and return it. Raises RequestRefused for an error."""
        await self._until(lambda: self._answer(ref) is not None or self._is_over, f"an answer to {what}")
        answer = self._answer(ref)
        if answer is None:
            raise AssertionError(f"the connection was closed before the request was answered: {self._ending}")
        self._frames.remove(answer)
        if answer["event"] == "wsrt.error":
            data = answer["data"]
            raise RequestRefused(data["code"], data["message"], data["errors"])
        return answer

    def _answer(self, ref: str) -> dict[str, Any] | None:
        return next((frame for frame in self._frames if frame.get("ref") == ref), None)

    @property
    def _ending(self) -> tuple[int, str]:
        """The close code and the reason of a connection that is over."""
        return self._closed or (1006, "the application returned without closing")

    @property
    def _is_over(self) -> bool:
        return self._closed is not None or self._task is None or self._task.done()

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            await until(condition, what, seconds=SECONDS)
            # Lets the tracker write to a store in memory, so that presence queries see the consumer's changes. A store
            # that can't be reached isn't waited for.
            await soon(_is_presence_written)
        finally:
            if self._task is not None and self._task.done() and not self._task.cancelled():
                self._task.result()  # raise the application's exception in the test


def _is_presence_written() -> bool:
    tracker = known_tracker(current_node())
    return tracker is None or tracker.is_idle
