"""Fixtures of the tests on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support import raw
from tests.support.client import hang_up

WITH_RUNTIME = ["daphne", "uvicorn-sansio", "uvicorn-websockets", "uvicorn-wsproto", "hypercorn", "granian"]
"""The servers that the runtime knows, by their commands in tests.support.processes."""


@pytest_asyncio.fixture(autouse=True)
async def no_open_sockets() -> AsyncIterator[None]:
    """Leave no socket open."""
    yield
    await raw.hang_up()
    await hang_up()
