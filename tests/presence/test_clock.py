"""Presence under a clock that is frozen, moved and released (freezegun)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable

import pytest
from freezegun import freeze_time

from tests.support.processes import RedisServer
from tests.support.waiting import aeventually
from wsrt import TypedEventConsumer, presence
from wsrt.presence.base import Count, Join, Leave, NodeFacts
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.redis import RedisPresence
from wsrt.testing import Client, connect

FUTURE = "2040-02-29"


class ClockConsumer(TypedEventConsumer):
    namespace = "clock"
    presence = True

    async def on_connect(self) -> None:
        await self.set_user_id(self.query["user"])
        await self.join("r")


def dial(user: str) -> Client:
    return connect(ClockConsumer, f"/?user={user}", subprotocols=["wsrt.v1"])


def names(client: Client) -> set[str]:
    """Return the users whom a client was shown to be here or to come."""
    frames = [frame["data"] for frame in client.reserved if frame["event"] == "wsrt.presence"]
    return {member["user_id"] for frame in frames for key in ("members", "joined") for member in frame.get(key, ())}


async def test_connections_of_a_frozen_test() -> None:
    """A test that freezes the clock and moves it by a day still sees its connections; differences come as ever."""
    async with dial("ada") as ada:
        with freeze_time(FUTURE, real_asyncio=True) as frozen:
            async with dial("grace") as grace:
                await aeventually(lambda: names(ada) == names(grace) == {"ada", "grace"})
                frozen.tick(dt.timedelta(days=1))
                assert {found.user_id for found in await presence.aconnections(namespace="clock")} == {"ada", "grace"}
                assert await presence.acount("r", namespace="clock") == 2
                (node,) = (await presence.astats()).nodes
                assert 0 < node.lease <= 30
                async with dial("edsger"):
                    await aeventually(lambda: "edsger" in names(ada))
        async with dial("barbara"):
            await aeventually(lambda: "barbara" in names(ada))
            assert {found.user_id for found in await presence.aconnections(namespace="clock")} >= {"ada", "barbara"}


@pytest.mark.parametrize("real_asyncio", [True, False])
async def test_memory_in_a_frozen_loop(real_asyncio: bool) -> None:
    """Leases of the memory store hold and end by the clock of the machine, whatever a test makes of it."""
    store = MemoryPresence(lease=0.2)
    with freeze_time(FUTURE, real_asyncio=real_asyncio) as frozen:
        await store.begin(NodeFacts("frozen", {}))
        frozen.tick(dt.timedelta(days=1))
        assert (await store.beat(NodeFacts("frozen", {}))).is_alive
        await store.apply("frozen", [Join("clock-memory", "r", 1, "ada")])
        assert len((await store.connections("clock-memory", "r")).items) == 1
    await aeventually(_has_expired(store, "frozen"))
    async for _ in store.reap("frozen"):
        pass
    assert await store.counts([("clock-memory", "r")]) == [Count(0, 0, 0)]


async def test_redis_in_a_frozen_loop(redis_server: RedisServer) -> None:
    """The Redis store hangs on no clock of the process: leases end by that of Redis."""
    store = RedisPresence(redis_server.url)
    with freeze_time(FUTURE):
        await store.begin(NodeFacts("n1", {}))
        await store.apply("n1", [Join("clock", "r", 1, "ada"), Join("clock", "r", 2, "grace")])
        assert (await store.beat(NodeFacts("n1", {}))).is_alive
        assert await store.counts([("clock", "r")]) == [Count(2, 0, 2)]
    await store.apply("n1", [Leave("clock", "r", 1)])
    assert (await store.beat(NodeFacts("n1", {}))).is_alive
    assert await store.counts([("clock", "r")]) == [Count(1, 0, 1)]
    (node,) = await store.nodes()
    assert 0 < node.lease <= 30
    await store.close()


def _has_expired(store: MemoryPresence, node: str) -> Callable[[], Awaitable[bool]]:
    async def has_expired() -> bool:
        return node in await store.expired()

    return has_expired
