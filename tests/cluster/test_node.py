"""Nodes, and the messages between them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.layer import FakeLayer, installed
from wsrt import ALL_TENANTS, Event, TypedEventConsumer, apublish_to_room, publish_to_room
from wsrt import addresses as to
from wsrt.cluster import messages
from wsrt.cluster.backplane import Backplane
from wsrt.cluster.layers import drop_layer, layer_of_loop
from wsrt.cluster.messages import CommandMessage, PublishMessage
from wsrt.cluster.node import Node, current_node, nodes
from wsrt.delivery.transport import TRANSPORT, Transport
from wsrt.metrics import counters
from wsrt.protocol.envelope import Encoded
from wsrt.testing import connect


class Ping(Event, name="ping"):
    number: int = 0


class Member(TypedEventConsumer):
    namespace = "nodes"
    out_events = (Ping,)

    async def on_connect(self) -> None:
        await self.join("a")


@pytest.fixture
def layer() -> Iterator[FakeLayer]:
    with installed(FakeLayer()) as fake:
        yield fake


def in_own_loop(work: Any) -> Any:
    """Run a coroutine in a loop of another thread; return its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(work)))
    thread.start()
    thread.join()
    return results[0]


# Nodes


async def test_one_node_a_loop() -> None:
    """A loop has one node, another loop another, and a closed loop none (N5: ids are random, never shared)."""

    async def other() -> str:
        return current_node().id

    assert current_node() is current_node()
    theirs = await asyncio.to_thread(in_own_loop, other())
    assert theirs != current_node().id
    assert len(theirs) == 24
    assert [node.id for node in nodes()].count(theirs) == 0


def test_many_loops() -> None:
    """Tests that each run a loop of their own get a new hub each, and nothing of the one before."""

    async def once() -> int:
        async with connect(Member):
            return len(current_node().hub.subscribers)

    assert [asyncio.run(once()) for _ in range(5)] == [1] * 5
    assert not [node for node in nodes() if node.hub.subscribers]


async def test_connection_ids() -> None:
    """A connection's id names its node, so that one group reaches it (S9)."""
    node = current_node()
    first, second = node.new_connection_id(), node.new_connection_id()
    assert first != second
    assert to.node_of(first) == node.id


async def test_two_loops_of_one_process() -> None:
    """In one process a publication reaches the connections of every loop, from any of them and from none."""
    ready, done = threading.Event(), threading.Event()
    seen: list[int] = []

    async def elsewhere() -> None:
        async with connect(Member) as client:
            ready.set()
            seen.extend([(await client.receive(Ping)).number for _ in range(2)])
            await apublish_to_room("a", Ping(number=3), namespace="nodes")
            await asyncio.to_thread(done.wait, 10)

    async with connect(Member) as client:
        thread = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(elsewhere())))
        await asyncio.to_thread(ready.wait, 10)
        await apublish_to_room("a", Ping(number=1), namespace="nodes")
        await asyncio.to_thread(publish_to_room, "a", Ping(number=2), namespace="nodes", on_commit=False)
        assert [(await client.receive(Ping)).number for _ in range(3)] == [1, 2, 3]
        done.set()
        await thread
    assert seen == [1, 2]


async def test_what_serves_a_node() -> None:
    """A node knows what serves its connections, where the runtime around the application has recognised it."""

    class Known(Transport):
        server = "known"

    async def send(message: object) -> None: ...

    node = current_node()
    async with connect(Member):
        assert node.servers == set()
    async with connect(Member, scope={"extensions": {TRANSPORT: Known(send)}}):
        assert node.servers == {"known"}


async def test_call_in_a_closed_loop() -> None:
    """Work for a loop that was closed in the meantime is discarded."""
    loop = asyncio.new_event_loop()
    node = Node(loop)
    loop.close()
    node.post(PublishMessage("nodes", to.Room("a"), Encoded("ping", "{}")))
    assert len(node.mailbox) == 0


async def test_no_backplane_in_one_process() -> None:
    """Without a layer, or with one in memory, nothing travels (C1)."""
    assert current_node().backplane("default") is None
    assert current_node().backplane("none") is None


async def test_a_backplane_each_alias(layer: FakeLayer) -> None:
    """Each layer has its own backplane, and a namespace uses the one of its consumers."""

    class Private(TypedEventConsumer):
        namespace = "nodes-private"
        channel_layer_alias = "private"
        out_events = (Ping,)

        async def on_connect(self) -> None:
            await self.join("a")

    with installed(FakeLayer(), "private") as private:
        async with connect(Member) as shared_member, connect(Private) as member:
            await apublish_to_room("a", Ping(number=1), namespace="nodes-private")
            assert (await member.receive(Ping)).number == 1
            await shared_member.assert_silent()
            assert private.calls["group_send", "wsrt.room.nodes-private.a"] == 1
            assert layer.calls["group_send", "wsrt.room.nodes-private.a"] == 0
            assert isinstance(current_node().backplane("private"), Backplane)
            assert member.consumer.channel_layer is private


async def test_own_node_through_the_layer(layer: FakeLayer) -> None:
    """A node hears its own publications through the layer, in one order with those of others (C4)."""
    async with connect(Member) as client:
        await client.consumer.publish_to_room("a", Ping(number=1))
        other_node = PublishMessage("nodes", to.Room("a"), Encoded("ping", '{"number":2}'))
        await layer.group_send("wsrt.room.nodes.a", other_node.to_message())
        assert [(await client.receive(Ping)).number for _ in range(2)] == [1, 2]


async def test_commands_are_carried_out_once() -> None:
    """A command that comes twice, by two layers, is carried out once; its handler is all the hub knows (R5)."""
    commands: list[str] = []
    async with connect(Member) as client:
        client.consumer._connection.subscriber.handler = type(
            "Owner", (), {"command": lambda self, name, arguments: commands.append(name)}
        )()
        command = CommandMessage(None, None, to.Everyone(), "nothing", {}, "id-1")
        current_node().carry_out(command)
        current_node().carry_out(command)
    assert commands == ["nothing"]


# Layers


async def test_layer_that_was_put_there_by_hand(layer: FakeLayer) -> None:
    """A layer that a test put there is used as it is, and not thrown away."""
    assert layer_of_loop("default") is layer
    await drop_layer("default", layer)
    assert layer_of_loop("default") is layer


async def test_layer_of_changed_settings() -> None:
    """A layer that was replaced is not used any more."""
    with installed(FakeLayer()) as first:
        assert layer_of_loop("default") is first
    with installed(FakeLayer()) as second:
        assert layer_of_loop("default") is second


async def test_private_instance(settings: Any) -> None:
    """Each loop has its own instance, apart from that of Channels. One that was dropped is created again."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.support.layer.FakeLayer"}}
    from channels.layers import get_channel_layer

    mine = layer_of_loop("default")
    assert mine is layer_of_loop("default")
    assert mine is not get_channel_layer()
    await drop_layer("default", mine)
    newer = layer_of_loop("default")
    assert newer is not mine
    await drop_layer("default", mine)
    await drop_layer("unknown", None)
    assert layer_of_loop("default") is newer


@pytest.mark.parametrize("fails", [False, True])
async def test_connections_of_a_dropped_layer_are_closed(settings: Any, fails: bool) -> None:
    """A layer that is thrown away closes its connections, however dead they are."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.support.layer.FakeLayer"}}
    closed: list[bool] = []

    async def close_pools() -> None:
        closed.append(True)
        if fails:
            raise ConnectionError

    mine: Any = layer_of_loop("default")
    mine.close_pools = close_pools
    await drop_layer("default", mine)
    assert closed == [True]


# What travels

audiences = st.recursive(
    st.sampled_from([to.Room("a"), to.User(7), to.Everyone(), to.Connection("n-1")]),
    lambda inner: (
        st.builds(lambda left, right: left | right, inner, inner)
        | st.builds(lambda left, right: left - right, inner, inner)
        | st.builds(lambda left, right: left & right, inner, inner)
    ),
    max_leaves=6,
)


@given(audience=audiences, text=st.text(), copies=st.booleans(), overflow=st.sampled_from(["close", "drop", "latest"]))
def test_publications_round_trip(audience: to.Audience, text: str, copies: bool, overflow: Any) -> None:
    """What goes through a layer as plain data comes out as it was (A1, C2)."""
    encoded = Encoded(text, "{}", overflow, "k" if overflow == "latest" else None)
    sent = PublishMessage("n", audience, encoded, "id" if copies else None)
    got = messages.read(json.loads(json.dumps(sent.to_message())))
    assert isinstance(got, PublishMessage)
    assert (got.realm, got.audience, got.id) == (sent.realm, sent.audience, sent.id)
    assert got.frame.text == sent.frame.text
    assert (got.frame.overflow, got.frame.key) == (overflow, encoded.key)


@pytest.mark.parametrize("kind", ["wsrt.publication", "wsrt.command", "wsrt.presence"])
def test_messages_of_the_next_version(kind: str) -> None:
    """What the next version writes is read, without what it adds; what is newer still is not."""
    sent = {
        "wsrt.publication": PublishMessage("n", to.Room("a"), Encoded("news", '{"text":"hi"}')),
        "wsrt.command": CommandMessage("n", None, to.Room("a"), "disconnect", {}, "id"),
        "wsrt.presence": messages.PresenceMessage("n", to.Room("a"), []),
    }[kind]
    message = {**sent.to_message(), "form": messages.FORM + 1, "invented": True}
    assert type(messages.read(message)) is type(sent)
    with pytest.raises(messages.UnknownMessage, match="form"):
        messages.read({**message, "form": messages.FORM + 2})
    with pytest.raises(messages.UnknownMessage, match="cannot read a message of type"):
        messages.read({"type": kind, "form": messages.FORM})


async def test_messages_of_strangers(layer: FakeLayer) -> None:
    """Messages that this version cannot read are counted and dropped, and what follows them arrives."""
    async with connect(Member) as client:
        before = counters["backplane_unknown_messages"]
        publication = PublishMessage("nodes", to.Room("a"), Encoded("ping", '{"number":1}')).to_message()
        await layer.group_send("wsrt.room.nodes.a", {**publication, "form": messages.FORM + 2})
        await layer.group_send("wsrt.room.nodes.a", {"type": "chat.message"})
        await layer.group_send("wsrt.room.nodes.a", publication)
        assert (await client.receive(Ping)).number == 1
        assert counters["backplane_unknown_messages"] == before + 2


@given(audience=audiences, namespace=st.none() | st.text(), tenant=st.none() | st.text() | st.just(ALL_TENANTS))
def test_commands_round_trip(audience: to.Audience, namespace: str | None, tenant: Any) -> None:
    """The same of commands."""
    sent = CommandMessage(namespace, tenant, audience, "disconnect", {"code": 4410, "reason": "é"}, "id")
    assert messages.read(json.loads(json.dumps(sent.to_message()))) == sent


@pytest.mark.parametrize(
    "message",
    [
        {"type": "chat.message"},
        {"type": "__init__"},
        {},
        {"type": "wsrt.publication", "namespace": "n", "frame": "", "audience": ["galaxy"]},
        {"type": "wsrt.command"},
    ],
)
def test_unknown_messages(message: dict[str, Any]) -> None:
    """What is none of ours, or of a newer version, raises, and calls no method by a name (C5)."""
    with pytest.raises((ValueError, KeyError)):
        messages.read(message)
