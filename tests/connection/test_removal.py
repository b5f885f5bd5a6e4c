"""Removal: a client that was removed, disconnected or lost a permission gets nothing that is published later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied

from tests.support.layer import FakeLayer, installed
from tests.support.waiting import aeventually
from wsrt import (
    Event,
    TypedEventConsumer,
    aadd_to_room,
    adisconnect,
    apermissions_changed,
    apublish_to_audience,
    apublish_to_room,
    apublish_to_user,
    aremove_from_room,
    close_codes,
    disconnect,
    on,
    remove_from_room,
)
from wsrt import addresses as to
from wsrt.cluster.node import current_node
from wsrt.exceptions import BackplaneUnavailable
from wsrt.metrics import counters
from wsrt.testing import Client, connect


class News(Event, name="news"):
    number: int


class Work(Event, name="work"):
    pass


class Guarded(TypedEventConsumer):
    namespace = "removal"
    out_events = (News,)
    refused: frozenset[str] = frozenset()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.gate, self.begun = asyncio.Event(), asyncio.Event()
        self.asking, self.asked = asyncio.Event(), asyncio.Event()
        self.removed: list[str] = []

    async def authorize_room(self, room: str) -> bool:
        self.asked.set()
        if room.startswith("slow"):
            await self.asking.wait()
        return room not in self.refused

    async def on_connect(self) -> None:
        await self.set_user_id(7)
        await self.join("a")
        await self.join("b")
        self.asked.clear()

    async def on_removed(self, room: str) -> None:
        self.removed.append(room)

    @on
    async def work(self, event: Work) -> None:
        self.begun.set()
        await self.gate.wait()


@pytest.fixture(params=["one process", "layer"])
def layer(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without a layer, and with one."""
    if request.param == "layer":
        with installed(FakeLayer()):
            yield
    else:
        yield


async def busy(client: Client) -> None:
    """Have a handler run that does not end."""
    await client.send(Work())
    await client.consumer.begun.wait()


async def publish(room: str, *numbers: int) -> None:
    for number in numbers:
        await apublish_to_room(room, News(number=number), namespace="removal")


@pytest.mark.usefixtures("layer")
async def test_removal_beside_a_handler() -> None:
    """A client whose handler is running gets nothing that was published after its removal; the hook waits its turn."""
    async with connect(Guarded) as client:
        await busy(client)
        await aremove_from_room(to.Room("a"), "a", namespace="removal")
        await publish("a", *range(20))
        await publish("b", 99)
        assert (await client.receive(News)).number == 99
        assert client.consumer.removed == []
        client.consumer.gate.set()
        await client.settle()
        assert client.consumer.removed == ["a"]
        assert client.consumer.rooms == ("b",)


@pytest.mark.usefixtures("layer")
async def test_disconnect_beside_a_handler() -> None:
    """A client that was disconnected gets nothing that is published when the call has returned."""
    async with connect(Guarded) as client:
        await busy(client)
        await adisconnect(to.Room("a"), namespace="removal")
        await publish("a", *range(20))
        client.consumer.gate.set()
        await client.assert_closed(close_codes.DISCONNECTED)
        assert not client._frames


async def test_removal_from_another_thread() -> None:
    """From a thread the call returns when the node of this process has carried it out."""
    async with connect(Guarded) as client:

        def remove_and_look() -> tuple[str, ...]:
            remove_from_room(to.Room("a"), "a", namespace="removal")
            return client.consumer.rooms  # type: ignore[no-any-return]

        assert await asyncio.to_thread(remove_and_look) == ("b",)

        def disconnect_and_look() -> bool:
            disconnect(to.Room("b"), namespace="removal")
            return client.consumer._connection.session.is_open  # type: ignore[no-any-return]

        assert not await asyncio.to_thread(disconnect_and_look)


@pytest.mark.parametrize("fault", ["nothing arrives", "nothing is accepted"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_removal_without_the_layer(fault: str, is_async: bool) -> None:
    """A process carries out its own commands itself, before they return or raise: no layer brings them back."""
    with installed(FakeLayer()) as layer:
        async with connect(Guarded) as client:
            layer.is_deaf = fault == "nothing arrives"
            if fault == "nothing is accepted":
                layer.failing.add("group_send")
            refusal = contextlib.nullcontext() if layer.is_deaf else pytest.raises(BackplaneUnavailable)
            with refusal:
                if is_async:
                    await aremove_from_room(to.Room("a"), "a", namespace="removal")
                else:
                    await asyncio.to_thread(remove_from_room, to.Room("a"), "a", namespace="removal")
            assert client.consumer.rooms == ("b",)
            with refusal:
                if is_async:
                    await adisconnect(to.Room("b"), namespace="removal")
                else:
                    await asyncio.to_thread(disconnect, to.Room("b"), namespace="removal")
            assert not client.consumer._connection.session.is_open


async def test_removal_voids_a_join() -> None:
    """A join that waits for its permission fails when the connection is taken out of the room in the meantime."""
    async with connect(Guarded) as client:
        client.consumer.asked.clear()
        joining = asyncio.create_task(client.consumer.join("slow"))
        await client.consumer.asked.wait()
        await aremove_from_room(to.Connection(client.consumer.id), "slow", namespace="removal")
        client.consumer.asking.set()
        with pytest.raises(PermissionDenied):
            await joining
        assert "slow" not in client.consumer.rooms
        assert client.consumer.removed == []
        # It isn't a ban: the next join asks again.
        await client.consumer.join("slow")
        assert "slow" in client.consumer.rooms


async def test_removal_voids_a_join_in_the_layer() -> None:
    """A join that waits for the layer fails too, and gives the group back."""
    with installed(FakeLayer()) as layer:
        async with connect(Guarded) as client:
            layer.gate.clear()
            joining = asyncio.create_task(client.consumer.join("c"))
            await aeventually(lambda: layer.calls["group_add", "wsrt.room.removal.c"])
            removing = asyncio.create_task(
                aremove_from_room(to.Connection(client.consumer.id), "c", namespace="removal")
            )
            await asyncio.sleep(0)
            layer.gate.set()
            await removing
            with pytest.raises(PermissionDenied):
                await joining
            await client.settle()
            assert "c" not in client.consumer.rooms
            assert not any(group.endswith("removal.c") for group in current_node().backplane("default").groups)


async def test_waiting_frames_are_purged() -> None:
    """Frames that wait in the outbox and were published to exactly that room are dropped; others stay."""
    async with connect(Guarded) as client:
        outbox = client.consumer._connection.outbox
        gate = asyncio.Event()
        send = outbox._send

        async def slow(message: Any) -> None:
            await gate.wait()
            await send(message)

        outbox._send, outbox._is_plain = slow, False
        await publish("b", 0)
        await publish("a", 1)
        await publish("b", 2)
        await publish("a", 3)
        await apublish_to_audience(to.Room("a") | to.Room("b"), News(number=4), namespace="removal")
        before = counters["frames_purged"]
        await aremove_from_room(to.Room("a"), "a", namespace="removal")
        assert counters["frames_purged"] == before + 2
        gate.set()
        assert [(await client.receive(News)).number for _ in range(3)] == [0, 2, 4]
        await client.assert_silent()
        assert outbox.is_idle


async def test_permission_lost_beside_a_handler() -> None:
    """While a handler runs, nothing of a room in question is sent, nor afterwards if the room refuses."""
    async with connect(Guarded) as client:
        await busy(client)
        client.consumer.refused = frozenset({"a"})
        await apermissions_changed(7)
        await publish("a", *range(20))
        await publish("b", 50)
        await apublish_to_user(7, News(number=60), namespace="removal")
        await publish("b", 70)
        assert not client._frames
        client.consumer.gate.set()
        assert [(await client.receive(News)).number for _ in range(3)] == [50, 60, 70]
        await client.assert_silent()
        assert client.consumer.rooms == ("b",)
        await publish("b", 80)
        assert (await client.receive(News)).number == 80


async def test_permission_kept_beside_a_handler() -> None:
    """What was withheld arrives in order when the answer is yes, and what is published after it behind."""
    async with connect(Guarded) as client:
        await busy(client)
        await apermissions_changed(7)
        await publish("a", 1, 2)
        await apermissions_changed(7)
        await publish("b", 3)
        client.consumer.gate.set()
        await client.settle()
        await publish("a", 4)
        assert [(await client.receive(News)).number for _ in range(4)] == [1, 2, 3, 4]


async def test_permission_without_an_answer() -> None:
    """A question that is not answered within SETUP_TIMEOUT means out of the rooms."""
    before = counters["permissions_unanswered"]
    async with connect(Impatient) as client:
        await busy(client)
        await apermissions_changed(7)
        await publish("a", 1)
        await apublish_to_user(7, News(number=2), namespace="removal")
        await aeventually(lambda: counters["permissions_unanswered"] == before + 1)
        assert (await client.receive(News)).number == 2
        assert client.consumer.rooms == ()
        client.consumer.gate.set()
        await client.settle()
        assert client.consumer._connection.session.is_open


async def test_permission_lost_during_a_join() -> None:
    """A join in a task of its own that was allowed before the change asks again."""
    with installed(FakeLayer()) as layer:
        async with connect(Guarded) as client:
            layer.gate.clear()
            joining = asyncio.create_task(client.consumer.join("c"))
            await aeventually(lambda: layer.calls["group_add", "wsrt.room.removal.c"])
            client.consumer.refused = frozenset({"c"})
            changing = asyncio.create_task(apermissions_changed(7))
            await client.settle()
            layer.gate.set()
            await changing
            with pytest.raises(PermissionDenied):
                await joining
            assert "c" not in client.consumer.rooms


async def test_withheld_frames_are_bounded() -> None:
    """More than an outbox holds is not withheld: the client is closed as one that reads slowly."""
    async with connect(Small) as client:
        await busy(client)
        await apermissions_changed(7)
        await publish("a", *range(7))
        client.consumer.gate.set()
        await client.assert_closed(close_codes.BACKPRESSURE_OVERFLOW)


class Impatient(Guarded):
    setup_timeout = 0.05


class Small(Guarded):
    outbox_frames = 5


class Slow(Guarded):
    """Takes its time to say yes."""

    namespace = "removal-slow"
    questions = 0

    async def authorize(self) -> bool:
        self.questions += 1
        self.begun.set()
        await self.gate.wait()
        return self.questions < 2


async def slow_client(user: User | None = None) -> tuple[asyncio.Task[None], asyncio.Queue[Any], list[Any], Slow]:
    """Begin a connection that is still being set up."""
    consumer, inbound, sent = Slow(), asyncio.Queue[Any](), list[Any]()
    inbound.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "subprotocols": [], "user": user}
    running = asyncio.create_task(consumer(scope, inbound.get, send))
    await consumer.begun.wait()
    return running, inbound, sent, consumer


@pytest.mark.django_db(transaction=True)
async def test_disconnect_during_the_set_up() -> None:
    """A disconnect of a user reaches a connection that authorize has not yet answered for."""
    user = await get_user_model().objects.acreate(username="ada")
    running, inbound, sent, consumer = await slow_client(user)
    await adisconnect(to.User(user), namespace="removal-slow")
    await adisconnect(to.User(user.pk + 1), namespace="removal-slow", code=4500, reason="somebody else")
    consumer.gate.set()
    inbound.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await running
    assert sent[-1]["type"] == "websocket.close"
    assert sent[-1]["code"] == close_codes.DISCONNECTED.code
    assert not consumer._connection.needs_on_disconnect


@pytest.mark.django_db(transaction=True)
async def test_permission_lost_during_the_set_up() -> None:
    """A change during authorize is asked for before on_connect runs."""
    user = await get_user_model().objects.acreate(username="ada")
    running, inbound, sent, consumer = await slow_client(user)
    await apermissions_changed(user)
    consumer.gate.set()
    await aeventually(lambda: not consumer._connection.session.is_open)
    inbound.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await running
    assert sent[-1]["code"] == close_codes.FORBIDDEN.code
    assert consumer.questions == 2
    assert not consumer._connection.needs_on_disconnect


async def test_too_many_commands_during_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that cannot be kept for a connection that is being set up end it."""
    monkeypatch.setattr("wsrt.cluster.node.MAX_ARRIVING_COMMANDS", 3)
    running, inbound, sent, consumer = await slow_client()
    for number in range(4):
        await aadd_to_room(to.Everyone(), str(number), namespace="removal-slow")
    # Otherwise the end of the connection waits for the hook.
    consumer.gate.set()
    inbound.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await running
    assert sent[-1]["code"] == close_codes.MESSAGE_HANDLING_FAILED.code
    assert current_node().arriving == {}
