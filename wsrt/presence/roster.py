"""
The members of one room as one node shows them to the room's connections on this node.

The room is loaded from the store once for all connections. Then the changes that nodes publish keep it up to date,
applied in the order of their versions. If a version is missing for a second, the room is loaded again. Differences are
collected for a while, encoded once, and sent to all connections of the room.

All methods run in the node's event loop. The only ``await`` is in ``_load()``, so that is where the state may change in
the meantime.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from ..delivery.jitter import jittered
from ..delivery.subscriber import Subscriber
from ..delivery.tasks import start_task
from ..metrics import counters
from ..protocol.envelope import reserved
from ..protocol.frame import Frame
from .base import Change, MemberRecord, PresenceStore, Snapshot, StoreUnavailable
from .payloads import is_visible_change, payload_of
from .timespan import TimeSpan

MAX_LISTED = 1000
"""The maximum number of members that are shown as a list. A larger room is shown as a count."""

RELISTED_BELOW = 900
"""The number of users below which a room that is shown as a count is shown as a list again."""

MAX_LISTED_BYTES = 262_144
"""The maximum number of bytes of a list: a quarter of what an outbox holds by default."""

RELISTED_SHARE = 0.9
"""A room whose list had too many bytes is shown as a list again when only this share of its users is left."""

MAX_WAITING = 1000
"""The maximum number of changes kept while an earlier version is missing, or while the room is being loaded."""

WINDOWS = ((100, 0.25), (1000, 1.0))
"""The seconds for which differences are collected, by the largest number of members that they apply to."""

LONGEST_WINDOW = 5.0
"""The seconds for which differences are collected in larger rooms."""

GAP_SECONDS = 1.0
"""Seconds to wait for a missing version, as the channel layer may deliver it late."""

RETRY_SECONDS = 2.0
"""Seconds after which a failed load is tried again."""

MemberChange = tuple[Literal["joined", "left"], str | None]
"""A user who joined or left, by user id. None for the first guest who joined, or the last one who left."""

Hook = Callable[[str, Sequence[MemberChange]], None]
"""Called with the name of a room and the users who joined or left it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watcher:
    """
    A connection to which the members of a room are shown.

    Attributes:
        subscriber: The connection.
        wants_frames: Whether its client understands ``wsrt.presence`` frames.
        hook: Called with each difference. None if the consumer has no presence hooks.
        sees: Whether the connection sees the members of a room at all.
    """

    subscriber: Subscriber
    wants_frames: bool
    hook: Hook | None
    sees: Callable[[str], bool] = lambda room: True


class Roster:
    """
    The members of one room, shown to its watchers.

    Args:
        loop: The node's event loop.
        store: The presence store.
        namespace: The realm of the room: its namespace, plus the tenant if there is one. See wsrt.realms.
        room: The room's name.
        is_here: Returns whether a user (None for the guests) has a connection to the room on this node. Such users are
            never reported as gone. If this process was stopped for longer than its lease, other nodes report that its
            users have left, although they are still connected; this node then writes them to the store again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: PresenceStore,
        namespace: str,
        room: str,
        is_here: Callable[[str | None], bool],
    ) -> None:
        self._loop = loop
        self._store = store
        self._is_here = is_here
        self.namespace = namespace
        self.room = room
        # By connection: the watcher, and whether it was sent the whole room.
        self.watchers: dict[Subscriber, tuple[Watcher, bool]] = {}
        # The version of the room. None until it is loaded for the first time.
        self.version: int | None = None
        self._users = 0
        self._guests = 0
        # The members by user id. None while the room is shown as a count.
        self._members: dict[str | None, MemberRecord] | None = {}
        # The size of the members in bytes, and its limit.
        self._bytes = 0
        self._most_bytes = MAX_LISTED_BYTES
        # The number of users below which a room that is shown as a count is loaded as a list again.
        self._list_below = RELISTED_BELOW
        # The users who have changed since the last frame, with their record in it. None if they weren't in the room.
        self._unsent: dict[str | None, MemberRecord | None] = {}
        # Whether the count has changed since the last frame. Used while the room is shown as a count.
        self._is_recounted = False
        # Users on this node whose "left" was ignored: they are still included in the counts.
        self._ignored_leaves: set[str | None] = set()
        # Changes that can't be applied yet, as an earlier version is missing, by version.
        self._out_of_order: dict[int, Change] = {}
        # Changes applied while the room is being loaded, by version. The snapshot may be older than they are; then they
        # are applied to it again.
        self._during_load: dict[int, Change] = {}
        # The version at the time when loading began.
        self._version_at_load: int | None = None
        self._loading: asyncio.Task[None] | None = None
        # Sends the next frames.
        self._send_timer: asyncio.TimerHandle | None = None
        # Checks for a missing version, or loads the room.
        self._load_timer: asyncio.TimerHandle | None = None
        # The span in which no further difference is sent.
        self._window = TimeSpan()
        # The span in which users who are missing in the store don't count as gone.
        self._recovery = TimeSpan()
        self._is_closed = False

    # Watchers.

    def watch(self, watcher: Watcher) -> None:
        """Send a connection the whole room, and from then on the differences."""
        self.watchers.setdefault(watcher.subscriber, (watcher, False))
        if watcher.wants_frames:
            # At worst, a list and a difference are in the outbox at the same time. They leave half of it to other
            # frames.
            self._limit_bytes(watcher.subscriber.outbox.limits.outbox_bytes // 4)
        if self.version is None:
            self.load()
        else:
            self._send_soon()

    def unwatch(self, subscriber: Subscriber) -> None:
        """Stop sending differences to a connection."""
        self.watchers.pop(subscriber, None)

    def close(self) -> None:
        """Cancel the timers and the load: no connection watches the room any more."""
        self._is_closed = True
        for handle in (self._send_timer, self._load_timer):
            if handle is not None:
                handle.cancel()
        if self._loading is not None:
            self._loading.cancel()

    # Changes.

    def receive(self, changes: Iterable[Change]) -> None:
        """Handle changes that a node has published."""
        if not self._store.is_versioned:
            self._load_soon()
            return
        for change in changes:
            if self.version is None or change.version > self.version:
                if len(self._out_of_order) >= MAX_WAITING:
                    # The store is away, or far ahead of this node. The room is loaded later, so these aren't needed.
                    counters.count("presence_changes_dropped", times=len(self._out_of_order))
                    self._out_of_order.clear()
                self._out_of_order[change.version] = change
        self._advance()
        if self._out_of_order and self._is_empty:
            # Only invisible connections were left. The store has removed the room and created it again, with higher
            # versions, so there are no changes to wait for.
            self.load()

    def check_version(self, version: int) -> None:
        """Compare with the store's version. If it still differs after a while, load the room again."""
        if self.version is None or version == self.version or (self._is_empty and not version):
            return
        self._check_soon(version)

    def expect_recovery(self, recovery: TimeSpan) -> None:
        """
        Don't report missing users as gone for some time, because the store has lost data and nodes write it again.

        The room is loaded again at the end of the span.
        """
        self._recovery = recovery
        if not self._is_closed:
            self._loop.call_later(recovery.left(self._loop.time()) + 0.01, self.load)

    def load(self) -> None:
        """Load the room from the store, in a task, unless it is already being loaded."""
        if self._loading is None and not self._is_closed:
            self._during_load, self._version_at_load = {}, self.version
            self._loading = start_task(self._loop, self._load())

    @property
    def _is_empty(self) -> bool:
        return not self._users and not self._guests

    def _advance(self) -> None:
        """Apply the received changes, in order, up to the first missing version."""
        if self.version is None:
            return  # the room is being loaded for the first time; the snapshot tells which changes are newer
        while self._out_of_order:
            change = self._out_of_order.pop(self.version + 1, None)
            if change is None:
                break
            self.version = change.version
            if self._loading is not None:
                self._remember(change)
            self._apply(change)
        if self._out_of_order:
            self._check_soon(max(self._out_of_order))

    def _remember(self, change: Change) -> None:
        """Remember a change while the room is being loaded, as the snapshot may be older than it."""
        if len(self._during_load) >= MAX_WAITING:
            # If the snapshot turns out to be older, there is a gap, or the version differs from the store's at the next
            # heartbeat. Either way the room is loaded again.
            counters.count("presence_changes_dropped", times=len(self._during_load))
            self._during_load.clear()
        self._during_load[change.version] = change

    def _check_soon(self, version: int) -> None:
        """Check in a while whether the room has reached ``version``."""
        if self._load_timer is None and not self._is_closed:
            self._load_timer = self._loop.call_later(GAP_SECONDS, self._check_gap, self.version, version)

    def _check_gap(self, before: int | None, wanted: int) -> None:
        """
        Load the room if versions are missing.

        Args:
            before: The room's version when the check was scheduled.
            wanted: The version that it should have reached.
        """
        self._load_timer = None
        version = self.version
        if version is None:
            return
        # The wanted version may be lower than ours: the room was emptied and created again, or the store has lost
        # writes. Then the version differs and hasn't moved.
        if version < wanted or (version == before and version != wanted):
            counters.count("presence_gaps_healed")
            self.load()

    def _apply(self, change: Change) -> None:
        """Apply one change to the counts and, if the room is shown as a list, to its members."""
        user = change.user_id
        if change.kind == "left" and self._is_here(user):
            self._ignored_leaves.add(user)
            return
        if user is None:
            self._guests = change.connections
        elif user not in self._ignored_leaves:
            self._users += {"joined": 1, "left": -1, "changed": 0}[change.kind]
        self._ignored_leaves.discard(user)
        if self._members is None:
            # A count doesn't show the data of users.
            self._is_recounted |= user is None or change.kind != "changed"
            if self._users < self._list_below:
                self.load()
        elif change.kind == "left":
            self._remove_member(user)
        else:
            self._put_member(MemberRecord(user, change.connections, change.data))
        self._send_soon()

    def _put_member(self, member: MemberRecord) -> None:
        assert self._members is not None  # noqa: S101 - checked by the caller
        user = member.user_id
        before = self._members.get(user)
        self._unsent.setdefault(user, before)
        self._members[user] = member
        self._bytes += member.size - (before.size if before is not None else 0)
        if len(self._members) > MAX_LISTED:
            self._switch_to_count()
        else:
            self._limit_bytes(self._most_bytes)

    def _remove_member(self, user: str | None) -> None:
        assert self._members is not None  # noqa: S101 - checked by the caller
        known = self._members.pop(user, None)
        if known is not None:
            self._bytes -= known.size
            self._unsent.setdefault(user, known)

    def _limit_bytes(self, most: int) -> None:
        """
        Lower the limit of the list's bytes to ``most`` if it is higher, and switch to a count if the list exceeds it.
        """
        self._most_bytes = min(self._most_bytes, most)
        if self._members is not None and self._bytes > self._most_bytes:
            self._switch_to_count()
            self._send_soon()

    def _switch_to_count(self) -> None:
        """Show the room as a count from now on."""
        self._members, self._bytes = None, 0
        self._unsent = {}
        self._is_recounted = True
        # A list that had too many bytes may fit again when some of the users have left.
        self._list_below = min(RELISTED_BELOW, int(RELISTED_SHARE * self._users))

    # Loading.

    def _load_soon(self) -> None:
        """Load the room in a moment, once for several messages."""
        if self._load_timer is None and not self._is_closed:
            # Jittered: all nodes get the message at the same time and shouldn't read at the same time.
            self._load_timer = self._loop.call_later(jittered(0.25, 0.2), self._load_now)

    def _load_now(self) -> None:
        self._load_timer = None
        self.load()

    async def _load(self) -> None:
        """Load the room and apply the snapshot. Retried later if the store didn't answer."""
        try:
            # During this await, watch() and unwatch() change the watchers and may lower _most_bytes, and receive()
            # applies further changes, which _remember() keeps. close() raises CancelledError here.
            snapshot = await self._store.snapshot(self.namespace, self.room, MAX_LISTED, max_bytes=self._most_bytes)
        except StoreUnavailable as error:
            counters.count("presence_unavailable", "failed to load the members of a room, retrying: %s", error)
            self._loading = None
            self._load_timer = self._load_timer or self._loop.call_later(jittered(RETRY_SECONDS), self._load_now)
            return
        self._loading = None
        self._apply_snapshot(snapshot)

    def _apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the room's state by a snapshot. Differences from the last frame are sent as changes."""
        is_first = self.version is None
        if self._store.is_versioned:
            if self._version_at_load is None or snapshot.version >= self._version_at_load:
                self._out_of_order |= self._during_load
            else:
                # The store's version went back, as the room was created again or writes were lost. The changes received
                # so far belong to the old count of versions.
                self._out_of_order = {}
            self.version = snapshot.version
        else:
            self.version = (self.version or 0) + 1
        self._out_of_order = {number: change for number, change in self._out_of_order.items() if number > self.version}
        self._users, self._guests = snapshot.count.users, snapshot.count.guests
        self._ignored_leaves.clear()
        if snapshot.members is None:
            self._switch_to_count()
        elif is_first or self._members is None:
            self._members = {member.user_id: member for member in snapshot.members}
            self._bytes = sum(member.size for member in snapshot.members)
            self._unsent = {}
            # Connections that saw a count, or nothing so far, are sent the whole list.
            self.watchers = {subscriber: (watcher, False) for subscriber, (watcher, _) in self.watchers.items()}
        else:
            here = {member.user_id: member for member in snapshot.members}
            if not self._recovery.includes(self._loop.time()):
                for user in [user for user in self._members if user not in here and not self._is_here(user)]:
                    self._remove_member(user)
            for user, member in here.items():
                if self._members is not None and self._members.get(user) != member:
                    self._put_member(member)
        # A client with a smaller outbox may have joined while the room was being loaded.
        self._limit_bytes(self._most_bytes)
        self._advance()
        self._send_soon()

    # Frames.

    def _send_soon(self) -> None:
        """Send frames at the end of the current window, or at the loop's next iteration if there is none."""
        if self._send_timer is not None or self.version is None or self._is_closed:
            return
        self._send_timer = self._loop.call_later(self._window.left(self._loop.time()), self._send)

    def _send(self) -> None:
        self._send_timer = None
        # Guests count too, as each one who joins or leaves changes what is shown.
        members = self._users + self._guests
        seconds = next((seconds for most, seconds in WINDOWS if members <= most), LONGEST_WINDOW)
        self._window = TimeSpan(self._loop.time(), seconds)
        if self._members is None:
            self._send_count()
        else:
            self._send_difference(self._members)
            self._send_snapshots(self._members)

    def _send_count(self) -> None:
        """Send the count to all watchers if it has changed, or if one of them hasn't seen the room yet."""
        if not self._is_recounted and all(has_snapshot for _, has_snapshot in self.watchers.values()):
            return
        self._is_recounted = False
        frame = self._frame({"count": self._users + self._guests})
        for subscriber, (watcher, _) in list(self.watchers.items()):
            self.watchers[subscriber] = watcher, True
            if watcher.wants_frames:
                subscriber.outbox.put(frame)

    def _send_difference(self, members: dict[str | None, MemberRecord]) -> None:
        """Send what has changed since the last frame to the watchers who have seen the room, and call their hooks."""
        unsent, self._unsent = self._unsent, {}
        lists: dict[str, list[MemberRecord]] = {"joined": [], "left": [], "changed": []}
        for user, before in unsent.items():
            now = members.get(user)
            if now is None and before is not None:
                lists["left"].append(before)
            elif before is None and now is not None:
                lists["joined"].append(now)
            elif before is not None and now is not None and is_visible_change(before, now):
                lists["changed"].append(now)
        payloads = {name: list(map(payload_of, found)) for name, found in lists.items() if found}
        if not payloads:
            return
        changes: list[MemberChange] = [
            *(("left", member.user_id) for member in lists["left"]),
            *(("joined", member.user_id) for member in lists["joined"]),
        ]
        frame: Frame | None = None
        for subscriber, (watcher, has_snapshot) in list(self.watchers.items()):
            if not has_snapshot:
                continue
            if watcher.wants_frames:
                frame = frame or self._frame(payloads)
                subscriber.outbox.put(frame)
            # A connection isn't notified of its own user. Guests can't be told apart, so it is notified of them.
            others = [change for change in changes if change[1] is None or change[1] != subscriber.user_id]
            if watcher.hook is not None and others:
                watcher.hook(self.room, others)

    def _send_snapshots(self, members: dict[str | None, MemberRecord]) -> None:
        """Send the whole room to the watchers who haven't seen it yet."""
        frame: Frame | None = None
        for subscriber, (watcher, has_snapshot) in list(self.watchers.items()):
            if has_snapshot:
                continue
            self.watchers[subscriber] = watcher, True
            if watcher.wants_frames:
                frame = frame or self._frame({"members": [payload_of(member) for member in members.values()]})
                subscriber.outbox.put(frame)

    def _frame(self, data: dict[str, Any]) -> Frame:
        return reserved("wsrt.presence", {"room": self.room, "version": self.version, **data})
