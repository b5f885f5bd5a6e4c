"""The servers on which stores of history are tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import RedisServer
from tests.support.redis import ClusterServer


@pytest.fixture(scope="module")
def single() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServer]:
    with ClusterServer() as server:
        yield server
