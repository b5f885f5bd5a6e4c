"""Fixtures of the tests on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.client import hang_up


@pytest_asyncio.fixture(autouse=True)
async def no_open_sockets() -> AsyncIterator[None]:
    """Leave no socket open."""
    yield
    await hang_up()
