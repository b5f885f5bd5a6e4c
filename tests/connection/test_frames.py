"""Frames of a client: accepted frames, violations, and the answers to requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.recorder import Go, Number, Recorder, Text, Undeclared, do
from tests.support.waiting import aeventually
from wsrt import close_codes
from wsrt.metrics import counters
from wsrt.protocol.session import HEAVY_BYTES
from wsrt.testing import connect


async def test_envelope() -> None:
    """A frame is {event, data}; other keys are ignored (S5)."""
    async with connect(Recorder) as client:
        await client.send_text('{"event":"number","data":{"value":3,"extra":1},"id":9,"v":1}')
        await client.settle()
        assert client.consumer.seen == [3]


async def test_empty_event_name() -> None:
    """The empty name is an event like any other, and in no catalog (S5)."""
    async with connect(Recorder) as client:
        await client.send_text('{"event":"","data":{}}')
        await client.assert_closed(close_codes.UNKNOWN_EVENT)


async def test_missing_data() -> None:
    """Missing data stands for {}, if the event needs none (S6)."""
    async with connect(Recorder) as client:
        await client.send_text('{"event":"number"}')
        await client.settle()
        assert client.consumer.seen == [0]


async def test_outgoing_data_is_the_dump() -> None:
    """What is sent is the model's own dump, with its defaults and without unknown keys (S7)."""
    async with connect(Recorder) as client:
        await do(client, lambda consumer: consumer.send(Text.model_validate({"text": "a", "other": 1})))
        assert await client.receive_json() == {"event": "text", "data": {"text": "a", "note": None}}


async def test_binary_frame() -> None:
    """A binary frame is UTF-8 text; what is not UTF-8 is closed 1007, never altered (S8)."""
    async with connect(Recorder) as client:
        await client.send_bytes(b'{"event":"number","data":{"value":4}}')
        await client.settle()
        assert client.consumer.seen == [4]
        await client.send_bytes(b'{"event":"number","note":"\xff"}')
        await client.assert_closed(close_codes.INVALID_MESSAGE_PAYLOAD)


@pytest.mark.parametrize("name", ["constructor", "toString", "__proto__", "__class__", "number.value"])
async def test_inherited_names(name: str) -> None:
    """Names that objects have by themselves are unknown events (S11)."""
    async with connect(Recorder) as client:
        await client.send_text(json.dumps({"event": name, "data": {}}))
        await client.assert_closed(close_codes.UNKNOWN_EVENT)


@pytest.mark.parametrize("content", ["a", "é", "😀"])
async def test_max_payload(content: str) -> None:
    """Exactly max_payload bytes of UTF-8 pass, one more closes 1009, before the frame is parsed (S14, S15)."""
    text = json.dumps({"event": "text", "pad": content * 5}, ensure_ascii=False)
    size = len(text.encode())

    class Fits(Recorder):
        max_payload = size

    class TooSmall(Recorder):
        max_payload = size - 1

    async with connect(Fits) as client:
        await client.send_text(text)
        await client.assert_closed(close_codes.UNKNOWN_EVENT)
    async with connect(TooSmall) as client:
        await client.send_text(text)
        await client.assert_closed(close_codes.MESSAGE_TOO_LARGE)


async def test_any_frame_is_life() -> None:
    """Every frame is noted as life, a refused one and one before set-up is done too (S14, S16, S47)."""
    async with connect(Recorder, subprotocols=["wsrt.v1"]) as client:
        heartbeat = client.consumer._connection.session.heartbeat
        heartbeat.last_received = 0
        await client.send_text("nonsense")
        await client.settle()
        assert heartbeat.last_received > 0


async def test_unknown_before_invalid() -> None:
    """An unknown event is told as such whatever its data is (S17)."""
    async with connect(Recorder) as client:
        await client.send_text('{"event":"nope","data":7}')
        await client.assert_closed(close_codes.UNKNOWN_EVENT)
    async with connect(Recorder) as client:
        await client.send_text('{"event":"number","data":{"value":"x"}}')
        await client.assert_closed(close_codes.INVALID_EVENT_DATA)


async def test_violation_is_reported() -> None:
    """A wsrt.v1 client learns which field is wrong, and stays (S17)."""
    async with connect(Recorder, subprotocols=["wsrt.v1"]) as client:
        await client.send_text('{"event":"number","data":{"value":"secret"}}')
        await client.settle()
        data = client.reserved[-1]["data"]
        assert (data["code"], data["errors"][0]["loc"]) == ("invalid_data", ["value"])
        assert "secret" not in json.dumps(client.reserved)
        await client.assert_silent()


@pytest.mark.parametrize("mode", ["close", "report"])
async def test_on_violation(mode: str) -> None:
    """``on_violation`` decides for both kinds of clients."""

    class Strict(Recorder):
        on_violation = mode  # type: ignore[assignment]

    async with connect(Strict, subprotocols=["wsrt.v1"] if mode == "close" else []) as client:
        await client.send_text("{")
        if mode == "close":
            await client.assert_closed(close_codes.INVALID_MESSAGE_PAYLOAD)
        else:
            await client.settle()
            assert client.reserved[-1]["data"]["code"] == "invalid_frame"


async def test_request_is_never_a_violation() -> None:
    """A request that is invalid is answered in both modes, and the socket stays."""
    async with connect(Recorder) as client:
        for text, code in [
            ('{"event":"nope","ref":"1"}', "unknown_event"),
            ('{"event":"number","data":{"value":[]},"ref":1}', "invalid_data"),
        ]:
            for _ in range(9):
                await client.send_text(text)
                answer = await client.receive_json()
                assert (answer["event"], answer["data"]["code"]) == ("wsrt.error", code)
                assert "ref" in answer


async def test_rate() -> None:
    """Over the rate a plain client is closed 4429; a wsrt.v1 client is told first."""

    class Slow(Recorder):
        rate = "1/h"
        rate_burst = 2
        max_violations = 2

    async with connect(Slow) as client:
        for _ in range(3):
            await client.send(Number(), ref="r")
        await client.assert_closed(close_codes.RATE_LIMIT_EXCEEDED)
    async with connect(Slow, subprotocols=["wsrt.v1"]) as client:
        for _ in range(2):
            await client.send(Number())
        await client.send(Number(), ref="r")
        answer = await client.receive_json()
        assert (answer["ref"], answer["data"]["code"]) == ("r", "rate_limited")
        await client.send_text("{" * 70000)
        await client.send(Number())
        await client.assert_closed(close_codes.RATE_LIMIT_EXCEEDED)


async def test_request_is_answered_once() -> None:
    """A request is answered exactly once: by ``wsrt.ok``, by the returned event, or by an error (S27)."""

    async def reply(consumer: Any) -> Number:
        return Number(value=5)

    async def nothing(consumer: Any) -> None:
        pass

    async with connect(Recorder) as client:
        assert await do(client, reply) == Number(value=5)
        assert await do(client, nothing) is None
        await client.assert_silent()


async def test_reply_without_ref() -> None:
    """Without a ref a returned event goes back as an ordinary one, and None as nothing."""

    async def reply(consumer: Any) -> Number:
        return Number(value=5)

    async with connect(Recorder) as client:
        client.consumer.todo = reply
        await client.send(Go())
        assert await client.receive_json() == {"event": "number", "data": {"value": 5}}
        client.consumer.todo = None
        await client.send(Go())
        await client.assert_silent()


async def test_wrong_reply(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that returns anything but a declared event is a bug."""
    for wrong in ({"value": 1}, Undeclared()):

        async def reply(consumer: Any, wrong: Any = wrong) -> Any:
            return wrong

        async with connect(Recorder) as client:
            client.consumer.todo = reply
            await client.send(Go())
            await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)


async def test_closed_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heavy frame whose connection is closed between two steps of decoding it is given up, and counted."""
    closing: list[asyncio.Future[None]] = []
    validated: list[str] = []
    async with connect(Recorder) as client:
        consumer = client.consumer

        def count(text: str, limit: int) -> bool:
            closing.append(asyncio.ensure_future(consumer.close()))
            return False

        monkeypatch.setattr("wsrt.protocol.catalog.has_too_many_values", count)
        monkeypatch.setattr(type(consumer.catalog), "_validate", lambda self, text: validated.append(text))
        before = counters["frames_unhandled"]
        await client.send_text(json.dumps({"event": "number", "pad": "x" * HEAVY_BYTES}))
        await client.assert_closed(close_codes.NORMAL)
        await aeventually(lambda: counters["frames_unhandled"] == before + 1)
        assert validated == []
