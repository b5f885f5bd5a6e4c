"""
The follower: it keeps a node at the position of each room whose history its connections need.

Publications reach a node through the channel layer, which may lose or reorder them. Their offsets show it. The follower
then reads what is missing from the store, once for all connections of the node, and delivers it in order; meanwhile the
room's publications wait. If some of it can't be read any more, the clients are told. No connection is closed.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from ..addresses import Room, room_of
from ..cluster.messages import CommandMessage, PublishMessage
from ..delivery.hub import Hub
from ..delivery.jitter import jittered
from ..delivery.tasks import start_task
from ..exceptions import StoreUnavailable
from ..metrics import counters, quoted
from ..protocol.envelope import reserved
from ..protocol.frame import Frame
from ..realms import RoomId, includes
from ..types import Position
from .base import Gap, HistoryStore, Reading
from .checks import Checks
from .followed import FollowedRoom, Missing
from .log import REPLAY_BYTES, REPLAY_MESSAGES, VALUES, VALUES_BYTES, Logged, RoomLog, Verdict

ORDER_SECONDS = 0.02
"""How long a publication waits for earlier ones, which concurrent publishers may send later, in seconds."""

FIRST_RETRY_SECONDS = 0.05
RETRY_SECONDS = 1.0
"""The first and the longest pause between attempts to read what is missing, in seconds."""

PATIENCE_SECONDS = 5.0
"""How long other publications of a room wait for a store that is down, in seconds."""

ATTEMPTS = 10
"""How often a publication is looked for that the store must have, before its history counts as lost."""

LOG_BYTES = 33_554_432
"""The most bytes that the logs of a node hold. Those of the rooms that were used longest ago are emptied first."""

FORGOTTEN = "history_forgotten"
PURGED = "history_purged"
"""The names of the commands by which nodes learn that publications, or all of them, were deleted from a history."""


class Follower:
    """
    Keeps the connections of one node up to date with the histories of their rooms.

    It compares the offsets of the publications that arrive with those in the store, reads missing ones from the store,
    and delivers all of them in order.

    All methods must be called in the thread of the node's loop.

    Args:
        loop: The loop of the node.
        hub: The connections of the node.
        store: Returns the store. It raises StoreUnavailable if the settings can't be used.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hub: Hub, store: Callable[[], HistoryStore]) -> None:
        self._loop = loop
        self._hub = hub
        self._store = store
        # In the order of use, the last one first dropped.
        self._rooms: collections.OrderedDict[RoomId, FollowedRoom] = collections.OrderedDict()
        # Those under way. The loop alone doesn't keep a task from being collected.
        self._tasks: set[asyncio.Task[None]] = set()
        # The bytes of all logs.
        self._size = 0
        self._checks = Checks(loop, self._rooms, store, spawn=self._spawn, catch_up=self._catch_up)

    # Following.

    async def follow(self, id: RoomId) -> None:
        """
        Follow a room for one more connection. When this returns, the position of the room is known.

        Raises:
            StoreUnavailable: The store didn't answer. There is nothing to unfollow then.
        """
        room = self._rooms.get(id)
        if room is None:
            room = self._rooms[id] = FollowedRoom(id)
            self._checks.start()
        room.users += 1
        try:
            while room.log is None:
                if room.task is None:
                    room.task = self._spawn(self._load(room))
                loading = room.task
                # wait() doesn't cancel the task when this caller is cancelled, as others may wait for it.
                await asyncio.wait({loading})
                if not loading.cancelled():
                    loading.result()
        except BaseException:
            self.unfollow(id)
            raise

    def unfollow(self, id: RoomId) -> None:
        """Undo one follow()."""
        room = self._rooms.get(id)
        if room is None:
            return
        room.users -= 1
        if room.users <= 0:
            del self._rooms[id]
            if room.log is not None:
                self._size -= room.log.size
            if room.task is not None:
                room.task.cancel()
            if not self._rooms:
                self._checks.stop()

    def position(self, id: RoomId) -> Position:
        """Return the position up to which publications of a followed room were delivered."""
        return self._log(id).position

    @property
    def is_used(self) -> bool:
        """Whether any room is followed."""
        return bool(self._rooms)

    # Delivering.

    def deliver(self, publication: PublishMessage) -> int:
        """Deliver a publication, in its turn; return the number of connections that got it now."""
        name = room_of(publication.audience)
        room = None if name is None else self._rooms.get((publication.realm, name))
        if room is None:
            return self._pass_on(publication)
        if room.log is None or room.task is not None:
            room.wait(publication)
            return 0
        if publication.kept is None:
            return self._pass_on(publication)
        match room.log.judge(publication.kept.position, publication.kept.id):
            case Verdict.NEXT:
                return self._deliver_next(room, room.log, publication)
            case Verdict.DUPLICATE:
                counters.count("history_duplicates")
            case verdict:
                room.wait(publication)
                self._catch_up(room, after=ORDER_SECONDS if verdict is Verdict.AHEAD else 0.0)
        return 0

    def carry_out(self, command: CommandMessage) -> bool:
        """Carry out a command about the history of rooms. Return whether it is one."""
        if command.name not in (FORGOTTEN, PURGED):
            return False
        name = command.arguments.get("room")
        for room in [room for room in self._rooms.values() if room.name == name and _is_in(command, room.id[0])]:
            if command.name == FORGOTTEN:
                self._forget(room, command.arguments["epoch"], command.arguments["offsets"])
            elif room.log is not None:
                # The store has a new epoch; the clients are told when it was read.
                room.is_behind = True
                self._catch_up(room)
        return True

    def check_all(self) -> None:
        """Compare the positions of all rooms with the store's, because the layer may have lost messages."""
        self._checks.check_all()

    # Recovery of clients.

    async def cover(self, id: RoomId, claim: Position) -> Missing | None:
        """
        Read, if necessary, what a client has missed. The log has it when this returns None.

        Args:
            id: The realm and the name of a followed room.
            claim: The position of the last publication that the client has received.

        Returns:
            Why the client can't be given all that it has missed; None if it can.

        Raises:
            StoreUnavailable: The store didn't answer.
        """
        room = self._rooms[id]
        async with room.lock:
            log = self._log(id)
            if claim.epoch != log.position.epoch or claim.offset > log.position.offset:
                # The client may come from a node that is ahead of this one.
                [last] = await self._store().positions([id])
                if claim.epoch != last.position.epoch or claim.offset > last.position.offset:
                    return "epoch"
                # If the store loses writes from now on, the node recognises it.
                await self._wait_until_caught_up(room)
                if claim.epoch != log.position.epoch or claim.offset > log.position.offset:
                    return "epoch"
            self._rooms.move_to_end(id)
            if log.start <= claim.offset:
                return None
            # At first the most that a client may be given, so that the next ones don't have to read. If that is too
            # much, exactly what this one needs.
            most = Position(claim.epoch, max(0, log.position.offset - REPLAY_MESSAGES))
            for after in dict.fromkeys((most if most.offset <= claim.offset else claim, claim)):
                if claim.offset <= room.unreadable[0]:
                    return room.unreadable[1]
                await self._extend(room, log, after)
                if log.start <= claim.offset:
                    return None
            return room.unreadable[1]

    def missed(self, id: RoomId, claim: Position, until: Position) -> list[Logged] | None:
        """
        Return the publications of a followed room after one position, up to another one.

        None if the log doesn't have them any more: the room has another epoch by now, or the log was emptied.
        """
        log = self._log(id)
        if not claim.epoch == until.epoch == log.position.epoch or log.start > claim.offset:
            return None
        return log.after(claim.offset, until.offset)

    async def load_values(self, id: RoomId) -> None:
        """Read the values of a followed room, unless they are known. Raises StoreUnavailable."""
        room = self._rooms[id]
        async with room.lock:
            for _ in range(ATTEMPTS):
                log = room.log
                # The room may be left during each await.
                if log is None or log.values is not None or self._rooms.get(id) is not room:
                    return
                reading = await self._store().values(id, limit=VALUES, max_bytes=VALUES_BYTES)
                if reading.position.epoch == log.position.epoch:
                    log.add_values(map(log.logged, reading.entries), has_more=reading.has_more)
                else:
                    # The history has started again, which this node doesn't know yet.
                    await self._wait_until_caught_up(room)

    def values(self, id: RoomId, until: Position) -> list[Logged]:
        """Return the last values of a followed room up to a position, by offset."""
        return self._log(id).values_until(until)

    def lacks_values(self, id: RoomId, until: Position) -> bool:
        """Return whether a followed room may have more values up to a position than values() returns."""
        return self._log(id).lacks_values(until)

    # Private.

    def _log(self, id: RoomId) -> RoomLog:
        log = self._rooms[id].log
        if log is None:
            raise LookupError(f"the position of the room {id[1]!r} wasn't read")
        return log

    def _pass_on(self, publication: PublishMessage) -> int:
        return self._hub.deliver(publication.realm, publication.audience, publication.frame)

    def _deliver_next(self, room: FollowedRoom, log: RoomLog, publication: PublishMessage) -> int:
        kept = publication.kept
        if kept is not None:
            self._append(room, log, Logged(kept.position.offset, kept.id, kept.key, publication.frame))
        return self._pass_on(publication)

    def _append(self, room: FollowedRoom, log: RoomLog, logged: Logged) -> None:
        before = log.size
        log.append(logged)
        room.changed = self._loop.time()
        self._resized(room, log.size - before)

    def _resized(self, room: FollowedRoom, size: int) -> None:
        """Keep the logs of the node within their limit."""
        self._size += size
        self._rooms.move_to_end(room.id)
        while self._size > LOG_BYTES and (other := next(iter(self._rooms.values()))) is not room:
            if other.log is not None and other.log.size:
                self._size -= other.log.size
                other.log.shrink()
                counters.count("history_logs_emptied")
            # So that it isn't looked at again before it has grown.
            self._rooms.move_to_end(other.id)
        self._rooms.move_to_end(room.id)

    def _catch_up(self, room: FollowedRoom, after: float = 0.0) -> None:
        if room.task is None:
            room.task = self._spawn(self._run_catch_up(room, after))

    async def _load(self, room: FollowedRoom) -> None:
        """Read the position of a room, and deliver what has arrived in the meantime."""
        try:
            store = self._store()
            [last] = await store.positions([room.id])
            room.log = RoomLog(room.name, last.position, last.id, values_kept=store.values_kept)
            room.checked = self._loop.time()
            # Publications up to the position were made before the join returns. This isn't a duplicate of the log.
            room.take_out_until(last.position)
            # Others may belong to an epoch that began after the position was read.
            for publication in room.waiting:
                room.note_arrival(publication)
        finally:
            room.task = None
        if room.waiting:
            self._catch_up(room)

    async def _run_catch_up(self, room: FollowedRoom, after: float) -> None:
        try:
            if after:
                await asyncio.sleep(after)
            await self._heal(room, self._log(room.id))
        finally:
            room.task = None
            if room.waiting and self._rooms.get(room.id) is room:
                # This task was cancelled by other code, or has failed and may fail again.
                self._catch_up(room, after=RETRY_SECONDS)

    async def _heal(self, room: FollowedRoom, log: RoomLog) -> None:
        """Deliver what waits, and read what is missing, until the node is at the position of the store."""
        pause, since, in_vain = FIRST_RETRY_SECONDS, self._loop.time(), 0
        while True:
            room.has_conflict |= self._withdraw_conflicts(room)
            self._deliver_waiting(room, log)
            if not (room.waiting or room.is_behind or room.has_conflict):
                return
            before, has_failed = log.position, False
            try:
                if room.has_conflict or in_vain >= ATTEMPTS:
                    await self._renew(room, log)
                await self._read_on(room, log)
            except StoreUnavailable as error:
                counters.count("history_unavailable", "the history of a room can't be read: %s", error)
                has_failed = True
                if self._loop.time() - since >= PATIENCE_SECONDS:
                    self._deliver_others(room)
            else:
                in_vain = in_vain + 1 if log.position == before else 0
            if not (has_failed or in_vain):
                pause = FIRST_RETRY_SECONDS
                continue
            self._deliver_waiting(room, log)
            if room.waiting or room.is_behind or room.has_conflict:
                await asyncio.sleep(jittered(pause))
                pause = min(2 * pause, RETRY_SECONDS)

    def _withdraw_conflicts(self, room: FollowedRoom) -> bool:
        """
        Take their positions from waiting publications whose offset another publication has.

        A client that knows such a position would drop the publication as a duplicate. Returns whether there were any.
        """
        found = [item for item in room.waiting if room.judge(item) is Verdict.CONFLICT]
        for item in found:
            self._withdraw_position(room, item)
        return bool(found)

    def _deliver_waiting(self, room: FollowedRoom, log: RoomLog) -> None:
        """Deliver the waiting publications up to the first one before which others are missing."""
        while room.waiting:
            first = room.waiting[0]
            verdict = room.judge(first)
            if verdict is Verdict.DUPLICATE or (verdict is Verdict.OLD and not room.is_behind):
                room.take_out(first)
                counters.count("history_duplicates")
            elif verdict is Verdict.UNKNOWN and not room.is_behind:
                # It was sent with the position of a history that was lost since.
                self._withdraw_position(room, first)
            elif verdict in (None, Verdict.NEXT):
                room.take_out(first)
                self._deliver_next(room, log, first)
            else:
                # It waits for earlier ones, which may have arrived after it.
                following = next((item for item in room.waiting if room.judge(item) is Verdict.NEXT), None)
                if following is None:
                    return
                room.take_out(following)
                self._deliver_next(room, log, following)

    def _deliver_others(self, room: FollowedRoom) -> None:
        """Deliver the waiting publications that aren't kept in history, ahead of those that are."""
        for publication in [item for item in room.waiting if item.kept is None]:
            room.take_out(publication)
            self._pass_on(publication)

    def _withdraw_position(self, room: FollowedRoom, item: PublishMessage) -> None:
        """Let a waiting publication be delivered without a position, unless a copy of it was."""
        if item.kept is not None and self._hub.is_copy(item.kept.id):
            room.take_out(item)
            counters.count("history_duplicates")
        else:
            room.withdraw_position(item)

    async def _read_on(self, room: FollowedRoom, log: RoomLog) -> None:
        """Read what follows the log's position, and deliver it."""
        before = log.position
        # Cleared before the read: what is noted during an await happened after it.
        room.is_behind = False
        try:
            reading = await self._store().read(room.id, before, limit=REPLAY_MESSAGES, max_bytes=REPLAY_BYTES)
        except BaseException:
            room.is_behind = True
            raise
        if reading.gap == "epoch" and reading.position.epoch == before.epoch:
            # The store has lost its last writes, for example in a failover. It would give their offsets out again.
            await self._renew(room, log)
            return
        room.checked = self._loop.time()
        if reading.gap is not None:
            values: Reading | None = None
            if log.values is not None:
                # Those up to the start aren't among the entries that follow.
                values = await self._read_values(room)
                if values.position.epoch != reading.position.epoch:
                    room.is_behind = True
                    return
            self._restart(room, log, Position(reading.position.epoch, reading.start), reading.gap, values)
        for entry in reading.entries:
            logged = log.logged(entry)
            self._append(room, log, logged)
            self._hub.deliver(room.id[0], Room(room.name), logged.frame)
            counters.count("history_publications_read")
            await self._hub.checkpoint()
        room.is_behind |= reading.has_more
        if not reading.has_more:
            log.skip_to(reading.position.offset)

    async def _renew(self, room: FollowedRoom, log: RoomLog) -> None:
        position = await self._store().renew(room.id, log.position.epoch)
        counters.count("history_renewed", "the history of %s has lost publications: it starts again", quoted(room.name))
        # Publications may have followed, if another node has renewed it.
        self._restart(room, log, Position(position.epoch, 0), "epoch")
        room.is_behind |= position.offset > 0

    async def _read_values(self, room: FollowedRoom) -> Reading:
        """Read the values of a room. Raises StoreUnavailable; the room then counts as behind."""
        try:
            return await self._store().values(room.id, limit=VALUES, max_bytes=VALUES_BYTES)
        except BaseException:
            room.is_behind = True
            raise

    def _restart(
        self, room: FollowedRoom, log: RoomLog, position: Position, reason: Gap, values: Reading | None = None
    ) -> None:
        """Start again at a position, and tell the clients, with the values of the room up to there."""
        counters.count("history_restarts")
        room.has_conflict = False
        self._size -= log.size
        log.restart(position)
        room.unreadable = (-1, "epoch")
        if values is not None:
            log.add_values(map(log.logged, values.entries), has_more=values.has_more)
        known = log.values_until(position)
        frame = joined(room.name, position, reason=reason, values=len(known), lacks_values=log.lacks_values(position))
        self._announce(room, frame)
        for logged in known:
            self._hub.deliver(room.id[0], Room(room.name), logged.frame)

    async def _extend(self, room: FollowedRoom, log: RoomLog, after: Position) -> None:
        """Read what precedes the log, from a position on. Note up to which offset it can't be done, and why."""
        reading = await self._store().read(room.id, after, limit=REPLAY_MESSAGES, max_bytes=REPLAY_BYTES)
        counters.count("history_reads")
        if self._rooms.get(room.id) is not room:
            raise LookupError("the room was left")
        if log.position.epoch != after.epoch:
            return  # the history has started again in the meantime
        if reading.position.epoch != after.epoch:
            room.is_behind = True
            self._catch_up(room)
            room.unreadable = (after.offset, "epoch")
            return
        # No await from here on. In the meantime the log may have lost its first publications.
        last = reading.entries[-1].offset if reading.entries else reading.start
        if reading.has_more and last < log.start:
            room.unreadable = (max(room.unreadable[0], after.offset), "too_many")
            return
        if not reading.has_more and reading.position.offset < log.start:
            # Nothing joins the two: the log was emptied during the read, or the store has lost its last writes.
            room.is_behind = True
            self._catch_up(room)
            return
        if reading.gap is not None:
            room.unreadable = (max(room.unreadable[0], reading.start - 1), reading.gap)
        if reading.start < log.start:
            before = log.size
            entries = [log.logged(entry) for entry in reading.entries if entry.offset <= log.start]
            log.prepend(entries, reading.start)
            self._resized(room, log.size - before)

    async def _wait_until_caught_up(self, room: FollowedRoom) -> None:
        room.is_behind = True
        self._catch_up(room)
        if room.task is not None:
            await asyncio.wait({room.task}, timeout=PATIENCE_SECONDS)

    def _forget(self, room: FollowedRoom, epoch: str, offsets: Sequence[int]) -> None:
        log = room.log
        if log is None or log.position.epoch != epoch:
            return
        before = log.size
        log.forget(offsets)
        self._size += log.size - before
        for offset in offsets:
            data = {"room": room.name, "epoch": epoch, "offset": offset}
            self._announce(room, reserved("wsrt.forgotten", data))

    def _announce(self, room: FollowedRoom, frame: Frame) -> None:
        self._hub.announce(room.id[0], room.name, frame)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # In an empty context. Otherwise the task would run in the context of the first connection.
        task = start_task(self._loop, work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_note_failure)
        return task


def joined(
    room: str,
    position: Position,
    *,
    count: int | None = None,
    reason: Missing | Literal["late"] | None = None,
    values: int = 0,
    lacks_values: bool = False,
) -> Frame:
    """
    Return the ``wsrt.joined`` frame of a room with history.

    Args:
        room: The name of the room.
        position: The position after which publications follow.
        count: The number of missed publications that follow; None if the client didn't ask for them or doesn't get
            them.
        reason: Why it doesn't get them.
        values: The number of values that follow.
        lacks_values: Whether the room has more values.
    """
    data: dict[str, Any] = {"room": room, "epoch": position.epoch, "offset": position.offset}
    if count is not None:
        data |= {"recovered": True, "count": count}
    elif reason is not None:
        data |= {"recovered": False, "reason": reason}
    if values:
        data["values"] = values
    if lacks_values:
        data["values_missing"] = True
    return reserved("wsrt.joined", data)


def _is_in(command: CommandMessage, realm: str) -> bool:
    return includes(command.namespace, command.tenant, realm)


def _note_failure(task: asyncio.Task[None]) -> None:
    # Also marks the exception as retrieved: a follow() that waits for the task raises it.
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, StoreUnavailable):
        counters.count("history_failed", "following the history of a room failed: %r", error)
