"""The set-up of a connection: guards, failures and time-outs before it is open."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404

from tests.support.recorder import Number, Recorder
from wsrt import (
    BackplaneUnavailable,
    Refused,
    close_codes,
)
from wsrt.cluster.node import current_node
from wsrt.metrics import counters
from wsrt.testing import connect


async def test_guard_is_awaited() -> None:
    """A guard may refuse after an await; the connection isn't visible in the meantime (H1, H2, H3)."""
    seen: list[int] = []

    class Guarded(Recorder):
        async def authorize(self) -> bool:
            await asyncio.sleep(0)
            seen.append(len(current_node().hub.subscribers))
            raise PermissionDenied

        async def on_connect(self) -> None:
            raise AssertionError("never")

    async with connect(Guarded) as client:
        await client.send(Number(value=1))
        await client.assert_closed(close_codes.UNAUTHENTICATED)
        await client.disconnect()
        assert client.consumer.seen == []
    assert seen == [0]


@pytest.mark.parametrize(
    ("error", "close"),
    [
        (Http404, close_codes.NOT_FOUND),
        (Refused("not_found"), close_codes.NOT_FOUND),
        (Refused("rate_limited"), close_codes.RATE_LIMIT_EXCEEDED),
        (Refused("own"), close_codes.FORBIDDEN),
        (ValidationError("no"), close_codes.FORBIDDEN),
        (BackplaneUnavailable("down"), close_codes.CONNECTION_SETUP_FAILED),
        (RuntimeError, close_codes.CONNECTION_SETUP_FAILED),
        (TimeoutError, close_codes.CONNECTION_SETUP_FAILED),
        (PermissionDenied, close_codes.UNAUTHENTICATED),
    ],
)
async def test_set_up_refused(error: Any, close: close_codes.Close) -> None:
    """Every failure of on_connect has its row; the hook that is owed runs (H4)."""

    class Refusing(Recorder):
        async def on_connect(self) -> None:
            raise error

    async with connect(Refusing) as client:
        assert client.accepted
        await client.assert_closed(close)
        await client.disconnect()
        assert len(client.consumer.seen) == 1


async def test_set_up_timeout() -> None:
    """Set-up that is not done in time closes 4408."""

    class Slow(Recorder):
        setup_timeout = 0.01

        async def authorize(self) -> bool:
            await asyncio.sleep(60)
            return True

    async with connect(Slow) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_TIMEOUT)


@pytest.mark.parametrize("hook", ["authorize", "on_connect"])
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_set_up_that_can_not_be_cancelled(hook: str, kind: str) -> None:
    """The close comes in time though a hook swallows its cancellation, or blocks a thread."""
    released, swallowed = threading.Event(), asyncio.Event()

    async def stubborn(consumer: Any) -> bool:
        while not released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                swallowed.set()
        return True

    def blocking(consumer: Any) -> bool:
        return released.wait(20)

    class Late(Recorder):
        setup_timeout = 0.05

    setattr(Late, hook, stubborn if kind == "async def" else blocking)
    before = counters["setup_timeouts"]
    try:
        async with connect(Late) as client:
            await client.send(Number(value=1))
            await client.assert_closed(close_codes.CONNECTION_SETUP_TIMEOUT)
            if kind == "async def":
                await swallowed.wait()
            released.set()
        assert len(client.consumer.seen) == (0 if hook == "authorize" else 1)
    finally:
        released.set()
    assert counters["setup_timeouts"] == before + 1


async def test_stays_open_after_on_connect() -> None:
    """on_connect returning does not close the connection (H5)."""
    async with connect(Recorder) as client:
        await client.assert_silent()


async def test_socket_gone_at_once() -> None:
    """A peer that is gone before set-up is done leaves nothing, and was never connected (S10, S12)."""
    release = asyncio.Event()

    class Slow(Recorder):
        async def authorize(self) -> bool:
            await release.wait()
            return True

    client = connect(Slow)
    entering = asyncio.create_task(client.__aenter__())
    while not client.accepted:
        await asyncio.sleep(0)
    await client.send(Number(value=1))
    leaving = asyncio.create_task(client.disconnect(1006))
    await asyncio.sleep(0.01)
    release.set()
    await leaving
    await entering
    assert not current_node().hub.subscribers
    assert client.consumer.seen == []


async def test_server_send_fails_at_accept() -> None:
    """A server that raises for a peer that is gone ends the connection in silence (S12)."""

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        raise OSError("gone")

    await Recorder()({"type": "websocket", "headers": []}, receive, send)
    assert not current_node().hub.subscribers
