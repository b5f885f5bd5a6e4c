"""What operators do: disconnect, and announce."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
import uuid
from typing import Any, Literal

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import AsyncClient
from django.test import Client as Browser
from pydantic import Field

from tests.admin.conftest import MakeOperator, amake_user, make_user, page, text_of
from tests.admin.test_pages import ODD, everybody, visitor
from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from tests.apps.chat.events import Said
from tests.support.layer import FakeLayer, installed
from wsrt import Event, RootEvent, TypedEventConsumer, close_codes
from wsrt.addresses import Everyone, Room
from wsrt.admin.actions import _escape_nul
from wsrt.admin.announcements import InvalidAnnouncement, Problem, example_json, read_event, summary_of
from wsrt.admin.targets import Target
from wsrt.permissions import ANNOUNCE, DISCONNECT, PERMISSIONS, VIEW
from wsrt.testing import connect

pytestmark = pytest.mark.django_db(transaction=True)

LOBBY = Target("room", "chat", "lobby")


async def entries() -> list[tuple[str, str, str]]:
    """The log: who, on whom, what."""
    found = LogEntry.objects.select_related("user").order_by("pk")
    return [(str(entry.user), entry.object_repr, entry.change_message) async for entry in found]


# Disconnecting.


async def test_disconnect_room(operator: MakeOperator) -> None:
    """A room is disconnected with 4410 once that is confirmed. Other connections stay open."""
    root = await operator()
    inside = [visitor("lobby", "ada"), visitor("lobby")]
    async with everybody(*inside, visitor("garden", "ada")) as _:
        text = await root.post("disconnect", {"target": LOBBY.token})
        assert "<b>2</b> connections" in text
        for client in inside:
            await client.assert_silent()
        assert await entries() == []
        text = await root.post("disconnect", {"target": LOBBY.token, "confirm": "1"})
        for client in inside:
            await client.assert_closed(close_codes.DISCONNECTED)
    assert "Disconnected: room “lobby” of chat, 2 connections." in text
    assert await entries() == [("operator", "room “lobby” of chat", "Disconnected (4410): 2 connections.")]


async def test_disconnect_user(operator: MakeOperator) -> None:
    """A user is disconnected in every namespace."""
    root = await operator()
    theirs = [visitor("lobby", "ada"), connect(HereConsumer, "/?user=ada", kwargs={"room": "x"})]
    other = visitor("lobby", "eve")
    async with everybody(*theirs, other):
        text = await root.post("disconnect", {"target": Target("user", None, "ada").token})
        assert "<b>2</b> connections" in text
        await root.post("disconnect", {"target": Target("user", None, "ada").token, "confirm": "1"})
        for client in theirs:
            await client.assert_closed(close_codes.DISCONNECTED)
        await other.assert_silent()


async def test_disconnect_connection(operator: MakeOperator) -> None:
    """The button of a connection closes it, without a question, and leads back to where it was."""
    root = await operator()
    one, other = visitor("lobby", "ada"), visitor("lobby", "ada")
    async with everybody(one, other):
        here = page("room", namespace="chat", room="lobby")
        text = await root.see("room", namespace="chat", room="lobby")
        values = [html.unescape(value) for value in re.findall(r'data-target="connection" value="([^"]+)"', text)]
        target = next(value for value in values if json.loads(value)[2] == one.consumer.id)
        response = await root.client.post(page("disconnect"), {"target": target, "back": here})
        assert response.headers["Location"] == here
        await one.assert_closed(close_codes.DISCONNECTED)
        await other.assert_silent()
        assert await entries() == [
            ("operator", f"connection {one.consumer.id} of chat", "Disconnected (4410): 1 connection.")
        ]


async def test_log_out_user(operator: MakeOperator) -> None:
    """A user is logged out of the sockets in every namespace, with 4401, once that is confirmed."""
    root = await operator()
    theirs = [visitor("lobby", "ada"), connect(HereConsumer, "/?user=ada", kwargs={"room": "x"})]
    other = visitor("lobby", "eve")
    async with everybody(*theirs, other):
        text = await root.see("user", user="ada")
        assert f'formaction="{page("log_out")}">Log out of sockets</button>' in text
        text = await root.post("log_out", {"target": Target("user", None, "ada").token})
        assert "<b>2</b> connections" in text
        assert "<strong>Sessions and tokens stay valid:</strong>" in text
        for client in theirs:
            await client.assert_silent()
        assert await entries() == []
        text = await root.post("log_out", {"target": Target("user", None, "ada").token, "confirm": "1"})
        for client in theirs:
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        await other.assert_silent()
    assert "Logged out of sockets: user “ada”, 2 connections." in text
    assert await entries() == [("operator", "user “ada”", "Logged out of sockets (4401): 2 connections.")]


async def test_log_out_connection(operator: MakeOperator) -> None:
    """The second button of a connection closes it with 4401, without a question."""
    root = await operator()
    one, other = visitor("lobby", "ada"), visitor("lobby", "ada")
    async with everybody(one, other):
        text = await root.see("room", namespace="chat", room="lobby")
        buttons = re.findall(rf'formaction="{page("log_out")}" data-target="connection" value="([^"]+)"', text)
        target = next(value for value in map(html.unescape, buttons) if json.loads(value)[2] == one.consumer.id)
        await root.post("log_out", {"target": target})
        await one.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        await other.assert_silent()
    connection = f"connection {one.consumer.id} of chat"
    assert await entries() == [("operator", connection, "Logged out of sockets (4401): 1 connection.")]


async def test_log_out_needs_the_permission_to_disconnect(operator: MakeOperator) -> None:
    """It requires wsrt.disconnect, and only superusers may do it to superusers."""
    eve = await operator(DISCONNECT)
    boss = await sync_to_async(User.objects.create_superuser)("boss")
    viewer = AsyncClient()
    await sync_to_async(viewer.force_login)(await amake_user("viewer", VIEW))
    ada, theirs = visitor("lobby", "ada"), visitor("lobby", str(boss.pk))
    async with everybody(ada, theirs):
        response = await viewer.post(page("log_out"), {"target": LOBBY.token, "confirm": "1"})
        assert response.status_code == 403
        await eve.client.post(page("log_out"), {"target": Target("user", None, str(boss.pk)).token})
        await eve.client.post(page("log_out"), {"target": LOBBY.token, "confirm": "1"})
        await ada.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        await theirs.assert_silent()


async def test_log_out_where_the_layer_is_down(operator: MakeOperator) -> None:
    """If the layer doesn't accept the command, the message says so, and nothing is logged."""
    layer = FakeLayer()
    with installed(layer):
        root = await operator()
        async with everybody(visitor("lobby"), visitor("lobby")):
            layer.failing.add("group_send")
            assert "Not logged out: " in await root.post("log_out", {"target": LOBBY.token, "confirm": "1"})
            assert await entries() == []
            layer.failing.clear()


async def test_disconnect_one(operator: MakeOperator) -> None:
    """A user with one connection is disconnected without a question."""
    root = await operator()
    ada = visitor("lobby", "ada")
    async with everybody(ada):
        await root.post("disconnect", {"target": Target("user", None, "ada").token})
        await ada.assert_closed(close_codes.DISCONNECTED)


async def test_disconnect_connection_that_is_gone(operator: MakeOperator) -> None:
    """A connection that has ended meanwhile is not said to be disconnected, and nothing is noted."""
    root = await operator()
    gone = visitor("lobby", "ada")
    async with everybody(visitor("lobby", "eve")):
        async with everybody(gone):
            target = Target("connection", "chat", gone.consumer.id).token
        text = await root.post("disconnect", {"target": target})
        assert "There are no connections any more." in text
        assert await entries() == []


async def test_disconnect_nobody(operator: MakeOperator) -> None:
    """Disconnecting an empty target does nothing, and isn't logged."""
    root = await operator()
    text = await root.post("disconnect", {"target": LOBBY.token, "confirm": "1"})
    assert "There are no connections any more." in text
    assert await entries() == []


async def test_disconnect_where_the_layer_is_down(operator: MakeOperator) -> None:
    """What the layer does not take is told, and not noted as done."""
    layer = FakeLayer()
    with installed(layer):
        root = await operator()
        async with everybody(visitor("lobby"), visitor("lobby")):
            layer.failing.add("group_send")
            text = await root.post("disconnect", {"target": LOBBY.token, "confirm": "1"})
            assert "Not disconnected" in text
            assert await entries() == []
            layer.failing.clear()


@pytest.mark.parametrize(
    "target",
    [
        "",
        "7",
        "{}",
        '["room", "chat"]',
        '["connection", "chat", "<b>zz"]',
        '["room", "chat", ""]',
        '["room", null, "lobby"]',
        '["room", "", "lobby"]',
        '["room", "chat", "wsrt.everyone"]',
        '["room", "chat", "\\ud800"]',
        '["room", "\\ud800", "lobby"]',
        '["room", "wsrt.admin", "lobby"]',
        '["world", "chat", "lobby"]',
        '["user", null, ""]',
        "[" * 100_000,
    ],
)
def test_no_such_target(target: str) -> None:
    """What no page of ours has sent is refused."""
    client = Browser()
    client.force_login(make_user("operator", *PERMISSIONS))
    assert client.post(page("disconnect"), {"target": target, "confirm": "1"}).status_code == 404


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
async def test_disconnect_odd_names(operator: MakeOperator, name: str) -> None:
    """A room is disconnected whatever its name, which is escaped everywhere."""
    root = await operator()
    clients = [connect(ChatConsumer, kwargs={"room": name}) for _ in range(2)]
    async with everybody(*clients):
        text = await root.see("room", namespace="chat", room=name)
        token = html.unescape(re.search(r'name="target" value="([^"]+)"', text)[1])  # type: ignore[index]
        text = await root.post("disconnect", {"target": token})
        assert "<script>alert" not in text
        again = html.unescape(re.search(r'name="target" value="([^"]+)"', text)[1])  # type: ignore[index]
        text = await root.post("disconnect", {"target": again, "confirm": "1"})
        for client in clients:
            await client.assert_closed(close_codes.DISCONNECTED)
    assert "<script>alert" not in text
    assert "<script>alert" not in await root.see("log")
    entry = await LogEntry.objects.aget()
    assert entry.object_repr == f"room “{name}” of chat"[:200]
    assert Target.from_token(entry.object_id or "") == Target("room", "chat", name)


def test_nul_is_noted() -> None:
    """A name with a NUL, which PostgreSQL does not store, is noted without."""
    assert _escape_nul("a\0b") == "a\\0b"


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/",
        "//evil.example/admin/wsrt/realtime/",
        "javascript:alert(1)",
        "/logout/",
        "/admin/wsrt/realtime/../../auth/",
        "/admin/wsrt/realtime/disconnect/",
        "",
    ],
)
async def test_back_is_a_page_of_ours(operator: MakeOperator, back: str) -> None:
    """A form cannot lead anywhere else."""
    root = await operator()
    async with everybody(visitor("lobby")):
        response = await root.client.post(page("disconnect"), {"target": LOBBY.token, "back": back})
    assert response.headers["Location"] == page("room", namespace="chat", room="lobby")


@pytest.mark.parametrize(
    ("permissions", "location"), [((DISCONNECT,), "/admin/"), ((DISCONNECT, ANNOUNCE), "announce")]
)
async def test_back_to_what_may_be_seen(operator: MakeOperator, permissions: tuple[str, ...], location: str) -> None:
    """Who may not see the page of the target is led elsewhere."""
    eve = await operator(*permissions)
    async with everybody(visitor("lobby")):
        response = await eve.client.post(page("disconnect"), {"target": LOBBY.token})
    assert response.headers["Location"] == (location if location.startswith("/") else page(location))


async def test_log(operator: MakeOperator) -> None:
    """The log has what was done, the newest first."""
    root = await operator()
    assert "No actions yet." in await root.see("log")
    for name in ("first", "second"):
        async with everybody(visitor(name)):
            await root.post("disconnect", {"target": Target("room", "chat", name).token})
    text = await root.see("log")
    assert text.index("room “second” of chat") < text.index("room “first” of chat")
    index = text_of(await root.client.get("/admin/"))
    assert "room “first” of chat" in index


async def test_long_log(operator: MakeOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log comes in pages."""
    monkeypatch.setattr("wsrt.admin.views.LOG_ROWS", 1)
    root = await operator()
    for name in ("first", "second"):
        async with everybody(visitor(name)):
            await root.post("disconnect", {"target": Target("room", "chat", name).token})
    assert '<a href="?page=2">2</a>' in await root.see("log")
    assert "room “first” of chat" in await root.see("log", page="2")


# Announcing.

SAID = {"namespace": "chat", "event": "said"}


async def test_choose(operator: MakeOperator) -> None:
    """The events of the namespaces are there to choose from, and the target of a link stays."""
    root = await operator()
    text = html.unescape(await root.see("announce"))
    for name in ("said", "echoed", "price"):
        assert f'href="{page("announce", namespace="chat", event=name)}"' in text
    assert "wsrt.admin" not in text
    text = html.unescape(await root.see("announce", namespace="chat", room="a & b"))
    assert f'href="{page("announce", **SAID, room="a & b")}"' in text
    assert "Events of layer" not in text


async def test_form(operator: MakeOperator) -> None:
    """The form has the shape of the event, and the target of the link."""
    root = await operator()
    text = html.unescape(await root.see("announce", **SAID, room="lobby"))
    assert '{\n  "text": ""\n}</textarea>' in text
    assert f'value="{LOBBY.token}" checked' in text
    assert '"title": "Said"' in text  # the schema
    text = html.unescape(await root.see("announce", **SAID))
    assert 'value="everyone" checked' in text


@pytest.mark.parametrize(
    ("to", "heard"),
    [
        ({"to": "everyone"}, {"lobby", "garden", "ada"}),
        ({"to": "room", "name": "lobby"}, {"lobby"}),
        ({"to": LOBBY.token}, {"lobby"}),
        ({"to": "user", "name": "ada"}, {"ada"}),
    ],
)
async def test_announce(operator: MakeOperator, to: dict[str, str], heard: set[str]) -> None:
    """An announcement reaches those it is for; more than one only once that is confirmed."""
    root = await operator()
    clients = {"lobby": visitor("lobby"), "garden": visitor("garden"), "ada": visitor("x", "ada")}
    async with everybody(*clients.values()):
        data = {**to, "data": '{"text": "back at <six>"}'}
        text = await root.post("announce", data, **SAID)
        if len(heard) > 1:
            assert f"<b>{len(heard)}</b> connections" in text
            assert "back at &lt;six&gt;" in text
            for client in clients.values():
                await client.assert_silent()
            text = await root.post("announce", {**data, "confirm": "1"}, **SAID)
        assert "“said” was sent to" in text
        for name, client in clients.items():
            if name in heard:
                assert await client.receive(Said) == Said(text="back at <six>")
            await client.assert_silent()
    ((who, whom, what),) = await entries()
    assert (who, what) == ("operator", 'Announced said: {"text": "back at <six>"}')
    assert "chat" in whom


async def test_change_an_announcement(operator: MakeOperator) -> None:
    """What is not confirmed can be changed, as it was written."""
    root = await operator()
    data = {"to": "user", "name": "ada", "data": '{"text": "hi"}', "edit": "1"}
    text = html.unescape(await root.post("announce", data, **SAID))
    assert '{"text": "hi"}</textarea>' in text
    assert 'value="user" checked' in text
    assert 'value="ada"' in text
    assert await entries() == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "This isn’t valid JSON"),
        ('{"text": ', "This isn’t valid JSON"),
        ('{"text": NaN}', "This isn’t valid JSON"),
        ("[]", "Input should be a valid dictionary or"),
        ("{}", "<strong>text</strong> Field required"),
        ('{"text": 7}', "<strong>text</strong> Input should be a valid string"),
        (json.dumps({"text": "x" * 1_100_000}), "the limit is"),
    ],
)
async def test_wrong_data(operator: MakeOperator, data: str, says: str) -> None:
    """Data that the event does not take is told beside the form, which keeps it; nothing is sent."""
    root = await operator()
    client = visitor("lobby")
    async with everybody(client):
        text = await root.post("announce", {"to": "everyone", "data": data}, status=400, **SAID)
        await client.assert_silent()
    assert "Nothing was sent" in text
    assert says in html.unescape(text)
    assert f"{data}</textarea>" in html.unescape(text)
    assert await entries() == []


@pytest.mark.parametrize(
    "to",
    [
        {"to": "room", "name": ""},
        {"to": "room", "name": "wsrt.x"},
        {"to": "user", "name": ""},
        {"to": "connection", "name": "x"},
        {"to": "[" * 100_000},
        {"to": Target("room", "here", "lobby").token},
        {"to": "[", "name": "x"},
    ],
)
async def test_wrong_target(operator: MakeOperator, to: dict[str, str]) -> None:
    """A target that there cannot be is told, and nothing is sent."""
    root = await operator()
    text = await root.post("announce", {**to, "data": '{"text": "hi"}'}, status=400, **SAID)
    assert "Enter the name of the room or the id of the user." in text


async def test_announce_where_the_layer_is_down(operator: MakeOperator) -> None:
    """What the layer does not take is told, kept in the form, and not noted as sent."""
    layer = FakeLayer()
    with installed(layer):
        root = await operator()
        async with everybody(visitor("lobby")):
            layer.failing.add("group_send")
            text = await root.post("announce", {"to": "everyone", "data": '{"text": "hi"}'}, status=400, **SAID)
            assert "The channel layer didn’t accept the announcement" in text
            assert '{"text": "hi"}</textarea>' in html.unescape(text)
            assert await entries() == []
            layer.failing.clear()


async def test_announcer_alone(operator: MakeOperator) -> None:
    """Who may announce and nothing else comes back to the choice of events."""
    eve = await operator(ANNOUNCE)
    async with everybody(visitor("lobby")):
        data = {"to": "room", "name": "lobby", "data": '{"text": "hi"}'}
        response = await eve.client.post(page("announce", **SAID), data)
    assert response.headers["Location"] == page("announce")
    text = await eve.see("announce")
    assert "was sent to room" in text
    assert page("rooms") not in text


@pytest.mark.parametrize("query", [{"namespace": "chat", "event": "nothing"}, {"namespace": "x", "event": "said"}])
async def test_no_such_event(operator: MakeOperator, query: dict[str, str]) -> None:
    """An event that there is not leads to the choice of those that there are."""
    root = await operator()
    assert "Choose the event to send" in await root.see("announce", **query)


async def test_kept_events() -> None:
    """An event that is kept in history goes to rooms only."""

    class Kept(Event, name="kept", history=True):
        """Is kept."""

        text: str

    class KeepingConsumer(TypedEventConsumer):
        namespace = "keeping"
        out_events = (Kept,)

    assert KeepingConsumer.catalog.sends == {"kept": Kept}
    assert read_event("keeping", "kept", '{"text": "x"}', Room("a")) == Kept(text="x")
    with pytest.raises(InvalidAnnouncement, match="history"):
        read_event("keeping", "kept", '{"text": "x"}', Everyone())
    with pytest.raises(InvalidAnnouncement, match="declares"):
        read_event("keeping", "other", "{}", Everyone())
    client = Browser()
    await _login(client)
    text = await _get(client, page("announce", namespace="keeping", event="kept"))
    assert 'value="room" checked' in text
    assert 'value="everyone"' not in text
    assert "Declared with history" in await _get(client, page("announce", namespace="keeping"))


async def _login(client: Browser) -> None:
    await sync_to_async(lambda: client.force_login(make_user("announcer", VIEW, ANNOUNCE)))()


async def _get(client: Browser, url: str) -> str:
    return text_of(await sync_to_async(client.get)(url))


# Skeletons.


class Inner(Event):
    flag: bool
    inner: Inner | None = None


def test_skeleton() -> None:
    """A skeleton has every field, with its default, first choice or an empty value of its kind."""

    class Everything(Event, name="everything"):
        text: str
        number: int
        least: int = Field(ge=3)
        above: float = Field(gt=2)
        most: int = Field(le=-2)
        flag: bool
        names: list[str]
        pair: tuple[int, str]
        inner: Inner
        color: Literal["red", "blue"]
        example: str = Field(examples=["like this"])
        given: int = 7
        maybe: int | None
        at: dt.datetime
        day: dt.date
        time: dt.time
        id: uuid.UUID
        loop: dict[str, int]

    data: dict[str, Any] = json.loads(example_json(Everything))
    assert data.pop("at")[:4].isdigit()
    assert data.pop("day")[:4].isdigit()
    assert ":" in data.pop("time")
    assert data == {
        "text": "",
        "number": 0,
        "least": 3,
        "above": 3,
        "most": -2,
        "flag": False,
        "names": [],
        "pair": [0, ""],
        "inner": {"flag": False, "inner": None},
        "color": "red",
        "example": "like this",
        "given": 7,
        "maybe": 0,
        "id": "00000000-0000-0000-0000-000000000000",
        "loop": {},
    }
    assert Everything.model_validate_json(example_json(Everything))


class Thing:
    """Something that JSON schemas do not know."""


def test_skeleton_of_what_has_none() -> None:
    """An event without a schema, or whose data isn't an object, has a skeleton too."""

    class Odd(Event, name="odd", arbitrary_types_allowed=True):
        thing: Thing

    class Tags(RootEvent[list[str]], name="tags"):
        pass

    assert example_json(Odd) == "null"
    assert example_json(Tags) == "[]"
    assert read_event("chat", "echoed", '{"value": [1]}', Everyone())


def test_skeleton_of_what_holds_itself() -> None:
    """A skeleton ends where a model goes on for ever."""

    class Endless(Event, name="endless"):
        more: Endless

    assert example_json(Endless).count("more") < 10


def test_purpose() -> None:
    """The purpose of an event is the first paragraph of its own docstring."""

    class Documented(Event, name="documented"):
        """
        Says something,
        in two lines.

        And more.
        """

    class Undocumented(Event, name="undocumented"):
        pass

    assert summary_of(Documented) == "Says something, in two lines."
    assert summary_of(Undocumented) == ""


def test_problems() -> None:
    """Problems name the field, and do not give the input back."""
    with pytest.raises(InvalidAnnouncement) as error:
        read_event("chat", "price", '{"symbol": [], "value": "<secret>"}', Everyone())
    assert error.value.problems == (
        Problem("Input should be a valid string", "symbol"),
        Problem("Input should be a valid integer, unable to parse string as an integer", "value"),
    )
