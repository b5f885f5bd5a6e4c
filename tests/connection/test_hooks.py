"""The hooks of a consumer: their context, and their failures."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from tests.support.recorder import Number, Recorder
from wsrt import (
    Closed,
    on,
)
from wsrt.cluster.node import current_node
from wsrt.metrics import counters
from wsrt.testing import connect


async def test_context_is_shared() -> None:
    """What on_connect sets in its context, handlers and on_disconnect see (H7)."""
    locale: contextvars.ContextVar[str] = contextvars.ContextVar("locale")

    class Local(Recorder):
        async def on_connect(self) -> None:
            locale.set("fi")

        @on
        async def number(self, event: Number) -> None:
            self.seen.append(locale.get())

        async def on_disconnect(self, closed: Closed) -> None:
            self.seen.append(locale.get())

    async with connect(Local) as client:
        await client.send(Number())
        await client.settle()
    assert client.consumer.seen == ["fi", "fi"]
    assert locale.get(None) is None


async def test_failing_on_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that fails is logged, and the connection is gone all the same (S39, S43)."""

    class Failing(Recorder):
        async def on_disconnect(self, closed: Closed) -> None:
            raise ZeroDivisionError

    async with connect(Failing) as client:
        await client.consumer.join("lobby")
    assert "Failing.on_disconnect failed" in caplog.text
    assert not current_node().hub.subscribers
    assert client.consumer._connection.ended.done()


async def test_endless_on_disconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that does not end is cancelled."""
    monkeypatch.setattr("wsrt.connection.closing.DISCONNECT_SECONDS", 0.01)

    class Endless(Recorder):
        async def on_disconnect(self, closed: Closed) -> None:
            await asyncio.sleep(3600)

    before = counters["disconnect_hooks_cancelled"]
    async with connect(Endless):
        pass
    assert counters["disconnect_hooks_cancelled"] == before + 1
