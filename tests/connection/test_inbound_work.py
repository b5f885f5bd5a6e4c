"""The cost of one client's frames for the loop and the memory, on an ASGI server that the test plays."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

from pydantic import field_validator

from tests.support.waiting import aeventually
from wsrt import Event, TypedEventConsumer, on
from wsrt.conf import DEFAULTS


class Values(Event, name="values"):
    values: list[Any]

    @field_validator("values")
    @classmethod
    def note(cls, value: list[Any]) -> list[Any]:
        validated.append(len(value))
        return value


class Numbers(Event, name="numbers"):
    numbers: list[int]


class Handled(Event, name="handled"):
    pass


validated: list[int] = []


class Busy(TypedEventConsumer):
    """Accepts no connection before the gate is open."""

    namespace = "inbound"
    out_events = (Handled,)
    rate = None
    rate_bytes = None

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.gate = asyncio.Event()

    async def authorize(self) -> bool:
        await self.gate.wait()
        return True

    @on
    async def values(self, event: Values) -> None: ...

    @on
    async def numbers(self, event: Numbers) -> None: ...


class Socket:
    """A server that holds frames, and gives them out without suspending the reader."""

    def __init__(self, consumer: Busy, subprotocol: str | None = "wsrt.v1") -> None:
        self.consumer = consumer
        self.inbound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.turns: list[int] = []
        self.ticks = 0
        scope = {"type": "websocket", "headers": [], "subprotocols": [subprotocol] if subprotocol else []}
        self.inbound.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(consumer(scope, self.inbound.get, self._send))
        self._tick()

    def frame(self, text: str) -> None:
        self.inbound.put_nowait({"type": "websocket.receive", "text": text})

    def answers(self) -> list[Any]:
        frames = [json.loads(message["text"]) for message in self.sent if message["type"] == "websocket.send"]
        return [frame for frame in frames if "ref" in frame]

    async def close(self) -> None:
        self.inbound.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self._task
        self._tick = lambda: None

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if "ref" in message.get("text", ""):
            self.turns.append(self.ticks)

    def _tick(self) -> None:
        self.ticks += 1
        asyncio.get_running_loop().call_soon(lambda: self._tick())


async def test_turns_between_frames() -> None:
    """Between frames that take long to answer the loop has turns, though the server holds all of them already."""
    socket = Socket(Busy())
    socket.consumer.gate.set()
    wrong = '{"event":"numbers","ref":1,"data":{"numbers":[' + "[]," * 3000 + "[]]}}"
    for _ in range(60):
        socket.frame(wrong)
    await aeventually(lambda: len(socket.turns) == 60, "the answers")
    assert len(set(socket.turns)) == 60
    await socket.close()


async def test_turns_between_small_frames() -> None:
    """The same for many that take little, but together too long for one turn."""
    socket = Socket(Busy())
    socket.consumer.gate.set()
    for _ in range(900):
        socket.frame('{"event":"numbers","ref":1,"data":{"numbers":[[]]}}')
    await aeventually(lambda: len(socket.turns) == 900, "the answers")
    assert len(set(socket.turns)) > 2
    await socket.close()


async def test_nothing_is_validated_before_authorize() -> None:
    """While a client is asked for, none of its frames is validated; they are handled when it is let in."""
    validated.clear()
    socket = Socket(Busy())
    for number in range(1, 4):
        socket.frame(json.dumps({"event": "values", "data": {"values": [0] * number}}))
    socket.frame("{")
    socket.frame('{"event":"wsrt.ping","ref":"ping"}')
    await aeventually(lambda: socket.inbound.empty() and socket.sent, "the frames to be read")
    assert validated == []
    assert [message["type"] for message in socket.sent] == ["websocket.accept"]
    socket.consumer.gate.set()
    await aeventually(lambda: len(validated) == 3, "the frames to be handled")
    assert validated == [1, 2, 3]
    await aeventually(lambda: len(socket.sent) == 4, "accept, hello, pong, and an error")
    assert [json.loads(message["text"])["event"] for message in socket.sent[1:]] == [
        "wsrt.hello",
        "wsrt.pong",
        "wsrt.error",
    ]
    await socket.close()


async def test_memory_of_what_waits() -> None:
    """A full inbox takes about as much memory as its frames had bytes, whatever they would become when parsed."""
    limit = DEFAULTS["INBOX_BYTES"]
    socket = Socket(Busy())
    await aeventually(lambda: socket.sent, "the handshake")
    frames = [
        '{"event":"values","data":{"values":[' + "[]," * 2000 + f'"{number}\U0001f600"]}}}}' for number in range(160)
    ]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        while frames:
            socket.frame(frames.pop())
        await aeventually(socket.inbound.empty, "the frames to be read")
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert [message["type"] for message in socket.sent] == ["websocket.accept"]
    assert grown < 2 * limit
    socket.consumer.gate.set()
    await socket.close()


async def test_order_of_answers() -> None:
    """What is wrong with a frame is answered in its turn, between the answers to those before and after it."""
    socket = Socket(Busy())
    socket.consumer.gate.set()
    for ref, numbers in enumerate([[1], ["x"], [2], ["x"] * 3000, [3]]):
        socket.frame(json.dumps({"event": "numbers", "ref": ref, "data": {"numbers": numbers}}))
    await aeventually(lambda: len(socket.answers()) == 5, "the answers")
    assert [answer["ref"] for answer in socket.answers()] == [0, 1, 2, 3, 4]
    assert [answer["event"] for answer in socket.answers()] == ["wsrt.ok", "wsrt.error"] * 2 + ["wsrt.ok"]
    await socket.close()
