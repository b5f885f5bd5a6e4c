"""The stores keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from tests.presence.servers import ClusterServer
from tests.support.processes import RedisServer
from wsrt.presence.contract import PresenceStoreContract
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.redis import RedisPresence
from wsrt.presence.store import PresenceStore


class TestMemory(PresenceStoreContract):
    """One process."""

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        return MemoryPresence(lease=lease)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    with ClusterServer() as server:
        yield server


class TestRedis(PresenceStoreContract):
    """One Redis."""

    @pytest.fixture(autouse=True)
    def use(self, redis: RedisServer) -> None:
        self.url = redis.url

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        return RedisPresence(self.url, lease=lease)


class TestRedisCluster(PresenceStoreContract):
    """A cluster, whose nodes refuse what touches two slots."""

    @pytest.fixture(autouse=True)
    def use(self, cluster: RedisServer) -> None:
        self.url = cluster.url

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        return RedisPresence(self.url, lease=lease, cluster=True, partitions=4)
