"""The servers on which stores of history are tested."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.processes import RedisServer
from tests.support.redis import ClusterServer
from wsrt.history.redis import RedisHistory


@pytest.fixture(scope="module")
def single() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServer]:
    with ClusterServer() as server:
        yield server


@pytest_asyncio.fixture(params=["single", "cluster"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., RedisHistory]]:
    """Makes stores on an empty Redis."""
    server: RedisServer | ClusterServer = request.getfixturevalue(request.param)
    stores: list[RedisHistory] = []

    def make(**options: Any) -> RedisHistory:
        stores.append(RedisHistory(server.url, cluster=request.param == "cluster", **options))
        return stores[-1]

    async with make()._round_trip() as client:
        await client.flushall()
    yield make
    for store in stores:
        await store.close()
