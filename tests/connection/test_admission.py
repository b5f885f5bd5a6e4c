"""The limits of a process: connections, set-ups under way, and handshakes a second."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from wsrt import TypedEventConsumer
from wsrt.close_codes import TOO_MANY_CONNECTIONS, UNAUTHENTICATED
from wsrt.connection.admission import Admission, admission_of_loop
from wsrt.metrics import counters
from wsrt.testing import connect


class Waiting(TypedEventConsumer):
    """Waits in its set-up, if it should."""

    namespace = "unit-admission"
    gate: ClassVar[asyncio.Event]
    hooks: ClassVar[list[str]]

    async def authorize(self) -> bool:
        await type(self).gate.wait()
        self.hooks.append("authorize")
        return "no" not in self.query

    async def on_disconnect(self, closed: Any) -> None:
        self.hooks.append("on_disconnect")


@pytest.fixture(autouse=True)
async def gate() -> asyncio.Event:
    Waiting.gate = asyncio.Event()
    Waiting.gate.set()
    Waiting.hooks = []
    return Waiting.gate


async def test_max_connections(settings: Any) -> None:
    """A connection too many is closed with 4429 before any hook; one that ends makes room, a refused one too."""
    settings.WSRT = {"MAX_CONNECTIONS": 2}
    before = counters["connections_refused_per_process"]
    async with connect(Waiting), connect(Waiting, "/?no") as refused:
        await refused.assert_closed(UNAUTHENTICATED)
        await refused.disconnect()
        async with connect(Waiting):
            Waiting.hooks.clear()
            async with connect(Waiting) as third:
                await third.assert_closed(TOO_MANY_CONNECTIONS)
            assert Waiting.hooks == []
        async with connect(Waiting) as fourth:
            await fourth.assert_silent()
    assert counters["connections_refused_per_process"] == before + 1
    assert (admission_of_loop().connections, admission_of_loop().setups) == (0, 0)


async def test_max_setups(settings: Any, gate: asyncio.Event) -> None:
    """While so many are in their set-up, others are refused; those that are set up don't count."""
    settings.WSRT = {"MAX_SETUPS": 1}
    before = counters["setups_refused"]
    async with connect(Waiting):
        gate.clear()
        slow = asyncio.create_task(connect(Waiting).__aenter__())
        while not admission_of_loop().setups:
            await asyncio.sleep(0)
        async with connect(Waiting) as refused:
            await refused.assert_closed(TOO_MANY_CONNECTIONS)
        gate.set()
        client = await slow
        async with connect(Waiting) as third:
            await third.assert_silent()
        await client.disconnect()
    assert counters["setups_refused"] == before + 1


async def test_handshake_rate(settings: Any) -> None:
    """So many handshakes are admitted at once; the setting may change while the process runs."""
    settings.WSRT = {"HANDSHAKE_RATE": "2/h"}
    before = counters["handshakes_refused"]
    async with connect(Waiting), connect(Waiting), connect(Waiting) as third:
        await third.assert_closed(TOO_MANY_CONNECTIONS)
    assert counters["handshakes_refused"] == before + 1
    settings.WSRT = {}
    async with connect(Waiting) as fourth:
        await fourth.assert_silent()


def test_rate(settings: Any) -> None:
    """The rate recovers with time."""
    settings.WSRT = {"HANDSHAKE_RATE": "2/s"}
    admission = Admission()
    assert [admission.admit(now) is not None for now in (0.0, 0.0, 0.0, 0.5, 0.5)] == [True, True, False, True, False]


async def test_lost_in_handshake() -> None:
    """A client that leaves during the handshake keeps no share."""

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        raise OSError

    await Waiting.as_asgi()({"type": "websocket", "headers": []}, receive, send)
    assert (admission_of_loop().connections, admission_of_loop().setups) == (0, 0)


def test_seat(settings: Any) -> None:
    """A seat is given back once, whatever ends it."""
    settings.WSRT = {}
    admission = Admission()
    seat, other = admission.admit(0.0), admission.admit(0.0)
    assert seat is not None
    assert other is not None
    seat.end_setup()
    assert (admission.connections, admission.setups) == (2, 1)
    for _ in range(2):
        seat.end_setup()
        seat.release()
    assert (admission.connections, admission.setups) == (1, 1)
