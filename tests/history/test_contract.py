"""The stores keep the contract."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.processes import RedisServer
from tests.support.redis import ClusterServer
from wsrt.history.base import HistoryStore
from wsrt.history.contract import HistoryStoreContract
from wsrt.history.memory import MemoryHistory
from wsrt.history.redis import RedisHistory


class TestMemory(HistoryStoreContract):
    """One process."""

    async def make_store(self, **options: Any) -> HistoryStore:
        return MemoryHistory(**options)


class TestRedis(HistoryStoreContract):
    """One Redis."""

    @pytest.fixture(autouse=True)
    def use(self, single: RedisServer) -> None:
        self.url = single.url

    async def make_store(self, **options: Any) -> HistoryStore:
        return RedisHistory(self.url, **options)


class TestRedisCluster(HistoryStoreContract):
    """A Redis Cluster, with rooms in several slots."""

    @pytest.fixture(autouse=True)
    def use(self, cluster: ClusterServer) -> None:
        self.url = cluster.url

    async def make_store(self, **options: Any) -> HistoryStore:
        return RedisHistory(self.url, cluster=True, **options)
