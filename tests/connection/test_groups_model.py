"""Membership next to a model: joins, keys, kicks, subscriptions and changes of permissions, in any order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.layer import FakeLayer, installed
from tests.support.recorder import Number, Recorder
from wsrt import (
    TooManyRooms,
    aadd_to_room,
    apermissions_changed,
    apublish_to_room,
    aremove_from_room,
)
from wsrt import addresses as to
from wsrt.connection.holds import SUBSCRIPTION, Key
from wsrt.testing import RequestRefused, connect

NAMESPACE = "groups.model"
MAX_ROOMS = 3
ROOMS = ["r.0", "r.1", "r.2", "private", "r.3"]
KEYS = [None, "a", "b"]


class Modelled(Recorder):
    """A consumer that allows the rooms in ``allowed``. Joins in the tasks in ``slow`` wait for the gate."""

    namespace = NAMESPACE
    subscriptions = ("r.<int:number>",)
    max_rooms = MAX_ROOMS
    rate = None

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.allowed = set(ROOMS)
        self.slow: set[asyncio.Task[Any] | None] = set()
        self.gate = asyncio.Event()

    async def on_connect(self) -> None:
        await self.set_user_id(7)

    async def authorize_room(self, room: str) -> bool:
        if asyncio.current_task() in self.slow:
            await self.gate.wait()
        return room in self.allowed


@dataclasses.dataclass
class Join:
    """A join that is under way."""

    room: str
    key: Key
    task: asyncio.Task[None]
    is_void: bool = False
    is_left: bool = False


@dataclasses.dataclass
class Model:
    """What is true of one connection."""

    held: dict[str, set[Key]] = dataclasses.field(default_factory=dict)
    allowed: set[str] = dataclasses.field(default_factory=lambda: set(ROOMS))
    joins: list[Join] = dataclasses.field(default_factory=list)

    def problem(self, room: str) -> type[Exception] | None:
        """Return the exception of a join that begins now; None if it succeeds."""
        if room in self.held:
            return None
        if len({room, *self.held, *(join.room for join in self.joins)}) > MAX_ROOMS:
            return TooManyRooms
        return None if room in self.allowed else PermissionDenied

    def join(self, room: str, key: Key) -> type[Exception] | None:
        problem = self.problem(room)
        if problem is None:
            self.held.setdefault(room, set()).add(key)
        return problem

    def leave(self, room: str, key: Key) -> None:
        for join in self.joins:
            join.is_left |= (join.room, join.key) == (room, key)
        keys = self.held.get(room, set())
        keys.discard(key)
        if not keys:
            self.held.pop(room, None)

    def remove(self, room: str) -> None:
        self.held.pop(room, None)
        for join in self.joins:
            join.is_void |= join.room == room


class World:
    """The connection, another that must never hear of it, and the model."""

    def __init__(self, client: Any, stranger: Any) -> None:
        self.client = client
        self.consumer: Modelled = client.consumer
        self.stranger = stranger
        self.model = Model()
        self.number = 0

    async def join(self, room: str, key: str | None) -> None:
        await expect(self.consumer.join(room, key=key), self.model.join(room, key))

    async def join_slowly(self, room: str, key: str | None) -> None:
        if room in self.model.held or self.model.problem(room) is TooManyRooms:
            await self.join(room, key)
            return
        task = asyncio.create_task(join(self.consumer, room, key))
        self.consumer.slow.add(task)
        self.model.joins.append(Join(room, key, task))
        await asyncio.sleep(0)

    async def finish_joins(self) -> None:
        """Let the joins under way go on, one after the other as they began."""
        self.consumer.gate.set()
        for each in self.model.joins:
            is_refused = each.is_void or each.room not in self.model.allowed
            await expect(each.task, PermissionDenied if is_refused else None)
            if not is_refused and not each.is_left:
                self.model.held.setdefault(each.room, set()).add(each.key)
        self.model.joins.clear()
        self.consumer.slow.clear()
        self.consumer.gate = asyncio.Event()

    async def leave(self, room: str, key: str | None) -> None:
        self.model.leave(room, key)
        await self.consumer.leave(room, key=key)

    async def subscribe(self, room: str, key: str | None) -> None:
        is_offered = room.startswith("r.")
        problem = self.model.problem(room) if is_offered else PermissionDenied
        await expect(self.client.subscribe(room), None if problem is None else RequestRefused)
        if problem is None:
            self.model.join(room, SUBSCRIPTION)
        elif is_offered:
            self.model.leave(room, SUBSCRIPTION)

    async def unsubscribe(self, room: str, key: str | None) -> None:
        self.model.leave(room, SUBSCRIPTION)
        await self.client.unsubscribe(room)

    async def add(self, room: str, key: str | None) -> None:
        self.model.join(room, None)
        await aadd_to_room(to.User(7), room, namespace=NAMESPACE)

    async def kick(self, room: str, key: str | None) -> None:
        self.model.remove(room)
        await aremove_from_room(to.Connection(self.consumer.id), room, namespace=NAMESPACE)

    async def allow(self, room: str, key: str | None) -> None:
        """Change a permission, of which nothing is heard until it is asked for again."""
        for allowed in (self.model.allowed, self.consumer.allowed):
            allowed ^= {room}

    async def permissions_changed(self, room: str, key: str | None) -> None:
        for each in set(self.model.held) - self.model.allowed:
            self.model.remove(each)
        await apermissions_changed(7, namespace=NAMESPACE)

    async def check(self) -> None:
        """Compare membership with the model: what the connection holds, what it was told, and what reaches it."""
        await self.client.settle()
        held = self.model.held
        assert set(self.consumer.rooms) == set(held)
        assert self.consumer._connection.groups._holds._keys == held
        told: set[str] = set()
        for frame in self.client.reserved:
            if frame["event"] in ("wsrt.joined", "wsrt.left"):
                told ^= {frame["data"]["room"]}
        assert told == set(held)
        sent = {}
        for room in ROOMS:
            self.number += 1
            sent[self.number] = room
            await apublish_to_room(room, Number(value=self.number), namespace=NAMESPACE)
        await self.client.settle()
        received = [sent[frame["data"]["value"]] for frame in self.client._frames]
        self.client._frames.clear()
        assert sorted(received) == sorted(held)
        await self.stranger.assert_silent()


async def join(consumer: Any, room: str, key: str | None) -> None:
    await consumer.join(room, key=key)


async def expect(work: Awaitable[object], problem: type[Exception] | None) -> None:
    with contextlib.nullcontext() if problem is None else pytest.raises(problem):
        await work


async def run(steps: list[tuple[str, str, str | None]]) -> None:
    class Stranger(Modelled):
        namespace = "groups.stranger"

    client, stranger = connect(Modelled, subprotocols=["wsrt.v1"]), connect(Stranger, subprotocols=["wsrt.v1"])
    async with client, stranger:
        for room in ROOMS[:MAX_ROOMS]:
            await stranger.subscribe(room)
        world = World(client, stranger)
        for name, room, key in steps:
            if name == "finish_joins":
                await world.finish_joins()
            else:
                await getattr(world, name)(room, key)
            await world.check()
        await world.finish_joins()
        await world.check()
        for room in ROOMS:
            await world.kick(room, None)
        await world.check()
        groups = client.consumer._connection.groups
        assert not groups._joins
        assert not {name for name in groups._held if ".room." in name}


STEPS = [
    "join",
    "join_slowly",
    "finish_joins",
    "leave",
    "subscribe",
    "unsubscribe",
    "add",
    "kick",
    "allow",
    "permissions_changed",
]

steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(ROOMS), st.sampled_from(KEYS)), max_size=25)


@pytest.mark.parametrize("with_layer", [False, True], ids=["one process", "layer"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_membership(with_layer: bool, steps: list[tuple[str, str, str | None]]) -> None:
    """After each step the connection is in the rooms that the model says, and receives what is published to them."""
    with installed(FakeLayer()) if with_layer else contextlib.nullcontext():
        asyncio.run(run(steps))
