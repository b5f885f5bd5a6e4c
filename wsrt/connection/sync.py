"""The synchronous methods of a consumer, for ``def`` handlers and hooks, which run in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ..addresses import Audience
from ..close_codes import NORMAL
from ..exceptions import WrongContext
from ..protocol.events import Event
from ..types import Publication
from .threads import run_in_loop

T = TypeVar("T")


class Methods(Protocol):
    """The asynchronous methods of a consumer."""

    def send(self, event: Event) -> Coroutine[Any, Any, None]: ...
    def publish_to_room(
        self, room: str, event: Event, *, idempotency_key: str | None = None
    ) -> Coroutine[Any, Any, Publication | None]: ...
    def publish_to_others(self, room: str, event: Event) -> Coroutine[Any, Any, Publication | None]: ...
    def publish_to_user(self, user: object, event: Event) -> Coroutine[Any, Any, Publication | None]: ...
    def publish_to_audience(self, audience: Audience, event: Event) -> Coroutine[Any, Any, Publication | None]: ...
    def broadcast(self, event: Event) -> Coroutine[Any, Any, Publication | None]: ...
    def join(self, room: str, *, key: str | None = None) -> Coroutine[Any, Any, None]: ...
    def leave(self, room: str, *, key: str | None = None) -> Coroutine[Any, Any, None]: ...
    def set_user_id(self, user: object) -> Coroutine[Any, Any, None]: ...
    def clear_user_id(self) -> Coroutine[Any, Any, None]: ...
    def close(self, code: int = ..., reason: str = ...) -> Coroutine[Any, Any, None]: ...


class SyncMethods:
    """
    The methods of a consumer for ``def`` handlers and hooks, as ``self.sync``.

        @on
        def open_document(self, event: OpenDocument) -> None:
            self.sync.join(event.slug)

    Each method runs the asynchronous method of the same name in the event loop and returns its result, with the same
    guarantees and exceptions. ``def`` hooks that it calls, such as ``authorize_room``, run in the calling thread and
    within its transaction.

    Args:
        loop: The event loop of the connection.
        consumer: The consumer.

    Raises:
        WrongContext: A method was called in an event loop; await the consumer's own method instead.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, consumer: Methods) -> None:
        self._loop = loop
        self._consumer = consumer

    def send(self, event: Event) -> None:
        """Send an event to this client only. See TypedEventConsumer.send()."""
        return self._run("send", lambda: self._consumer.send(event))

    def publish_to_room(self, room: str, event: Event, *, idempotency_key: str | None = None) -> Publication | None:
        """Publish to every connection in a room. See TypedEventConsumer.publish_to_room()."""
        return self._run(
            "publish_to_room", lambda: self._consumer.publish_to_room(room, event, idempotency_key=idempotency_key)
        )

    def publish_to_others(self, room: str, event: Event) -> Publication | None:
        """Publish to every connection in a room except this one. See TypedEventConsumer.publish_to_others()."""
        return self._run("publish_to_others", lambda: self._consumer.publish_to_others(room, event))

    def publish_to_user(self, user: object, event: Event) -> Publication | None:
        """Publish to all connections of a user. See TypedEventConsumer.publish_to_user()."""
        return self._run("publish_to_user", lambda: self._consumer.publish_to_user(user, event))

    def publish_to_audience(self, audience: Audience, event: Event) -> Publication | None:
        """Publish to an address or an expression of addresses. See TypedEventConsumer.publish_to_audience()."""
        return self._run("publish_to_audience", lambda: self._consumer.publish_to_audience(audience, event))

    def broadcast(self, event: Event) -> Publication | None:
        """Publish to every connection of the namespace. See TypedEventConsumer.broadcast()."""
        return self._run("broadcast", lambda: self._consumer.broadcast(event))

    def join(self, room: str, *, key: str | None = None) -> None:
        """Join a room, if ``authorize_room`` allows it. See TypedEventConsumer.join()."""
        return self._run("join", lambda: self._consumer.join(room, key=key))

    def leave(self, room: str, *, key: str | None = None) -> None:
        """Leave a room, unless another key holds it. See TypedEventConsumer.leave()."""
        return self._run("leave", lambda: self._consumer.leave(room, key=key))

    def set_user_id(self, user: object) -> None:
        """Make the connection belong to a user. See TypedEventConsumer.set_user_id()."""
        return self._run("set_user_id", lambda: self._consumer.set_user_id(user))

    def clear_user_id(self) -> None:
        """Make the connection belong to no user. See TypedEventConsumer.clear_user_id()."""
        return self._run("clear_user_id", self._consumer.clear_user_id)

    def close(self, code: int = NORMAL.code, reason: str = "") -> None:
        """Close the connection after sending what is queued. See TypedEventConsumer.close()."""
        return self._run("close", lambda: self._consumer.close(code, reason))

    def _run(self, method: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return run_in_loop(self._loop, work)
        raise WrongContext(f"self.sync.{method}() would block the event loop: await self.{method}(...) instead")
