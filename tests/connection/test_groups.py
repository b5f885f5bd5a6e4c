"""The rooms and the user of a connection."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from django.core.exceptions import PermissionDenied

from tests.support.recorder import Gate, Number, Recorder, Text, do, enter_gate
from wsrt import (
    TooManyRooms,
    apublish_to_room,
    apublish_to_user,
)
from wsrt.cluster.node import current_node
from wsrt.metrics import counters
from wsrt.testing import RequestRefused, connect


async def test_join_and_leave() -> None:
    """join and leave are reported in ``rooms``; joining twice is joining once (S50, R3)."""
    async with connect(Recorder, subprotocols=["wsrt.v1"]) as client:
        for _ in range(2):
            await client.consumer.join("b")
        await client.consumer.join("a")
        assert client.consumer.rooms == ("b", "a")
        await client.consumer.leave("b")
        await client.consumer.leave("never")
        assert client.consumer.rooms == ("a",)
        said = [(frame["event"], frame["data"].get("room")) for frame in client.reserved[1:]]
        assert said == [("wsrt.joined", "b"), ("wsrt.joined", "a"), ("wsrt.left", "b")]


async def test_concurrent_joins_of_one_room() -> None:
    """Joins of one room that run at the same time join it once, and announce it once."""

    class Slow(Recorder):
        async def authorize_room(self, room: str) -> bool:
            await asyncio.sleep(0)
            return True

    async with connect(Slow, subprotocols=["wsrt.v1"]) as client:
        await asyncio.gather(*(client.consumer.join("a") for _ in range(3)))
        assert client.consumer.rooms == ("a",)
        assert [frame["event"] for frame in client.reserved[1:]] == ["wsrt.joined"]


async def test_mutations_after_the_end() -> None:
    """After the end join, leave and set_user_id do nothing, and leave nothing behind (S50, R6)."""
    async with connect(Recorder) as client:
        consumer = client.consumer
        await client.disconnect()
        await consumer.join("lobby")
        await consumer.leave("lobby")
        await consumer.set_user_id(7)
        hub = current_node().hub
        assert not hub._rooms
        assert not hub._users


async def test_authorize_room() -> None:
    """A room that refuses raises PermissionDenied, and is not joined."""

    class Picky(Recorder):
        async def authorize_room(self, room: str) -> bool:
            return room == "open"

    async with connect(Picky) as client:
        await client.consumer.join("open")
        with pytest.raises(PermissionDenied):
            await client.consumer.join("shut")
        assert client.consumer.rooms == ("open",)


async def test_room_limit() -> None:
    """A connection joins max_rooms rooms at most, and names must be names (R7)."""

    class Two(Recorder):
        max_rooms = 2

    async with connect(Two) as client:
        await client.consumer.join("a")
        await client.consumer.join("b")
        await client.consumer.join("b")
        before = counters["rooms_over_limit"]
        with pytest.raises(TooManyRooms):
            await client.consumer.join("c")
        assert counters["rooms_over_limit"] == before + 1
        for wrong in ("", "wsrt.x"):
            with pytest.raises(ValueError, match="room name"):
                await client.consumer.join(wrong)
        with pytest.raises(TypeError):
            await client.consumer.join(5)


async def test_room_limit_at_once() -> None:
    """Joins that are under way count for the limit, each room once; one that fails makes room for another."""

    class Asking(Recorder):
        max_rooms = 5

        async def authorize_room(self, room: str) -> bool:
            await asyncio.sleep(0)
            return room != "shut"

    async with connect(Asking) as client:
        with pytest.raises(PermissionDenied):
            await client.consumer.join("shut")
        rooms = ["a", "a", *map(str, range(500))]
        results = await asyncio.gather(*map(client.consumer.join, rooms), return_exceptions=True)
        assert len(client.consumer.rooms) == 5
        assert results[:6] == [None] * 6
        assert all(isinstance(result, TooManyRooms) for result in results[6:])
        await client.consumer.leave("a")
        await client.consumer.join("b")


@pytest.mark.parametrize("name", ["", "wsrt.x", "x" * 256, "\ud800"])
async def test_room_name_of_a_client(name: str) -> None:
    """A string of a client that can't be the name of a room refuses its request, whatever it was meant for."""
    async with connect(Recorder) as client:
        for use in (
            lambda consumer: consumer.join(name),
            lambda consumer: consumer.publish_to_room(name, Number(value=1)),
            lambda consumer: consumer.publish_to_others(name, Number(value=1)),
        ):
            with pytest.raises(RequestRefused, match="invalid_data"):
                await do(client, use)


async def test_one_user_at_a_time() -> None:
    """A second user id takes the place of the first; 7 and "7" are one user (S51)."""
    async with connect(Recorder) as client:
        await client.consumer.set_user_id(6)
        await client.consumer.set_user_id("7")
        await apublish_to_user(6, Number(value=6), namespace="unit")
        await apublish_to_user(7, Number(value=7), namespace="unit")
        assert (await client.receive(Number)).value == 7
        await client.consumer.clear_user_id()
        await apublish_to_user(7, Number(value=8), namespace="unit")
        await client.assert_silent()


async def test_user_of_the_scope() -> None:
    """An authenticated user is bound by itself."""

    class User:
        pk = UUID(int=5)
        is_authenticated = True

    async with connect(Recorder, user=User()) as client:
        assert client.consumer.user_id == str(UUID(int=5))


async def test_publications_wait_for_on_connect() -> None:
    """From join on, publications wait and leave after what on_connect sent itself (S52)."""
    Gate.gate = asyncio.Event()
    client, entering = await enter_gate(Gate)
    for value in range(3):
        await apublish_to_room("lobby", Number(value=value), namespace="unit")
    await client.consumer.send(Text(text="more"))
    Gate.gate.set()
    await entering
    assert [(await client.receive(Text)).text for _ in range(2)] == ["snapshot", "more"]
    assert [(await client.receive(Number)).value for _ in range(3)] == [0, 1, 2]
    await client.disconnect()


async def test_namespaces_do_not_cross() -> None:
    """Rooms and users of one namespace do not reach another (S53, A2)."""

    class Elsewhere(Recorder):
        namespace = "elsewhere"

    async with connect(Recorder) as here, connect(Elsewhere) as there:
        for client in (here, there):
            await client.consumer.join("lobby")
            await client.consumer.set_user_id(1)
        await here.consumer.publish_to_room("lobby", Number())
        await here.consumer.publish_to_user(1, Number())
        await here.consumer.broadcast(Number())
        for _ in range(3):
            await here.receive(Number)
        await there.assert_silent()
