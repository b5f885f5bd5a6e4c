"""Fixtures of the tests of commands."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.core.management import call_command

from wsrt.cluster.per_loop import PerLoop
from wsrt.presence import backends, memory

Run = Callable[..., Awaitable[str]]


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without connections of earlier tests."""
    monkeypatch.setattr(memory, "_state", memory._State())
    monkeypatch.setattr(backends, "_stores", PerLoop(lambda: backends.StoreOfLoop(backends._make_or_log)))


@pytest.fixture
def run() -> Run:
    """Runs a command in a thread of its own, beside the loop that holds the connections; returns what it prints."""

    async def run(name: str, *args: str, stdout: io.StringIO | None = None, **options: Any) -> str:
        out = stdout or io.StringIO()
        await asyncio.to_thread(call_command, name, *args, stdout=out, **{"no_color": True, **options})
        return out.getvalue()

    return run
