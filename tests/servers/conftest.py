"""Fixtures of the tests on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support import raw
from tests.support.client import hang_up

WITH_RUNTIME = ["daphne", "uvicorn-sansio", "uvicorn-websockets", "uvicorn-wsproto", "hypercorn", "granian"]
"""The servers that the runtime knows, by their commands in tests.support.processes."""

TWO = {"daphne", "uvicorn-sansio"}
"""The two that are built most differently."""


def marks_of(kind: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a long test on a server: ``make test`` runs it on two of them, ``make test-all`` on all."""
    return [] if kind in TWO else [pytest.mark.slow]


@pytest_asyncio.fixture(autouse=True)
async def no_open_sockets() -> AsyncIterator[None]:
    """Leave no socket open."""
    yield
    await raw.hang_up()
    await hang_up()
