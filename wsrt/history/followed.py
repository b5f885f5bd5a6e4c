"""A room that a node follows: its log, and the publications that wait for earlier ones."""

from __future__ import annotations

import asyncio
import collections
from typing import Literal

from ..cluster.messages import PublishMessage
from ..metrics import counters
from ..realms import RoomId
from ..types import Position
from .base import Gap
from .log import RoomLog, Verdict

WAITING_MESSAGES = 1000
WAITING_BYTES = 1_048_576
"""The most publications of a room that wait for earlier ones, as a number and in bytes."""

Missing = Gap | Literal["too_many"]
"""Why a client can't be given what it has missed. "too_many": there is more than REPLAY_MESSAGES or REPLAY_BYTES."""


class FollowedRoom:
    """
    A room that is followed, and the publications of it that wait.

    Args:
        id: The realm and the name of the room.

    Attributes:
        id: The realm and the name of the room.
        users: The number of connections that are in the room or are joining it.
        log: The log. None until the position was read.
        waiting: Publications that wait for earlier ones, or for the position.
        is_behind: Whether the store has, or may have, publications after the log's position.
        has_conflict: Whether the store has given an offset of the log to another publication.
        task: The task that reads the position or what is missing. None if nothing is missing.
        checked: When the position was last compared with the store's, in seconds of the loop's clock.
        changed: When the last publication was delivered.
        lock: Held while a log is extended, so that one read serves all clients that need it.
        unreadable: The highest offset from which clients can't be given what they missed, and the reason.
    """

    __slots__ = (
        "changed",
        "checked",
        "has_conflict",
        "id",
        "is_behind",
        "lock",
        "log",
        "size",
        "task",
        "unreadable",
        "users",
        "waiting",
    )

    def __init__(self, id: RoomId) -> None:
        self.id = id
        self.users = 0
        self.log: RoomLog | None = None
        self.waiting: collections.deque[PublishMessage] = collections.deque()
        self.size = 0
        self.is_behind = False
        self.has_conflict = False
        self.task: asyncio.Task[None] | None = None
        self.checked = 0.0
        self.changed = 0.0
        self.lock = asyncio.Lock()
        self.unreadable: tuple[int, Missing] = (-1, "epoch")

    @property
    def name(self) -> str:
        return self.id[1]

    def judge(self, publication: PublishMessage) -> Verdict | None:
        """Compare a publication with the log. None if it isn't kept in history, or the position wasn't read."""
        kept = publication.kept
        return None if kept is None or self.log is None else self.log.judge(kept.position, kept.id)

    def wait(self, publication: PublishMessage) -> None:
        """Let a publication wait. If there are too many, the first one is dropped, or is read from the store."""
        self.note_arrival(publication)
        self.waiting.append(publication)
        self.size += publication.frame.size
        while len(self.waiting) > WAITING_MESSAGES or self.size > WAITING_BYTES:
            first = self.waiting.popleft()
            self.size -= first.frame.size
            if first.kept is None:
                counters.count(
                    "publications_dropped",
                    "dropped the oldest publication without history to a room, because too many wait until the room's "
                    "history has been read from the store",
                )
            else:
                # The store has it.
                self.is_behind = True

    def note_arrival(self, publication: PublishMessage) -> None:
        """Note whether only the store can tell what a publication is that has arrived now."""
        self.is_behind |= self.judge(publication) in (Verdict.OLD, Verdict.UNKNOWN, Verdict.CONFLICT)

    def take_out(self, publication: PublishMessage) -> None:
        """Let a publication wait no longer."""
        self.waiting.remove(publication)
        self.size -= publication.frame.size

    def take_out_until(self, position: Position) -> None:
        """Let the publications up to a position wait no longer."""
        for item in [item for item in self.waiting if _is_until(item, position)]:
            self.take_out(item)

    def withdraw_position(self, item: PublishMessage) -> None:
        """
        Remove the position of a waiting publication, because its history gives the offset to another one, or was lost.

        A client that knows the position would take the publication for a duplicate, and drop it.
        """
        counters.count("history_positions_lost")
        new = PublishMessage(item.realm, item.audience, item.encoded)
        self.waiting[self.waiting.index(item)] = new
        self.size += new.frame.size - item.frame.size


def _is_until(publication: PublishMessage, position: Position) -> bool:
    kept = publication.kept
    return kept is not None and kept.position.epoch == position.epoch and kept.position.offset <= position.offset
