"""The channel of one connection, for messages that an application sends through the layer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.layers import get_channel_layer

from tests.support.layer import FakeLayer, installed
from tests.support.waiting import aeventually
from wsrt import Event, TypedEventConsumer, close_codes, on_layer
from wsrt.connection import layer_channel
from wsrt.metrics import counters
from wsrt.testing import connect


class Text(Event, name="text"):
    text: str


class Listener(TypedEventConsumer):
    namespace = "channel"
    out_events = (Text,)

    async def authorize(self) -> bool:
        return bool(self.channel_name)

    async def on_connect(self) -> None:
        await self.channel_layer.group_add("by-hand", self.channel_name)

    @on_layer("chat.message")
    async def chat_message(self, message: dict[str, Any]) -> None:
        if message["text"] == "crash":
            raise ZeroDivisionError
        await self.send(Text(text=message["text"]))


async def send(**message: Any) -> None:
    await get_channel_layer().group_send("by-hand", message)


async def test_messages_of_its_type() -> None:
    """A message of the layer reaches the method marked for its type, in order."""
    async with connect(Listener) as client:
        for text in ("a", "b"):
            await send(type="chat.message", text=text)
        assert [(await client.receive(Text)).text for _ in range(2)] == ["a", "b"]


@pytest.mark.parametrize("kind", ["chat.other", "close", "chat_message", "websocket.disconnect", None])
async def test_messages_of_another_type(kind: Any) -> None:
    """A type is looked up in a table: no method is called by its name, and the loss is counted (C5)."""
    before = counters["layer_messages_unknown"]
    async with connect(Listener) as client:
        await send(type=kind, code=4500)
        await aeventually(lambda: counters["layer_messages_unknown"] == before + 1)
        await client.assert_silent()


async def test_handler_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """An error closes 1011, with its traceback in the log (S18)."""
    async with connect(Listener) as client:
        await send(type="chat.message", text="crash")
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert "ZeroDivisionError" in caplog.text


async def test_messages_after_the_end() -> None:
    """A message for a connection that is closing is dropped, and ends nothing."""
    async with connect(Listener) as client:
        await client.consumer.close()
        await send(type="chat.message", text="late")
        await client.assert_closed(close_codes.NORMAL)


async def test_no_channel_without_need() -> None:
    """A class without such a method has no channel, and says what to do."""

    class Plain(TypedEventConsumer):
        namespace = "channel-plain"

    async with connect(Plain) as client:
        with pytest.raises(AttributeError, match=r"has no channel of its own.*@on_layer"):
            _ = client.consumer.channel_name


async def test_layer_is_down() -> None:
    """A connection whose channel cannot be had is not set up, and its client comes back."""
    with installed(FakeLayer()) as layer:
        layer.is_down = True
        async with connect(Listener) as client:
            await client.assert_closed(close_codes.CONNECTION_SETUP_FAILED)


async def test_receive_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing receive is counted, and tried again."""
    monkeypatch.setattr(layer_channel, "RETRY_SECONDS", 0.01)
    before = counters["channel_errors"]
    with installed(FakeLayer()) as layer:
        async with connect(Listener) as client:
            layer.fail(ConnectionError("gone"))
            await send(type="chat.message", text="after")
            # Nothing else tells the test that the reader came back to it.
            assert (await client.receive(Text)).text == "after"
    assert counters["channel_errors"] > before


async def test_reader_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the layer down at the end, the reader is cancelled."""
    monkeypatch.setattr(layer_channel, "STOP_SECONDS", 0.05)
    with installed(FakeLayer()) as layer:
        async with connect(Listener) as client:
            reader: asyncio.Task[None] = client.consumer._connection.channel._reader
            layer.is_down = True
        await aeventually(reader.done)
        assert reader.cancelled()
