"""The sockets that were closed: each is aborted in time, and a drain doesn't wait for them."""

from __future__ import annotations

import asyncio

import pytest

from wsrt.delivery import lingering
from wsrt.delivery.lingering import Lingering
from wsrt.delivery.transport import Transport


class Socket(Transport):
    """Notes when it is aborted."""

    def __init__(self) -> None:
        self.aborted = asyncio.get_running_loop().create_future()

    def abort(self) -> bool:
        self.aborted.set_result(asyncio.get_running_loop().time())
        return True


async def test_aborted_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer has LINGER_SECONDS, and no other socket less because of it."""
    monkeypatch.setattr(lingering, "LINGER_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    sockets, began = Lingering(loop), loop.time()
    first, second = Socket(), Socket()
    sockets.add(first)
    await asyncio.sleep(0.05)
    sockets.add(second)
    assert await first.aborted >= began + 0.1 - 0.01
    assert await second.aborted >= began + 0.15 - 0.01
    assert not sockets._timers


async def test_end_of_a_drain() -> None:
    """A deadline holds for the sockets that linger and for those that are closed later; each is aborted once."""
    loop = asyncio.get_running_loop()
    sockets, deadline = Lingering(loop), loop.time() + 0.1
    early, late = Socket(), Socket()
    sockets.add(early)
    sockets.end_by(deadline)
    sockets.add(late)
    async with asyncio.timeout(10):
        assert await early.aborted >= deadline - 0.01
        assert await late.aborted >= deadline - 0.01
    assert not sockets._timers


async def test_deadline_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain gives no socket more time than it has."""
    monkeypatch.setattr(lingering, "LINGER_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    sockets, socket = Lingering(loop), Socket()
    sockets.add(socket)
    sockets.end_by(loop.time() + 60)
    async with asyncio.timeout(10):
        await socket.aborted
