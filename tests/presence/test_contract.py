"""The stores keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from tests.support.processes import RedisServer
from tests.support.redis import ClusterServer
from wsrt.presence import memory
from wsrt.presence.base import PresenceStore
from wsrt.presence.cache import CachePresence
from wsrt.presence.contract import PresenceStoreContract
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.redis import RedisPresence


class TestMemory(PresenceStoreContract):
    """One process."""

    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nodes of other tests of this process are none of these."""
        monkeypatch.setattr(memory, "_state", memory._State())

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


class TestLocMemCache(PresenceStoreContract):
    """A cache of one process."""

    @pytest.fixture(autouse=True)
    def use(self, settings: Any) -> None:
        backend = "django.core.cache.backends.locmem.LocMemCache"
        settings.CACHES = {"presence": {"BACKEND": backend, "LOCATION": "p", "OPTIONS": {"MAX_ENTRIES": 100_000}}}

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        return CachePresence("presence", lease=lease)


class TestRedisCache(PresenceStoreContract):
    """Django's cache on Redis."""

    @pytest.fixture(autouse=True)
    def use(self, settings: Any, redis: RedisServer) -> Iterator[None]:
        settings.CACHES = {
            "presence": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis.url}
        }
        yield
        caches["presence"].clear()

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        return CachePresence("presence", lease=lease)


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
