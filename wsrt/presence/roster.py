"""
What a node knows of who is in a room, for the members that it holds itself.

A room is loaded once for all of them and kept up to date by what other nodes tell, in the order of versions; a version
that is missing is waited for, and then the room is loaded anew. Differences are put together for a while, encoded once,
and sent to everybody.
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
from .shown import is_told, shown_as
from .timespan import TimeSpan

LISTED = 1000
"""Members up to which a room is shown as a list; above it is shown as a count."""

LISTED_AGAIN = 900
"""Members below which a large room is shown as a list again."""

LISTED_BYTES = 262_144
"""Bytes up to which a room is shown as a list: a quarter of what an outbox holds by default."""

SHRUNK = 0.9
"""A room whose list was too long is shown as a list again when this share of its users, or less, is left."""

MAX_WAITING = 1000
"""Changes that are kept while a version before them is missing, or while the room is being loaded."""

WINDOWS = ((100, 0.25), (1000, 1.0))
"""Up to so many members, for how many seconds differences are put together."""

LONGEST_WINDOW = 5.0

GAP_SECONDS = 1.0
"""How long a version that is missing is waited for: the layer may bring it late."""

RETRY_SECONDS = 2.0
"""After how long a room that could not be loaded is tried again."""

Arrival = tuple[Literal["joined", "left"], str | None]
"""Who came or went, by user id; None for the first or the last of the guests."""

Hook = Callable[[str, Sequence[Arrival]], None]
"""Told who came to and who left a room."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watcher:
    """
    What a connection wants to know.

    Attributes:
        wants_frames: whether its client understands ``wsrt.presence``.
        hook: called with whole differences, if the consumer has hooks.
    """

    subscriber: Subscriber
    wants_frames: bool
    hook: Hook | None


class Roster:
    """
    Who is in one room, for its watchers.

    Args:
        is_here: whether a user has a connection in the room on this very node. Of these no absence is believed: other
            nodes tell it of a node that stood still for longer than its lease, which then writes them anew.
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
        # By connection; whether it has had a snapshot.
        self.watchers: dict[Subscriber, tuple[Watcher, bool]] = {}
        # None while it was never loaded.
        self.version: int | None = None
        self._users = 0
        self._guests = 0
        # By user; None for a large room.
        self._members: dict[str | None, MemberRecord] | None = {}
        # Bytes of the members, and how many they may be.
        self._bytes = 0
        self._most_bytes = LISTED_BYTES
        # The number of users below which a room that is shown as a count is loaded as a list.
        self._list_below = LISTED_AGAIN
        # Of whom something changed since the last frame: what was told of them; None for nothing.
        self._told: dict[str | None, MemberRecord | None] = {}
        self._is_recounted = False
        # Of whom it was told that they left, while they are here: they are still counted.
        self._kept: set[str | None] = set()
        # Changes whose turn has not come: a version before them is missing.
        self._ahead: dict[int, Change] = {}
        # Changes that came while the room was being loaded: the answer may be older than they are.
        self._since_load: dict[int, Change] = {}
        self._version_asked: int | None = None
        self._loading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gap: asyncio.TimerHandle | None = None
        # In which no further difference is sent.
        self._window = TimeSpan()
        # In which nobody is taken to have left because the store does not have them.
        self._patience = TimeSpan()
        self._is_closed = False

    # Who wants to know.

    def watch(self, watcher: Watcher) -> None:
        """Tell a connection who is here, and from then on what changes."""
        self.watchers.setdefault(watcher.subscriber, (watcher, False))
        if watcher.wants_frames:
            # A list and a difference wait in the outbox at worst, and leave half of it to others.
            self._limit_bytes(watcher.subscriber.outbox.limits.outbox_bytes // 4)
        if self.version is None:
            self.load()
        else:
            self._flush_soon()

    def unwatch(self, subscriber: Subscriber) -> None:
        """Tell it nothing more."""
        self.watchers.pop(subscriber, None)

    def close(self) -> None:
        """Nobody wants to know any more."""
        self._is_closed = True
        for handle in (self._timer, self._gap):
            if handle is not None:
                handle.cancel()
        if self._loading is not None:
            self._loading.cancel()

    # What changes.

    def take(self, changes: Iterable[Change]) -> None:
        """Take in what a node tells."""
        if not self._store.is_versioned:
            self._load_soon()
            return
        for change in changes:
            if self.version is None or change.version > self.version:
                if len(self._ahead) >= MAX_WAITING:
                    # The store is away, or has gone far ahead: what it is loaded with later makes up for these.
                    counters.count("presence_changes_dropped", times=len(self._ahead))
                    self._ahead.clear()
                self._ahead[change.version] = change
        self._advance()

    def compare(self, version: int) -> None:
        """Take in the version that the store has; what differs from ours for a while is loaded anew."""
        if self.version is not None and version != self.version:
            self._await_missing(version)

    def be_patient(self, patience: TimeSpan) -> None:
        """
        Believe no absence in a span of the loop's time: the store lost what it had, and nodes write it again.

        The room is loaded once more after that.
        """
        self._patience = patience
        if not self._is_closed:
            self._loop.call_later(patience.left(self._loop.time()) + 0.01, self.load)

    def load(self) -> None:
        """Load the room from the store, unless that is under way."""
        if self._loading is None and not self._is_closed:
            self._since_load, self._version_asked = {}, self.version
            self._loading = start_task(self._loop, self._load())

    def _advance(self) -> None:
        if self.version is None:
            return  # it is being loaded, and these wait
        while self._ahead:
            change = self._ahead.pop(self.version + 1, None)
            if change is None:
                break
            self.version = change.version
            if self._loading is not None:
                self._keep(change)
            self._apply(change)
        if self._ahead:
            self._await_missing(max(self._ahead))

    def _keep(self, change: Change) -> None:
        """Remember a change for an answer that may be older than it."""
        if len(self._since_load) >= MAX_WAITING:
            # An answer that is older shows a gap, or another version than the store has, and is asked for again.
            counters.count("presence_changes_dropped", times=len(self._since_load))
            self._since_load.clear()
        self._since_load[change.version] = change

    def _await_missing(self, version: int) -> None:
        if self._gap is None and not self._is_closed:
            self._gap = self._loop.call_later(GAP_SECONDS, self._still_missing, self.version, version)

    def _still_missing(self, before: int | None, wanted: int) -> None:
        self._gap = None
        version = self.version
        if version is None:
            return
        # A room that began anew, or a store that lost writes, may have a lower version than ours.
        if version < wanted or (version == before and version != wanted):
            counters.count("presence_gaps_healed")
            self.load()

    def _apply(self, change: Change) -> None:
        user = change.user_id
        if change.kind == "left" and self._is_here(user):
            self._kept.add(user)
            return
        if user is None:
            self._guests = change.connections
        elif user not in self._kept:
            self._users += {"joined": 1, "left": -1, "changed": 0}[change.kind]
        self._kept.discard(user)
        if self._members is None:
            # Other data of a user changes nothing that is shown.
            self._is_recounted |= user is None or change.kind != "changed"
            if self._users < self._list_below:
                self.load()
        elif change.kind == "left":
            self._record_left(user)
        else:
            self._record(MemberRecord(user, change.connections, change.data))
        self._flush_soon()

    def _record(self, member: MemberRecord) -> None:
        assert self._members is not None  # noqa: S101 - asked by the caller
        user = member.user_id
        before = self._members.get(user)
        self._told.setdefault(user, before)
        self._members[user] = member
        self._bytes += member.size - (before.size if before is not None else 0)
        if len(self._members) > LISTED:
            self._show_count()
        else:
            self._limit_bytes(self._most_bytes)

    def _record_left(self, user: str | None) -> None:
        assert self._members is not None  # noqa: S101 - asked by the caller
        known = self._members.pop(user, None)
        if known is not None:
            self._bytes -= known.size
            self._told.setdefault(user, known)

    def _limit_bytes(self, most: int) -> None:
        """Show a count from now on if the list takes more than these bytes, or than may be so far."""
        self._most_bytes = min(self._most_bytes, most)
        if self._members is not None and self._bytes > self._most_bytes:
            self._show_count()
            self._flush_soon()

    def _show_count(self) -> None:
        """Show how many are here in place of the list."""
        self._members, self._bytes = None, 0
        self._told = {}
        self._is_recounted = True
        # Members who left may be large ones: a list is tried again only when some of them have.
        self._list_below = min(LISTED_AGAIN, int(SHRUNK * self._users))

    # Loading.

    def _load_soon(self) -> None:
        if self._gap is None and not self._is_closed:
            # Spread, so that nodes that were told at once do not read at once.
            self._gap = self._loop.call_later(jittered(0.25, 0.2), self._load_now)

    def _load_now(self) -> None:
        self._gap = None
        self.load()

    async def _load(self) -> None:
        try:
            snapshot = await self._store.snapshot(self.namespace, self.room, LISTED, max_bytes=self._most_bytes)
        except StoreUnavailable as error:
            counters.count("presence_unavailable", "who is in a room could not be loaded: %s", error)
            self._loading = None
            self._gap = self._gap or self._loop.call_later(jittered(RETRY_SECONDS), self._load_now)
            return
        self._loading = None
        self._take_snapshot(snapshot)

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        is_first = self.version is None
        if self._store.is_versioned:
            if self._version_asked is None or snapshot.version >= self._version_asked:
                self._ahead |= self._since_load
            else:
                # The store began anew: what was before says nothing of it.
                self._ahead = {}
            self.version = snapshot.version
        else:
            self.version = (self.version or 0) + 1
        self._ahead = {number: change for number, change in self._ahead.items() if number > self.version}
        self._users, self._guests = snapshot.count.users, snapshot.count.guests
        self._kept.clear()
        if snapshot.members is None:
            self._show_count()
        elif is_first or self._members is None:
            self._members = {member.user_id: member for member in snapshot.members}
            self._bytes = sum(member.size for member in snapshot.members)
            self._told = {}
            # Whoever saw a count sees the list again.
            self.watchers = {subscriber: (watcher, False) for subscriber, (watcher, _) in self.watchers.items()}
        else:
            here = {member.user_id: member for member in snapshot.members}
            if not self._patience.includes(self._loop.time()):
                for user in [user for user in self._members if user not in here and not self._is_here(user)]:
                    self._record_left(user)
            for user, member in here.items():
                if self._members is not None and self._members.get(user) != member:
                    self._record(member)
        # A client with a smaller outbox may have come while the room was being loaded.
        self._limit_bytes(self._most_bytes)
        self._advance()
        self._flush_soon()

    # Telling.

    def _flush_soon(self) -> None:
        if self._timer is not None or self.version is None or self._is_closed:
            return
        self._timer = self._loop.call_later(self._window.left(self._loop.time()), self._flush)

    def _flush(self) -> None:
        self._timer = None
        # Guests count too: each that comes or goes is shown.
        members = self._users + self._guests
        seconds = next((seconds for most, seconds in WINDOWS if members <= most), LONGEST_WINDOW)
        self._window = TimeSpan(self._loop.time(), seconds)
        if self._members is None:
            self._tell_count()
        else:
            self._tell_difference(self._members)
            self._tell_newcomers(self._members)

    def _tell_count(self) -> None:
        if not self._is_recounted and all(has_snapshot for _, has_snapshot in self.watchers.values()):
            return
        self._is_recounted = False
        frame = self._frame({"count": self._users + self._guests})
        for subscriber, (watcher, _) in list(self.watchers.items()):
            self.watchers[subscriber] = watcher, True
            if watcher.wants_frames:
                subscriber.outbox.put(frame)

    def _tell_difference(self, members: dict[str | None, MemberRecord]) -> None:
        told, self._told = self._told, {}
        lists: dict[str, list[MemberRecord]] = {"joined": [], "left": [], "changed": []}
        for user, before in told.items():
            now = members.get(user)
            if now is None and before is not None:
                lists["left"].append(before)
            elif before is None and now is not None:
                lists["joined"].append(now)
            elif before is not None and now is not None and is_told(before, now):
                lists["changed"].append(now)
        shown = {name: list(map(shown_as, found)) for name, found in lists.items() if found}
        if not shown:
            return
        arrivals: list[Arrival] = [
            *(("left", member.user_id) for member in lists["left"]),
            *(("joined", member.user_id) for member in lists["joined"]),
        ]
        frame: Frame | None = None
        for subscriber, (watcher, has_snapshot) in list(self.watchers.items()):
            if not has_snapshot:
                continue
            if watcher.wants_frames:
                frame = frame or self._frame(shown)
                subscriber.outbox.put(frame)
            mine = [arrival for arrival in arrivals if arrival[1] != subscriber.user_id or arrival[1] is None]
            if watcher.hook is not None and mine:
                watcher.hook(self.room, mine)

    def _tell_newcomers(self, members: dict[str | None, MemberRecord]) -> None:
        frame: Frame | None = None
        for subscriber, (watcher, has_snapshot) in list(self.watchers.items()):
            if has_snapshot:
                continue
            self.watchers[subscriber] = watcher, True
            if watcher.wants_frames:
                frame = frame or self._frame({"members": [shown_as(member) for member in members.values()]})
                subscriber.outbox.put(frame)

    def _frame(self, data: dict[str, Any]) -> Frame:
        return reserved("wsrt.presence", {"room": self.room, "version": self.version, **data})
