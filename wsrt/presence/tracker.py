"""
The tracker: what one node tells the store of its connections, and what it hears of the others'.

The node's own connections are the truth; the store holds a copy under a lease. Whatever happens to the copy (the lease
ended while the process was stopped, the store came back empty, writes were lost), the node takes a new id, writes
everything again and takes the old id out: who is there under both was never away.
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
from ..metrics import counters
from .announce import messages_of, tell
from .backends import option, store_of_loop
from .base import Beat, Change, Join, LeaseLost, Leave, NodeFacts, PresenceStore, StoreUnavailable
from .roster import Roster, Watcher
from .timespan import TimeSpan

Place = tuple[str, str]
"""Realm and room."""

BEATS = 3
"""Heartbeats in a lease."""

BATCH = 256
"""Operations that are written at once."""

MAX_PENDING = 20_000
"""Operations that wait for the store; when there are more, everything is written anew once it answers."""

RETRY_SECONDS = 5.0
"""The longest pause after an error of the store."""

PATIENCE_SECONDS = 1.0
"""Beyond a heartbeat's time, after an outage of the store, before those who have not come back are missed."""

SETTLE_SECONDS = 1.0
"""How long a join waits for the store, so that whoever joined can see itself."""

logger = logging.getLogger("wsrt")


class Tracker:
    """
    Presence of one node.

    Args:
        grace: seconds for which a connection that was lost still counts, so that a reload of a page shows nothing.
    """

    def __init__(self, node: Node, store: PresenceStore, grace: float) -> None:
        self._node = node
        self.store = store
        self._grace = grace
        # The id under which the store knows the node; another one after it was fenced.
        self.id = node.id
        self._incarnation = 0
        # Ids of before, whose members are to be taken out.
        self._former: list[str] = []
        # Who is where: by place and number of the connection.
        self._truth: dict[Place, dict[int, Join]] = {}
        self._places: dict[int, set[Place]] = {}
        # By place: how many connections of each user, None for guests.
        self._users: dict[Place, collections.Counter[str | None]] = {}
        # What is to be written, and what is to be called once all before it is.
        self._pending: collections.deque[Join | Leave | Callable[[], object]] = collections.deque()
        # Connections whose leave waits for the grace.
        self._lingering: dict[int, asyncio.TimerHandle] = {}
        # Whether everything has to be written anew.
        self._must_rebuild = False
        # Whether only a part of it was written under the present id.
        self._is_partial = False
        self._is_begun = False
        # Whether the store has heard of the id.
        self._is_known = False
        self._is_ended = False
        self._is_down = False
        # In which nobody is taken for gone: other nodes may not have come back yet.
        self._patience = TimeSpan()
        self._wake = asyncio.Event()
        self._started = time.time()
        self._lag = 0.0
        # Whose room is compared next.
        self._audited: collections.deque[Place] = collections.deque()
        self._beats = 0
        self._reaping: set[str] = set()
        self._rosters: dict[Place, Roster] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        node.on_presence = self.receive

    # For connections.

    def join(self, join: Join) -> None:
        """A connection is in a room, or its data changed."""
        place = join.namespace, join.room
        self._places.setdefault(join.connection, set()).add(place)
        members = self._truth.setdefault(place, {})
        # In the order in which they spoke, so that the last word is the last one when all is written anew.
        before = members.pop(join.connection, None)
        members[join.connection] = join
        self._users.setdefault(place, collections.Counter())[join.user_id] += 1
        if before is not None:
            self._count_out(place, before)
        self._write(join)

    def leave(self, namespace: str, room: str, number: int) -> None:
        """A connection is not in a room any more."""
        place = namespace, room
        members = self._truth.get(place, {})
        join = members.pop(number, None)
        if join is None:
            return
        self._count_out(place, join)
        if not members:
            del self._truth[place]
        places = self._places[number]
        places.discard(place)
        if not places:
            del self._places[number]
        self._write(Leave(namespace, room, number))

    def forget(self, number: int, *, at_once: bool) -> None:
        """A connection is over; its user may come right back."""
        if at_once or self._is_ended or not self._grace:
            self._leave_all(number)
        else:
            # Jittered, so that a crowd that was lost at once is not written at once.
            grace = jittered(self._grace, 1, 1.2)
            self._lingering[number] = self._node.loop.call_later(grace, self._leave_all, number)

    async def settle(self) -> None:
        """Wait until the store knows what was written so far; not for long, and not while it is down."""
        if self._is_down or not self._pending:
            return
        done = asyncio.Event()
        self._pending.append(done.set)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await done.wait()
        except TimeoutError:
            counters.count("presence_writes_late")

    def watch(self, place: Place, watcher: Watcher) -> None:
        """Tell a connection who is in a room, itself among them, and what changes."""
        if self._pending:
            self._pending.append(lambda: self._watch(place, watcher))
        else:
            self._watch(place, watcher)

    def unwatch(self, place: Place, watcher: Watcher) -> None:
        """Tell it nothing more."""
        roster = self._rosters.get(place)
        if roster is not None:
            roster.unwatch(watcher.subscriber)
            if not roster.watchers:
                roster.close()
                del self._rosters[place]

    # For nodes.

    def receive(self, message: PresenceMessage) -> None:
        """Take in what another node tells."""
        place = message.realm, message.audience.name
        roster = self._rosters.get(place)
        if roster is not None:
            roster.take(Change(*place, *change) for change in message.changes)

    async def end(self) -> None:
        """Take everything of this node out of the store, and stop. Raises StoreUnavailable."""
        if self._is_ended:
            return
        self._is_ended = True
        for handle in self._lingering.values():
            handle.cancel()
        for roster in self._rosters.values():
            roster.close()
        for task in self._tasks:
            task.cancel()
        if self._is_begun:
            for former in (*self._former, self.id):
                await self._tell_all(self.store.reap(former))

    def take_over(self, lost: dict[str, PresenceStore]) -> None:
        """Take nodes of loops that were closed out of their stores, in the background."""
        if lost:
            self._spawn(self._reap_lost(lost))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids under which the store may have something of this node."""
        return (*self._former, self.id) if self._is_begun and not self._is_ended else ()

    @property
    def is_idle(self) -> bool:
        """Whether the store knows all that happened."""
        return not self._pending

    def _watch(self, place: Place, watcher: Watcher) -> None:
        namespace, room = place
        if self._is_ended or room not in watcher.subscriber.rooms or not watcher.subscriber.outbox.is_open:
            return  # it left meanwhile
        roster = self._rosters.get(place)
        if roster is None:
            roster = Roster(self._node.loop, self.store, namespace, room, functools.partial(self._is_here, place))
            self._rosters[place] = roster
            if self._patience.includes(self._node.loop.time()):
                roster.be_patient(self._patience)
        roster.watch(watcher)

    def _is_here(self, place: Place, user: str | None) -> bool:
        return user in self._users.get(place, ())

    def _count_out(self, place: Place, join: Join) -> None:
        users = self._users[place]
        users[join.user_id] -= 1
        if not users[join.user_id]:
            del users[join.user_id]
        if not users:
            del self._users[place]

    # Writing.

    def _leave_all(self, number: int) -> None:
        self._lingering.pop(number, None)
        for namespace, room in list(self._places.get(number, ())):
            self.leave(namespace, room, number)

    def _write(self, operation: Join | Leave) -> None:
        if self._is_ended:
            return
        if not self._is_begun:
            self._is_begun = True
            self._spawn(self._work())
            self._spawn(self._beat_on())
        if len(self._pending) >= MAX_PENDING:
            self._must_rebuild = True
            self._let_go()
        self._pending.append(operation)
        self._wake.set()

    def _let_go(self) -> None:
        """Forget what waits: all of it is written anew."""
        pending, self._pending = self._pending, collections.deque()
        for item in pending:
            if not isinstance(item, Join | Leave):
                item()

    async def _work(self) -> None:
        """Write what waits, in order; try again what the store did not take."""
        pause = 0.1
        while True:
            try:
                if self._must_rebuild:
                    await self._rebuild()
                elif not self._is_known:
                    await self._begin()
                await self._flush()
            except LeaseLost:
                counters.count("presence_fenced", "the lease of this node had ended: its members are written anew")
                self._must_rebuild = True
            except StoreUnavailable as error:
                counters.count("presence_unavailable", "presence could not be written, it is tried again: %s", error)
            except Exception:
                counters.count("presence_failed")
                logger.exception("presence could not be written, it is tried again")
            else:
                if self._is_down:
                    logger.warning("the store of presence is back")
                    self._be_patient()
                pause, self._is_down = 0.1, False
                if not self._pending and not self._must_rebuild:
                    self._wake.clear()
                    await self._wake.wait()
                continue
            self._is_down = True
            await asyncio.sleep(jittered(pause))
            pause = min(2 * pause, RETRY_SECONDS)

    async def _flush(self) -> None:
        while self._pending and not self._must_rebuild:
            pending = self._pending
            items = list(itertools.islice(pending, BATCH))
            batch = [item for item in items if isinstance(item, Join | Leave)]
            if batch:
                self._tell(await self.store.apply(self.id, batch))
            if pending is not self._pending:
                return  # it was let go meanwhile: everything is written anew
            for item in items:
                pending.popleft()
                if not isinstance(item, Join | Leave):
                    item()

    async def _begin(self) -> None:
        self._heed(await self.store.begin(self._facts()))
        self._is_known = True

    async def _rebuild(self) -> None:
        """Take a new id, write everything under it, and have the old one taken out."""
        self._be_patient()
        if self._is_known:
            if self._is_partial:
                # It was never shown whole: nobody who is there would be missed.
                await self._reap(self.id)
            else:
                self._former.append(self.id)
            self._incarnation += 1
            self.id = f"{self._node.id}.{self._incarnation}"
            self._is_known = False
        await self._begin()
        self._let_go()
        self._must_rebuild, self._is_partial = False, True
        counters.count("presence_rebuilds")
        # What changes from here on waits behind, in order.
        joins = [join for members in self._truth.values() for join in members.values()]
        try:
            for start in range(0, len(joins), BATCH):
                self._tell(await self.store.apply(self.id, joins[start : start + BATCH]))
        except BaseException:
            self._must_rebuild = True
            raise
        self._is_partial = False
        former, self._former = self._former, []
        self._spawn(self._reap_all(former))

    async def _reap_all(self, ids: list[str]) -> None:
        for former in ids:
            await self._reap(former)

    async def _reap_lost(self, lost: dict[str, PresenceStore]) -> None:
        for node, store in lost.items():
            await self._tell_all(store.reap(node))
            forget_lost(node)

    def _tell(self, changes: list[Change]) -> None:
        messages = list(messages_of(changes))
        if messages:
            self._spawn(tell(self.store, messages))

    async def _tell_all(self, chunks: AsyncIterator[list[Change]]) -> None:
        async for changes in chunks:
            self._tell(changes)

    # The lease.

    async def _beat_on(self) -> None:
        loop = self._node.loop
        pause = self._pause()
        has_failed = False
        while True:
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self._lag = max(0.0, loop.time() - due)
            pause = self._pause()
            try:
                beat = await self.store.beat(self._facts())
                if has_failed:
                    has_failed = False
                    self._be_patient()
                self._heed(beat)
                if beat.next_expiry is not None and beat.next_expiry < pause:
                    # Just after the lease of one that was silent for long: the first who looks takes it out.
                    pause = max(0.1, beat.next_expiry) + jittered(0.5, 0)
                await self._compare()
            except LeaseLost:
                self._heed(Beat(is_alive=False))
            except StoreUnavailable as error:
                counters.count("presence_unavailable", "the lease of this node could not be renewed: %s", error)
                has_failed = True
                pause = min(pause, jittered(RETRY_SECONDS))
            except Exception:
                counters.count("presence_failed")
                logger.exception("the lease of this node could not be renewed")

    def _pause(self) -> float:
        return jittered(self.store.lease / BEATS, 0.8)

    def _heed(self, beat: Beat) -> None:
        if not beat.is_alive:
            self._must_rebuild = True
            self._wake.set()
            return
        if self._patience.includes(self._node.loop.time()):
            return
        for node in beat.expired:
            if node not in self._reaping and node != self.id:
                self._reaping.add(node)
                self._spawn(self._reap(node))

    def _be_patient(self) -> None:
        """The store was away, or lost what it had: give the other nodes a heartbeat's time before they are missed."""
        self._patience = TimeSpan(self._node.loop.time(), self.store.lease / BEATS + PATIENCE_SECONDS)
        for roster in self._rosters.values():
            roster.be_patient(self._patience)

    async def _reap(self, node: str) -> None:
        try:
            await self._tell_all(self.store.reap(node))
        except StoreUnavailable as error:
            counters.count("presence_unavailable", "the members of a dead node could not be taken out: %s", error)
        finally:
            self._reaping.discard(node)

    async def _compare(self) -> None:
        """Look whether what we show and what we wrote is what the store has: a few commands, however many rooms."""
        if not self.store.is_versioned:
            for roster in self._rosters.values():
                roster.load()
            return
        rosters = list(self._rosters.items())
        if rosters:
            for (_, roster), version in zip(
                rosters, await self.store.versions([place for place, _ in rosters]), strict=True
            ):
                roster.compare(version)
        self._beats += 1
        if self.store.is_shared and self._beats % BEATS == 0:
            await self._audit()

    async def _audit(self) -> None:
        """Compare one room: a store that failed over may have lost writes that it had taken."""
        if not self._audited:
            self._audited.extend(self._truth)
        while self._audited and self.is_idle:
            place = self._audited.popleft()
            before = self._truth.get(place)
            if before is None:
                continue
            held = await self.store.held(self.id, *place)
            # What is on its way is no difference.
            if self.is_idle and held != set(self._truth.get(place, ())):
                counters.count("presence_repairs", "the store of presence has lost writes: all are made again")
                self._must_rebuild = True
                self._wake.set()
            return

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
        }
        return NodeFacts(self.id, facts)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        # A context of its own: not that of the connection which happened to be first.
        task = start_task(self._node.loop, work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _version() -> str:
    from .. import __version__  # there: the package imports this module

    return __version__


# By loop (its id, with the node to see whether it is the same one).
_trackers: dict[int, tuple[Node, Tracker | None]] = {}

# Nodes of loops that were closed, until they are taken out of the memory of this process, which is their store.
_lost: dict[str, PresenceStore] = {}


def tracker_of_loop() -> Tracker | None:
    """Return the running loop's tracker, made at first use; None where the settings name no usable store."""
    node = current_node()
    known = _trackers.get(id(node.loop))
    store = store_of_loop()
    if known is None or known[0] is not node or (known[1] and known[1].store) is not store:
        lost = lost_nodes()
        tracker = None if store is None else Tracker(node, store, float(option("GRACE", 5)))
        known = _trackers[id(node.loop)] = node, tracker
        if tracker is not None:
            tracker.take_over(lost)
    return known[1]


def lost_nodes() -> dict[str, PresenceStore]:
    """
    Return the ids of nodes of this process whose loop was closed before they ended, until forget_lost(); with stores.

    Those in shared stores are not among them: their leases end, and other nodes see it.
    """
    for key, (node, tracker) in list(_trackers.items()):
        if node.loop.is_closed():
            _trackers.pop(key, None)
            if tracker is not None and not tracker.store.is_shared:
                _lost.update(dict.fromkeys(tracker.ids, tracker.store))
    return dict(_lost)


def forget_lost(node: str) -> None:
    """Take in that nothing of a node is left in the store."""
    _lost.pop(node, None)


def known_tracker(node: Node) -> Tracker | None:
    """Return the tracker of a node if it has one yet."""
    known = _trackers.get(id(node.loop))
    return known[1] if known is not None and known[0] is node else None


after_fork_in_child(_trackers.clear)
