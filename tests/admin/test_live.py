"""The socket that keeps the pages up to date."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.test import AsyncClient

from tests.admin.conftest import amake_user
from tests.admin.test_pages import everybody, visitor
from tests.apps.chat.consumers import HereConsumer
from tests.support.waiting import aeventually
from wsrt import apermissions_changed, close_codes
from wsrt.addresses import user_key
from wsrt.admin import RealtimeAdmin, live, queries, usernames
from wsrt.admin.live import AdminConsumer
from wsrt.admin.queries import (
    Overview,
    RoomDetail,
    Rooms,
    Unavailable,
    UserDetail,
    Users,
    WatchOverview,
    WatchRoom,
    WatchRooms,
    WatchUser,
    WatchUsers,
)
from wsrt.metrics import counters
from wsrt.permissions import ANNOUNCE, DISCONNECT, VIEW
from wsrt.protocol.events import Event
from wsrt.routing import consumer_urlpatterns
from wsrt.testing import Client, RequestRefused, connect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("soon")]


async def watching(client: Client, question: Event) -> Client:
    """A client who has asked."""
    await client.request(question)
    return client


async def until(client: Client, kind: type[Any], condition: Any) -> Any:
    """Return the answer for which the condition holds; those before it are dropped."""
    async with asyncio.timeout(10):
        while True:
            answer = await client.receive(kind)
            if condition(answer):
                return answer


# Who may.


async def test_anonymous() -> None:
    """Who is not signed in is refused, to sign in."""
    async with connect(AdminConsumer) as client:
        await client.assert_closed(close_codes.UNAUTHENTICATED)


@pytest.mark.parametrize(
    ("is_staff", "permissions"), [(True, ()), (True, (DISCONNECT, ANNOUNCE)), (False, (VIEW,)), (False, ())]
)
async def test_refused(is_staff: bool, permissions: tuple[str, ...]) -> None:
    """A user who isn't staff, or lacks the permission to view, is refused."""
    user = await amake_user("eve", *permissions, is_staff=is_staff)
    async with connect(AdminConsumer, user=user) as client:
        await client.assert_closed(close_codes.FORBIDDEN)


async def test_inactive() -> None:
    """A user who was made inactive is refused."""
    user = await amake_user("eve", VIEW)
    user.is_active = False
    await user.asave()
    async with connect(AdminConsumer, user=user) as client:
        await client.assert_closed(close_codes.FORBIDDEN)


async def test_permission_revoked() -> None:
    """Who may no longer see it is closed when that is said."""
    user = await amake_user("eve", VIEW)
    async with connect(AdminConsumer, user=user) as client:
        await client.request(WatchOverview())
        await client.receive(Overview)
        await user.user_permissions.aclear()
        await apermissions_changed(user)
        while client._closed is None:
            await client.settle()
            client._frames.clear()
        await client.assert_closed(close_codes.FORBIDDEN)


async def test_revoked_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who loses the permission to view is disconnected soon, without any notification of the change."""
    monkeypatch.setattr(live, "RECHECK_INTERVAL", 0.1)
    user = await amake_user("eve", VIEW)
    async with connect(AdminConsumer, user=user) as client:
        await client.request(WatchOverview())
        await client.receive(Overview)
        await user.user_permissions.aclear()
        await client.assert_closed(close_codes.FORBIDDEN)


@pytest.mark.parametrize("end", ["delete", "deactivate"])
async def test_user_is_gone(end: str) -> None:
    """A user who was deleted or deactivated is told nothing more, and asked to sign in."""
    user = await amake_user("eve", VIEW)
    async with connect(AdminConsumer, user=user) as client:
        await client.request(WatchOverview())
        await client.receive(Overview)
        if end == "delete":
            await User.objects.filter(pk=user.pk).adelete()
        else:
            await User.objects.filter(pk=user.pk).aupdate(is_active=False)
        await client.send(WatchRoom(namespace="chat", room="secret"))
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


@pytest.mark.parametrize("end", ["sign out", "change the password"])
async def test_session_is_over(end: str) -> None:
    """Who signed out elsewhere, or whose password was changed, is asked to sign in."""
    user = await amake_user("eve", VIEW)
    browser = AsyncClient()
    await browser.aforce_login(user)
    session = SessionStore(browser.cookies["sessionid"].value)
    async with connect(AdminConsumer, user=user, scope={"session": session}) as client:
        await client.request(WatchOverview())
        await client.receive(Overview)
        if end == "sign out":
            await browser.alogout()
        else:
            user.set_password("another")
            await user.asave()
        await client.send(WatchRooms(namespace="chat"))
        await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


async def test_database_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot be asked for stays, and is asked for again."""
    monkeypatch.setattr(live, "RECHECK_INTERVAL", 0.05)
    user = await amake_user("eve", VIEW)
    async with connect(AdminConsumer, user=user) as client:
        await client.request(WatchRooms(namespace="chat"))
        await client.receive(Rooms)
        before = counters.snapshot().get("admin_looks_failed", 0)
        with monkeypatch.context() as patched:
            patched.setattr(live, "check_access", None)  # calling it raises
            await aeventually(lambda: counters.snapshot().get("admin_looks_failed", 0) > before + 1)
        async with everybody(visitor("lobby")):
            await until(client, Rooms, lambda answer: answer.rooms)


async def test_names_are_asked_for_again() -> None:
    """The permission to see names is checked again when permissions have changed."""
    user = await amake_user("operator", VIEW, "auth.view_user")
    async with connect(AdminConsumer, user=user) as client, visitor("lobby", str(user.pk)):
        await client.request(WatchUsers(namespace="chat"))
        await until(client, Users, lambda answer: [row.name for row in answer.users] == ["operator"])
        await user.user_permissions.aset([p async for p in user.user_permissions.filter(codename="view_realtime")])
        await apermissions_changed(user)
        await until(client, Users, lambda answer: [row.name for row in answer.users] == [""])


def test_route() -> None:
    """The route is where the pages look for it."""
    assert [str(route.pattern) for route in consumer_urlpatterns()] == [RealtimeAdmin.live_path] == ["ws/wsrt/admin/"]


# What they are sent.


async def root() -> User:
    return await sync_to_async(User.objects.create_superuser)("root")


async def test_overview() -> None:
    """The overview comes at once, and again when something changed."""
    async with connect(AdminConsumer, user=await root()) as client:
        await client.request(WatchOverview())
        first = await client.receive(Overview)
        assert first.connections == 0
        assert {row.name for row in first.namespaces} >= {"chat", "here"}
        assert not [row for row in first.namespaces if row.name.startswith("wsrt.")]
        async with everybody(visitor("lobby", "ada")):
            await until(client, Overview, lambda answer: answer.connections == 1)
        await until(client, Overview, lambda answer: answer.connections == 0)


async def test_rooms() -> None:
    """Rooms come as they are searched; nothing is sent while nothing changes."""
    async with connect(AdminConsumer, user=await root()) as client, visitor("garden"):
        await client.request(WatchRooms(namespace="chat", search="lob"))
        assert (await client.receive(Rooms)).rooms == []
        async with everybody(visitor("lobby", "ada")):
            (row,) = (await client.receive(Rooms)).rooms
            assert (row.name, row.users, row.guests, row.connections) == ("lobby", 1, 0, 1)
            await asyncio.sleep(0.2)  # several looks
            await client.assert_silent()


async def test_users() -> None:
    """Users come with their names, and are found by them."""
    user = await root()
    ada = await sync_to_async(User.objects.create_user)("ada lovelace")
    async with connect(AdminConsumer, user=user) as client, visitor("lobby", str(ada.pk)), visitor("lobby", "eve"):
        await client.request(WatchUsers(namespace="chat", search="love"))
        (row,) = (await client.receive(Users)).users
        assert (row.user_id, row.name) == (str(ada.pk), "ada lovelace")


async def test_room() -> None:
    """A room comes with its members and their connections."""
    async with connect(AdminConsumer, user=await root()) as client:
        await client.request(WatchRoom(namespace="here", room="lobby"))
        assert (await client.receive(RoomDetail)).connections == 0
        async with everybody(connect(HereConsumer, "/?user=ada&name=Ada", kwargs={"room": "lobby"})):
            answer = await until(client, RoomDetail, lambda answer: answer.connections == 1)
            assert [(row.user_id, row.data) for row in answer.members] == [("ada", '{"name":"Ada"}')]
            assert [row.user_id for row in answer.sessions] == ["ada"]


async def test_user() -> None:
    """A user comes with the connections of all namespaces."""
    async with connect(AdminConsumer, user=await root()) as client:
        await client.request(WatchUser(user="ada"))
        assert (await client.receive(UserDetail)).sessions == []
        async with everybody(visitor("lobby", "ada"), connect(HereConsumer, "/?user=ada", kwargs={"room": "x"})):
            await until(client, UserDetail, lambda answer: answer.connections == 2)


async def test_last_question_counts() -> None:
    """Who asks something else is told of that alone."""
    async with connect(AdminConsumer, user=await root()) as client:
        await client.request(WatchOverview())
        await client.receive(Overview)
        await client.request(WatchRooms(namespace="chat"))
        await client.settle()
        client._frames.clear()
        async with everybody(visitor("lobby")):
            await client.receive(Rooms)


@pytest.mark.parametrize(
    "text",
    [
        '{"event": "rooms.watch", "data": {"namespace": "wsrt.admin"}, "ref": "r1"}',
        '{"event": "room.watch", "data": {"namespace": "chat", "room": "wsrt.everyone"}, "ref": "r1"}',
        '{"event": "room.watch", "data": {"namespace": "chat", "room": ""}, "ref": "r1"}',
        '{"event": "user.watch", "data": {"user": ""}, "ref": "r1"}',
    ],
)
async def test_wrong_question(text: str) -> None:
    """What no page asks is refused."""
    async with connect(AdminConsumer, user=await root()) as client:
        await client.send_text(text)
        assert (await client.receive_json())["data"]["code"] == "invalid_data"


async def test_unknown_question() -> None:
    """Nothing but questions is taken."""
    async with connect(AdminConsumer, user=await root()) as client:
        with pytest.raises(RequestRefused, match="unknown_event"):
            await client.request(Overview(connections=0, namespaces=[], nodes=[], limits=[]))


async def test_ends_with_the_connection() -> None:
    """Nothing looks at the store any more once the page is gone."""
    async with connect(AdminConsumer, user=await root()) as client:
        await client.request(WatchOverview())
        task = client.consumer._polling
        assert not task.done()
    await asyncio.sleep(0)
    assert task.done()


# What goes wrong.


async def test_unavailable(settings: Any) -> None:
    """A store that is down is told once, and what it says when it is back is sent."""
    async with connect(AdminConsumer, user=await root()) as client:
        settings.WSRT = {"PRESENCE": {"BACKEND": "nowhere.Nothing"}}
        await client.request(WatchRooms(namespace="chat"))
        await client.receive(Unavailable)
        await asyncio.sleep(0.1)  # several looks
        await client.assert_silent()
        del settings.WSRT
        await client.receive(Rooms)


async def test_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in another way is logged, and the page waits for it."""

    async def fail(self: WatchRooms) -> Rooms:
        raise RuntimeError("a defect")

    before = counters.snapshot().get("admin_looks_failed", 0)
    async with connect(AdminConsumer, user=await root()) as client:
        with monkeypatch.context() as patch:
            patch.setattr(WatchRooms, "run", fail)
            await client.request(WatchRooms(namespace="chat"))
            await client.receive(Unavailable)
        await client.receive(Rooms)
    assert counters.snapshot()["admin_looks_failed"] > before


async def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into a frame leaves the page as it was loaded."""
    monkeypatch.setattr("wsrt.protocol.envelope.MAX_FRAME_BYTES", 200)
    async with connect(AdminConsumer, user=await root()) as client, visitor("x" * 250):
        await client.request(WatchRooms(namespace="chat"))
        await client.receive(Unavailable)


async def test_long_data() -> None:
    """What a member shows is cut where it is long."""
    assert len(queries.data_text({"text": "x" * 4000})) == queries.MAX_DATA_CHARACTERS + 1
    assert queries.data_text(None) == ""


async def test_slow_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is slow is asked less."""
    asked: list[float] = []
    loop = asyncio.get_running_loop()

    async def slow(self: WatchRooms) -> Rooms:
        asked.append(loop.time())
        await asyncio.sleep(0.05)
        return Rooms(rooms=[], next=None)

    monkeypatch.setattr(WatchRooms, "run", slow)
    monkeypatch.setattr(live, "PAUSE_FACTOR", 6)
    async with connect(AdminConsumer, user=await root()) as client:
        await client.request(WatchRooms(namespace="chat"))
        await aeventually(lambda: len(asked) >= 2)
    assert asked[1] - asked[0] >= 0.05 * 7


async def test_user_of_another_model() -> None:
    """Without a session the user stays what it is: that a superuser has the same primary key opens no door."""
    user = await root()
    device = await Group.objects.acreate(pk=user.pk, name="device")
    async with connect(AdminConsumer, user=device) as client:
        await client.assert_closed(close_codes.UNAUTHENTICATED)


# Names.


async def test_names_are_asked_for_once(django_assert_num_queries: Any) -> None:
    """A name is looked up once, also one that there is not."""

    def check() -> None:
        user = User.objects.create_superuser("root")
        found = usernames.Usernames(user)
        keys = (str(user.pk), "999999", "x", "9" * 30, "a\0b")
        rows = [queries.UserRow(user_id=key, connections=1) for key in keys]
        rows.append(queries.UserRow(user_id=None, connections=1))
        with django_assert_num_queries(1):
            found.fill(rows)
            found.fill(rows)
        assert [row.name for row in rows] == ["root", "", "", "", "", ""]
        assert found.has_cached(rows)

    await sync_to_async(check)()


async def test_names_are_those_of_users() -> None:
    """An instance of another model has no name, though a user has the same primary key."""

    def check() -> None:
        user = User.objects.create_superuser("root")
        found = usernames.Usernames(user)
        assert found.get(user_key(user)) == "root"
        assert found.get(user_key(Group(pk=user.pk))) == ""
        assert found.primary_key(user_key(Group(pk=user.pk))) is None

    await sync_to_async(check)()


async def test_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are not kept without end."""
    monkeypatch.setattr(usernames, "MAX_CACHED", 1)

    def check() -> None:
        user = User.objects.create_superuser("root")
        found = usernames.Usernames(user)
        for key in ("a", "b", "c", str(user.pk)):
            found.get(key)
        assert len(found._cache) <= 2
        assert found.get(str(user.pk)) == "root"
        assert found.search("\0") == ([], False)

    await sync_to_async(check)()
