"""
The tracker, which writes one node's connections to the store and keeps the rosters of its rooms up to date.

The tracker's own list of connections is authoritative; the store has a copy under a lease. The copy may be lost: the
lease ended while the process was stopped, the store came back empty, or it lost writes in a failover. Then the node
takes a new id, writes everything under it, and reaps the old id afterwards. A user who is stored under both ids never
seems to have left.

Each tracker runs two tasks: the write loop, which sends joins and leaves to the store in order, and the heartbeat loop,
which renews the lease. All methods run in the node's event loop, so state changes only at an ``await``.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import functools
import itertools
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from ..cluster.forks import after_fork_in_child
from ..cluster.messages import PresenceMessage
from ..cluster.node import Node, current_node
from ..delivery.jitter import jittered
from ..delivery.tasks import start_task
from ..metrics import LIMIT_PROBLEMS, LIMITS, counters
from .backends import option, store_of_loop
from .base import PLACES, Beat, Change, Join, LeaseLost, Leave, NodeFacts, PresenceStore, RoomId, StoreUnavailable
from .notify import messages_of, notify_nodes
from .places import places_of_loop
from .roster import Roster, Watcher
from .timespan import TimeSpan

BEATS = 3
"""Heartbeats in one lease."""

BATCH = 256
"""Operations in one call of the store."""

MAX_PENDING = 20_000
"""The maximum number of operations that wait for the store. Beyond it, all are dropped and written again later."""

RETRY_SECONDS = 5.0
"""The longest pause after an error of the store, in seconds."""

RECOVERY_SECONDS = 1.0
"""Seconds, in addition to a heartbeat interval, that other nodes have to write their members again after an outage."""

SETTLE_SECONDS = 1.0
"""The longest time in seconds that a join waits for the store, so that a query right after it includes the user."""

logger = logging.getLogger("wsrt")


class Tracker:
    """
    The presence of one node.

    Args:
        node: The node.
        store: The store of the node's loop.
        grace: The number of seconds for which a lost connection still counts, so that reloading a page isn't a leave.
    """

    def __init__(self, node: Node, store: PresenceStore, grace: float) -> None:
        self._node = node
        self.store = store
        self._grace = grace
        # The id under which the node writes. It takes another one after it was fenced.
        self.id = node.id
        self._incarnation = 0
        # Earlier ids that still have to be reaped.
        self._former_ids: list[str] = []
        # All connections of the node, by room and by number of the connection. The authoritative list.
        self._joins: dict[RoomId, dict[int, Join]] = {}
        # The rooms of each connection, by its number.
        self._rooms_of: dict[int, set[RoomId]] = {}
        # The number of connections of each user in each room; under None, of the guests.
        self._users: dict[RoomId, collections.Counter[str | None]] = {}
        # Operations to write, in order, and functions to call once everything before them is written.
        self._pending: collections.deque[Join | Leave | Callable[[], object]] = collections.deque()
        # Timers of lost connections whose grace period hasn't ended, by number of the connection.
        self._grace_timers: dict[int, asyncio.TimerHandle] = {}
        # Whether everything has to be written again, under a new id.
        self._must_rebuild = False
        # Whether a rebuild under the current id was interrupted, so that only a part is written.
        self._is_partial = False
        # Whether the tasks were started.
        self._is_begun = False
        # Whether the lease of the current id was begun.
        self._is_known = False
        self._is_ended = False
        # Whether the last write failed.
        self._is_down = False
        # Whether it failed for a reason other than the end of the lease, after which everything is written again.
        self._is_unreachable = False
        # The span after an outage in which members missing in the store don't count as gone: their nodes may still be
        # writing them again.
        self._recovery = TimeSpan()
        # Wakes the write loop.
        self._wake = asyncio.Event()
        self._started = time.time()
        # The delay of the last heartbeat in seconds.
        self._lag = 0.0
        # The rooms to compare with the store, one a lease.
        self._audit_queue: collections.deque[RoomId] = collections.deque()
        self._beats = 0
        # Ids of dead nodes that this one is reaping.
        self._reaping: set[str] = set()
        self._rosters: dict[RoomId, Roster] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        node.on_presence = self.receive
        # The connections that have one of the places of a user or an address, which are limited.
        self._places = places_of_loop()
        self._places.use(self if store.gives_places else None)

    # For connections.

    def join(self, join: Join) -> None:
        """Note that a connection has joined a room, or that its data has changed."""
        room_id = join.namespace, join.room
        self._rooms_of.setdefault(join.connection, set()).add(room_id)
        members = self._joins.setdefault(room_id, {})
        # Move the connection to the end. A rebuild writes them in this order, so the data that was set last stays the
        # last.
        before = members.pop(join.connection, None)
        members[join.connection] = join
        self._users.setdefault(room_id, collections.Counter())[join.user_id] += 1
        if before is not None:
            self._uncount(room_id, before)
        self._write(join)

    def leave(self, namespace: str, room: str, number: int) -> None:
        """Note that a connection has left a room."""
        room_id = namespace, room
        members = self._joins.get(room_id, {})
        join = members.pop(number, None)
        if join is None:
            return
        self._uncount(room_id, join)
        if not members:
            del self._joins[room_id]
        room_ids = self._rooms_of[number]
        room_ids.discard(room_id)
        if not room_ids:
            del self._rooms_of[number]
        self._write(Leave(namespace, room, number))

    def remove_connection(self, number: int, *, at_once: bool) -> None:
        """
        Note that a connection has ended.

        Args:
            number: The number of the connection.
            at_once: Whether it leaves its rooms at once. Otherwise it leaves them after the grace period, so that its
                user may reconnect without being seen to leave.
        """
        if at_once or self._is_ended or not self._grace:
            self._leave_all(number)
        else:
            # Jittered: connections that were lost together aren't all written at the same moment.
            grace = jittered(self._grace, 1, 1.2)
            self._grace_timers[number] = self._node.loop.call_later(grace, self._leave_all, number)

    async def settle(self) -> None:
        """Wait until the store has everything noted so far, for at most SETTLE_SECONDS. Don't wait if it is down."""
        if self._is_down or not self._pending:
            return
        done = asyncio.Event()
        # The write loop calls it after the operations before it. _drop_pending() calls it too, so the wait always ends.
        self._pending.append(done.set)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await done.wait()
        except TimeoutError:
            counters.count("presence_writes_late")

    def watch(self, room_id: RoomId, watcher: Watcher) -> None:
        """Send a connection the members of a room, including itself, and from then on the changes."""
        if self._pending:
            # Its own join may still be waiting. Wait for it, so that the first list includes the connection itself.
            self._pending.append(lambda: self._watch(room_id, watcher))
        else:
            self._watch(room_id, watcher)

    def unwatch(self, room_id: RoomId, watcher: Watcher) -> None:
        """Stop sending changes to a connection."""
        roster = self._rosters.get(room_id)
        if roster is not None:
            roster.unwatch(watcher.subscriber)
            if not roster.watchers:
                roster.close()
                del self._rosters[room_id]

    # For nodes.

    def receive(self, message: PresenceMessage) -> None:
        """Handle a message from another node (or from this one) about changes in a room."""
        room_id = message.realm, message.audience.name
        roster = self._rosters.get(room_id)
        if roster is not None:
            roster.receive(Change(*room_id, *change) for change in message.changes)

    async def end(self) -> None:
        """Stop, and remove all connections of this node from the store. Raises StoreUnavailable."""
        if self._is_ended:
            return
        self._is_ended = True
        if self._places.is_used_by(self):
            self._places.use(None)
        for handle in self._grace_timers.values():
            handle.cancel()
        for roster in self._rosters.values():
            roster.close()
        # This also cancels tasks that notify other nodes. They notice the missing versions and load their rooms.
        for task in self._tasks:
            task.cancel()
        # A cancelled task may have sent a write that the store hasn't carried out yet. Reaping fences the id, so the
        # write has no effect if it arrives later.
        if self._is_begun:
            for former in (*self._former_ids, self.id):
                await self._notify_all(self.store.reap(former))

    def reap_lost(self, lost: dict[str, PresenceStore]) -> None:
        """Reap nodes of closed event loops in the background, given their stores by node id."""
        if lost:
            self._spawn(self._reap_lost(lost))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids under which the store may have connections of this node."""
        return (*self._former_ids, self.id) if self._is_begun and not self._is_ended else ()

    @property
    def is_idle(self) -> bool:
        """Whether the store has everything noted so far."""
        return not self._pending and not self._pending_places

    @property
    def is_unreachable(self) -> bool:
        """Whether the last write failed because of the store."""
        return self._is_unreachable

    def wake(self) -> None:
        """Write what is pending, soon."""
        if not self._is_begun:
            self._is_begun = True
            self._spawn(self._write_loop())
            self._spawn(self._heartbeat_loop())
        self._wake.set()

    def rewrite(self) -> None:
        """Write everything again, soon, under a new id."""
        self._must_rebuild = True
        self._wake.set()

    @property
    def _pending_places(self) -> bool:
        return bool(self._places.pending) and self._places.is_used_by(self)

    def _watch(self, room_id: RoomId, watcher: Watcher) -> None:
        namespace, room = room_id
        if self._is_ended or room not in watcher.subscriber.rooms or not watcher.subscriber.outbox.is_open:
            return  # the connection has left the room or was closed while its join was being written
        if not watcher.sees(room):
            return  # the same, but it has only stopped to see the members
        roster = self._rosters.get(room_id)
        if roster is None:
            roster = Roster(self._node.loop, self.store, namespace, room, functools.partial(self._is_here, room_id))
            self._rosters[room_id] = roster
            if self._recovery.includes(self._node.loop.time()):
                roster.expect_recovery(self._recovery)
        roster.watch(watcher)

    def _is_here(self, room_id: RoomId, user: str | None) -> bool:
        return user in self._users.get(room_id, ())

    def _uncount(self, room_id: RoomId, join: Join) -> None:
        users = self._users[room_id]
        users[join.user_id] -= 1
        if not users[join.user_id]:
            del users[join.user_id]
        if not users:
            del self._users[room_id]

    # Writing.

    def _leave_all(self, number: int) -> None:
        self._grace_timers.pop(number, None)
        for namespace, room in list(self._rooms_of.get(number, ())):
            self.leave(namespace, room, number)

    def _write(self, operation: Join | Leave) -> None:
        if self._is_ended:
            return
        if len(self._pending) >= MAX_PENDING:
            self._must_rebuild = True
            self._drop_pending()
        self._pending.append(operation)
        self.wake()

    def _drop_pending(self) -> None:
        """Drop all pending operations, because a rebuild writes everything. Call the functions that wait among them."""
        pending, self._pending = self._pending, collections.deque()
        for item in pending:
            if not isinstance(item, Join | Leave):
                item()

    async def _write_loop(self) -> None:
        """Write pending operations in order, until cancelled. Retry with increasing pauses after an error."""
        pause = 0.1
        while True:
            try:
                if self._must_rebuild:
                    await self._rebuild()
                elif not self._is_known:
                    await self._begin()
                await self._flush()
            except LeaseLost:
                # The lease ended while this process was stopped or the store was away, or another node has reaped us.
                # The old id is useless now.
                counters.count("presence_fenced", "the lease of this node had ended: writing its connections again")
                self._must_rebuild = True
                self._is_unreachable = False
            except StoreUnavailable as error:
                self._is_unreachable = True
                # Whether the write was carried out is unknown. The operations are still pending, and are idempotent.
                counters.count("presence_unavailable", "failed to write presence, retrying: %s", error)
            except Exception:
                # A bug, here or in the store. It must not end the task: nothing would be written any more.
                self._is_unreachable = True
                counters.count("presence_failed")
                logger.exception("failed to write presence, retrying")
            else:
                if self._is_down:
                    logger.warning("the presence store is available again")
                    self._expect_recovery()
                pause, self._is_down, self._is_unreachable = 0.1, False, False
                # No await between the check and clear(), so no join or failed heartbeat can be missed.
                if self.is_idle and not self._must_rebuild:
                    self._wake.clear()
                    await self._wake.wait()
                continue
            self._is_down = True
            if self._is_unreachable and self._places.is_used_by(self):
                self._places.decide_waiting()
            await asyncio.sleep(jittered(pause))
            pause = min(2 * pause, RETRY_SECONDS)

    async def _flush(self) -> None:
        """Write the pending operations in batches. Raises LeaseLost, StoreUnavailable."""
        while not self.is_idle and not self._must_rebuild:
            # First, as connections wait for it.
            await self._flush_places()
            pending = self._pending
            items = list(itertools.islice(pending, BATCH))
            batch = [item for item in items if isinstance(item, Join | Leave)]
            if batch:
                # During this await, joins and leaves are appended to the deque, and a failed heartbeat may set
                # _must_rebuild. LeaseLost and StoreUnavailable leave the batch at the head, to be written again.
                self._notify(await self.store.apply(self.id, batch))
            if pending is not self._pending:
                return  # _drop_pending() has replaced the deque in the meantime: a rebuild follows
            for item in items:
                pending.popleft()
                if not isinstance(item, Join | Leave):
                    item()

    async def _flush_places(self) -> None:
        """Pass claims and leaves of places to the store. Raises LeaseLost, StoreUnavailable."""
        if self._pending_places:
            await self._places.flush(self.store, self.id)

    async def _begin(self) -> None:
        """Begin the lease of the current id. Raises StoreUnavailable."""
        self._on_beat(await self.store.begin(self._facts()))
        self._is_known = True

    async def _rebuild(self) -> None:
        """
        Write everything under a new id, and then reap the old one in the background.

        Raises:
            LeaseLost: The lease of the new id has ended already.
            StoreUnavailable: The store didn't answer. The next attempt takes another id.
        """
        self._expect_recovery()
        if self._is_known:
            if self._is_partial:
                # The current id was never complete: users are still stored under the one before it. So it can be
                # removed before the new one is written. _reap() doesn't raise StoreUnavailable; if it fails, the lease
                # ends.
                await self._reap(self.id)
            else:
                self._former_ids.append(self.id)
            self._incarnation += 1
            self.id = f"{self._node.id}.{self._incarnation}"
            self._is_known = False
        await self._begin()
        # From here to the copy of the joins there is no await, so the copy contains everything that was dropped.
        self._drop_pending()
        if self._places.is_used_by(self):
            self._places.restart()
        self._must_rebuild, self._is_partial = False, True
        counters.count("presence_rebuilds")
        # Joins and leaves that happen during the writes below become pending, and are written after them.
        joins = [join for members in self._joins.values() for join in members.values()]
        try:
            for start in range(0, len(joins), BATCH):
                self._notify(await self.store.apply(self.id, joins[start : start + BATCH]))
            await self._flush_places()
        except BaseException:
            # Including CancelledError, from end(). The id is incomplete, so the next attempt must start over.
            self._must_rebuild = True
            raise
        self._is_partial = False
        # Only now: users who are stored under both ids were present all the time.
        former, self._former_ids = self._former_ids, []
        self._spawn(self._reap_all(former))

    async def _reap_all(self, ids: list[str]) -> None:
        for former in ids:
            await self._reap(former)

    async def _reap_lost(self, lost: dict[str, PresenceStore]) -> None:
        for node, store in lost.items():
            await self._notify_all(store.reap(node))
            forget_lost(node)

    def _notify(self, changes: list[Change]) -> None:
        """Notify other nodes of changes, in a task of its own: writing must not wait for the channel layer."""
        messages = list(messages_of(changes))
        if messages:
            self._spawn(notify_nodes(self.store, messages))

    async def _notify_all(self, chunks: AsyncIterator[list[Change]]) -> None:
        async for changes in chunks:
            self._notify(changes)

    # The lease.

    async def _heartbeat_loop(self) -> None:
        """Renew the lease and compare with the store, until cancelled."""
        loop = self._node.loop
        pause = self._pause()
        has_failed = False
        while True:
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self._lag = max(0.0, loop.time() - due)
            pause = self._pause()
            try:
                # The write loop may take a new id during this await. Then a negative answer is about the old id and
                # causes one more rebuild.
                beat = await self.store.beat(self._facts())
                if has_failed:
                    has_failed = False
                    self._expect_recovery()
                self._on_beat(beat)
                if beat.next_expiry is not None and beat.next_expiry < pause:
                    # The next lease to end is that of a node that hasn't renewed it for long. Beat again just after it
                    # would end, so that its users don't stay for another interval.
                    pause = max(0.1, beat.next_expiry) + jittered(0.5, 0)
                await self._check_versions()
            except LeaseLost:
                self._on_beat(Beat(is_alive=False))
            except StoreUnavailable as error:
                # The lease may end during the outage. The store rejects our writes then, and the write loop rebuilds.
                counters.count("presence_unavailable", "failed to renew the lease of this node: %s", error)
                has_failed = True
                pause = min(pause, jittered(RETRY_SECONDS))
            except Exception:
                counters.count("presence_failed")
                logger.exception("failed to renew the lease of this node")

    def _pause(self) -> float:
        """Return the number of seconds until the next heartbeat."""
        return jittered(self.store.lease / BEATS, 0.8)

    def _on_beat(self, beat: Beat) -> None:
        """Handle the answer to a heartbeat: rebuild if this node was fenced, else reap nodes whose lease has ended."""
        if not beat.is_alive:
            self.rewrite()
            return
        if self._recovery.includes(self._node.loop.time()):
            # The store was away. Leases have ended because nodes couldn't renew them, so give them time to do so.
            return
        for node in beat.expired:
            if node not in self._reaping and node != self.id:
                self._reaping.add(node)
                self._spawn(self._reap(node))

    def _expect_recovery(self) -> None:
        """Begin the span after an outage, or a loss of data, in which other nodes write their members again."""
        self._recovery = TimeSpan(self._node.loop.time(), self.store.lease / BEATS + RECOVERY_SECONDS)
        for roster in self._rosters.values():
            roster.expect_recovery(self._recovery)

    async def _reap(self, node: str) -> None:
        """Reap a dead node, or a former id of this one. After an error, another node or a reader continues the work."""
        try:
            await self._notify_all(self.store.reap(node))
        except StoreUnavailable as error:
            counters.count("presence_unavailable", "failed to remove the connections of a dead node: %s", error)
        finally:
            self._reaping.discard(node)

    async def _check_versions(self) -> None:
        """Compare the rooms that are shown, and one that was written, with the store. Takes a few round trips."""
        if not self.store.is_versioned:
            for roster in self._rosters.values():
                roster.load()
            return
        # A copy: rosters come and go during the await. check_version() does nothing on a closed one.
        rosters = list(self._rosters.items())
        if rosters:
            for (_, roster), version in zip(
                rosters, await self.store.versions([room_id for room_id, _ in rosters]), strict=True
            ):
                roster.check_version(version)
        self._beats += 1
        if self.store.is_shared and self._beats % BEATS == 0:
            await self._audit_room()

    async def _audit_room(self) -> None:
        """Compare one room with the store, which may have lost acknowledged writes in a failover."""
        if not self._audit_queue:
            self._audit_queue.extend(self._joins)
            if self._places.is_used_by(self):
                self._audit_queue.extend(self._places.rooms)
        while self._audit_queue and self.is_idle:
            room_id = self._audit_queue.popleft()
            if not self._numbers(room_id):
                continue
            held = await self.store.held(self.id, *room_id)
            # Joins and leaves may have come during the await. If some are still pending, a difference means nothing.
            if self.is_idle and held != self._numbers(room_id):
                counters.count("presence_repairs", "the presence store has lost writes, writing all connections again")
                self.rewrite()
            return

    def _numbers(self, room_id: RoomId) -> set[int]:
        """Return the numbers of the connections in a room, or of those that have a place."""
        return self._places.numbers(room_id) if room_id[1].startswith(PLACES) else set(self._joins.get(room_id, ()))

    def _facts(self) -> NodeFacts:
        facts = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._started,
            "version": _version(),
            "connections": len(self._node.hub.subscribers),
            "servers": sorted(self._node.servers),
            "lag_ms": round(self._lag * 1000),
            "beat": time.time(),
            "limits": counters.nonzero((*LIMITS, *LIMIT_PROBLEMS)),
        }
        return NodeFacts(self.id, facts)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        # An empty context: the task must not keep that of the first connection.
        task = start_task(self._node.loop, work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _version() -> str:
    from .. import __version__  # not at the top, as the package imports this module

    return __version__


# By the id of the loop. The node is kept too, to notice when another loop has got the id of a closed one.
_trackers: dict[int, tuple[Node, Tracker | None]] = {}

# Nodes of closed loops that haven't been reaped yet, with their stores, which are in the memory of this process.
_lost: dict[str, PresenceStore] = {}


def tracker_of_loop() -> Tracker | None:
    """Return the running loop's tracker, created at first use. None if the settings don't name a usable store."""
    node = current_node()
    known = _trackers.get(id(node.loop))
    store = store_of_loop()
    if known is None or known[0] is not node or (known[1] and known[1].store) is not store:
        lost = lost_nodes()
        tracker = None if store is None else Tracker(node, store, float(option("GRACE", 5)))
        if tracker is None:
            places_of_loop().use(None)
        known = _trackers[id(node.loop)] = node, tracker
        if tracker is not None:
            tracker.reap_lost(lost)
    return known[1]


def lost_nodes() -> dict[str, PresenceStore]:
    """
    Return the nodes of this process whose event loop was closed before they ended: their stores by node id.

    A node is returned until forget_lost() is called for it. Nodes in shared stores aren't included: their leases end,
    and other nodes reap them.
    """
    for key, (node, tracker) in list(_trackers.items()):
        if node.loop.is_closed():
            _trackers.pop(key, None)
            if tracker is not None and not tracker.store.is_shared:
                _lost.update(dict.fromkeys(tracker.ids, tracker.store))
    return dict(_lost)


def forget_lost(node: str) -> None:
    """Note that a lost node was reaped."""
    _lost.pop(node, None)


def known_tracker(node: Node) -> Tracker | None:
    """Return the tracker of a node. None if it has none yet."""
    known = _trackers.get(id(node.loop))
    return known[1] if known is not None and known[0] is node else None


after_fork_in_child(_trackers.clear)
