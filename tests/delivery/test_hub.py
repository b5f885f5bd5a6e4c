"""The hub, which finds the connections of an address."""

from __future__ import annotations

import asyncio
from functools import reduce
from operator import and_, or_, sub
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrt import addresses as to
from wsrt.addresses import AnyOf, Audience, Expression
from wsrt.delivery.hub import REMEMBERED, Hub
from wsrt.delivery.subscriber import Subscriber
from wsrt.protocol.frame import Frame


class Box:
    """An outbox that keeps what it gets."""

    is_crowded = False

    def __init__(self) -> None:
        self.frames: list[str] = []

    def put(self, frame: Frame) -> bool:
        self.frames.append(frame.text)
        return not self.is_crowded

    def put_corked(self, frame: Frame) -> bool:
        self.frames.append(frame.text)
        return False


def made(hub: Hub, number: int, *rooms: str, user: str | None = None, namespace: str = "n") -> Subscriber:
    connection = Subscriber(f"node-{number}", namespace, Box(), None)  # type: ignore[arg-type]
    hub.add(connection)
    for room in rooms:
        hub.join(connection, room)
    hub.bind(connection, user)
    return connection


def names(hub: Hub, audience: Audience, namespace: str | None = "n") -> list[str]:
    return [connection.id[5:] for connection in hub.select(namespace, audience)]


@pytest.fixture
def hub() -> Hub:
    hub = Hub()
    made(hub, 1, "a", user="7")
    made(hub, 2, "a", "b", user="7")
    made(hub, 3, "b", user="8")
    made(hub, 4, "a", namespace="m")
    return hub


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        (to.Room("a"), ["1", "2"]),
        (to.User(7), ["1", "2"]),
        (to.Connection("node-3"), ["3"]),
        (to.Connection("node-4"), []),
        (to.Everyone(), ["1", "2", "3"]),
        (to.Room("a") | to.User(7), ["1", "2"]),
        (to.Room("b") | to.Room("a"), ["2", "3", "1"]),
        (to.Room("a") - to.Connection("node-1"), ["2"]),
        (to.Room("a") & to.Room("b"), ["2"]),
        (to.Everyone() - (to.Room("a") | to.User(8)), []),
        (to.Room("nobody"), []),
    ],
)
def test_select(hub: Hub, audience: Audience, expected: list[str]) -> None:
    """Every kind of address, each connection once, in the order in which they came (A1, A3, A4)."""
    assert names(hub, audience) == expected


def test_realms(hub: Hub) -> None:
    """The realms of its connections are known, for control (A2)."""
    assert sorted(hub.realms) == ["m", "n"]


def test_deliver(hub: Hub) -> None:
    """A delivery tells how many it reached (D8)."""
    assert hub.deliver("n", to.Everyone(), Frame("x")) == 3


def test_order_across_batches() -> None:
    """Two broadcasts to 300 connections keep their order on each (D2)."""
    hub = Hub()
    connections = [made(hub, number) for number in range(300)]
    for text in ("one", "two"):
        hub.deliver("n", to.Everyone(), Frame(text))
    assert all(connection.outbox.frames == ["one", "two"] for connection in connections)  # type: ignore[attr-defined]


def test_targets_are_those_of_now(hub: Hub) -> None:
    """Who left before a delivery gets nothing of it, who joined gets it (D3)."""
    two, three = hub.subscribers["node-2"], hub.subscribers["node-3"]
    hub.leave(two, "a")
    hub.join(three, "a")
    assert names(hub, to.Room("a")) == ["1", "3"]


def test_leaving_during_delivery(hub: Hub) -> None:
    """A connection that ends because of a frame does not disturb the delivery to the others (D5, D9, R4)."""
    one = hub.subscribers["node-1"]
    one.outbox.put = lambda frame: hub.remove(one) or True  # type: ignore[method-assign, func-returns-value]
    assert hub.deliver("n", to.Everyone(), Frame("x")) == 3
    assert hub.subscribers["node-3"].outbox.frames == ["x"]  # type: ignore[attr-defined]


def test_nothing_is_left(hub: Hub) -> None:
    """Removing twice is removing once, and empties every index; the connection keeps what it was (S41, R1)."""
    connections = list(hub.subscribers.values())
    for connection in connections * 2:
        hub.remove(connection)
    assert not (hub.subscribers or hub._everyone or hub._rooms or hub._users)
    assert list(connections[1].rooms) == ["a", "b"]


def test_leaving_a_room_one_is_not_in(hub: Hub) -> None:
    """To leave a room, or to be removed, twice does nothing (R6, S50)."""
    connection = hub.subscribers["node-1"]
    hub.leave(connection, "never")
    hub.remove(connection)
    hub.remove(connection)
    assert names(hub, to.Room("a")) == ["2"]


def test_copies() -> None:
    """A publication that came by two groups is delivered once; memory of ids is bounded (C2)."""
    hub = Hub()
    assert [hub.is_copy("a"), hub.is_copy("a")] == [False, True]
    for number in range(REMEMBERED + 5):
        hub.is_copy(str(number))
    assert len(hub._seen) == REMEMBERED


@pytest.mark.parametrize("corks", [False, True])
async def test_breathe(corks: bool) -> None:
    """After many deliveries, or while an outbox fills up, the loop gets a turn; else nothing is awaited (D2, D7)."""
    hub = Hub(asyncio.get_running_loop() if corks else None)
    connection = made(hub, 1)
    turns: list[int] = []

    async def breathes() -> bool:
        before = len(turns)
        asyncio.get_running_loop().call_soon(turns.append, 1)
        await hub.checkpoint()
        return len(turns) > before

    hub.deliver("n", to.Everyone(), Frame("x"))
    assert not await breathes()
    for _ in range(250):
        hub.deliver("n", to.Everyone(), Frame("x"))
    assert await breathes()
    connection.outbox.is_crowded = True  # type: ignore[misc]
    hub.deliver("n", to.Everyone(), Frame("x"))
    assert await breathes()


def test_no_address() -> None:
    """A value that isn't an address is a defect of wsrt."""
    with pytest.raises(TypeError):
        Hub().select("n", Audience())


SIMPLE = st.sampled_from([to.Room("a"), to.Room("b"), to.User(7), to.User(8), to.Everyone(), to.Connection("node-1")])
LISTS = st.builds(to.Rooms, st.lists(st.sampled_from("abc"))) | st.builds(to.Users, st.lists(st.sampled_from("789")))
EXPRESSIONS: Any = st.recursive(
    SIMPLE | LISTS,
    lambda inner: st.builds(
        lambda operator, left, right: operator(left, right), st.sampled_from([or_, sub, and_]), inner, inner
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_algebra(audience: Audience) -> None:
    """Expressions select what the same expression over sets does."""
    hub = Hub()
    made(hub, 1, "a", user="7")
    made(hub, 2, "a", "b", user="7")
    made(hub, 3, "b", user="8")

    def model(one: Audience) -> set[str]:
        if isinstance(one, AnyOf):
            return set().union(*map(model, one.parts))
        if isinstance(one, to.Rooms | to.Users):
            singly = map(to.Room, one.names) if isinstance(one, to.Rooms) else map(to.User, one.ids)
            return set().union(*map(model, singly))
        if isinstance(one, Expression):
            left, right = model(one.left), model(one.right)
            return left - right if one.operator == "-" else left & right
        return set(names(hub, one))

    selected = names(hub, audience)
    assert len(selected) == len(set(selected))
    assert set(selected) == model(audience)
    found = {each.id.removeprefix("node-") for each in hub.subscribers.values() if hub.is_addressed(each, audience)}
    assert set(selected) == found


def test_a_thousand_users() -> None:
    """An address may name very many: a union is flat."""
    hub = Hub()
    made(hub, 1, user="7")
    audience = reduce(or_, map(to.User, range(3000)))
    assert names(hub, audience) == ["1"]
    assert to.from_message(audience.to_message()) == audience
    assert len(audience.groups("n")) == 3000


def test_refused_before_it_was_added(hub: Hub) -> None:
    """A connection that joined before it was one of everyone is gone when it is removed (S10)."""
    early = Subscriber("node-9", "n", Box(), None)  # type: ignore[arg-type]
    hub.join(early, "a")
    hub.bind(early, "7")
    hub.remove(early)
    assert names(hub, to.Room("a") | to.User(7)) == ["1", "2"]
