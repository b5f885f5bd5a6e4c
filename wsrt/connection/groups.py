"""Groups: the rooms and the user of one connection, and the groups of the backplane that are held for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from django.core.exceptions import PermissionDenied

from ..addresses import Room, User, UserKey, group_name, user_key
from ..cluster.node import Node
from ..delivery.subscriber import Subscriber
from ..exceptions import TooManyRooms
from ..protocol.envelope import reserved
from ..protocol.frame import Frame
from .hooks import Hooks, call
from .presence import ConnectionPresence


class _Join:
    """A join that is under way."""

    __slots__ = ("is_stale", "is_void", "room")

    def __init__(self, room: str) -> None:
        self.room = room
        # Whether the permission has to be asked: at first, and whenever it may have changed.
        self.is_stale = True
        # Set when the connection is taken out of the room in the meantime.
        self.is_void = False


class Groups:
    """
    Where one connection belongs.

    Args:
        node: where the connection lives.
        alias: the channel layer.
        connection: whose rooms and user these are.
        hooks: asked whether the connection may join a room.
        presence: follows the connection into its rooms.
        max_rooms: the number of rooms that it may be in.
        announces: whether the client is sent ``wsrt.joined`` and ``wsrt.left``.
        is_open: whether the connection still takes part.
    """

    def __init__(
        self,
        node: Node,
        alias: str,
        subscriber: Subscriber,
        *,
        hooks: Hooks,
        presence: ConnectionPresence,
        max_rooms: int,
        announces: bool,
        is_open: Callable[[], bool],
    ) -> None:
        self._node = node
        self._alias = alias
        self._subscriber = subscriber
        self._hooks = hooks
        self._presence = presence
        self._max_rooms = max_rooms
        self._announces = announces
        self._is_open = is_open
        self._held: set[str] = set()
        # The user that the consumer named. None until it is asked, and for no user.
        self._identity: UserKey | None = None
        # Whether the consumer set or cleared its user, and isn't asked for it.
        self._is_user_set = False
        # Users are taken in the order in which they are said.
        self._binding = asyncio.Lock()
        # Joins that wait for a permission or for the layer.
        self._joins: set[_Join] = set()
        # Set at the end of the connection: a group that is taken after it would never be given back.
        self._is_over = False

    async def identify(self) -> None:
        """Ask whose connection it is, unless that was said. Raises what ``identity`` raises, TypeError, ValueError."""
        if self._is_user_set:
            return
        user = await call(self._hooks.identity)
        self._identity = None if user is None else user_key(user)

    async def enter(self) -> None:
        """
        Register the connection: everyone's, its user's and its own address reach it now.

        Raises:
            BackplaneUnavailable: the layer did not take it.
        """
        await self._hold("everyone", "")
        if self._is_open():
            self._node.hub.add(self._subscriber)
        if not self._is_user_set:
            await self._bind(self._identity)

    async def join(self, room: str) -> None:
        """
        Join a room, if ``authorize_room`` allows; in a room that it is in already, ask again what it shows there.

        Raises:
            PermissionDenied: ``authorize_room`` refused.
            TooManyRooms: the connection is in ``max_rooms`` rooms.
            BackplaneUnavailable: the layer did not take it.
        """
        subscriber = self._subscriber
        if not self._is_open():
            return
        if room in subscriber.rooms:
            if self._hooks.presence:
                await self._presence.join(room)
            return
        if len({room, *subscriber.rooms, *(join.room for join in self._joins)}) > self._max_rooms:
            raise TooManyRooms(self._max_rooms)
        join = _Join(room)
        self._joins.add(join)
        try:
            while join.is_stale:
                join.is_stale = False
                if not await call(self._hooks.authorize_room, room):
                    raise PermissionDenied(f"You may not join {room!r}")
                if not await self._hold("room", room):
                    return
            if join.is_void:
                raise PermissionDenied(f"You were taken out of {room!r} while you joined it")
            self._node.hub.join(subscriber, room)
        finally:
            self._joins.discard(join)
            if room not in subscriber.rooms and all(other.room != room for other in self._joins):
                self._drop("room", room)
        self._announce(reserved("wsrt.joined", {"room": room}))
        await self._presence.join(room)

    def question(self) -> None:
        """Withhold what is published to the connection until admit(), and have joins under way ask again."""
        self._node.hub.withhold(self._subscriber)
        for join in self._joins:
            join.is_stale = True

    def admit(self) -> None:
        """Deliver what was withheld, but for the rooms that the connection has left since."""
        self._node.hub.admit(self._subscriber)

    async def show_again(self) -> None:
        """Show the members of each room what ``member`` returns now. Raises what that raises."""
        await self._presence.refresh()

    def remove(self, room: str) -> bool:
        """
        Take the connection out of a room now: nothing that is published from here on, or waits, reaches its client.

        Joins of the room that are under way fail.

        Returns:
            Whether it was in the room.
        """
        for join in self._joins:
            join.is_void |= join.room == room
        was_in = room in self._subscriber.rooms
        self.leave(room)
        self._subscriber.outbox.purge(Room(room))
        return was_in

    def remove_all(self) -> None:
        """Take the connection out of every room that it is in, or joins."""
        for room in {*self._subscriber.rooms, *(join.room for join in self._joins)}:
            self.remove(room)

    def leave(self, room: str) -> None:
        """Leave a room; does nothing if the connection is not in it."""
        if not self._is_open() or room not in self._subscriber.rooms:
            return
        self._node.hub.leave(self._subscriber, room)
        self._drop("room", room)
        self._presence.leave(room)
        self._announce(reserved("wsrt.left", {"room": room}))

    async def bind(self, user_id: UserKey | None) -> None:
        """Belong to a user, whatever ``identity`` says; None for no user. Raises BackplaneUnavailable."""
        self._is_user_set = True
        await self._bind(user_id)

    def end(self) -> None:
        """Leave the hub and give everything back."""
        self._is_over = True
        self._node.hub.remove(self._subscriber)
        for group in list(self._held):
            self._release(group)

    # Private.

    async def _bind(self, user_id: UserKey | None) -> None:
        async with self._binding:
            before = self._subscriber.user_id
            if user_id == before:
                return
            if user_id is not None:
                await self._hold("user", user_id)
            if self._is_open():
                self._node.hub.bind(self._subscriber, user_id)
            if before is not None:
                self._drop("user", before)
                # What waits, until on_connect returns, perhaps, was for somebody else.
                self._subscriber.outbox.purge(User(before))
        if self._subscriber.user_id != before:
            await self._presence.rebind()

    async def _hold(self, kind: str, name: str) -> bool:
        """Be in a group while this connection lasts; return whether it still does. Raises BackplaneUnavailable."""
        backplane = self._node.backplane(self._alias)
        group = group_name(kind, self._subscriber.realm, name)
        if backplane is None or group in self._held:
            return self._is_open()
        await backplane.acquire(group)
        if self._is_over or group in self._held:
            # The connection ended in the meantime, or another task of it took the same group.
            backplane.release(group)
        else:
            self._held.add(group)
        return self._is_open()

    def _drop(self, kind: str, name: str) -> None:
        self._release(group_name(kind, self._subscriber.realm, name))

    def _release(self, group: str) -> None:
        if group in self._held:
            self._held.discard(group)
            backplane = self._node.backplane(self._alias)
            if backplane is not None:
                backplane.release(group)

    def _announce(self, frame: Frame) -> None:
        if self._announces:
            self._subscriber.outbox.put_direct(frame)
