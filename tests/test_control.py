"""The functions that control connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404
from django.utils.functional import SimpleLazyObject

from tests.support.layer import FakeLayer, installed
from tests.support.recorder import Recorder
from wsrt import (
    Closed,
    Event,
    Refused,
    TypedEventConsumer,
    UnknownNamespace,
    WrongContext,
    aadd_to_room,
    add_to_room,
    adisconnect,
    apermissions_changed,
    aremove_from_room,
    close_codes,
    disconnect,
    on,
    permissions_changed,
    remove_from_room,
)
from wsrt import addresses as to
from wsrt.close_codes import Close
from wsrt.metrics import counters
from wsrt.testing import connect


class Work(Event, name="work"):
    pass


class Controlled(TypedEventConsumer):
    namespace = "control"
    allowed = True
    rooms_refused: frozenset[str] = frozenset()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.gate, self.begun = asyncio.Event(), asyncio.Event()

    async def authorize(self) -> bool:
        return self.allowed

    async def authorize_room(self, room: str) -> bool:
        if room == "raises":
            raise PermissionDenied
        return room not in self.rooms_refused

    async def on_connect(self) -> None:
        await self.join("a")
        await self.set_user_id(self.query.get("user", "1"))

    @on
    async def work(self, event: Work) -> None:
        self.begun.set()
        await self.gate.wait()


class Elsewhere(Controlled):
    namespace = "control-elsewhere"


@pytest.fixture(params=["local", "layer"])
def layer(request: pytest.FixtureRequest) -> Iterator[None]:
    """In one process, and through a layer."""
    if request.param == "local":
        yield
    else:
        with installed(FakeLayer()):
            yield


@pytest.mark.usefixtures("layer")
@pytest.mark.parametrize("audience", [to.Room("a"), to.Users([1, 2]), to.Everyone(), to.Room("a") & to.User(1)])
async def test_disconnect(audience: to.Audience) -> None:
    """An audience is closed 4410, and no other connection."""
    async with connect(Controlled) as client, connect(Elsewhere) as other:
        await adisconnect(audience, namespace="control")
        await client.assert_closed(close_codes.DISCONNECTED)
        await other.assert_silent()


@pytest.mark.usefixtures("layer")
async def test_disconnect_one_connection() -> None:
    """One connection is closed by its id, with an application's own code."""
    async with connect(Controlled) as client, connect(Controlled) as other:
        await adisconnect(to.Connection(client.consumer.id), code=4800, reason="Banned")
        await client.assert_closed(Close(4800, "Banned"))
        await other.assert_silent()


@pytest.mark.usefixtures("layer")
async def test_every_namespace() -> None:
    """Without a namespace a user is closed in all of them (A2: only here)."""
    async with connect(Controlled) as client, connect(Elsewhere) as other, connect(Controlled, "/?user=2") as stranger:
        await adisconnect(to.User(1))
        await client.assert_closed(close_codes.DISCONNECTED)
        await other.assert_closed(close_codes.DISCONNECTED)
        await stranger.assert_silent()


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 5000])
async def test_impossible_code(code: int) -> None:
    """A code that no close frame may carry raises at the call (S34)."""
    with pytest.raises(ValueError, match="cannot be sent as a close code"):
        await adisconnect(to.Everyone(), code=code)


async def test_wrong_call() -> None:
    """A value that isn't an address raises at the call, and so does an unknown namespace."""
    with pytest.raises(TypeError, match=r"such as wsrt.addresses.User"):
        await adisconnect("a")  # type: ignore[arg-type]
    with pytest.raises(UnknownNamespace):
        await adisconnect(to.Everyone(), namespace="controll")


@pytest.mark.parametrize(
    "call",
    [
        lambda: disconnect(to.Everyone()),
        lambda: add_to_room(to.Everyone(), "b", namespace="control"),
        lambda: remove_from_room(to.Everyone(), "b", namespace="control"),
        lambda: permissions_changed(1),
    ],
)
async def test_sync_form_in_a_loop(call: Any) -> None:
    """A synchronous form in a running loop names its twin."""
    with pytest.raises(WrongContext, match=r"await a\w+\("):
        call()


@pytest.mark.usefixtures("layer")
async def test_rooms() -> None:
    """Connections are put into rooms, and taken out of them."""
    async with connect(Controlled, subprotocols=["wsrt.v1"]) as client:
        await aadd_to_room(to.User(1), "b", namespace="control")
        await client.settle()
        assert client.consumer.rooms == ("a", "b")
        await aremove_from_room(to.Room("b"), "a", namespace="control")
        await client.settle()
        assert client.consumer.rooms == ("b",)
        assert [frame["event"] for frame in client.reserved[2:]] == ["wsrt.joined", "wsrt.left"]


async def test_added_to_a_room_that_refuses() -> None:
    """Being added asks authorize_room like any join; a refusal is counted and costs nothing else."""
    before = counters["control_refused"]
    async with connect(Controlled) as client:
        await aadd_to_room(to.Everyone(), "raises", namespace="control")
        await client.assert_silent()
        assert client.consumer.rooms == ("a",)
    assert counters["control_refused"] == before + 1


async def test_command_waits_for_its_turn() -> None:
    """A command is carried out in the order of the connection's own work; a disconnect at once."""
    async with connect(Controlled) as client:
        await client.send(Work())
        await client.consumer.begun.wait()
        await aadd_to_room(to.Everyone(), "b", namespace="control")
        for _ in range(10):
            await asyncio.sleep(0)  # let the command be carried out, were it its turn
        assert client.consumer.rooms == ("a",)
        client.consumer.gate.set()
        await client.settle()
        assert client.consumer.rooms == ("a", "b")


async def test_disconnect_beside_a_handler() -> None:
    """A handler that does not end delays no disconnect (S21)."""
    async with connect(Controlled) as client:
        await client.send(Work())
        await client.consumer.begun.wait()
        await adisconnect(to.Everyone(), namespace="control")
        await client.assert_closed(close_codes.DISCONNECTED)
        client.consumer.gate.set()


async def test_unknown_command(caplog: pytest.LogCaptureFixture) -> None:
    """A command of a newer version is logged and counted, and harms nothing."""
    async with connect(Controlled) as client:
        client.consumer._connection.command("dance", {})
        await client.assert_silent()
    assert "unknown control command 'dance'" in caplog.text


async def test_permissions_changed() -> None:
    """A user's rooms are asked again, and those that refuse now are left (H8)."""
    async with connect(Controlled) as client:
        await client.consumer.join("b")
        client.consumer.rooms_refused = frozenset({"a"})
        await apermissions_changed(1)
        await client.settle()
        assert client.consumer.rooms == ("b",)


async def test_room_that_raises_now() -> None:
    """PermissionDenied counts as a refusal when rooms are asked again."""

    class Strict(Controlled):
        namespace = "control-strict"
        is_strict = False

        async def authorize(self) -> bool:
            if self.is_strict and self.query.get("gone"):
                raise PermissionDenied
            return True

        async def authorize_room(self, room: str) -> bool:
            if self.is_strict:
                raise PermissionDenied
            return True

    async with connect(Strict) as client, connect(Strict, "/?gone=1") as gone:
        client.consumer.is_strict = gone.consumer.is_strict = True
        await apermissions_changed(1)
        await gone.assert_closed(close_codes.UNAUTHENTICATED)
        await client.settle()
        assert client.consumer.rooms == ()


async def test_no_longer_allowed() -> None:
    """A connection that authorize refuses now is closed as it would be at the start."""
    async with connect(Controlled) as client, connect(Controlled, user=None, scope={"user": None}) as known:
        client.consumer.allowed = known.consumer.allowed = False
        await apermissions_changed(1)
        await client.assert_closed(close_codes.UNAUTHENTICATED)
        await known.assert_closed(close_codes.FORBIDDEN)


@pytest.mark.parametrize("error", [Http404(), Refused("gone"), ZeroDivisionError()])
async def test_room_that_cannot_be_asked_about(error: Exception) -> None:
    """Whatever authorize_room raises when it is asked again is a no, and the rooms behind it are asked too."""

    class Raising(Controlled):
        namespace = "control-raising"
        raises = False

        async def authorize_room(self, room: str) -> bool:
            if self.raises and room == "a":
                raise error
            return not self.raises or room == "c"

    async with connect(Raising) as client:
        for room in ("b", "c"):
            await client.consumer.join(room)
        client.consumer.raises = True
        await apermissions_changed(1)
        await client.settle()
        assert client.consumer.rooms == ("c",)


@pytest.mark.parametrize(
    ("error", "close"),
    [(Http404(), close_codes.NOT_FOUND), (ZeroDivisionError(), close_codes.MESSAGE_HANDLING_FAILED)],
)
async def test_authorize_that_raises_now(error: Exception, close: Close) -> None:
    """Whatever authorize raises when it is asked again ends the connection."""

    class Raising(Controlled):
        namespace = "control-raising"
        raises = False

        async def authorize(self) -> bool:
            if self.raises:
                raise error
            return True

    async with connect(Raising) as client:
        client.consumer.raises = True
        await apermissions_changed(1)
        await client.assert_closed(close)


async def test_anonymous_user_below_the_middleware() -> None:
    """A connection that set_user_id bound stays, though the user of its scope is a lazy anonymous one."""
    lazy = SimpleLazyObject(AnonymousUser)
    async with connect(Controlled, user=lazy) as client:
        await apermissions_changed(1)
        await client.assert_silent()
        assert client.consumer.rooms == ("a",)


@pytest.mark.django_db(transaction=True)
async def test_user_is_loaded_again() -> None:
    """Permissions are cached on the user, so a changed user is loaded again (H8)."""
    user = await get_user_model().objects.acreate(username="ada")
    async with connect(Controlled, f"/?user={user.pk}", user=user) as client:
        await get_user_model().objects.filter(pk=user.pk).aupdate(username="grace")
        await apermissions_changed(user)
        await client.settle()
        assert client.consumer.user.username == "grace"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fate", ["deleted", "deactivated"])
async def test_user_that_is_no_more(fate: str) -> None:
    """A user that was deleted or deactivated is closed 4401 (H8)."""
    user = await get_user_model().objects.acreate(username="ada")
    async with connect(Controlled, f"/?user={user.pk}", user=user) as client:
        users = get_user_model().objects.filter(pk=user.pk)
        await (users.adelete() if fate == "deleted" else users.aupdate(is_active=False))
        await apermissions_changed(user.pk, namespace="control")
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_synchronous_forms() -> None:
    """The same from a thread without a loop."""
    async with connect(Controlled) as client:
        await asyncio.to_thread(add_to_room, to.Everyone(), "b", namespace="control", on_commit=False)
        await asyncio.to_thread(remove_from_room, to.Everyone(), "a", namespace="control", on_commit=False)
        await asyncio.to_thread(permissions_changed, 1, on_commit=False)
        await asyncio.sleep(0)  # let the loop take what the threads handed over
        await client.settle()
        assert client.consumer.rooms == ("b",)
        await asyncio.to_thread(disconnect, to.Everyone(), namespace="control", on_commit=False)
        await client.assert_closed(close_codes.DISCONNECTED)


@pytest.mark.django_db(transaction=True)
async def test_rolled_back() -> None:
    """A disconnect of a transaction that is rolled back does not happen."""

    def roll_back() -> None:
        with transaction.atomic():
            disconnect(to.Everyone(), namespace="control")
            transaction.set_rollback(True)

    async with connect(Controlled) as client:
        await asyncio.to_thread(roll_back)
        await client.assert_silent()


async def test_disconnect_many() -> None:
    """One disconnect closes all, whatever goes wrong with one of them (R8, D9)."""

    class Failing(Recorder):
        async def on_disconnect(self, closed: Closed) -> None:
            raise ZeroDivisionError

    async with connect(Failing) as one, connect(Recorder) as two:
        await adisconnect(to.Everyone(), namespace="unit")
        await one.assert_closed(close_codes.DISCONNECTED)
        await two.assert_closed(close_codes.DISCONNECTED)
