"""A Redis that fails over: through Sentinels, and behind an address that leads to another server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from tests.support.ports import free_port
from tests.support.processes import RedisServer
from tests.support.proxy import TcpProxy
from tests.support.redis import MasterServer, ReplicaServer, SentinelServer, copied, say
from tests.support.waiting import aeventually
from wsrt.presence.base import Count, Join, NodeFacts, StoreUnavailable
from wsrt.presence.redis import RedisPresence
from wsrt.stores.redis.link import CONNECTIONS


@pytest.fixture
def master() -> Iterator[MasterServer]:
    with MasterServer() as server:
        yield server


@pytest.fixture
def replica(master: RedisServer) -> Iterator[ReplicaServer]:
    with ReplicaServer(master) as server:
        yield server


async def test_address_that_leads_to_another_server(master: RedisServer, replica: ReplicaServer) -> None:
    """After a failover that closes no connection, refusals of the old master make the store connect to the new one."""
    async with TcpProxy(master.port) as proxy:
        store = RedisPresence(f"redis://127.0.0.1:{proxy.port}")
        await store.begin(NodeFacts("n1", {}))
        await store.apply("n1", [Join("chat", "a", 1, "ada")])
        # Opens all connections that there may be.
        await asyncio.gather(*(store.counts([("chat", "a")]) for _ in range(10 * CONNECTIONS)))
        await copied(master)
        say(replica.port, "REPLICAOF NO ONE")
        say(master.port, f"REPLICAOF 127.0.0.1 {replica.port}")
        proxy.target = replica.port
        refused = 0
        while not await _has_joined(store, 2):
            refused += 1
            assert refused <= CONNECTIONS
        assert refused
        assert await store.counts([("chat", "a")]) == [Count(2, 0, 2)]
        await store.close()


async def test_failover_by_sentinel(master: RedisServer, replica: ReplicaServer) -> None:
    """A store that asks Sentinels goes on with the new master when the old one died, though one Sentinel is silent."""
    async with contextlib.AsyncExitStack() as stack:
        sentinel = stack.enter_context(SentinelServer(master))
        silent = await stack.enter_async_context(TcpProxy(sentinel.port))
        silent.blackhole()
        store = RedisPresence(
            f"redis://{sentinel.SERVICE}/3",
            sentinels=[("127.0.0.1", silent.port), ("127.0.0.1", sentinel.port)],
            timeout=2,
            lease=60,
        )
        await store.begin(NodeFacts("n1", {}))
        await store.apply("n1", [Join("chat", "a", 1, "ada")])
        await copied(master)
        assert "db3:" in say(replica.port, "INFO keyspace")
        master.kill()
        await aeventually(lambda: _has_joined(store, 2))
        assert await store.counts([("chat", "a")]) == [Count(2, 0, 2)]
        assert (await store.beat(NodeFacts("n1", {}))).is_alive
        assert "role:master" in say(replica.port, "INFO replication")
        await store.close()


async def test_orderly_failover_by_sentinel(master: RedisServer, replica: ReplicaServer) -> None:
    """A failover that an operator asks for is followed too; Sentinels may have a password of their own."""
    with SentinelServer(master, password="secret") as sentinel:
        store = RedisPresence(
            f"redis://{sentinel.SERVICE}",
            sentinels=[("127.0.0.1", sentinel.port)],
            sentinel_kwargs={"password": "secret"},
        )
        await store.begin(NodeFacts("n1", {}))
        await store.apply("n1", [Join("chat", "a", 1, "ada")])
        await copied(master)
        say(sentinel.port, f"SENTINEL FAILOVER {sentinel.SERVICE}", "secret")
        await aeventually(lambda: "role:master" in say(replica.port, "INFO replication"))
        await aeventually(lambda: _has_joined(store, 2))
        assert await store.counts([("chat", "a")]) == [Count(2, 0, 2)]
        await store.close()


async def test_sentinels_that_know_no_master(master: RedisServer, replica: ReplicaServer) -> None:
    """While no Sentinel answers, or none knows the service, everything raises StoreUnavailable."""
    with SentinelServer(master) as sentinel:
        for service, port in (("other", sentinel.port), (sentinel.SERVICE, free_port())):
            store = RedisPresence(f"redis://{service}", sentinels=[("127.0.0.1", port)], timeout=2)
            with pytest.raises(StoreUnavailable, match="No master found"):
                await store.counts([("chat", "a")])
            await store.close()


async def _has_joined(store: RedisPresence, number: int) -> bool:
    try:
        await store.apply("n1", [Join("chat", "a", number, f"u{number}")])
    except StoreUnavailable:
        return False
    return True
