"""The identity of a connection, and the effects of changes to its user."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group
from django.core.exceptions import PermissionDenied
from django.utils.functional import SimpleLazyObject

from tests.support.layer import FakeLayer, installed
from wsrt import (
    Event,
    TypedEventConsumer,
    abroadcast,
    adisconnect,
    apermissions_changed,
    apublish_to_user,
    close_codes,
    on,
    presence,
)
from wsrt import addresses as to
from wsrt.testing import connect

User = get_user_model()


class Device(Group):
    """An instance of another model than AUTH_USER_MODEL, which signs in."""

    is_authenticated = True
    is_anonymous = False
    is_active = True

    class Meta:
        app_label = "auth"
        proxy = True


class Token:
    """A user that isn't a model instance, as simplejwt's TokenUser."""

    is_authenticated = True
    is_active = True

    def __init__(self, pk: Any) -> None:
        self.pk = pk


class Note(Event, name="note"):
    text: str


class Ask(Event, name="ask"):
    pass


class Desk(TypedEventConsumer):
    namespace = "identity"
    out_events = (Note,)

    @on
    async def ask(self, event: Ask) -> Note:
        return Note(text=type(self.user).__name__)


class Named(Desk):
    """Belongs to whom the query names."""

    namespace = "identity-named"

    async def identity(self) -> object:
        return {"nobody": None, "int": 7, "uuid": UUID(int=5), "device": Group(pk=7)}[self.query["who"]]


# identity


@pytest.mark.parametrize(
    ("who", "key"),
    [("nobody", None), ("int", "7"), ("uuid", "00000000-0000-0000-0000-000000000005"), ("device", "auth.group:7")],
)
async def test_identity(who: str, key: str | None) -> None:
    """A connection belongs to whom identity returns, whatever user the scope has."""
    async with connect(Named, f"/?who={who}", user=Token(1)) as client:
        assert client.consumer.user_id == key


@pytest.mark.parametrize(
    ("user", "key"),
    [
        (User(pk=7), "7"),
        (Token("ada"), "ada"),
        (Device(pk=7), "auth.group:7"),
        (SimpleLazyObject(lambda: User(pk=7)), "7"),
        (AnonymousUser(), None),
        (None, None),
    ],
)
async def test_identity_of_the_scope(user: Any, key: str | None) -> None:
    """Without identity, it is the user of the scope, if it is authenticated."""
    async with connect(Desk, scope={"user": user}) as client:
        assert client.consumer.user_id == key


async def test_order_of_the_hooks() -> None:
    """The user is determined after authorize. Until then the connection has no user and gets nothing."""
    calls: list[str] = []

    class Early(Desk):
        namespace = "identity-order"

        async def authorize(self) -> bool:
            calls.append("authorize")
            return True

        async def identity(self) -> object:
            calls.append("identity")
            await apublish_to_user(1, Note(text="of the scope"), namespace="identity-order")
            await apublish_to_user(2, Note(text="of identity"), namespace="identity-order")
            assert self.user_id is None
            return 2

        async def on_connect(self) -> None:
            calls.append("on_connect")
            await apublish_to_user(1, Note(text="of the scope"), namespace="identity-order")
            await apublish_to_user(2, Note(text="of identity"), namespace="identity-order")

    async with connect(Early, user=Token(1)) as client:
        assert await client.receive(Note) == Note(text="of identity")
        await client.assert_silent()
    assert calls == ["authorize", "identity", "on_connect"]


async def test_identity_is_not_asked_of_those_who_may_not_connect() -> None:
    """A client that authorize refuses is never asked who it is."""
    asked: list[object] = []

    class Closed(Desk):
        namespace = "identity-closed"

        async def authorize(self) -> bool:
            return False

        async def identity(self) -> object:
            asked.append(self)
            return 1

    async with connect(Closed, user=Token(1)) as client:
        await client.assert_closed(close_codes.FORBIDDEN)
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        (PermissionDenied(), close_codes.FORBIDDEN),
        (AnonymousUser(), close_codes.CONNECTION_SETUP_FAILED),
        (1.5, close_codes.CONNECTION_SETUP_FAILED),
        ("auth.group:7", close_codes.CONNECTION_SETUP_FAILED),
    ],
)
async def test_identity_that_cannot_be(answer: Any, close: close_codes.Close) -> None:
    """identity refuses as authorize does; what can't be a user, or mimics a model instance, is an error."""

    class Odd(Desk):
        namespace = "identity-odd"

        async def identity(self) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

    async with connect(Odd, user=Token(1)) as client:
        await client.assert_closed(close)


async def test_identity_in_a_thread() -> None:
    """identity may be a def."""

    class Threaded(Desk):
        namespace = "identity-thread"

        def identity(self) -> object:  # type: ignore[override]
            return 3

    async with connect(Threaded) as client:
        assert client.consumer.user_id == "3"


# set_user_id


@pytest.mark.parametrize(("chosen", "key"), [("red:1", "red:1"), (None, None)])
async def test_user_that_authorize_sets(chosen: str | None, key: str | None) -> None:
    """What authorize says by set_user_id or clear_user_id holds, and identity isn't asked."""

    class Early(Desk):
        namespace = "identity-early"

        async def authorize(self) -> bool:
            await (self.clear_user_id() if chosen is None else self.set_user_id(chosen))
            return True

        async def identity(self) -> object:
            raise AssertionError("asked all the same")

        async def on_connect(self) -> None:
            await apublish_to_user(1, Note(text="of the scope"), namespace="identity-early")
            await apublish_to_user("red:1", Note(text="of authorize"), namespace="identity-early")

    async with connect(Early, user=Token(1)) as client:
        assert client.consumer.user_id == key
        if key:
            assert await client.receive(Note) == Note(text="of authorize")
        await client.assert_silent()
        assert await presence.ais_online(1, namespace="identity-early") is False


@pytest.mark.parametrize("kind", ["local", "layer"])
async def test_user_that_on_connect_changes(kind: str) -> None:
    """Nothing that was published to the user before is sent to a connection that belongs to another one now."""

    class Late(Desk):
        namespace = "identity-late"

        async def on_connect(self) -> None:
            await apublish_to_user(1, Note(text="of the scope"), namespace="identity-late")
            await abroadcast(Note(text="everyone"), namespace="identity-late")
            await self.set_user_id("red:1")
            await apublish_to_user(1, Note(text="of the scope"), namespace="identity-late")
            await apublish_to_user("red:1", Note(text="of on_connect"), namespace="identity-late")

    with contextlib.nullcontext() if kind == "local" else installed(FakeLayer()):
        async with connect(Late, user=Token(1)) as client:
            texts = [(await client.receive(Note)).text for _ in range(2)]
            assert texts == ["everyone", "of on_connect"]
            await client.assert_silent()


# Two kinds of users


async def test_users_of_two_models() -> None:
    """What goes to a user, and what ends a user's connections, concerns no instance of another model."""
    async with connect(Desk, user=User(pk=1)) as root, connect(Desk, user=Device(pk=1)) as device:
        await apublish_to_user(User(pk=1), Note(text="root"), namespace="identity")
        await apublish_to_user(Device(pk=1), Note(text="device"), namespace="identity")
        assert (await root.receive(Note), await device.receive(Note)) == (Note(text="root"), Note(text="device"))
        await root.assert_silent()
        await device.assert_silent()
        assert {user.user_id for user in await presence.ausers(namespace="identity")} == {"1", "auth.group:1"}
        await adisconnect(to.User(1))
        await root.assert_closed(close_codes.DISCONNECTED)
        await device.assert_silent()


# reload_user


@pytest.mark.django_db(transaction=True)
async def test_reload_of_an_instance_of_another_model() -> None:
    """A device is loaded again as a device, though a superuser has the same primary key, and one without stays."""
    devices = [await Device.objects.acreate(name=name) for name in ("one", "two")]
    await User.objects.acreate(pk=devices[0].pk, username="root", is_superuser=True)
    for device in devices:
        async with connect(Desk, user=device) as client:
            await Group.objects.filter(pk=device.pk).aupdate(name=f"{device.name} again")
            await apermissions_changed(device)
            assert await client.request(Ask()) == Note(text="Device")
            assert client.consumer.user.name == f"{device.name} again"
            assert client.consumer.user_id == f"auth.group:{device.pk}"


@pytest.mark.django_db(transaction=True)
async def test_instance_of_another_model_that_is_gone() -> None:
    """A device that was deleted is closed 4401, though there is a user with its primary key."""
    device = await Device.objects.acreate(name="one")
    await User.objects.acreate(pk=device.pk, username="root")
    async with connect(Desk, user=device) as client:
        await Group.objects.filter(name="one").adelete()
        await apermissions_changed(Group(pk=device.pk))
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_reload_of_a_user_that_is_not_a_model_instance() -> None:
    """The user of a token stays as it is."""
    token = Token(1)
    async with connect(Desk, user=token) as client:
        await apermissions_changed(1)
        await client.settle()
        assert client.consumer.user is token


@pytest.mark.parametrize(
    ("fate", "is_closed"), [("gone", True), ("inactive", True), ("anonymous", True), ("changed", False)]
)
async def test_reload_of_an_application(fate: str, is_closed: bool) -> None:
    """What reload_user returns becomes the user of the scope; without a user who is active, it is the end."""
    fresh: Any = {"gone": None, "inactive": Token(1), "anonymous": AnonymousUser(), "changed": Token(1)}[fate]
    if fate == "inactive":
        fresh.is_active = False

    class Reloading(Desk):
        namespace = "identity-reload"

        async def reload_user(self) -> Any:
            return fresh

    async with connect(Reloading, user=Token(1)) as client:
        await apermissions_changed(1)
        if is_closed:
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        else:
            await client.settle()
            assert client.consumer.user is fresh
