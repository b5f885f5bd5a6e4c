"""
A testing kit: typed clients of a consumer without a server, and the publications that code made.

    async with connect(ChatConsumer, user=ada, kwargs={"slug": "lobby"}) as client:
        await client.request(SendMessage(text="hi"))
        message = await client.receive(MessageSent)

    with capture_publications() as published:
        announce(room="lobby")
    assert published.to_room("lobby") == [Announcement(text="...")]

The client behaves like a real server at its limits: it refuses close codes, reasons and frames that servers refuse.
Nothing sleeps: what waits, waits for the consumer. Layers and servers are not tested by it; use real ones for that.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.db import connections
from django.test import TestCase
from pydantic_core import from_json, to_json

from .addresses import Audience, Room, User
from .close_codes import MAX_REASON_BYTES, Close, is_sendable
from .consumers import TypedEventConsumer
from .delivery.tasks import start_task
from .node import current_node
from .presence.tracker import known_tracker
from .protocol.envelope import MAX_FRAME_BYTES
from .protocol.events import Event, meta
from .pump import Pump
from .sending import Outgoing, observers
from .types import FieldError, Message
from .wire import PublishMessage

__all__ = ["Client", "Published", "RequestRefused", "capture_publications", "connect"]

E = TypeVar("E", bound=Event)

SECONDS = 10.0
"""How long a test waits for what should happen at once."""


class RequestRefused(AssertionError):
    """A request was answered with ``wsrt.error``."""

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
) -> Client:
    """
    Return a client of a consumer class, or of an ASGI application around one; enter it with ``async with``.

    Entering waits until set-up is done, or refused (see Client.assert_closed).

    Args:
        path: with its query string.
        user: of the scope; None for an anonymous one.
        kwargs: what the URL route captured.
        subprotocols: what the client offers; ``["wsrt.v1"]`` for the reserved events.
        scope: further keys of the ASGI scope.
    """
    return Client(consumer, path, user, kwargs or {}, subprotocols, headers or {}, scope or {})


class Client:
    """
    The other end of a consumer's socket.

    Attributes:
        accepted: whether the handshake was accepted.
        subprotocol: what was chosen.
        consumer: the consumer instance, where a class was given.
        reserved: the ``wsrt.`` events received so far, but for answers to requests.
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
        self.accepted = False
        self.subprotocol: str | None = None
        self.reserved: list[dict[str, Any]] = []
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._frames: collections.deque[dict[str, Any]] = collections.deque()
        self._closed: tuple[int, str] | None = None
        self._changed = asyncio.Event()
        self._refs = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        work = self._application(self._scope, self._to_app.get, self._take)
        self._task = start_task(asyncio.get_running_loop(), work)
        self._task.add_done_callback(lambda task: self._changed.set())
        self._to_app.put_nowait({"type": "websocket.connect"})
        await self._until(lambda: self.accepted or self._is_over, "the handshake to be answered")
        if self.consumer is not None:
            pump: Pump = self.consumer._pump
            await self._until(lambda: pump.is_visible or self._is_over, "authorize and on_connect", poll=True)
        else:
            await self.settle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    # Sending.

    async def send(self, event: Event, *, ref: str | int | None = None) -> None:
        """Send an event, as a request if it has a ref."""
        head = meta(event).head
        tail = "" if ref is None else f',"ref":{to_json(ref).decode()}'
        await self.send_text(f"{head}{event.model_dump_json(by_alias=True)}{tail}}}")

    async def send_text(self, text: str) -> None:
        """Send a text frame as it is."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary frame as it is."""
        self._to_app.put_nowait({"type": "websocket.receive", "bytes": data})

    async def request(self, event: Event) -> Event | None:
        """
        Send a request and return what answers it: an event, or None for ``wsrt.ok``.

        Raises:
            RequestRefused: it was answered with ``wsrt.error``.
        """
        ref = f"r{next(self._refs)}"
        await self.send(event, ref=ref)
        await self._until(lambda: self._answer(ref) is not None or self._is_over, f"an answer to {event!r}")
        answer = self._answer(ref)
        if answer is None:
            raise AssertionError(f"closed {self._closed} before the request was answered")
        self._frames.remove(answer)
        data = answer["data"]
        match answer["event"]:
            case "wsrt.ok":
                return None
            case "wsrt.error":
                raise RequestRefused(data["code"], data["message"], data["errors"])
            case name:
                if self.consumer is None:
                    raise AssertionError("typed answers need the consumer class; use send() and receive()")
                model: type[Event] = self.consumer.catalog.sends[name]
                return model.model_validate(data)

    async def disconnect(self, code: int = 1000) -> None:
        """Leave, and wait until the consumer has cleaned up."""
        task = self._task
        if task is None:
            return
        if not task.done():
            self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        async with asyncio.timeout(SECONDS + 10):
            await task

    # Receiving.

    async def receive(self, event: type[E]) -> E:
        """
        Return the next event, which must be of this class.

        Raises:
            AssertionError: another one came, the connection is closed, or nothing came.
        """
        frame = await self.receive_json()
        if frame["event"] != meta(event).name:
            raise AssertionError(f"expected {meta(event).name!r}, got {frame}")
        return event.model_validate(frame["data"])

    async def receive_json(self) -> dict[str, Any]:
        """Return the next frame that is no reserved event, as it is on the wire. Raises AssertionError as receive()."""
        await self._until(lambda: bool(self._frames) or self._is_over, "a frame")
        if not self._frames:
            raise AssertionError(f"nothing was received, and the connection is closed: {self._closed}")
        return self._frames.popleft()

    async def assert_silent(self) -> None:
        """Assert that nothing is there to be received, once everything under way in this loop is done."""
        await self.settle()
        if self._frames:
            raise AssertionError(f"expected nothing, got {list(self._frames)}")
        if self._is_over:
            raise AssertionError(f"expected nothing, but the connection is closed: {self._closed}")

    async def assert_closed(self, close: Close | int) -> None:
        """Assert that the consumer closes, with this code and (given a Close) this reason."""
        await self._until(lambda: self._closed is not None or self._is_over, "the close")
        code, reason = self._closed or (1006, "the application returned without closing")
        if isinstance(close, Close):
            expected = (close.code, close.wire_reason)
            if (code, reason) != expected:
                raise AssertionError(f"expected {expected}, closed with {(code, reason)}")
        elif code != close:
            raise AssertionError(f"expected {close}, closed with {(code, reason)}")

    async def settle(self) -> None:
        """Wait until no connection of this loop has anything to do."""
        quiet = 0
        async with asyncio.timeout(SECONDS):
            while quiet < 5:
                await asyncio.sleep(0)
                tracker = known_tracker(current_node())
                busy = (
                    (tracker is not None and not tracker.is_idle)
                    or not (self._to_app.empty() or self._is_over)
                    or any(
                        isinstance(connection.owner, Pump) and not connection.owner.is_idle
                        for connection in list(current_node().hub.connections.values())
                    )
                )
                if busy:
                    # A handler may be in a thread: do not spin while it is.
                    await asyncio.sleep(0.001)
                quiet = 0 if busy else quiet + 1

    # The server.

    async def _take(self, message: Message) -> None:
        """What an ASGI server does with the messages of the application, limits included."""
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
                    raise ValueError("a frame that servers drop or refuse")
                self._received(from_json(text, allow_inf_nan=False))
            case kind:
                raise RuntimeError(f"Unexpected ASGI message {kind!r}")
        self._changed.set()

    def _received(self, frame: dict[str, Any]) -> None:
        if not frame["event"].startswith("wsrt.") or "ref" in frame:
            self._frames.append(frame)
            return
        self.reserved.append(frame)
        if frame["event"] == "wsrt.ping":
            self._to_app.put_nowait({"type": "websocket.receive", "text": '{"event":"wsrt.pong"}'})

    # Private.

    def _answer(self, ref: str) -> dict[str, Any] | None:
        return next((frame for frame in self._frames if frame.get("ref") == ref), None)

    @property
    def _is_over(self) -> bool:
        return self._closed is not None or self._task is None or self._task.done()

    async def _until(self, condition: Any, what: str, *, poll: bool = False) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                while not condition():
                    if poll:
                        await asyncio.sleep(0.001)
                        continue
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited {SECONDS:g} s for {what}") from None
        finally:
            if self._task is not None and self._task.done() and not self._task.cancelled():
                self._task.result()  # an error of the application is the test's error


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """One publication that code made."""

    namespace: str
    audience: Audience
    event: Event


class capture_publications(list[Published]):  # noqa: N801 - used like a function
    """
    Collect what is published while it is open, in any thread; use it with ``with`` or, in async tests, ``async with``.

    Publications wait for their transaction as they do in production: one that is rolled back is never captured. In a
    TestCase, whose own transaction never commits, the callbacks of ``on_commit`` run when the block ends. Connections
    of this process get what is published; nothing goes through a channel layer.
    """

    def __enter__(self) -> Self:
        self._callbacks = contextlib.ExitStack()
        for alias in connections:
            # Entered first, so it is done last: what has run must not run again, at a commit or in an outer block.
            self._callbacks.callback(_forget, alias, len(connections[alias].run_on_commit))
            self._callbacks.enter_context(TestCase.captureOnCommitCallbacks(using=alias, execute=True))
        observers.append(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._callbacks.__exit__(kind, error, trace)
        finally:
            observers.remove(self._note)

    async def __aenter__(self) -> Self:
        # The connections of a test belong to the thread in which its synchronous code runs.
        return await sync_to_async(self.__enter__)()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await sync_to_async(self.__exit__)(kind, error, trace)

    @property
    def events(self) -> list[Event]:
        """The events, in the order in which they were sent."""
        return [published.event for published in self]

    def to_room(self, room: str, *, namespace: str | None = None) -> list[Event]:
        """The events published to a room."""
        return self._to(Room(room), namespace)

    def to_user(self, user: object, *, namespace: str | None = None) -> list[Event]:
        """The events published to a user."""
        return self._to(User(user), namespace)

    def _to(self, audience: Audience, namespace: str | None) -> list[Event]:
        return [
            published.event
            for published in self
            if published.audience == audience and namespace in (None, published.namespace)
        ]

    def _note(self, outgoing: Outgoing) -> None:
        if isinstance(outgoing.item, PublishMessage) and outgoing.event is not None:
            self.append(Published(outgoing.item.namespace, outgoing.item.audience, outgoing.event))


def _forget(alias: str, kept: int) -> None:
    del connections[alias].run_on_commit[kept:]
