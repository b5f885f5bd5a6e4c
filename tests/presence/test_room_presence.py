"""Presence in individual rooms: who is visible, who only looks on, and rooms without presence, with every store."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel

from tests.support.waiting import aeventually
from wsrt import RoomPresence, TypedEventConsumer, close_codes, presence
from wsrt.control import apermissions_changed
from wsrt.metrics import counters
from wsrt.presence import memory, roster
from wsrt.presence.base import EVERYONE, Join
from wsrt.presence.memory import MemoryPresence
from wsrt.testing import Client, connect

NAMESPACE = "unit-room-presence"
ROOMS = ("a", "b")
USERS = ("ada", "bob", "eve", None)
STORES = {"memory": "memory.MemoryPresence", "cache": "cache.CachePresence", "redis": "redis.RedisPresence"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences are sent soon, and no node of an earlier test is counted."""
    monkeypatch.setattr(roster, "WINDOWS", ((1000, 0.01),))
    vars(memory._state).update(vars(memory._State()))


class Person(BaseModel):
    name: str


class ChoosyConsumer(TypedEventConsumer):
    """Takes part in the presence of each room as the test says."""

    namespace = NAMESPACE
    presence = Person

    async def on_connect(self) -> None:
        self.how: dict[str, Any] = {}
        self.heard: list[str] = []
        self.asked: list[str] = []

    async def room_presence(self, room: str) -> RoomPresence:
        self.asked.append(room)
        how: RoomPresence = self.how.get(room, "visible")
        return how

    async def member(self, room: str) -> Person:
        assert self.how.get(room, "visible") == "visible"  # only what is shown is asked for
        return Person(name=self.user_id or "")

    async def on_presence_join(self, user: str | None, room: str) -> None:
        self.heard.append(f"+{user} {room}")

    async def on_presence_leave(self, user: str | None, room: str) -> None:
        self.heard.append(f"-{user} {room}")


def dial(consumer: type[TypedEventConsumer] = ChoosyConsumer) -> Client:
    return connect(consumer, subprotocols=["wsrt.v1"])


async def enter(client: Client, room: str, how: RoomPresence = "visible") -> None:
    client.consumer.how[room] = how
    await client.consumer.join(room)


def frames(client: Client, room: str) -> list[dict[str, Any]]:
    """Return the presence frames of a room since the client has joined it."""
    found: list[dict[str, Any]] = []
    for frame in client.reserved:
        if frame["data"].get("room") == room:
            if frame["event"] == "wsrt.joined":
                found = []
            elif frame["event"] == "wsrt.presence":
                found.append(frame["data"])
    return found


def sees(client: Client, room: str) -> set[str | None] | None:
    """Return the members of a room as the client knows them from its frames; None if it was sent none."""
    seen: set[str | None] | None = None
    for data in frames(client, room):
        if "members" in data:
            seen = {member["user_id"] for member in data["members"]}
        else:
            assert seen is not None
            seen |= {member["user_id"] for member in data.get("joined", ())}
            seen -= {member["user_id"] for member in data.get("left", ())}
    return seen


async def members(room: str) -> set[str | None]:
    return {member.user_id for member in await presence.amembers(room, namespace=NAMESPACE)}


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    kind: str = request.param
    location: dict[str, str] = {}
    if kind == "redis":
        location = {"LOCATION": request.getfixturevalue("redis_server").url}
    settings.WSRT = {
        "PRESENCE": {"BACKEND": f"wsrt.presence.{STORES[kind]}", **location, "OPTIONS": {"LEASE": 3, "GRACE": 0}}
    }
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": NAMESPACE,
            "OPTIONS": {"MAX_ENTRIES": 10_000},
        }
    }
    yield kind


Model = dict[Client, dict[str, RoomPresence]]


async def test_model(store: str) -> None:
    """
    Whatever is joined, left, shown, hidden and switched off: the members are those that are visible, in the store and
    in the frames of each client that sees them.
    """
    dice = random.Random(7)
    model: Model = {}
    for _ in range(40):
        await _step(dice, model)
    for client in model:
        await client.settle()
    for room in ROOMS:
        wanted = {client.consumer.user_id for client in model if model[client].get(room) == "visible"}
        await aeventually(lambda room=room, wanted=wanted: _is_stored(room, wanted), f"the members of {room}")
        for client in model:
            how = model[client].get(room)
            if how in ("visible", "invisible"):
                await aeventually(
                    lambda client=client, room=room, wanted=wanted: sees(client, room) == wanted,
                    f"{how} {client.consumer.user_id} to see {wanted} in {room}",
                )
    for client in model:
        await client.disconnect()


async def _is_stored(room: str, wanted: set[str | None]) -> bool:
    return await members(room) == wanted


async def _step(dice: random.Random, model: Model) -> None:
    action: Literal["come", "go", "leave", "rename", "enter"] = dice.choice(
        ("come", "go", "leave", "rename", "enter", "enter", "enter")  # type: ignore[arg-type]
    )
    if len(model) < 3 or (action == "come" and len(model) < 8):
        client = dial()
        await client.__aenter__()
        model[client] = {}
        action = "rename"
    else:
        client = dice.choice(list(model))
    room = dice.choice(ROOMS)
    match action:
        case "go":
            del model[client]
            await client.disconnect()
        case "leave":
            model[client].pop(room, None)
            await client.consumer.leave(room)
        case "rename":
            user = dice.choice(USERS)
            await (client.consumer.clear_user_id() if user is None else client.consumer.set_user_id(user))
        case _:
            model[client][room] = dice.choice(get_args(RoomPresence))
            await enter(client, room, model[client][room])


async def test_room_that_only_has_onlookers(store: str) -> None:
    """A room that was empty of members and fills again is shown at once, although its versions start anew."""
    before = counters["presence_gaps_healed"]
    async with dial() as onlooker, dial() as member:
        await member.consumer.set_user_id("ada")
        await enter(onlooker, "a", "invisible")
        await aeventually(lambda: sees(onlooker, "a") == set(), "the empty list")
        for _ in range(3):
            await enter(member, "a")
            await aeventually(lambda: sees(onlooker, "a") == {"ada"}, "a member")
            await member.consumer.leave("a")
            await aeventually(lambda: sees(onlooker, "a") == set(), "no member")
        await aeventually(lambda: len(onlooker.consumer.heard) == 6, "the hooks")
        assert onlooker.consumer.heard == ["+ada a", "-ada a"] * 3
        assert await presence.acount("a", namespace=NAMESPACE) == 0
    assert counters["presence_gaps_healed"] == before


async def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room without presence writes nothing to the store, and sends nothing. The namespace knows the connection."""
    written: list[str] = []

    apply = MemoryPresence.apply

    async def record(self: MemoryPresence, node: str, operations: Any) -> Any:
        written.extend(operation.room for operation in operations if isinstance(operation, Join))
        return await apply(self, node, operations)

    monkeypatch.setattr(MemoryPresence, "apply", record)
    async with dial() as client, dial() as other:
        await client.consumer.set_user_id("ada")
        await enter(client, "a", "off")
        await enter(other, "a")
        await other.settle()
        assert written.count("a") == 1
        assert EVERYONE in written
        assert not frames(client, "a")
        assert client.consumer.heard == []
        assert await presence.ais_online("ada", namespace=NAMESPACE)
        assert await presence.acount("a", namespace=NAMESPACE) == 1


async def test_switched_while_the_join_is_written() -> None:
    """A room that is switched off before the store has the join sends no list later."""
    async with dial() as client:
        connection = client.consumer._connection
        await enter(client, "b")
        connection.presence._tracker._is_down = True  # a join doesn't wait for a store that is away
        await enter(client, "a")
        await enter(client, "a", "off")
        connection.presence._tracker._is_down = False
        await client.settle()
        await aeventually(lambda: frames(client, "b"), "the list of the other room")
        assert not frames(client, "a")
        assert await presence.acount("a", namespace=NAMESPACE) == 0


async def test_seen_again() -> None:
    """A room that is switched off and on again sends its whole list."""
    async with dial() as client, dial() as other:
        await other.consumer.set_user_id("bob")
        for how in ("visible", "off"):
            await enter(client, "a", how)
        await enter(other, "a")
        await other.settle()
        await enter(client, "a", "invisible")
        await aeventually(lambda: sees(client, "a") == {"bob"}, "the list")


async def test_another_tab() -> None:
    """A user is shown as long as any of their connections is visible."""
    async with dial() as client, dial() as tab, dial() as other:
        for one in (client, tab):
            await one.consumer.set_user_id("ada")
            await enter(one, "a")
        await enter(other, "a", "invisible")
        await enter(client, "a", "invisible")
        (member,) = await presence.amembers("a", namespace=NAMESPACE)
        assert (member.user_id, member.connections, member.data) == ("ada", 1, {"name": "ada"})
        await enter(tab, "a", "invisible")
        assert await members("a") == set()
        await aeventually(lambda: sees(other, "a") == set(), "the leave")


async def test_asked_when_permissions_change() -> None:
    """permissions_changed asks again, and a connection that loses its user is asked as its new one."""
    async with dial() as client:
        await client.consumer.set_user_id("ada")
        await enter(client, "a")
        client.consumer.how["a"] = "invisible"
        await apermissions_changed("ada", namespace=NAMESPACE)
        await client.settle()
        assert await members("a") == set()
        client.consumer.how["a"] = "visible"
        await client.consumer.set_user_id("bob")
        await client.settle()
        assert await members("a") == {"bob"}
        assert client.consumer.asked == ["a"] * 3


class Unshown(TypedEventConsumer):
    """Has no presence of its own, and decides about its rooms with a def hook."""

    namespace = f"{NAMESPACE}.unshown"

    async def on_connect(self) -> None:
        await self.join("counted")
        await self.join("off")

    def room_presence(self, room: str) -> RoomPresence:  # type: ignore[override]
        return "off" if room == "off" else "visible"


async def test_consumer_without_presence() -> None:
    """Without ``presence``, the hook decides which rooms count connections; a def hook does as well."""
    async with dial(Unshown):
        counts = [await presence.acount(room, namespace=Unshown.namespace) for room in ("counted", "off")]
        assert counts == [1, 0]
        assert [room.name for room in await presence.arooms(namespace=Unshown.namespace)] == ["counted"]


@pytest.mark.parametrize("wrong", [None, True, "hidden", 7, []])
async def test_wrong_answer(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Anything but the three words is an error of the program that says so."""

    class Wrong(ChoosyConsumer):
        namespace = f"{NAMESPACE}.wrong"

        async def on_connect(self) -> None:
            await super().on_connect()
            self.how["a"] = wrong
            await self.join("a")

    async with dial(Wrong) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_FAILED)
    assert f'room_presence() must return "visible", "invisible" or "off", not {wrong!r}' in caplog.text


async def test_hook_that_joins(caplog: pytest.LogCaptureFixture) -> None:
    """room_presence() that joins gets an error, as member() does, instead of waiting for itself."""

    class Joining(ChoosyConsumer):
        namespace = f"{NAMESPACE}.joining"

        async def on_connect(self) -> None:
            await self.join("a")

        async def room_presence(self, room: str) -> RoomPresence:
            await self.join("b")
            return "visible"

    async with dial(Joining) as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_FAILED)
    assert "room_presence() must not call self.join()" in caplog.text
