"""The keys by which a connection holds its rooms."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator

import pytest
from django.core.exceptions import PermissionDenied

from tests.support.layer import FakeLayer, installed
from tests.support.recorder import Number, Recorder, do
from wsrt import (
    InvalidKey,
    TooManyKeys,
    aadd_to_room,
    apermissions_changed,
    apublish_to_room,
    aremove_from_room,
)
from wsrt import addresses as to
from wsrt.connection.holds import MAX_KEY_LENGTH, MAX_KEYS, Holds, check_key
from wsrt.metrics import counters
from wsrt.testing import RequestRefused, connect


class Asking(Recorder):
    """A consumer whose authorize_room waits for the test."""

    namespace = "holds"

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []
        self.refused: set[str] = set()

    async def on_connect(self) -> None:
        await self.set_user_id(7)

    async def authorize_room(self, room: str) -> bool:
        self.asked.append(room)
        await self.gate.wait()
        return room not in self.refused


@pytest.fixture(params=["one process", "layer"])
def layer(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without a layer, and with one."""
    if request.param == "layer":
        with installed(FakeLayer()):
            yield
    else:
        yield


def test_release() -> None:
    """A room is left with the last key that holds it; a key that doesn't hold it releases nothing."""
    holds = Holds()
    for key in (None, "a", "a"):
        holds.add("room", key)
    assert not holds.release("room", "b")
    assert not holds.release("other", None)
    assert not holds.release("room", "a")
    assert not holds.release("room", "a")
    assert holds.release("room", None)
    assert not holds.release("room", None)
    assert not holds._keys


def test_keys_are_checked() -> None:
    """A key is a string of limited length; a member of an enumeration stands for its value."""
    assert check_key(None) is None
    assert check_key("x" * MAX_KEY_LENGTH)
    assert type(check_key(enum.StrEnum("Part", ["CHAT"]).CHAT)) is str  # type: ignore[attr-defined]
    with pytest.raises(InvalidKey):
        check_key("x" * (MAX_KEY_LENGTH + 1))
    with pytest.raises(TypeError, match=r"str\(\)"):
        check_key(5)


@pytest.mark.usefixtures("layer")
async def test_components_of_one_page() -> None:
    """Three components share a room: the connection stays while one of them is in, and joins and leaves it once."""
    async with connect(Asking, subprotocols=["wsrt.v1"]) as client:
        consumer = client.consumer
        for key in ("list", "map", "badge", "list"):
            await consumer.join("lobby", key=key)
        assert consumer.asked == ["lobby"]
        for key in ("list", "list", "never", "map"):
            await consumer.leave("lobby", key=key)
            await apublish_to_room("lobby", Number(value=1), namespace="holds")
            assert (await client.receive(Number)).value == 1
        await consumer.leave("lobby", key="badge")
        assert consumer.rooms == ()
        await apublish_to_room("lobby", Number(value=2), namespace="holds")
        await client.assert_silent()
        said = [frame["event"] for frame in client.reserved]
        assert said[1:] == ["wsrt.joined", "wsrt.left"]


async def test_with_and_without_a_key() -> None:
    """A join without a key is one more hold, and is ended by a leave without a key only."""
    async with connect(Asking) as client:
        consumer = client.consumer
        await consumer.join("lobby")
        await consumer.join("lobby", key="map")
        await consumer.leave("lobby", key="map")
        assert consumer.rooms == ("lobby",)
        await consumer.join("lobby", key="map")
        await consumer.leave("lobby")
        assert consumer.rooms == ("lobby",)
        await aadd_to_room(to.Connection(consumer.id), "lobby", namespace="holds")
        await client.settle()
        await consumer.leave("lobby", key="map")
        assert consumer.rooms == ("lobby",)
        await consumer.leave("lobby")
        assert consumer.rooms == ()


async def test_removal_ends_all_keys() -> None:
    """A removal, or a lost permission, takes the connection out of the room, whatever keys hold it."""
    async with connect(Asking) as client:
        consumer = client.consumer
        for leave in (
            lambda: aremove_from_room(to.User(7), "lobby", namespace="holds"),
            lambda: apermissions_changed(7, namespace="holds"),
        ):
            consumer.refused.clear()
            for key in (None, "a", "b"):
                await consumer.join("lobby", key=key)
            consumer.refused.add("lobby")
            await leave()
            await client.settle()
            assert consumer.rooms == ()
            assert not consumer._connection.groups._holds._keys
            with pytest.raises(PermissionDenied):
                await consumer.join("lobby", key="a")


async def test_a_removal_while_keys_join() -> None:
    """A removal ends every join that is under way, and the keys of a later one start from nothing."""
    async with connect(Asking) as client:
        consumer = client.consumer
        consumer.gate.clear()
        joins = [asyncio.create_task(consumer.join("lobby", key=key)) for key in "abc"]
        while len(consumer.asked) < 3:
            await asyncio.sleep(0)
        await aremove_from_room(to.User(7), "lobby", namespace="holds")
        later = asyncio.create_task(consumer.join("lobby", key="b"))
        consumer.gate.set()
        results = await asyncio.gather(*joins, later, return_exceptions=True)
        assert [type(result) for result in results] == [PermissionDenied] * 3 + [type(None)]
        await consumer.leave("lobby", key="b")
        assert consumer.rooms == ()


@pytest.mark.usefixtures("layer")
async def test_leave_while_joining() -> None:
    """A leave takes effect after a join of its key that began before it, and on no other key."""
    async with connect(Asking, subprotocols=["wsrt.v1"]) as client:
        consumer = client.consumer
        consumer.gate.clear()
        joins = [asyncio.create_task(consumer.join("lobby", key=key)) for key in ("a", "b", None)]
        while len(consumer.asked) < 3:
            await asyncio.sleep(0)
        await consumer.leave("lobby", key="a")
        await consumer.leave("lobby")
        consumer.gate.set()
        await asyncio.gather(*joins)
        assert consumer.rooms == ("lobby",)
        assert [frame["event"] for frame in client.reserved[1:]] == ["wsrt.joined"]
        await consumer.leave("lobby", key="b")
        assert consumer.rooms == ()
        assert not consumer._connection.groups._held & {to.group_name("room", "holds", "lobby")}


async def test_too_many_keys() -> None:
    """Keys may come from clients: their number and their length are limited, and the request is refused."""
    async with connect(Asking) as client:
        consumer = client.consumer
        for number in range(MAX_KEYS):
            await consumer.join("lobby", key=str(number))
        await consumer.join("lobby", key="0")
        before = counters["keys_over_limit"]
        with pytest.raises(TooManyKeys):
            await consumer.join("lobby", key="one more")
        assert counters["keys_over_limit"] == before + 1
        with pytest.raises(RequestRefused, match="forbidden"):
            await do(client, lambda consumer: consumer.join("lobby", key="one more"))
        for use in (consumer.join, consumer.leave):
            with pytest.raises(RequestRefused, match="invalid_data"):
                await do(client, lambda consumer, use=use: use("lobby", key="x" * 256))  # type: ignore[misc]
            with pytest.raises(TypeError):
                await use("lobby", key=7)
        await consumer.leave("lobby", key="0")
        await consumer.join("lobby", key="one more")


async def test_too_many_keys_at_once() -> None:
    """Joins that are under way count for the limit of keys."""
    async with connect(Asking) as client:
        keys = [str(number) for number in range(3 * MAX_KEYS)]
        joins = (client.consumer.join("lobby", key=key) for key in keys)
        results = await asyncio.gather(*joins, return_exceptions=True)
        assert results.count(None) == MAX_KEYS
        assert sum(isinstance(result, TooManyKeys) for result in results) == 2 * MAX_KEYS
