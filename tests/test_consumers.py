"""TypedEventConsumer: its properties and attributes, sending, and publishing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.recorder import Go, Number, Recorder, Undeclared
from wsrt import (
    TypedEventConsumer,
    UndeclaredEvent,
    apublish_to_room,
    close_codes,
)
from wsrt import addresses as to
from wsrt.cluster.node import current_node
from wsrt.testing import connect


async def test_defaults() -> None:
    """Ids are unique, the namespace is "default", limits come from the settings (S9)."""

    class Plain(TypedEventConsumer):
        pass

    assert (Plain.namespace, Plain.heartbeat, Plain.max_payload) == ("default", 25, 65536)
    async with connect(Plain) as one, connect(Plain) as two:
        assert one.consumer.id != two.consumer.id


async def test_facts() -> None:
    """What the handshake said is there, and what is not is told (H6)."""
    async with connect(Recorder, "/?q=1&q=2", kwargs={"slug": "a"}) as client:
        consumer = client.consumer
        assert consumer.kwargs == {"slug": "a"}
        assert consumer.query.getlist("q") == ["1", "2"]
        assert consumer.user.is_anonymous
        assert consumer.user_id is None
        assert consumer.node_id == current_node().id
        assert consumer.id.startswith(consumer.node_id)
        with pytest.raises(AttributeError, match="@on_layer"):
            _ = consumer.channel_name


async def test_unknown_attribute() -> None:
    """as_asgi() takes attributes of the class only, and says so when the route is made."""
    with pytest.raises(TypeError, match="max_payloads"):
        Recorder.as_asgi(max_payloads=1)
    async with connect(Recorder.as_asgi(max_payload=5)) as client:
        await client.send(Number())
        await client.assert_closed(close_codes.MESSAGE_TOO_LARGE)


@pytest.mark.parametrize("name", ["namespace", "out_events", "channel_layer_alias", "catalog"])
async def test_attribute_of_the_class(name: str) -> None:
    """What the class statement settles cannot be given to as_asgi()."""
    with pytest.raises(TypeError, match=f"{name}.*is fixed for the class: set it in a subclass"):
        Recorder.as_asgi(**{name: "other"})


async def test_http_scope() -> None:
    """A route of the wrong kind is told."""
    with pytest.raises(ValueError, match="websocket"):
        await Recorder()({"type": "http"}, None, None)  # type: ignore[arg-type]


async def test_own_subprotocol() -> None:
    """wsrt.v1 goes first, then the consumer's own; an unknown offer chooses none."""

    class Own(Recorder):
        subprotocols = ("mine",)

    for offer, chosen in [(["mine"], "mine"), (["mine", "wsrt.v1"], "wsrt.v1"), (["other"], None)]:
        async with connect(Own, subprotocols=offer) as client:
            assert client.subprotocol == chosen


async def test_send_validates_first() -> None:
    """A wrong event raises, also on a closed connection; a right one is then dropped (S29)."""
    async with connect(Recorder) as client:
        await client.disconnect()
        await client.consumer.send(Number())
        with pytest.raises(UndeclaredEvent, match="out_events"):
            await client.consumer.send(Undeclared())
        with pytest.raises(TypeError):
            await client.consumer.send({"event": "number"})


async def test_burst_of_own_sends() -> None:
    """1,500 sends in a row reach a client that reads (S30, S31, S32)."""

    async def burst(consumer: Any) -> None:
        for value in range(1500):
            await consumer.send(Number(value=value))

    async with connect(Recorder) as client:
        client.consumer.todo = burst
        await client.send(Go())
        assert [(await client.receive(Number)).value for _ in range(1500)] == list(range(1500))


async def test_direct_sends_keep_order_in_one_process() -> None:
    """A direct send does not overtake a publication of the same handler (D6)."""

    async def mixed(consumer: Any) -> None:
        await consumer.publish_to_room("lobby", Number(value=1))
        await consumer.send(Number(value=2))
        await consumer.broadcast(Number(value=3))

    async with connect(Recorder) as client:
        await client.consumer.join("lobby")
        client.consumer.todo = mixed
        await client.send(Go())
        assert [(await client.receive(Number)).value for _ in range(3)] == [1, 2, 3]


async def test_frame_names_its_room() -> None:
    """The room stands beside event and data where there is exactly one."""
    async with connect(Recorder) as client:
        await client.consumer.join("lobby")
        await apublish_to_room("lobby", Number(), namespace="unit")
        assert (await client.receive_json())["room"] == "lobby"
        await client.consumer.publish_to_audience(to.Room("lobby") | to.Everyone(), Number())
        assert "room" not in await client.receive_json()


async def test_publish_to_others() -> None:
    """Everybody in the room but the sender (A1)."""
    async with connect(Recorder) as one, connect(Recorder) as two:
        for client in (one, two):
            await client.consumer.join("lobby")
        await one.consumer.publish_to_others("lobby", Number(value=1))
        assert (await two.receive(Number)).value == 1
        await one.assert_silent()
