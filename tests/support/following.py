"""A node that follows rooms with history, for tests of single faults."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from wsrt.addresses import Room
from wsrt.cluster.messages import Kept, PublishMessage
from wsrt.delivery.hub import Hub
from wsrt.history import memory
from wsrt.history.base import Append, Last
from wsrt.history.follower import Follower
from wsrt.history.memory import MemoryHistory
from wsrt.protocol.envelope import Encoded
from wsrt.protocol.frame import Frame
from wsrt.realms import RoomId
from wsrt.types import Position

A: RoomId = ("r", "a")


class Staged(MemoryHistory):
    """A shared history whose calls can be made to fail, by name, and are counted."""

    is_shared = True

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, Exception] = {}
        self.calls: list[str] = []

    def _note(self, name: str) -> None:
        self.calls.append(name)
        assert len(self.calls) < 1_000, "the store is called without a pause"
        if name in self.errors:
            raise self.errors[name]

    async def positions(self, rooms: Sequence[RoomId]) -> list[Last]:
        self._note("positions")
        return await super().positions(rooms)

    async def renew(self, room: RoomId, epoch: str) -> Position:
        self._note("renew")
        return await super().renew(room, epoch)

    async def read(self, room: RoomId, after: Position, *, limit: int, max_bytes: int) -> Any:
        self._note("read")
        await asyncio.sleep(0.01)
        return await super().read(room, after, limit=limit, max_bytes=max_bytes)


class Cluster:
    """A node, its store, and what it has delivered."""

    def __init__(self) -> None:
        memory._state = memory._State()
        self.store = Staged()
        self.hub = Hub()
        self.delivered: list[str] = []
        self.hub.deliver = self._deliver  # type: ignore[method-assign]
        self.follower = Follower(asyncio.get_running_loop(), self.hub, lambda: self.store)

    def _deliver(self, realm: str, audience: Any, frame: Frame) -> int:
        self.delivered.append(frame.text)
        return 0

    async def publish(self, n: int, room: RoomId = A, *, arrives: bool = True) -> Position:
        encoded = Encoded("said", f"{n:04}")
        [kept] = await self.store.append([Append(room, f"id{n}", "said", encoded.data)])
        if arrives:
            self.arrive(n, kept.position, room)
        return kept.position

    def arrive(self, n: int, position: Position, room: RoomId = A) -> None:
        """Let the layer deliver a publication to the node."""
        kept = Kept(position, f"id{n}", None)
        self.follower.deliver(PublishMessage("r", Room(room[1]), Encoded("said", f"{n:04}"), None, kept))
