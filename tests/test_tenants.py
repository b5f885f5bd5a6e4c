"""Tenants: rooms and users with equal names in two tenants are distinct."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from hypothesis import given
from hypothesis import strategies as st

import wsrt
from tests.support.layer import FakeLayer, installed
from tests.support.waiting import aeventually
from wsrt import (
    ALL_TENANTS,
    DeclarationError,
    Event,
    TenantRequired,
    TypedEventConsumer,
    UnknownNamespace,
    aadd_to_room,
    abroadcast,
    adisconnect,
    apermissions_changed,
    apublish_to_audience,
    apublish_to_room,
    apublish_to_user,
    aremove_from_room,
    close_codes,
    on,
    presence,
    publish_to_room,
)
from wsrt import addresses as to
from wsrt.addresses import group_name
from wsrt.close_codes import Close
from wsrt.cluster.messages import FORM, CommandMessage, read
from wsrt.protocol.namespaces import namespaces
from wsrt.realms import NOT_GIVEN, realm_of, split_realm
from wsrt.tenants import MAX_TENANT_BYTES
from wsrt.testing import Client, capture_publications, connect

DESK, HALL = "tenants-desk", "tenants-hall"


class Note(Event, name="note"):
    text: str


class Pass(Event, name="pass"):
    """Asks the consumer to publish."""

    how: str


class User:
    """What a middleware puts into a scope: a user of one of the tenants, all of which count from 1."""

    is_authenticated = True
    is_active = True
    pk = 1


current: contextvars.ContextVar[str | None] = contextvars.ContextVar("current", default=None)


def current_tenant() -> str | None:
    """What WSRT["TENANT"] names."""
    return current.get()


def nonsense() -> object:
    return 7


class Desk(TypedEventConsumer):
    namespace = DESK
    out_events = (Note,)
    presence = True

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.heard: list[str] = []

    async def tenant(self) -> str | None:
        return self.query.get("tenant")

    async def on_connect(self) -> None:
        await self.join("lobby")

    async def on_presence_join(self, user: str | None, room: str) -> None:
        self.heard.append(f"+{user} {room}")

    @on
    async def hand_over(self, event: Pass) -> None:
        note = Note(text=f"{self.tenant_id} {event.how}")
        match event.how:
            case "room":
                await self.publish_to_room("lobby", note)
            case "others":
                await self.publish_to_others("lobby", note)
            case "user":
                await self.publish_to_user(1, note)
            case "audience":
                await self.publish_to_audience(to.Room("lobby") & to.User(1), note)
            case "everyone":
                await self.broadcast(note)

    @on
    def in_a_thread(self, event: Note) -> None:
        self.sync.publish_to_room("lobby", Note(text=f"{self.tenant_id} thread"))


class Hall(TypedEventConsumer):
    """Has no tenants."""

    namespace = HALL
    out_events = (Note,)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Have these consumers for the time of a test: elsewhere a call without a namespace needs no tenant."""
    for consumer in (Desk, Hall):
        namespaces.add(consumer.namespace, consumer, consumer.catalog)
    yield
    del namespaces[DESK], namespaces[HALL]


del namespaces[DESK], namespaces[HALL]


@pytest.fixture(params=["local", "layer"])
def layer(request: pytest.FixtureRequest) -> Iterator[None]:
    """In one process, and through a layer."""
    with contextlib.nullcontext() if request.param == "local" else installed(FakeLayer()):
        yield


def dial(tenant: str | None, **options: Any) -> Client:
    return connect(Desk, "/" if tenant is None else f"/?tenant={tenant}", user=User(), **options)


@contextlib.asynccontextmanager
async def red_blue_none() -> AsyncIterator[tuple[Client, Client, Client]]:
    """User 1 of two tenants, and one without a tenant, each in the lobby."""
    async with dial("red") as red, dial("blue") as blue, dial(None) as none:
        yield red, blue, none


async def texts(client: Client) -> list[str]:
    """Return the received events."""
    await client.settle()
    received = [frame["data"]["text"] for frame in client._frames]
    client._frames.clear()
    return received


# Publishing


@pytest.mark.usefixtures("layer")
@pytest.mark.parametrize(
    "publish",
    [
        lambda note, tenant: apublish_to_room("lobby", note, namespace=DESK, tenant=tenant),
        lambda note, tenant: apublish_to_user(1, note, namespace=DESK, tenant=tenant),
        lambda note, tenant: apublish_to_user(User(), note, namespace=DESK, tenant=tenant),
        lambda note, tenant: abroadcast(note, namespace=DESK, tenant=tenant),
        lambda note, tenant: apublish_to_audience(to.Room("x") | to.User(1), note, namespace=DESK, tenant=tenant),
        lambda note, tenant: apublish_to_audience(to.Everyone() - to.User(2), note, namespace=DESK, tenant=tenant),
    ],
    ids=["room", "user", "instance", "everyone", "either", "but"],
)
async def test_publishing(publish: Callable[..., Any]) -> None:
    """What is published to one tenant, or to no tenant, reaches the connections of that one only."""
    async with red_blue_none() as clients:
        for tenant in ("red", "blue", None):
            await publish(Note(text=f"for {tenant}"), tenant)
        assert [await texts(client) for client in clients] == [["for red"], ["for blue"], ["for None"]]


async def test_publishing_to_a_connection_of_another_tenant() -> None:
    """The address of a connection is one of its tenant."""
    async with red_blue_none() as (red, blue, _):
        for tenant in ("blue", "red"):
            address = to.Connection(red.consumer.id)
            await apublish_to_audience(address, Note(text=f"by {tenant}"), namespace=DESK, tenant=tenant)
        assert (await texts(red), await texts(blue)) == (["by red"], [])


@pytest.mark.usefixtures("layer")
@pytest.mark.parametrize("how", ["room", "user", "audience", "everyone"])
async def test_publishing_within_a_consumer(how: str) -> None:
    """What a consumer publishes goes to the tenant of its connection."""
    async with red_blue_none() as clients:
        for client in clients:
            await client.request(Pass(how=how))
        assert [await texts(client) for client in clients] == [[f"{name} {how}"] for name in ("red", "blue", "None")]


async def test_publishing_to_others_and_in_a_thread() -> None:
    """The rest of the consumer's methods keep to the tenant too."""
    async with red_blue_none() as (red, blue, none), dial("red") as other:
        await red.request(Pass(how="others"))
        await red.request(Note(text=""))
        assert await texts(other) == ["red others", "red thread"]
        assert (await texts(red), await texts(blue), await texts(none)) == (["red thread"], [], [])


# Presence


async def test_presence() -> None:
    """Each tenant has users, rooms, counts and connections of its own."""
    async with red_blue_none() as (red, blue, _), dial("red") as tab:
        assert [(user.user_id, user.connections) for user in await presence.ausers(namespace=DESK, tenant="red")] == [
            ("1", 2)
        ]
        for tenant, connections in (("red", 2), ("blue", 1), (None, 1), ("green", 0)):
            scope: Any = {"namespace": DESK, "tenant": tenant}
            assert [user.connections for user in await presence.amembers("lobby", **scope)] == [connections][
                : bool(connections)
            ]
            assert await presence.acount("lobby", **scope) == bool(connections)
            assert [(room.name, room.tenant, room.connections) for room in await presence.arooms(**scope)] == [
                ("lobby", tenant, connections)
            ][: bool(connections)]
            assert await presence.ais_online(1, tenant=tenant) is await presence.ais_online(1, **scope)
            assert await presence.aonline([1, 2], tenant=tenant) == ({1} if connections else set())
        found = await presence.aconnections(user=1, namespace=DESK, tenant="red")
        assert {(one.id, one.namespace, one.tenant) for one in found} == {
            (client.consumer.id, DESK, "red") for client in (red, tab)
        }
        stats = await presence.astats()
        assert stats.namespaces[DESK].connections == stats.namespaces[DESK].users + 1 == 4
        everyone = {one.tenant: one.connections for one in stats.everyone if one.namespace == DESK}
        assert everyone == {"red": 2, "blue": 1, None: 1}
        assert red.consumer.heard == blue.consumer.heard == []


async def test_frames_of_presence() -> None:
    """A tenant is shown its own members of a room, and hears of those alone."""
    async with dial("red", subprotocols=["wsrt.v1"]) as red:
        async with dial("blue"), dial("red") as other:
            await other.consumer.set_user_id(2)
            await aeventually(lambda: red.consumer.heard == ["+2 lobby"])
            await red.settle()
        shown = [frame["data"] for frame in red.reserved if frame["event"] == "wsrt.presence"]
        users = {member["user_id"] for data in shown for key in ("members", "joined") for member in data.get(key, ())}
        assert users == {"1", "2"}


# Control


@pytest.mark.usefixtures("layer")
async def test_disconnect() -> None:
    """The connections of one tenant are closed, then those of all."""
    async with red_blue_none() as (red, blue, none):
        await adisconnect(to.User(1), namespace=DESK, tenant="red")
        await red.assert_closed(close_codes.DISCONNECTED)
        await adisconnect(to.Everyone(), tenant=None)
        await none.assert_closed(close_codes.DISCONNECTED)
        await blue.assert_silent()
        await adisconnect(to.Room("lobby"), tenant=ALL_TENANTS)
        await blue.assert_closed(close_codes.DISCONNECTED)


@pytest.mark.usefixtures("layer")
async def test_rooms() -> None:
    """Connections of one tenant are put into a room and taken out, then those of all."""
    async with red_blue_none() as clients:
        await aadd_to_room(to.User(1), "side", namespace=DESK, tenant="red")
        await aremove_from_room(to.User(1), "lobby", namespace=DESK, tenant="blue")
        for client in clients:
            await client.settle()
        assert [client.consumer.rooms for client in clients] == [("lobby", "side"), (), ("lobby",)]
        await aremove_from_room(to.User(1), "lobby", namespace=DESK, tenant=ALL_TENANTS)
        await clients[0].settle()
        assert [client.consumer.rooms for client in clients] == [("side",), (), ()]


@pytest.mark.usefixtures("layer")
@pytest.mark.parametrize(
    ("tenant", "asked"), [("red", ["red"]), (None, ["None"]), (ALL_TENANTS, ["None", "blue", "red"])]
)
async def test_permissions_changed(tenant: Any, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The users of one tenant are asked again, or those of all."""
    answered: list[str] = []

    async def authorize(self: Any) -> bool:
        answered.append(str(self.tenant_id))
        return True

    async with red_blue_none() as (red, _, _):
        monkeypatch.setattr(Desk, "authorize", authorize)
        await apermissions_changed(1, tenant=tenant)
        await red.settle()
    assert sorted(answered) == asked


@pytest.mark.parametrize("cause", ["command", "round"])
async def test_reload_user(cause: str) -> None:
    """reload_user, here in a thread, reads the tenant of its connection: equal users of two tenants aren't confused."""
    users: dict[str | None, User | None] = {"red": User(), "blue": User()}

    class Reloading(Desk):
        namespace = DESK
        revalidate = 0.2 if cause == "round" else 3600.0

        def reload_user(self) -> User | None:  # type: ignore[override]
            return users[self.tenant_id]

    async def reload() -> None:
        if cause == "command":
            await apermissions_changed(1, tenant=ALL_TENANTS)

    async with (
        connect(Reloading, "/?tenant=red", user=User()) as red,
        connect(Reloading, "/?tenant=blue", user=User()) as blue,
    ):
        await reload()
        await aeventually(lambda: (red.consumer.user, blue.consumer.user) == (users["red"], users["blue"]))
        users["red"] = None
        await reload()
        await red.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        await blue.assert_silent()


async def test_command_during_the_set_up() -> None:
    """A command that comes while a connection of another tenant is being set up does not concern it."""

    class Slow(Desk):
        namespace = DESK

        async def authorize(self) -> bool:
            await adisconnect(to.User(1), namespace=DESK, tenant="blue")
            return True

    async with connect(Slow, "/?tenant=red", user=User()) as red:
        await red.assert_silent()
    async with connect(Slow, "/?tenant=blue", user=User()) as blue:
        await blue.assert_closed(close_codes.DISCONNECTED)


# Whose tenant a call means

FUNCTIONS = [
    (module, name)
    for module in (wsrt, presence)
    for name in module.__all__
    if inspect.isfunction(function := getattr(module, name)) and "namespace" in inspect.signature(function).parameters
]
ARGUMENTS: dict[str, Any] = {
    "room": "lobby",
    "event": Note(text=""),
    "publications": [(to.Room("a"), Note(text=""))],
    "user": 1,
    "users": [1],
    "audience": to.Everyone(),
    "to": to.Everyone(),
}


def call(module: Any, name: str, **scope: Any) -> Any:
    """Call a function with what it needs."""
    function = getattr(module, name)
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.name != "namespace"
    ]
    result = function(**{key: ARGUMENTS[key] for key in needed}, **scope)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=[name for _, name in FUNCTIONS])
def test_every_function_asks_for_the_tenant(module: Any, name: str) -> None:
    """Whatever takes a namespace takes a tenant, and raises where consumers have tenants and nothing says which."""
    assert inspect.signature(getattr(module, name)).parameters["tenant"].default is NOT_GIVEN
    with pytest.raises(TenantRequired, match=r"defines tenant\(\).*pass tenant=.*WSRT\[\"TENANT\"\]"):
        call(module, name, namespace=DESK)


def test_functions_with_a_namespace() -> None:
    """Those are found that publish, that control, and that read presence."""
    assert len(FUNCTIONS) == len(set(FUNCTIONS)) >= 30


@pytest.mark.parametrize("name", ["disconnect", "permissions_changed"])
def test_all_namespaces_ask_for_the_tenant(name: str) -> None:
    """A command for every namespace means those with tenants too."""
    with pytest.raises(TenantRequired, match=r"^a consumer defines"):
        call(wsrt, name)


@pytest.mark.parametrize("name", ["is_online", "online"])
def test_presence_in_all_namespaces_asks_for_the_tenant(name: str) -> None:
    """Whether a user is online anywhere is a question about one tenant."""
    with pytest.raises(TenantRequired, match=r"^a consumer defines"):
        call(presence, name)


async def test_setting(settings: Any) -> None:
    """WSRT["TENANT"] says the tenant of the calling code, where nothing else does."""
    settings.WSRT = {"TENANT": f"{__name__}.current_tenant"}
    async with red_blue_none() as clients:
        current.set("blue")
        await apublish_to_room("lobby", Note(text="setting"), namespace=DESK)
        await apublish_to_room("lobby", Note(text="given"), namespace=DESK, tenant="red")
        await asyncio.to_thread(publish_to_room, "lobby", Note(text="thread"), namespace=DESK)
        assert [await texts(client) for client in clients] == [["given"], ["setting", "thread"], []]
        assert await presence.acount("lobby", namespace=DESK) == 1
        users = await asyncio.to_thread(presence.users, namespace=DESK)
        assert [user.connections for user in users] == [1]
        await adisconnect(to.User(1))
        await clients[1].assert_closed(close_codes.DISCONNECTED)
        await clients[0].assert_silent()


async def test_setting_is_not_asked_where_there_are_no_tenants(settings: Any) -> None:
    """A namespace without tenants is as it is without the setting."""
    settings.WSRT = {"TENANT": f"{__name__}.nonsense"}
    async with connect(Hall) as client:
        await abroadcast(Note(text="all"), namespace=HALL)
        assert await client.receive(Note) == Note(text="all")
        assert client.consumer.tenant_id is None


@pytest.mark.parametrize(
    ("path", "error"),
    [("current_tenant", TenantRequired), ("nonsense", TypeError), ("missing", ImportError)],
)
def test_setting_that_says_nothing(path: str, error: type[Exception], settings: Any) -> None:
    """A function that names no tenant, or is none, raises at the call: nothing is published to the wrong tenant."""
    settings.WSRT = {"TENANT": f"{__name__}.{path}"}
    with pytest.raises(error):
        publish_to_room("lobby", Note(text=""), namespace=DESK)


@pytest.mark.parametrize(
    ("tenant", "error"),
    [
        (7, TypeError),
        (b"red", TypeError),
        (True, TypeError),
        ("", ValueError),
        ("\ud800", ValueError),
        ("x" * (MAX_TENANT_BYTES + 1), ValueError),
        (ALL_TENANTS, TypeError),
    ],
)
def test_no_tenant(tenant: Any, error: type[Exception]) -> None:
    """What can't be a tenant raises; all tenants are for control alone."""
    for module, name in ((wsrt, "publish_to_room"), (presence, "members")):
        with pytest.raises(error):
            call(module, name, namespace=DESK, tenant=tenant)


def test_tenant_of_a_namespace_without_tenants() -> None:
    """Publishing to a tenant that no connection can have raises, and so does a command."""
    for name in ("publish_to_room", "disconnect"):
        with pytest.raises(ValueError, match="no consumer of the namespace 'tenants-hall' defines tenant"):
            call(wsrt, name, namespace=HALL, tenant="red")


def test_realm_as_a_namespace() -> None:
    """The internal spelling of a tenant doesn't get around it."""
    with pytest.raises(UnknownNamespace):
        call(wsrt, "broadcast", namespace=f"{DESK}@red", tenant=None)
    with pytest.raises(ValueError, match="pass tenant="):
        asyncio.run(presence.acount("lobby", namespace=f"{DESK}@red"))


async def test_captured() -> None:
    """Tests see to which tenant code published."""
    async with capture_publications() as captured:
        await apublish_to_room("lobby", Note(text="a"), namespace=DESK, tenant="red")
        await apublish_to_room("lobby", Note(text="b"), namespace=DESK, tenant=None)
    assert [(one.namespace, one.tenant) for one in captured] == [(DESK, "red"), (DESK, None)]
    assert captured.to_room("lobby", tenant="red") == [Note(text="a")]
    assert captured.to_room("lobby", tenant=None) == [Note(text="b")]
    assert len(captured.to_room("lobby")) == 2


# The hook


async def test_asked_before_all_else() -> None:
    """The tenant is known to every other hook, and asked once."""
    calls: list[str] = []

    class Ordered(Desk):
        namespace = DESK

        async def tenant(self) -> str | None:
            calls.append(f"tenant {self.tenant_id}")
            return "red"

        async def authorize(self) -> bool:
            calls.append(f"authorize {self.tenant_id}")
            await self.publish_to_room("lobby", Note(text="knock"))
            return True

        async def identity(self) -> object:
            calls.append(f"identity {self.tenant_id}")
            return 5

    async with red_blue_none() as (red, blue, none), connect(Ordered) as client:
        assert calls == ["tenant None", "authorize red", "identity red"]
        assert await texts(red) == ["knock"]
        assert await texts(blue) == await texts(none) == []
        await apermissions_changed(5, tenant="red")
        await client.settle()
        assert calls[3:] == ["authorize red"]


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        (Http404(), close_codes.NOT_FOUND),
        (PermissionDenied(), close_codes.FORBIDDEN),
        (7, close_codes.CONNECTION_SETUP_FAILED),
        ("", close_codes.CONNECTION_SETUP_FAILED),
    ],
)
async def test_tenant_that_cannot_be(answer: Any, close: Close) -> None:
    """A refusal closes as in any hook; what can't be a tenant is an error."""

    class Odd(Desk):
        namespace = DESK

        def tenant(self) -> str | None:  # type: ignore[override]
            if isinstance(answer, Exception):
                raise answer
            found: str | None = answer
            return found

    async with connect(Odd, user=User()) as client:
        await client.assert_closed(close)


def test_namespace_with_the_separator() -> None:
    """No namespace is spelled as a namespace with a tenant."""
    with pytest.raises(DeclarationError, match="must not contain '@'"):
        type("Odd", (TypedEventConsumer,), {"namespace": "desk@red"})


# Realms

NAMES = st.text(st.sampled_from("a@.b"), min_size=1, max_size=6)


@given(
    NAMES.filter(lambda name: "@" not in name),
    st.none() | NAMES,
    NAMES.filter(lambda name: "@" not in name),
    st.none() | NAMES,
)
def test_realms_are_injective(one: str, its: str | None, other: str, others: str | None) -> None:
    """No two pairs of namespace and tenant share a realm, and a realm gives both back."""
    realms = realm_of(one, its), realm_of(other, others)
    assert (realms[0] == realms[1]) is ((one, its) == (other, others))
    assert split_realm(realms[0]) == (one, its)
    assert realm_of(one, None) == one


def test_groups() -> None:
    """The groups of a tenant are readable, and its own."""
    assert to.Room("lobby").groups(realm_of("desk", "red")) == {"wsrt.room.desk_40red.lobby"}
    assert group_name("user", "desk@red", "1") != group_name("user", "desk", "red@1")


@pytest.mark.parametrize("tenant", ["red", None, ALL_TENANTS])
def test_command_through_the_layer(tenant: Any) -> None:
    """A command says through the layer whose tenant it is for."""
    command = CommandMessage(DESK, tenant, to.User(1), "dance", {}, "id")
    assert read(json.loads(json.dumps(command.to_message()))) == command
    matched = [realm for realm in (DESK, f"{DESK}@red", f"{DESK}@blue", HALL) if command.includes(realm)]
    assert matched == {"red": [f"{DESK}@red"], None: [DESK], ALL_TENANTS: [DESK, f"{DESK}@red", f"{DESK}@blue"]}[tenant]


def test_command_of_a_version_without_tenants() -> None:
    """A command from before there were tenants is for connections without one."""
    message = {
        "type": "wsrt.command",
        "form": FORM,
        "namespace": None,
        "audience": ["everyone"],
        "name": "a",
        "arguments": {},
        "id": "1",
    }
    command = read(message)
    assert isinstance(command, CommandMessage)
    assert command.includes(DESK)
    assert not command.includes(f"{DESK}@red")
