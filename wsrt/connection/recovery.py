"""The recovery of one connection: in each room, its client receives missed publications before new ones."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..addresses import Room
from ..close_codes import CONNECTION_SETUP_FAILED, Close
from ..cluster.node import Node
from ..delivery.jitter import jittered
from ..delivery.subscriber import Subscriber
from ..delivery.tasks import start_task
from ..exceptions import StoreUnavailable
from ..history.followed import Missing
from ..history.follower import joined
from ..metrics import counters
from ..protocol.claims import Claims
from ..protocol.namespaces import namespaces
from ..realms import RoomId
from ..types import Position

T = TypeVar("T")

CLAIM_SECONDS = 1.0
"""How long the server waits for the first frame of a ``wsrt.v1`` client, which may claim positions, in seconds."""

PATIENCE_SECONDS = 5.0
"""How long the server tries to read the history before it closes a connection that needs it, in seconds."""

logger = logging.getLogger("wsrt")


class Recovery:
    """
    The rooms with history of one connection.

    The first frame of a ``wsrt.v1`` client may contain claims: the last position that it has in each room. A claim
    takes effect when the server has joined the connection to the room, so all permissions are checked again. Until the
    first frame has arrived, and while the missed publications are being read, the publications of the room wait.

    Args:
        node: The node that holds the connection.
        subscriber: The connection.
        namespace: The namespace of the consumer.
        close: Closes the connection.
    """

    __slots__ = (
        "_claims",
        "_close",
        "_first_frame",
        "_followed",
        "_has_answered_late",
        "_has_ended",
        "_is_released",
        "_node",
        "_queue",
        "_subscriber",
        "_task",
        "_wake",
        "is_used",
        "keeps_values",
    )

    def __init__(self, node: Node, subscriber: Subscriber, *, namespace: str, close: Callable[[Close], None]) -> None:
        self._node = node
        self._subscriber = subscriber
        self._close = close
        kinds = namespaces.kept_in(namespace)
        self.is_used = bool(kinds)
        self.keeps_values = "latest" in kinds
        # None until the first frame has come, or was waited for long enough.
        self._claims: dict[str, Position] | None = None
        self._is_released = False
        self._has_answered_late = False
        self._has_ended = False
        # The rooms that are followed for this connection.
        self._followed: set[str] = set()
        # The rooms whose frames are held, with the positions at which the connection entered them.
        self._queue: dict[str, Position] = {}
        self._task: asyncio.Task[None] | None = None
        # Resolved when the task may go on. None while it doesn't wait.
        self._wake: asyncio.Future[None] | None = None

    # Rooms.

    async def prepare(self, room: str) -> None:
        """
        Follow the history of a room, before the connection enters it.

        Raises:
            StoreUnavailable: The store didn't answer.
        """
        if not self.is_used or room in self._followed:
            return
        room_id = self._id(room)
        await self._node.history.follow(room_id)
        if self._has_ended or room in self._followed:
            # The connection ended in the meantime, or another of its tasks joins the same room.
            self._node.history.unfollow(room_id)
            return
        self._followed.add(room)
        if self.keeps_values:
            await self._node.history.load_values(room_id)

    def enter(self, room: str) -> bool:
        """
        Note that the connection has just entered a room.

        Returns:
            Whether ``wsrt.joined`` will be sent later, once the claims of the client are known.
        """
        if room not in self._followed:
            return False
        room_id = self._id(room)
        position = self._node.history.position(room_id)
        if not self._subscriber.is_extended:
            self._send_values(room, position)
            return False
        self._node.hub.hold(self._subscriber, room)
        self._queue[room] = position
        if self._task is None:
            self._task = start_task(self._node.loop, self._run(), context=contextvars.Context())
        return True

    def leave(self, room: str) -> None:
        """Note that the connection has left a room, or that its join has failed."""
        self._queue.pop(room, None)
        if room in self._followed:
            self._followed.discard(room)
            self._node.history.unfollow(self._id(room))

    def end(self) -> None:
        """Stop following all rooms."""
        self._has_ended = True
        if self._task is not None:
            self._task.cancel()
        for room in list(self._followed):
            self.leave(room)

    # Progress of the connection.

    def receive(self, claims: Claims | None) -> None:
        """
        Take the claims of the client.

        Args:
            claims: Those of ``wsrt.resume``. None if the client's first frame was another one.
        """
        if claims is not None and claims.refused:
            counters.count("history_claims_refused", times=claims.refused)
        if self._claims is None:
            self._claims = dict(claims or {})
            self._go_on()
        elif claims and not self._has_answered_late:
            # Once: the answers would be many more bytes than the claims.
            self._has_answered_late = True
            # Those that it is still joining are answered when it has joined them.
            told = [room for room in self._subscriber.rooms if room in self._followed and room not in self._queue]
            for room in filter(claims.__contains__, told):
                position = self._node.history.position(self._id(room))
                self._subscriber.outbox.put_direct(joined(room, position, reason="late"))

    def release(self) -> None:
        """Note the end of the set-up: publications are sent from now on."""
        self._is_released = True
        self._go_on()

    # Private.

    def _id(self, room: str) -> RoomId:
        return self._subscriber.realm, room

    def _go_on(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        try:
            await self._wait_for_set_up()
            while self._queue:
                # A replay is at most a part of an outbox. The next one waits until the client has read most of it.
                await self._subscriber.outbox.wait_for_space()
                if self._queue:
                    await self._recover(next(iter(self._queue)))
        except StoreUnavailable as error:
            # The client reconnects and claims the same again.
            counters.count(
                "history_recoveries_failed",
                "closed a connection, because the history of its rooms can't be read: %s",
                error,
            )
            self._close(CONNECTION_SETUP_FAILED)
        except Exception:
            logger.exception("failed to send connection %s what it has missed, and closed it", self._subscriber.id)
            self._close(CONNECTION_SETUP_FAILED)
        finally:
            self._task = None

    async def _wait_for_set_up(self) -> None:
        loop = self._node.loop
        while not self._is_released:
            self._wake = loop.create_future()
            await self._wake
        if self._claims is None:
            self._wake = loop.create_future()
            await asyncio.wait({self._wake}, timeout=CLAIM_SECONDS)
            if self._claims is None:
                self._claims = {}

    async def _recover(self, room: str) -> None:
        """Send ``wsrt.joined`` with the position of a room, and the publications that the client has missed."""
        history, room_id = self._node.history, self._id(room)
        claims = self._claims or {}
        claim = claims.get(room)
        missing: Missing | None = None
        if claim is not None:
            missing = await self._patiently(lambda: history.cover(room_id, claim))
        if self.keeps_values:
            # They were loaded before the join, but perhaps of a history that was lost since.
            await self._patiently(lambda: history.load_values(room_id))
        # No await from here on: the log has what is missing.
        position = self._queue.pop(room, None)
        if position is None or room not in self._subscriber.rooms:
            return  # it has left the room, perhaps to join it again: the claim still holds
        claims.pop(room, None)
        held = self._node.hub.release(self._subscriber, room)
        missed = history.missed(room_id, claim, position) if claim is not None and missing is None else None
        if missed is not None:
            self._subscriber.outbox.put_direct(joined(room, position, count=len(missed)))
            counters.count("history_recovered")
            for logged in missed:
                self._node.hub.deliver_to(self._subscriber, Room(room), logged.frame)
        else:
            reason = missing or ("epoch" if claim is not None else None)
            if reason is not None:
                counters.count("history_not_recovered")
            values = history.values(room_id, position)
            lacks_values = history.lacks_values(room_id, position)
            frame = joined(room, position, reason=reason, values=len(values), lacks_values=lacks_values)
            self._subscriber.outbox.put_direct(frame)
            self._send_values(room, position)
        for audience, frame in held:
            self._node.hub.deliver_to(self._subscriber, audience, frame)

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T | None:
        """
        Let the node read what the connection needs, and try again after errors. None if the connection left the room.

        Raises:
            StoreUnavailable: The store hasn't answered for PATIENCE_SECONDS.
        """
        loop = self._node.loop
        until = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return await read()
            except StoreUnavailable:
                if loop.time() >= until:
                    raise
            except LookupError:
                return None
            await asyncio.sleep(jittered(0.5))

    def _send_values(self, room: str, position: Position) -> None:
        for logged in self._node.history.values(self._id(room), position):
            self._node.hub.deliver_to(self._subscriber, Room(room), logged.frame)
