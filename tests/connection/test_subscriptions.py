"""The subscriptions of clients: what they may ask for, and what they get."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DataError
from django.http import Http404

from tests.support.layer import FakeLayer, installed
from tests.support.recorder import Number, Recorder
from wsrt import (
    BackplaneUnavailable,
    DeclarationError,
    Refused,
    TypedEventConsumer,
    apermissions_changed,
    apublish_to_room,
    aremove_from_room,
)
from wsrt import addresses as to
from wsrt.connection.room_patterns import RoomPattern
from wsrt.protocol.namespaces import namespaces
from wsrt.testing import Client, RequestRefused, connect

WSRT = ["wsrt.v1"]

ANSWER = ("forbidden", "You may not subscribe to this room", [])
"""The answer for every room that a client can't have."""


class Orders(Recorder):
    """A consumer whose clients may subscribe to orders; the test decides about each."""

    namespace = "subscriptions"
    subscriptions = ("order.<int:pk>", "<slug:kind>/news")

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.answers: dict[str, bool | Exception] = {}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def on_connect(self) -> None:
        await self.set_user_id(7)

    async def authorize_room(self, room: str) -> bool:
        self.asked.append(room)
        await self.gate.wait()
        answer = self.answers.get(room, True)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def tenants() -> Iterator[type[Orders]]:
    """The same, with tenants. Only for one test: elsewhere a call without a namespace needs no tenant."""

    class TenantOrders(Orders):
        namespace = "subscriptions.tenants"

        async def tenant(self) -> str | None:
            return str(self.scope["tenant"])

    yield TenantOrders
    del namespaces[TenantOrders.namespace]


@pytest.fixture(params=["one process", "layer"])
def layer(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without a layer, and with one."""
    if request.param == "layer":
        with installed(FakeLayer()):
            yield
    else:
        yield


async def publish(room: str, value: int, namespace: str = "subscriptions", **arguments: Any) -> None:
    await apublish_to_room(room, Number(value=value), namespace=namespace, **arguments)


async def refusal(client: Client, room: str) -> tuple[str, str, list[Any]]:
    with pytest.raises(RequestRefused) as refused:
        await client.subscribe(room)
    return refused.value.code, refused.value.message, refused.value.errors


# Declaring.


def test_patterns_need_authorize_room() -> None:
    """A class that declares patterns must decide about rooms itself, or a base class of it must."""
    with pytest.raises(DeclarationError, match="authorize_room"):

        class Open(TypedEventConsumer):
            namespace = "subscriptions.open"
            subscriptions = ("order.<int:pk>",)

    class Inherits(Orders):
        namespace = "subscriptions.inherits"

    assert [pattern.text for pattern in Inherits.room_patterns] == list(Orders.subscriptions)
    assert all(isinstance(pattern, RoomPattern) for pattern in Inherits.room_patterns)


@pytest.mark.parametrize("wrong", ["order.<int:pk>", ("order.*",), 5])
def test_wrong_patterns(wrong: Any) -> None:
    """Patterns that can't work are refused when the class is created."""
    with pytest.raises(DeclarationError, match=r"^Wrong: subscriptions: "):
        type("Wrong", (Orders,), {"namespace": "subscriptions.wrong", "subscriptions": wrong})


def test_not_for_one_route() -> None:
    """Patterns belong to the class: they are part of its schema."""
    with pytest.raises(TypeError, match="fixed for the class"):
        Orders.as_asgi(subscriptions=("<path:all>",))


def test_schema_hash() -> None:
    """The schema changes with the patterns; without any it is what it was."""

    class Other(Orders):
        namespace = "subscriptions.other"
        subscriptions = ("order.<int:pk>",)

    class Nothing(Orders):
        namespace = "subscriptions.nothing"
        subscriptions = ()

    assert len({consumer.catalog.schema_hash for consumer in (Orders, Other, Nothing)}) == 3
    assert Nothing.catalog.schema_hash == Recorder.catalog.schema_hash


# Subscribing.


@pytest.mark.usefixtures("layer")
async def test_subscribe_and_unsubscribe() -> None:
    """A client joins and leaves the rooms that it asks for, and is told; asking twice is asking once."""
    async with connect(Orders, subprotocols=WSRT) as client:
        for _ in range(2):
            await client.subscribe("order.1")
        await client.subscribe("shop/news")
        assert client.consumer.rooms == ("order.1", "shop/news")
        await publish("order.1", 1)
        assert (await client.receive(Number)).value == 1
        for _ in range(2):
            await client.unsubscribe("order.1")
        await client.unsubscribe("order.2")
        await publish("order.1", 2)
        await client.assert_silent()
        said = [(frame["event"], frame["data"]["room"]) for frame in client.reserved[1:]]
        assert said == [("wsrt.joined", "order.1"), ("wsrt.joined", "shop/news"), ("wsrt.left", "order.1")]


async def test_joined_is_sent_before_the_answer() -> None:
    """When the answer arrives, the client knows that it is in the room."""
    async with connect(Orders, subprotocols=WSRT) as client:
        frames: list[str] = []
        received = client._received
        client._received = lambda frame: (frames.append(frame["event"]), received(frame))[1]  # type: ignore[method-assign]
        await client.subscribe("order.1")
        assert frames == ["wsrt.joined", "wsrt.ok"]


async def test_before_the_set_up_is_done() -> None:
    """A subscription that arrives during the set-up waits for it, like any other frame."""

    class Slow(Orders):
        namespace = "subscriptions.slow"
        gate_of_set_up = asyncio.Event()

        async def on_connect(self) -> None:
            await self.gate_of_set_up.wait()

    client = connect(Slow, subprotocols=WSRT)
    entering = asyncio.create_task(client.__aenter__())
    while not client.reserved:
        await asyncio.sleep(0)
    subscribing = asyncio.create_task(client.subscribe("order.1"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert client.consumer.asked == []
    Slow.gate_of_set_up.set()
    await entering
    await subscribing
    assert client.consumer.rooms == ("order.1",)
    await client.disconnect()


async def test_the_joins_of_the_server() -> None:
    """No unsubscription leaves a room that the server joined, and no leave of the server ends a subscription."""
    async with connect(Orders, subprotocols=WSRT) as client:
        consumer = client.consumer
        for key in (None, "part"):
            await consumer.join("order.1", key=key)
            await client.subscribe("order.1")
            await client.unsubscribe("order.1")
            await client.unsubscribe("order.1")
            assert consumer.rooms == ("order.1",)
            await client.subscribe("order.1")
            await consumer.leave("order.1", key=key)
            assert consumer.rooms == ("order.1",)
            await client.unsubscribe("order.1")
            assert consumer.rooms == ()
        await consumer.join("private")
        await client.unsubscribe("private")
        assert consumer.rooms == ("private",)


async def test_forbidden_and_missing_alike() -> None:
    """A client can't learn which rooms exist: every refusal has the same answer, and leaves it outside."""
    async with connect(Orders, subprotocols=WSRT) as client:
        answers: list[bool | Exception] = [
            False,
            PermissionDenied("order 1 belongs to Ada"),
            Http404("no order 1"),
            Refused("not_found", "no order 1"),
            ValidationError("no order 1"),
            DataError("integer out of range"),
        ]
        for answer in answers:
            client.consumer.answers["order.1"] = answer
            assert await refusal(client, "order.1") == ANSWER
        for unmatched in ("order.x", "lobby", "order.*", "order.1\n", "subscriptions@t1"):
            client.consumer.asked.clear()
            assert await refusal(client, unmatched) == ANSWER
            assert client.consumer.asked == []
        assert client.consumer.rooms == ()


async def test_refusals_that_say_something_else() -> None:
    """An application's own code, a limit, and an outage are told."""
    async with connect(Orders, subprotocols=WSRT) as client:
        client.consumer.answers |= {"order.1": Refused("paused", "Closed today"), "order.2": BackplaneUnavailable()}
        assert await refusal(client, "order.1") == ("paused", "Closed today", [])
        assert (await refusal(client, "order.2"))[0] == "unavailable"
        for name in ("", "wsrt.x", "x" * 256):
            assert (await refusal(client, name))[0] == "invalid_data"
        assert client.consumer.rooms == ()


async def test_data_that_is_wrong() -> None:
    """Data without a room is refused like that of an event, with the field."""
    async with connect(Orders, subprotocols=WSRT) as client:
        for number, data in enumerate(({}, {"room": 5}, {"room": None}, [], "order.1", {"room": ["order.1"]})):
            text = {"event": "wsrt.subscribe", "data": data, "ref": number}
            await client.send_text(json.dumps(text))
            answer = await client.receive_json()
            assert (answer["event"], answer["ref"]) == ("wsrt.error", number)
            assert answer["data"]["code"] == "invalid_data"
            assert answer["data"]["errors"]
        # The data may be left out of an event whose fields are all optional, which this one isn't.
        await client.send_text('{"event":"wsrt.subscribe","ref":"x"}')
        assert (await client.receive_json())["data"]["errors"][0]["loc"] == ["room"]


async def test_without_a_ref() -> None:
    """A frame without a ref subscribes too, and gets no answer."""
    async with connect(Orders, subprotocols=WSRT) as client:
        client.consumer.answers["order.2"] = False
        for room in ("order.1", "order.2"):
            await client.send_text(json.dumps({"event": "wsrt.subscribe", "data": {"room": room}}))
        await client.assert_silent()
        assert client.consumer.rooms == ("order.1",)


@pytest.mark.parametrize("data", ['{"room":"order.1"}', "5"])
async def test_unknown_elsewhere(data: str) -> None:
    """For a plain client, and where no pattern is declared, the events are unknown like any other name."""
    frame = f'{{"event":"wsrt.subscribe","data":{data},"ref":1}}'
    for consumer, subprotocols in ((Orders, []), (Recorder, WSRT)):
        async with connect(consumer, subprotocols=subprotocols) as client:
            await client.send_text(frame)
            assert (await client.receive_json())["data"]["code"] == "unknown_event"
            assert client.consumer.rooms == ()


async def test_a_hook_that_fails() -> None:
    """An unexpected exception of authorize_room answers "internal" and closes, as that of a handler."""
    async with connect(Orders, subprotocols=WSRT) as client:
        client.consumer.answers["order.1"] = RuntimeError("oh")
        assert (await refusal(client, "order.1"))[0] == "internal"
        await client.assert_closed(1011)


async def test_a_member_that_fails() -> None:
    """A client that reads an error isn't subscribed, even if member() refused after the join."""

    class Shown(Orders):
        namespace = "subscriptions.shown"
        presence = True

        async def member(self, room: str) -> None:
            raise PermissionDenied

    async with connect(Shown, subprotocols=WSRT) as client:
        assert await refusal(client, "order.1") == ANSWER
        assert client.consumer.rooms == ()


async def test_the_log_says_which(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """While DEBUG is set, the log tells a developer whether a pattern or the hook refused."""
    settings.DEBUG = True
    caplog.set_level(logging.INFO, "wsrt")
    async with connect(Orders, subprotocols=WSRT) as client:
        client.consumer.answers["order.1"] = False
        await refusal(client, "order.1")
        await refusal(client, "lobby")
    for attribute in ("authorize_room", "subscriptions"):
        assert f"Orders.{attribute} refused 'wsrt.subscribe'" in caplog.text


# Abuse.


async def test_ten_thousand_rooms() -> None:
    """A client that asks for 10,000 rooms gets max_rooms of them; the others ask no hook, and nothing is kept."""

    class Few(Orders):
        namespace = "subscriptions.few"
        max_rooms = 5
        rate = None

    async with connect(Few, subprotocols=WSRT) as client:
        await client.consumer.join("private")
        client.consumer.asked.clear()
        answers: list[dict[str, Any]] = []
        for start in range(0, 10_000, 500):
            for number in range(start, start + 500):
                frame = {"event": "wsrt.subscribe", "data": {"room": f"order.{number}"}, "ref": number}
                await client.send_text(json.dumps(frame))
            await client.settle()
            answers += client._frames
            client._frames.clear()
        assert [answer["event"] for answer in answers] == ["wsrt.ok"] * 4 + ["wsrt.error"] * 9_996
        assert {answer["data"]["code"] for answer in answers[4:]} == {"forbidden"}
        assert client.consumer.rooms == ("private", *(f"order.{number}" for number in range(4)))
        assert len(client.consumer.asked) == 4
        groups = client.consumer._connection.groups
        assert len(groups._holds._keys) == 5
        assert not groups._joins


async def test_attempts_count_for_the_rate() -> None:
    """Subscriptions are limited by the rate of the client, allowed or not."""

    class Slow(Orders):
        namespace = "subscriptions.rate"
        rate = "1/m"
        rate_burst = 3
        max_violations = 1

    async with connect(Slow, subprotocols=WSRT) as client:
        client.consumer.answers["order.2"] = False
        await client.subscribe("order.1")
        await refusal(client, "order.2")
        await client.unsubscribe("order.1")
        assert (await refusal(client, "order.3"))[0] == "rate_limited"
        await client.send_text('{"event":"wsrt.subscribe","data":{"room":"order.3"}}')
        await client.assert_closed(4429)


@pytest.mark.parametrize(
    "name",
    ["wsrt.room", "wsrt.user.subscriptions.7", "order.1@t2", "order.1\0", "*", "order.[0-9]", "subscriptions:order.1"],
)
async def test_names_that_mean_nothing(name: str) -> None:
    """A reserved name, a name of another scope, or one with wildcards is a name like any other, and matches nothing."""
    async with connect(Orders, subprotocols=WSRT) as client:
        assert (await refusal(client, name))[0] in {"forbidden", "invalid_data"}
        assert client.consumer.rooms == ()


@pytest.mark.usefixtures("layer")
async def test_other_tenants_and_namespaces(tenants: type[Orders]) -> None:
    """The same name is another room for each tenant and namespace: nothing crosses."""

    class Other(Orders):
        namespace = "subscriptions.elsewhere"

    one = connect(tenants, subprotocols=WSRT, scope={"tenant": "t1"})
    two = connect(tenants, subprotocols=WSRT, scope={"tenant": "t2"})
    async with one, two, connect(Other, subprotocols=WSRT) as elsewhere:
        for client in (one, two, elsewhere):
            await client.subscribe("order.1")
        await publish("order.1", 1, "subscriptions.tenants", tenant="t1")
        assert (await one.receive(Number)).value == 1
        for client in (two, elsewhere):
            await client.assert_silent()
        # A removal at one tenant leaves the other where it is.
        await aremove_from_room(to.Room("order.1"), "order.1", namespace="subscriptions.tenants", tenant="t1")
        assert (one.consumer.rooms, two.consumer.rooms) == ((), ("order.1",))


@pytest.mark.usefixtures("layer")
async def test_a_kick_while_subscribing() -> None:
    """A kick that arrives while the hook runs wins: the client is refused, and receives nothing."""
    async with connect(Orders, subprotocols=WSRT) as client:
        client.consumer.gate.clear()
        subscribing = asyncio.create_task(refusal(client, "order.1"))
        while not client.consumer.asked:
            await asyncio.sleep(0)
        await aremove_from_room(to.User(7), "order.1", namespace="subscriptions")
        client.consumer.gate.set()
        assert await subscribing == ANSWER
        await publish("order.1", 1)
        await client.assert_silent()
        # A kick is no ban: authorize_room decides about the next attempt.
        await client.subscribe("order.1")
        await publish("order.1", 2)
        assert (await client.receive(Number)).value == 2


@pytest.mark.usefixtures("layer")
async def test_a_lost_permission() -> None:
    """A client that loses its permission leaves the room that it subscribed to, and is told."""
    async with connect(Orders, subprotocols=WSRT) as client:
        await client.subscribe("order.1")
        client.consumer.answers["order.1"] = False
        await apermissions_changed(7, namespace="subscriptions")
        await publish("order.1", 1)
        await client.settle()
        assert client.reserved[-1] == {"event": "wsrt.left", "data": {"room": "order.1"}}
        await client.assert_silent()
        assert await refusal(client, "order.1") == ANSWER


async def test_order_with_events() -> None:
    """Subscriptions take their turn among the events of the client: what it sent before is done before."""
    async with connect(Orders, subprotocols=WSRT) as client:
        rooms: list[tuple[str, ...]] = []
        client.consumer.todo = lambda consumer: asyncio.sleep(0, rooms.append(consumer.rooms))
        for event in ("go", "wsrt.subscribe", "go", "wsrt.unsubscribe", "go"):
            await client.send_text(json.dumps({"event": event, "data": {"room": "order.1"}}))
        await client.settle()
        assert rooms == [(), ("order.1",), ()]


async def test_a_client_that_only_tests() -> None:
    """The test client says what it lacks to subscribe."""
    async with connect(Orders) as client:
        with pytest.raises(AssertionError, match="subprotocols"):
            await client.subscribe("order.1")
    async with connect(Orders, subprotocols=WSRT) as client:
        await client.consumer.close(4500, "done")
        with pytest.raises(AssertionError, match="closed"):
            await client.subscribe("order.1")
