"""Presence in a consumer: the connections that count, the frames for members, and the hooks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils.functional import SimpleLazyObject
from pydantic import BaseModel

from tests.support.pages import pages
from tests.support.waiting import aeventually
from wsrt import Closed, DeclarationError, Event, TypedEventConsumer, close_codes, on, presence
from wsrt.addresses import Connection, User
from wsrt.control import adisconnect, apermissions_changed
from wsrt.exceptions import WrongContext
from wsrt.metrics import counters
from wsrt.presence import memory
from wsrt.testing import Client, connect

EXTENDED = ["wsrt.v1"]


@pytest.fixture(autouse=True)
def empty_store() -> None:
    """Nodes of tests before, whose loops are closed, are not counted."""
    # In its place: the stores of loops that go on refer to it.
    vars(memory._state).update(vars(memory._State()))


class Card(BaseModel):
    name: str


class Rename(Event, name="rename"):
    name: str


class Enter(Event, name="enter"):
    room: str


class Exit(Event, name="exit"):
    room: str


class Login(Event, name="login"):
    user: str | None


class HallConsumer(TypedEventConsumer):
    namespace = "hall"
    presence = Card
    name = ""

    async def on_connect(self) -> None:
        self.heard: list[str] = []
        self.counted = await presence.acount("hall", namespace="hall")
        await self.join("hall")

    async def member(self, room: str) -> Card | None:
        return Card(name=self.name) if self.name else None

    async def on_presence_join(self, user: str | None, room: str) -> None:
        self.heard.append(f"+{user} {room}")

    def on_presence_leave(self, user: str | None, room: str) -> None:  # type: ignore[override]
        self.heard.append(f"-{user} {room}")

    @on
    async def rename(self, event: Rename) -> None:
        self.name = event.name
        await self.join("hall")

    @on
    async def enter(self, event: Enter) -> None:
        await self.join(event.room)

    @on
    async def leave_room(self, event: Exit) -> None:
        await self.leave(event.room)

    @on
    async def login(self, event: Login) -> None:
        if event.user is None:
            await self.clear_user_id()
        else:
            await self.set_user_id(event.user)


class Again(Event, name="again"):
    pass


class PlainConsumer(TypedEventConsumer):
    namespace = "plain-hall"

    async def on_connect(self) -> None:
        await self.join("a")

    @on
    async def again(self, event: Again) -> None:
        await self.leave("a")
        await self.join("a")


def dial(name: str | None = None, consumer: type[TypedEventConsumer] = HallConsumer, **options: Any) -> Client:
    scope = {"user": SimpleUser(name)} if name is not None else {}
    return connect(consumer, subprotocols=EXTENDED, scope=scope, **options)


class SimpleUser:
    """What Channels' middleware puts into a scope, without a database."""

    is_authenticated = True
    is_active = True

    def __init__(self, pk: str) -> None:
        self.pk = pk


async def bind(client: Client, name: str) -> None:
    await client.request(Login(user=name))


def told(client: Client) -> list[dict[str, Any]]:
    """Return the frames of presence so far, without room and version."""
    frames = [frame["data"] for frame in client.reserved if frame["event"] == "wsrt.presence"]
    return [{key: value for key, value in frame.items() if key not in ("room", "version")} for frame in frames]


class Nested(TypedEventConsumer):
    """Its hook calls what calls the hook."""

    namespace = "nested"
    presence = True
    todo: Any = None

    async def on_connect(self) -> None:
        await self.join("a")

    async def member(self, room: str) -> BaseModel | None:
        if self.todo is not None:
            await self.todo()
        return None

    @on
    async def again(self, event: Again) -> None:
        await self.join("a")


class NestedThread(Nested):
    namespace = "nested.thread"

    def member(self, room: str) -> BaseModel | None:  # type: ignore[override]
        if self.todo is not None:
            self.sync.join("b")
        return None


@pytest.mark.parametrize("consumer", [Nested, NestedThread])
@pytest.mark.parametrize("method", ["join", "set_user_id", "clear_user_id"])
async def test_member_that_joins(method: str, consumer: type[Nested], caplog: pytest.LogCaptureFixture) -> None:
    """member() that calls what calls member() gets an error that says so, instead of waiting for itself forever."""
    async with dial("ada", consumer=consumer) as client:
        inner: Any = client.consumer
        inner.todo = {
            "join": lambda: inner.join("b"),
            "set_user_id": lambda: inner.set_user_id("eve"),
            "clear_user_id": inner.clear_user_id,
        }[method]
        await client.send(Again())
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert f"member() must not call self.{'join' if consumer is NestedThread else method}()" in caplog.text


async def test_member_that_lets_others_join() -> None:
    """A task that member() has started may join once member() has returned."""
    async with dial("ada", consumer=Nested) as client:
        inner: Any = client.consumer
        go, tasks = asyncio.Event(), []

        async def later() -> None:
            await go.wait()
            await inner.join("b")

        async def start() -> None:
            inner.todo = None
            tasks.append(asyncio.create_task(later()))

        inner.todo = start
        await client.request(Again())
        go.set()
        await tasks[0]
        assert inner.rooms == ("a", "b")


async def test_counted_from_the_end_of_on_connect() -> None:
    """A connection counts in its rooms and in its namespace once on_connect has returned, and until it ends."""
    async with dial() as client:
        assert client.consumer.counted == 0
        assert await presence.acount("hall", namespace="hall") == 1
        await bind(client, "ada")
        await client.request(Enter(room="side"))
        assert await presence.acount("side", namespace="hall") == 1
        assert {room.name for room in await presence.arooms(namespace="hall")} == {"hall", "side"}
        assert await presence.amembers("side", namespace="hall") == [presence.Member("ada", 1)]
        await client.request(Exit(room="side"))
        assert await presence.acount("side", namespace="hall") == 0
    assert await presence.acount("hall", namespace="hall") == 0
    assert await presence.aconnections(namespace="hall") == []


async def test_snapshot_and_differences() -> None:
    """Members who speak wsrt.v1 get the room with themselves in it, then what changes; plain clients get nothing."""
    async with connect(HallConsumer) as plain, dial() as ada:
        await aeventually(lambda: told(ada))
        assert told(ada) == [{"members": [{"user_id": None, "connections": 2, "data": None}]}]
        await bind(ada, "ada")
        await aeventually(lambda: len(told(ada)) == 2)
        assert told(ada)[1] == {
            "joined": [{"user_id": "ada", "connections": 1, "data": None}],
            "changed": [{"user_id": None, "connections": 1, "data": None}],
        }
        await ada.request(Rename(name="Ada"))
        await aeventually(lambda: len(told(ada)) == 3)
        assert told(ada)[2] == {"changed": [{"user_id": "ada", "connections": 1, "data": {"name": "Ada"}}]}
        assert plain.reserved == []
        versions = [frame["data"]["version"] for frame in ada.reserved if frame["event"] == "wsrt.presence"]
        assert versions == sorted(set(versions))


class NamedConsumer(TypedEventConsumer):
    """Shows the name that the user has."""

    namespace = "named"
    presence = Card

    async def on_connect(self) -> None:
        await self.join("hall")
        await self.join("side")

    async def member(self, room: str) -> Card:
        if self.user.get_username() == "wrong":
            raise RuntimeError("the name is wrong")
        return Card(name=self.user.get_username())


@pytest.mark.django_db(transaction=True)
async def test_renamed_user() -> None:
    """After permissions_changed members see what member() returns for the user who was loaded again."""
    ada = await get_user_model().objects.acreate(username="ada")
    async with connect(NamedConsumer, user=ada, subprotocols=EXTENDED) as client:
        await aeventually(lambda: len(told(client)) == 2)
        await get_user_model().objects.filter(pk=ada.pk).aupdate(username="countess")
        await apermissions_changed(ada)
        await aeventually(lambda: len(told(client)) == 4)
        card = {"user_id": str(ada.pk), "connections": 1, "data": {"name": "countess"}}
        assert told(client)[2:] == [{"changed": [card]}] * 2
        (member,) = await presence.amembers("side", namespace="named")
        assert member.data == {"name": "countess"}
        await get_user_model().objects.filter(pk=ada.pk).aupdate(username="wrong")
        await apermissions_changed(ada)
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)


class SilentConsumer(TypedEventConsumer):
    """Shares namespace and room with HallConsumer, and shows nothing."""

    namespace = "hall"
    presence = False

    async def on_connect(self) -> None:
        await self.set_user_id("ada")
        await self.join("hall")


class ListeningConsumer(SilentConsumer):
    """Wants to know who is there, and has nothing to say of its users."""

    presence = True


@pytest.mark.parametrize("silent", [SilentConsumer, ListeningConsumer])
async def test_connection_that_says_nothing(silent: type[TypedEventConsumer]) -> None:
    """A consumer without presence, or without member(), leaves what its user shows as it is."""
    async with dial("ada") as ada:
        await ada.request(Rename(name="Ada"))
        async with dial(consumer=silent) as other:
            await other.settle()
            assert await presence.amembers("hall", namespace="hall") == [presence.Member("ada", 2, {"name": "Ada"})]
            await ada.request(Rename(name=""))
            assert await presence.amembers("hall", namespace="hall") == [presence.Member("ada", 2, None)]
            await ada.request(Rename(name="Countess"))
        assert await presence.amembers("hall", namespace="hall") == [presence.Member("ada", 1, {"name": "Countess"})]


async def test_second_tab_is_no_arrival() -> None:
    """Further connections of a user aren't announced, and their hooks are called for others only."""
    async with dial() as first, dial() as second:
        await bind(first, "ada")
        await bind(second, "grace")
        await aeventually(lambda: "+grace hall" in first.consumer.heard)
        async with dial() as third:
            await bind(third, "grace")
            await asyncio.sleep(0.3)  # longer than differences are put together
        await asyncio.sleep(0.3)
        assert [word for word in first.consumer.heard if "grace" in word] == ["+grace hall"]
        assert not [word for word in second.consumer.heard if "grace" in word]
        await second.disconnect()
        await aeventually(lambda: "-grace hall" in first.consumer.heard)


@pytest.mark.parametrize(("code", "is_at_once"), [(1000, True), (1001, False), (1006, False)])
async def test_grace(code: int, is_at_once: bool, settings: Any) -> None:
    """Who says goodbye is gone at once; who is lost, or leaves the page, is for the grace still there."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "wsrt.presence.memory.MemoryPresence", "OPTIONS": {"GRACE": 0.2}}}
    client = dial()
    async with client:
        await bind(client, "ada")
        await client.disconnect(code)
    assert await presence.ais_online("ada") is not is_at_once
    await aeventually(lambda: _is_offline("ada"))


async def _is_offline(user: str) -> bool:
    return not await presence.ais_online(user)


async def test_kicked() -> None:
    """A user whom the server disconnects is offline at once."""
    async with dial() as client:
        await bind(client, "ada")
        await adisconnect(User("ada"))
        await client.assert_closed(close_codes.DISCONNECTED)
        await client.disconnect()
    assert not await presence.ais_online("ada")


async def test_keys_of_users() -> None:
    """Presence gives the key of an instance of another model, and whatever takes a user takes it back."""
    async with dial() as watcher, connect(HallConsumer) as client:
        await client.consumer.set_user_id(Group(pk=7))
        await aeventually(lambda: "+auth.group:7 hall" in watcher.consumer.heard)
        (key,) = [member.user_id for member in await presence.amembers("hall", namespace="hall") if member.user_id]
        assert (key, client.consumer.user_id) == ("auth.group:7", "auth.group:7")
        assert await presence.ais_online(key)
        assert not await presence.ais_online(7)
        (connection,) = await presence.aconnections(user=key, namespace="hall")
        assert (connection.id, connection.user_id) == (client.consumer.id, key)
        await adisconnect(User(client.consumer.user_id))
        await client.assert_closed(close_codes.DISCONNECTED)


async def test_details(settings: Any) -> None:
    """Address and user agent are kept only if the settings say so; the id is the connection's address."""
    headers = {"user-agent": "Browser 1.0"}
    async with connect(HallConsumer, headers=headers, scope={"client": ["10.0.0.1", 5]}):
        (found,) = await presence.aconnections(namespace="hall")
        assert (found.address, found.user_agent, found.consumer) == (None, None, "HallConsumer")
        assert found.since is not None
    settings.WSRT = {"PRESENCE": {"BACKEND": "wsrt.presence.memory.MemoryPresence", "OPTIONS": {"DETAILS": True}}}
    async with connect(HallConsumer, headers=headers, scope={"client": ["10.0.0.1", 5]}) as client:
        (found,) = await presence.aconnections(namespace="hall")
        assert (found.address, found.user_agent) == ("10.0.0.1", "Browser 1.0")
        await adisconnect(Connection(found.id))
        await client.assert_closed(close_codes.DISCONNECTED)


async def test_online_and_stats() -> None:
    """Who of many is online is one question; of several namespaces too."""
    async with dial() as client, connect(PlainConsumer):
        await bind(client, "7")
        assert await presence.aonline([7, "8"]) == {7}
        assert await presence.aonline([7], namespace="plain-hall") == set()
        assert await presence.ais_online(7, namespace="hall")
        stats = await presence.astats()
        assert (stats.namespaces["hall"].users, stats.namespaces["plain-hall"].guests) == (1, 1)
        assert stats.connections == 2
        assert not stats.is_shared
        assert [(node.pid, node.lease > 20) for node in stats.nodes] == [(os.getpid(), True)]
        assert [user.user_id for user in await presence.ausers(namespace="hall")] == ["7"]


async def test_paged() -> None:
    """Long lists come in pages."""
    clients = [dial() for _ in range(5)]
    for number, client in enumerate(clients):
        await client.__aenter__()
        await bind(client, f"u{number}")
    seen: list[str | None] = []
    async for page in pages(lambda at: presence.amembers("hall", namespace="hall", limit=2, after=at)):
        seen += [member.user_id for member in page]
    assert sorted(filter(None, seen)) == ["u0", "u1", "u2", "u3", "u4"]
    assert [member.user_id for member in await presence.amembers("hall", namespace="hall", search="U3")] == ["u3"]
    for client in clients:
        await client.disconnect()


READERS = """
import asyncio
import django
django.setup()
from wsrt import presence
from wsrt.exceptions import WrongContext
from wsrt.presence import memory

async def read():
    for reading in (presence.astats(), presence.acount("a"), presence.aonline([1]), presence.aconnections()):
        try:
            print("answered", await reading)
        except WrongContext as error:
            print(error)

asyncio.run(read())
for reading in (presence.stats, lambda: presence.count("a"), lambda: presence.online([1])):
    try:
        print("answered", reading())
    except WrongContext as error:
        print(error)
if {serves}:
    from wsrt import TypedEventConsumer
    TypedEventConsumer.as_asgi()
    print(presence.count("a"), asyncio.run(presence.acount("a")))
"""


@pytest.mark.parametrize("serves", [False, True])
def test_process_without_connections(serves: bool) -> None:
    """In a process that serves no consumers, the memory store raises, in async code as in sync code."""
    program = READERS.replace("{serves}", str(serves))
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == 7 + serves
    for line in lines[:7]:
        assert line.startswith("presence is kept in the memory of each process")
        assert "RedisPresence" in line
    assert lines[7:] == ["0 0"] * serves


def test_sync_view_under_test() -> None:
    """In Django's test environment a process without connections reads that rooms are empty."""
    assert presence.count("a", namespace="sync-view") == 0
    assert presence.online([1]) == set()


@pytest.mark.django_db
def test_users_that_are_looked_up_late(settings: Any) -> None:
    """``request.user`` and querysets ask the database where they are handed over, not in the loop of the store."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "wsrt.presence.cache.CachePresence"}}
    accounts = get_user_model()
    accounts.objects.create_user("ada")

    def lazy() -> Any:
        return SimpleLazyObject(accounts.objects.get)

    assert presence.is_online(lazy()) is False
    assert presence.online(accounts.objects.all()) == set()
    assert presence.online([lazy()]) == set()
    assert list(presence.connections(user=lazy())) == []


async def test_sync_in_a_loop() -> None:
    """The synchronous form would block the loop: it names its twin."""
    with pytest.raises(WrongContext, match=r"presence\.acount"):
        presence.count("a")


async def test_missing_store(settings: Any) -> None:
    """A store that can't be created tracks nothing and disturbs nothing. Reading presence raises."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "no.such.Store"}}
    async with dial(consumer=PlainConsumer) as client:
        await client.request(Again())
        with pytest.raises(presence.StoreUnavailable, match=r"manage\.py check"):
            await presence.acount("hall")


class Secret(Card):
    password: str


class FrankMember(TypedEventConsumer):
    namespace = "frank-member"
    presence = Card

    async def on_connect(self) -> None:
        await self.set_user_id("ada")
        await self.join("a")

    async def member(self, room: str) -> Card:
        return Secret(name="ada", password="hunter2")


async def test_member_shows_the_declared_model() -> None:
    """Further fields of a subclass of the declared model aren't shown."""
    async with connect(FrankMember):
        (member,) = await presence.amembers("a", namespace="frank-member")
        assert member.data == {"name": "ada"}


class WrongMember(TypedEventConsumer):
    namespace = "wrong-member"
    presence = Card

    async def on_connect(self) -> None:
        await self.join("a")

    async def member(self, room: str) -> Any:
        return {"text": {"name": "no model"}, "large": Card(name="x" * 5000)}[self.query["kind"]]


@pytest.mark.parametrize("kind", ["text", "large"])
async def test_member_that_cannot_be_shown(kind: str) -> None:
    """Data that isn't an instance of ``presence``, or over 4 KiB, is a bug of the set-up."""
    async with connect(WrongMember, f"/?kind={kind}") as client:
        await client.assert_closed(close_codes.CONNECTION_SETUP_FAILED)
    assert await presence.acount("a", namespace="wrong-member") == 0


class FailingHook(TypedEventConsumer):
    namespace = "failing-hook"
    presence = True

    async def on_connect(self) -> None:
        await self.join("a")

    async def on_presence_join(self, user: str | None, room: str) -> None:
        raise RuntimeError("the hook failed")


async def test_hook_that_fails() -> None:
    """A hook that raises is a bug: logged, and closed 1011."""
    failed = counters["handlers_failed"]
    async with connect(FailingHook) as client:
        await aeventually(lambda: client.consumer is not None)
        await asyncio.sleep(0.1)
        async with connect(FailingHook, scope={"user": SimpleUser("ada")}):
            await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert counters["handlers_failed"] > failed


def test_declaration() -> None:
    """What stands in ``presence`` is checked when the class is made."""
    with pytest.raises(DeclarationError, match="presence must be True, False or the Pydantic model"):
        type("Wrong", (TypedEventConsumer,), {"presence": "yes", "__module__": __name__})


class Ending(TypedEventConsumer):
    namespace = "ending"

    async def on_connect(self) -> None:
        await self.join("a")
        await self.close()

    async def on_disconnect(self, closed: Closed) -> None:
        self.count = await presence.acount("a", namespace="ending")


async def test_closed_in_on_connect() -> None:
    """A connection that was closed before it was set up never counts."""
    async with connect(Ending) as client:
        await client.assert_closed(1000)
        await client.disconnect()
        assert client.consumer.count == 0
    assert await presence.aconnections(namespace="ending") == []


class SlowMember(TypedEventConsumer):
    """Takes its time to say what it shows, and does other things meanwhile."""

    namespace = "slow-member"
    presence = Card

    async def on_connect(self) -> None:
        await self.join("a")
        if self.query.get("kind") == "connect":
            self.task = asyncio.create_task(self.move())

    async def member(self, room: str) -> Card:
        await asyncio.sleep(0.2)
        return Card(name="slow")

    async def move(self) -> None:
        await asyncio.sleep(0.1)
        await self.leave("a")
        await self.join("b")

    @on
    async def login(self, event: Login) -> None:
        await asyncio.gather(self.set_user_id(event.user), self.move())


@pytest.mark.parametrize("kind", ["connect", "rebind"])
async def test_moved_while_asked(kind: str) -> None:
    """Rooms that are joined and left while the consumer says what it shows count as they are in the end."""
    async with connect(SlowMember, f"/?kind={kind}") as client:
        if kind == "rebind":
            await client.request(Login(user="ada"))
        await aeventually(lambda: _is_in("b", 1))
        assert await presence.acount("a", namespace="slow-member") == 0
    assert await presence.arooms(namespace="slow-member") == []


async def _is_in(room: str, number: int) -> bool:
    return await presence.acount(room, namespace="slow-member") == number


class Banning(TypedEventConsumer):
    namespace = "banning"
    presence = True

    async def on_connect(self) -> None:
        self.heard: list[str] = []
        await self.join("a")
        if self.query.get("banned"):
            await self.close(4800)

    async def on_presence_join(self, user: str | None, room: str) -> None:
        self.heard.append(f"+{user}")


async def test_sent_away_in_on_connect() -> None:
    """A connection that is removed in on_connect is never announced."""
    async with connect(Banning, scope={"user": SimpleUser("ada")}) as member:
        async with connect(Banning, "/?banned=1", scope={"user": SimpleUser("eve")}) as banned:
            await banned.assert_closed(4800)
        async with connect(Banning, scope={"user": SimpleUser("grace")}):
            await aeventually(lambda: member.consumer.heard)
        assert member.consumer.heard == ["+grace"]


async def test_wrong_cursor() -> None:
    """An invalid cursor is a ValueError, whatever the store."""
    async with dial():
        for read in (presence.ausers, presence.arooms, presence.aconnections):
            with pytest.raises(ValueError, match="after"):
                await read(namespace="hall", after="zz")


@pytest.mark.parametrize("limit", [0, -1, 100_001, 2.5, "x", None, True])
async def test_wrong_limit(limit: Any) -> None:
    """A page without a size is refused before the store is asked: following ``next`` would never end."""
    expected = ValueError if type(limit) is int else TypeError
    async with dial():
        for read in (presence.ausers, presence.arooms, presence.aconnections):
            with pytest.raises(expected, match="limit must be"):
                await read(namespace="hall", limit=limit)
        with pytest.raises(expected, match="limit must be"):
            await presence.amembers("hall", namespace="hall", limit=limit)
        with pytest.raises(expected, match="limit must be"):
            await asyncio.to_thread(presence.members, "hall", namespace="hall", limit=limit)


@pytest.mark.parametrize(
    ("wrong", "says"), [({"namespace": None}, "namespace"), ({"search": 5}, "search"), ({"after": 5}, "after")]
)
async def test_wrong_types(wrong: dict[str, Any], says: str) -> None:
    """An argument of another type is named."""
    for read in (presence.ausers, presence.arooms):
        with pytest.raises(TypeError, match=f"{says} must be"):
            await read(**{"namespace": "hall", **wrong})
    with pytest.raises(TypeError, match="namespace must be"):
        await presence.acount("hall", namespace=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="namespace must be"):
        await presence.ais_online("ada", namespace=5)  # type: ignore[arg-type]
