"""The rooms and the user of one connection, and the backplane groups that are held for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from django.core.exceptions import PermissionDenied

from ..addresses import Room, User, UserKey, group_name, user_key
from ..cluster.node import Node
from ..delivery.subscriber import Subscriber
from ..exceptions import TooManyRooms
from ..metrics import counters
from ..protocol.envelope import reserved
from ..protocol.frame import Frame
from .holds import Holds, Key
from .hooks import Hooks, allows, call
from .places import ConnectionPlaces
from .presence import ConnectionPresence
from .recovery import Recovery


class _Join:
    """
    A join that is under way.

    Attributes:
        room: The name of the room.
        key: The key that will hold the room.
        is_stale: Whether ``authorize_room`` has to be called: at first, and again whenever permissions may have
            changed.
        is_void: Whether the connection was removed from the room in the meantime.
        is_left: Whether leave() was called for the same key in the meantime.
    """

    __slots__ = ("is_left", "is_stale", "is_void", "key", "room")

    def __init__(self, room: str, key: Key) -> None:
        self.room = room
        self.key = key
        self.is_stale = True
        self.is_void = False
        self.is_left = False


class Groups:
    """
    The rooms and the user of one connection.

    The hub knows which local connections are in a room. The backplane knows whether this node is in the group of the
    room. A connection holds each group that it needs, and the node stays in the group while any connection holds it.
    A join first acquires the group and then enters the hub, so that no publication is missed once it returns. A leave
    works in the opposite order.

    Args:
        node: The node that holds the connection.
        alias: The alias of the channel layer.
        subscriber: The connection.
        hooks: The consumer, whose ``authorize_room`` and ``identity`` are called.
        presence: The presence of the connection, which is notified of each join and leave.
        recovery: The rooms with history of the connection.
        places: The places of the connection, among those of its user.
        max_rooms: The number of rooms that it may be in.
        announces: Whether the client gets ``wsrt.joined`` and ``wsrt.left``.
        is_open: Whether the connection is still open.
    """

    def __init__(
        self,
        node: Node,
        alias: str,
        subscriber: Subscriber,
        *,
        hooks: Hooks,
        presence: ConnectionPresence,
        recovery: Recovery,
        places: ConnectionPlaces,
        max_rooms: int,
        announces: bool,
        is_open: Callable[[], bool],
    ) -> None:
        self._node = node
        self._alias = alias
        self._subscriber = subscriber
        self._hooks = hooks
        self._presence = presence
        self._recovery = recovery
        self._places = places
        self._max_rooms = max_rooms
        self._announces = announces
        self._is_open = is_open
        # The backplane groups that this connection holds.
        self._held: set[str] = set()
        # The user that ``identity`` returned. None until it was called, and for no user.
        self._identity: UserKey | None = None
        # Whether the consumer has set or cleared its user, so that ``identity`` isn't called.
        self._is_user_set = False
        # Changes of the user are made in the order of the calls, each of which waits for the backplane.
        self._binding_lock = asyncio.Lock()
        # The keys that hold the rooms in which the connection is.
        self._holds = Holds()
        # Joins that wait for ``authorize_room`` or for the backplane.
        self._joins: set[_Join] = set()
        # Whether the connection has ended. A group that is acquired later would never be released.
        self._has_ended = False

    async def identify(self) -> None:
        """
        Call ``identity``, unless the consumer has set or cleared its user.

        Raises:
            Exception: Anything that ``identity`` raises.
            TypeError, ValueError: Its result can't be a user.
        """
        if self._is_user_set:
            return
        user = await call(self._hooks.identity)
        self._identity = None if user is None else user_key(user)

    async def claim_place(self) -> bool:
        """
        Ask for a place among the connections of the user that ``identity`` returned.

        Returns:
            Whether the connection may go on. If not, it was closed.
        """
        # A user that the consumer has set has a place already, see _bind().
        return self._identity is None or self._is_user_set or await self._places.claim_user(self._identity)

    async def register(self) -> None:
        """
        Add the connection to the hub: publications to everyone, to its user and to its own address now reach it.

        Raises:
            BackplaneUnavailable: The channel layer didn't confirm that the node joined a group.
        """
        await self._acquire("everyone", "")
        # If the connection was closed in the meantime, the hub would keep it forever.
        if self._is_open():
            self._node.hub.add(self._subscriber)
        if not self._is_user_set:
            await self._bind(self._identity)

    async def join(self, room: str, key: Key = None) -> None:
        """
        Let a key hold a room. If the connection isn't in the room yet, join it, if ``authorize_room`` allows it.

        When this returns, publications to the room reach the connection. Does nothing if the connection is closed, even
        in the meantime, or if leave() is called for the key in the meantime.

        Raises:
            PermissionDenied: ``authorize_room`` refused, or the connection was removed from the room in the meantime.
            TooManyRooms: The connection is already in ``max_rooms`` rooms, including those that it is joining.
            TooManyKeys: Too many keys hold the room already.
            BackplaneUnavailable: The channel layer didn't confirm that the node joined the group, or the position in
                the history of the room can't be read.
            WrongContext: A hook that this calls, such as ``member``, called this.
            Exception: Anything else that the hooks raise.
        """
        self._presence.check_not_in_hook("join")
        subscriber = self._subscriber
        if not self._is_open():
            return
        self._holds.require_space(room, key, {join.key for join in self._joins if join.room == room})
        if room in subscriber.rooms:
            self._holds.add(room, key)
            if self._presence.asks_hooks:
                await self._presence.join(room)
            return
        # Joins under way count, or concurrent joins would pass the limit together.
        if len({room, *subscriber.rooms, *(join.room for join in self._joins)}) > self._max_rooms:
            counters.count("rooms_over_limit")
            raise TooManyRooms(self._max_rooms)
        join = _Join(room, key)
        self._joins.add(join)
        try:
            # At each await below the connection may be closed, removed from this room (is_void), or have its
            # permissions changed (is_stale). It can also be cancelled: by the deadline of the set-up, or at the end of
            # the connection. Permission is therefore checked again after the backplane, until nothing has changed.
            while join.is_stale:
                join.is_stale = False
                if not await allows(self._hooks.authorize_room, room):
                    raise PermissionDenied(f"You may not join {room!r}")
                if not await self._acquire("room", room):
                    return
                # Raises StoreUnavailable, which is a BackplaneUnavailable.
                await self._recovery.prepare(room)
                if not self._is_open():
                    return
            if join.is_void:
                raise PermissionDenied(f"You were removed from {room!r} while you were joining it")
            if join.is_left:
                return
            # No await since the last check: the hub takes the connection in the state that was checked. Another join of
            # the same room, in another task, may have been faster.
            is_first = room not in subscriber.rooms
            self._holds.add(room, key)
            self._node.hub.join(subscriber, room)
            is_announced_later = is_first and self._recovery.enter(room)
        finally:
            # Whatever ended the join, the group is released unless it is in use: by this connection in the room, or by
            # another join of the same room, which a task of the application may have started.
            self._joins.discard(join)
            if room not in subscriber.rooms and all(other.room != room for other in self._joins):
                self._release("room", room)
                self._recovery.leave(room)
        if is_first and not is_announced_later:
            self._announce(reserved("wsrt.joined", {"room": room}))
        # Raises anything that member() raises. The connection is in the room nevertheless.
        await self._presence.join(room)

    def withhold(self) -> None:
        """Withhold publications to the connection until admit(), and make joins under way check permission again."""
        self._node.hub.withhold(self._subscriber)
        for join in self._joins:
            join.is_stale = True

    def admit(self) -> None:
        """Deliver the publications that were withheld, except those for rooms that the connection has left since."""
        self._node.hub.admit(self._subscriber)

    async def refresh_presence(self) -> None:
        """Call ``member`` again for each room, and update presence. Raises anything that ``member`` raises."""
        await self._presence.refresh()

    def remove(self, room: str) -> bool:
        """
        Remove the connection from a room at once, whatever keys hold it.

        No later publication to the room reaches the client, nor do those that wait in its outbox. Joins of the room
        that are under way raise PermissionDenied.

        Returns:
            Whether the connection was in the room.
        """
        for join in self._joins:
            join.is_void |= join.room == room
        was_in = room in self._subscriber.rooms
        self._leave(room)
        self._subscriber.outbox.purge(Room(room))
        return was_in

    def remove_all(self) -> None:
        """Remove the connection from every room that it is in or is joining."""
        for room in {*self._subscriber.rooms, *(join.room for join in self._joins)}:
            self.remove(room)

    def leave(self, room: str, key: Key = None) -> None:
        """Let a key no longer hold a room, and leave the room if it was the last one that held it."""
        for join in self._joins:
            join.is_left |= join.room == room and join.key == key
        if self._is_open() and self._holds.release(room, key):
            self._leave(room)

    async def bind(self, user_id: UserKey | None) -> None:
        """
        Make the connection belong to a user, in place of the one that ``identity`` returned.

        Args:
            user_id: The key of the user. None for no user.

        Raises:
            BackplaneUnavailable: The channel layer didn't confirm that the node joined the group of the user.
            WrongContext: A hook that this calls, such as ``member``, called this.
        """
        self._presence.check_not_in_hook("set_user_id" if user_id is not None else "clear_user_id")
        self._is_user_set = True
        await self._bind(user_id)

    def end(self) -> None:
        """Leave the hub and release every group. Joins that are still under way release theirs, see _acquire()."""
        self._has_ended = True
        self._node.hub.remove(self._subscriber)
        self._recovery.end()
        for group in list(self._held):
            self._release_group(group)

    # Private.

    def _leave(self, room: str) -> None:
        if not self._is_open() or room not in self._subscriber.rooms:
            return
        self._holds.forget(room)
        self._node.hub.leave(self._subscriber, room)
        self._release("room", room)
        self._recovery.leave(room)
        self._presence.leave(room)
        self._announce(reserved("wsrt.left", {"room": room}))

    async def _bind(self, user_id: UserKey | None) -> None:
        async with self._binding_lock:
            before = self._subscriber.user_id
            if user_id == before:
                return
            if user_id is not None:
                if not await self._places.claim_user(user_id):
                    return  # it was closed
                # Raises BackplaneUnavailable, and then the connection belongs to the same user as before.
                try:
                    await self._acquire("user", user_id)
                except BaseException:
                    self._places.release_user(user_id)
                    raise
            # The connection may have been closed in the meantime.
            if self._is_open():
                self._node.hub.bind(self._subscriber, user_id)
            if before is not None:
                self._release("user", before)
                self._places.release_user(before)
                # Frames that wait in the outbox, perhaps until on_connect returns, are for the previous user.
                self._subscriber.outbox.purge(User(before))
        # Outside the lock: this calls the hook member(), and other changes of the user needn't wait for it.
        if self._subscriber.user_id != before:
            await self._presence.rebind()

    async def _acquire(self, kind: str, name: str) -> bool:
        """Hold a group for the connection; return whether the connection is still open. Raises BackplaneUnavailable."""
        backplane = self._node.backplane(self._alias)
        group = group_name(kind, self._subscriber.realm, name)
        if backplane is None or group in self._held:
            return self._is_open()
        # Raises BackplaneUnavailable if the layer doesn't confirm in time. If this task is cancelled, the backplane
        # goes on without it, and leaves the group if no other connection needs it.
        await backplane.acquire(group)
        if self._has_ended or group in self._held:
            # The connection ended in the meantime, or another of its tasks acquired the same group.
            backplane.release(group)
        else:
            self._held.add(group)
        return self._is_open()

    def _release(self, kind: str, name: str) -> None:
        self._release_group(group_name(kind, self._subscriber.realm, name))

    def _release_group(self, group: str) -> None:
        if group in self._held:
            self._held.discard(group)
            backplane = self._node.backplane(self._alias)
            if backplane is not None:
                backplane.release(group)

    def _announce(self, frame: Frame) -> None:
        if self._announces:
            self._subscriber.outbox.put_direct(frame)
