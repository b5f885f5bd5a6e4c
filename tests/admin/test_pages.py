"""What the pages show."""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client as Browser

from tests.admin.conftest import MakeOperator, make_user, page
from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from wsrt.admin import queries, usernames
from wsrt.cluster import node
from wsrt.metrics import counters
from wsrt.permissions import PERMISSIONS, VIEW
from wsrt.stores import of_process
from wsrt.testing import Client, capture_publications, connect

pytestmark = pytest.mark.django_db(transaction=True)

ODD = [
    "<script>alert(1)</script>",
    "../",
    "a\"b'c",
    "a/b?c=d&e#f",
    "房间 ü \u202e",
    "x" * 255,
    " ",
    "a\nb",
    "%41",
    "{{ 1 }}",
]


@contextlib.asynccontextmanager
async def everybody(*clients: Client) -> AsyncIterator[None]:
    """Connections, until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client)
        if clients:
            await clients[-1].settle()
        yield


def visitor(room: str, user: str = "") -> Client:
    return connect(ChatConsumer, f"/?user={user}" if user else "/", kwargs={"room": room})


def rows(text: str, field: str) -> list[list[str]]:
    """The texts of the cells of a table, row by row."""
    table = re.search(rf'<table[^>]*data-rows="{field}".*?</table>', text, re.DOTALL)
    assert table, text
    body = re.sub(r"<template>.*?</template>", "", table[0], flags=re.DOTALL).partition("<tbody")[2]
    found = []
    for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL):
        cells = re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)
        texts = [
            re.sub(r"<span class=\"visually-hidden\".*?</span></span>", "", cell, flags=re.DOTALL) for cell in cells
        ]
        texts = [re.sub(r"<(\w+)[^>]* hidden>.*?</\1>", "", text, flags=re.DOTALL) for text in texts]
        found.append([" ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split()) for text in texts])
    return found


def links(text: str, name: str) -> list[str]:
    """Where the links to a page of ours lead."""
    start = re.escape(page(name))
    return [html.unescape(link) for link in re.findall(rf' href="({start}\?[^"]*)"', text)]


async def test_overview(operator: MakeOperator) -> None:
    """The overview counts connections by namespace and node, and shows no namespace of wsrt's own."""
    root = await operator()
    async with everybody(visitor("lobby", "ada"), visitor("lobby", "ada"), visitor("lobby")):
        text = await root.see("changelist")
    assert ["chat", "1", "1", "3", "Rooms Users Announce"] in rows(text, "namespaces")
    assert "wsrt." not in {row[0][:5] for row in rows(text, "namespaces")}
    ((host, pid, connections, refused, lease, lag, version, since, node),) = rows(text, "nodes")
    assert all(number.isdigit() for number in (pid, connections, refused))
    assert host and lease.endswith(" s") and lag.endswith(" ms")
    assert version and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", since) and re.fullmatch("[0-9a-f]{24}", node)
    assert "<strong>This process only:</strong>" in text


async def test_limits(operator: MakeOperator) -> None:
    """The overview shows the limits that were reached, with the setting and the counter."""
    root = await operator()
    counters.count("tasks_over_limit", times=3)
    async with everybody(visitor("lobby")):
        found = {row[0]: row for row in rows(await root.see("changelist"), "limits")}
    assert found["MAX_TASKS tasks_over_limit"][2] == "1"
    assert int(found["MAX_TASKS tasks_over_limit"][1]) >= 3


async def test_credentials(operator: MakeOperator) -> None:
    """The connections of a user show their session, and when their credentials expire."""

    class Expiring(ChatConsumer):
        async def expires_at(self) -> float | None:
            return 4102444800.0  # 2100-01-01 in UTC

    root = await operator()
    async with everybody(visitor("lobby", "ada"), connect(Expiring, "/?user=ada", kwargs={"room": "lobby"})):
        found = sorted(row[5] for row in rows(await root.see("user", user="ada"), "sessions"))
    assert found == ["", "until 2099-12-31 18:00:00"]


async def test_rooms(operator: MakeOperator) -> None:
    """Rooms are listed with their counts, and lead to their pages."""
    root = await operator(VIEW)
    async with everybody(visitor("lobby", "ada"), visitor("lobby", "ada"), visitor("garden")):
        text = await root.see("rooms", namespace="chat")
        assert sorted(rows(text, "rooms")) == [["garden", "0", "1", "1"], ["lobby", "1", "0", "2"]]
        assert f"{page('room')}?namespace=chat&room=lobby" in links(text, "room")
        assert rows(await root.see("rooms", namespace="chat", q="ARD"), "rooms") == [["garden", "0", "1", "1"]]
        assert "No rooms match." in await root.see("rooms", namespace="chat", q="nowhere")
        # Without a namespace: the one with most connections.
        assert '<option value="chat" selected>' in await root.see("rooms")


async def test_users(operator: MakeOperator) -> None:
    """Users are listed by id, once each, guests together; the search finds ids and names."""
    root = await operator()
    ada = await sync_to_async(User.objects.create_user)("ada lovelace")
    async with everybody(
        visitor("lobby", str(ada.pk)), visitor("garden", str(ada.pk)), visitor("x", "eve"), visitor("x")
    ):
        text = await root.see("users", namespace="chat")
        assert sorted(rows(text, "users")) == [["Guests", "1"], [f"ada lovelace {ada.pk}", "2"], ["eve", "1"]]
        assert f"{page('user')}?user=eve" in links(text, "user")
        assert rows(await root.see("users", namespace="chat", q="ev"), "users") == [["eve", "1"]]
        assert rows(await root.see("users", namespace="chat", q="LOVE"), "users") == [[f"ada lovelace {ada.pk}", "2"]]
        assert "No users match." in await root.see("users", namespace="chat", q="nobody")


async def test_names_are_for_those_who_may_see_users(operator: MakeOperator) -> None:
    """A viewer without permission for Django's users sees ids, and can't search by name."""
    eve = await operator(VIEW)
    ada = await sync_to_async(User.objects.create_user)("ada")
    async with everybody(visitor("lobby", str(ada.pk))):
        for name, query in {"users": {"namespace": "chat"}, "user": {"user": str(ada.pk)}}.items():
            text = await eve.see(name, **query)
            assert str(ada.pk) in text
            assert "ada" not in text
        assert "No users match." in await eve.see("users", namespace="chat", q="ada")


async def test_room(operator: MakeOperator) -> None:
    """The page of a room has its members with what they show, and their connections."""
    root = await operator()
    async with everybody(
        connect(HereConsumer, "/?user=ada&name=Ada", kwargs={"room": "lobby"}),
        connect(HereConsumer, "/?user=ada&name=Ada", kwargs={"room": "lobby"}),
        connect(HereConsumer, kwargs={"room": "lobby"}),
    ):
        text = await root.see("room", namespace="here", room="lobby")
    assert sorted(rows(text, "members")) == [["Guests", "1", ""], ["ada", "2", '{"name":"Ada"}']]
    figures = re.findall(r'data-show="(\w+)">(\d+)<', text)
    assert figures[:3] == [("users", "1"), ("guests", "1"), ("connections", "3")]
    found = sorted(rows(text, "sessions"), key=lambda row: row[1])
    assert [row[1] for row in found] == ["Guest", "ada", "ada"]
    for row in found:
        assert re.fullmatch(r"[0-9a-f]{24}-\d+ ?HereConsumer", row[0])
        assert re.fullmatch(r".+:\d+", row[2]) and row[6] == "Log out Disconnect"
        assert row[3] <= row[4]  # since, last seen


async def test_empty_room(operator: MakeOperator) -> None:
    """The page of an empty room says so."""
    root = await operator()
    assert "This room is empty." in await root.see("room", namespace="chat", room="nobody")


async def test_user(operator: MakeOperator) -> None:
    """The page of a user has their connections of all namespaces, and leads to the account."""
    root = await operator()
    ada = await sync_to_async(User.objects.create_user)("ada")
    key = str(ada.pk)
    async with everybody(
        visitor("lobby", key), connect(HereConsumer, f"/?user={key}", kwargs={"room": "x"}), visitor("lobby")
    ):
        text = await root.see("user", user=key)
    assert sorted(row[1] for row in rows(text, "sessions")) == ["chat", "here"]
    assert f'href="/admin/auth/user/{key}/change/"' in text
    assert "/change/" not in await root.see("user", user="eve")


async def test_details(operator: MakeOperator, settings: Any) -> None:
    """Address and agent are shown where the setting keeps them, and nowhere else."""
    root = await operator()
    headers = {"User-Agent": "<b>Netscape</b>"}
    for details in (False, True):
        settings.WSRT = {
            "PRESENCE": {
                "BACKEND": "wsrt.presence.memory.MemoryPresence",
                "OPTIONS": {"GRACE": 0, "DETAILS": details},
            }
        }
        client = connect(ChatConsumer, kwargs={"room": "lobby"}, headers=headers, scope={"client": ("192.0.2.7", 1)})
        async with everybody(client):
            text = await root.see("room", namespace="chat", room="lobby")
        assert ("192.0.2.7" in text) is details
        assert ("&lt;b&gt;Netscape" in text) is details
        assert "<b>Netscape" not in text


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
async def test_odd_names(operator: MakeOperator, name: str) -> None:
    """A name may be anything: it is escaped, and its links lead to its page."""
    root = await operator()
    client = connect(ChatConsumer, kwargs={"room": name})
    async with everybody(client):
        await client.consumer.set_user_id(name)
        await client.settle()
        for listed, kind, key in (("rooms", "room", "room"), ("users", "user", "user")):
            text = await root.see(listed, namespace="chat")
            assert "<script>alert" not in text
            (link,) = [link for link in links(text, kind) if parse_qs(urlsplit(link).query).get(key) == [name]]
            assert urlsplit(link).path == page(kind)
            shown = await root.client.get(link)
            assert shown.status_code == 200
            text = shown.content.decode()
            assert "<script>alert" not in text
            assert f'class="wsrt-name">{html.escape(name)}</bdi>' in text
            assert len(rows(text, "sessions")) == 1


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("room", {"namespace": "chat", "room": ""}),
        ("room", {"namespace": "chat", "room": "wsrt.everyone"}),
        ("room", {"room": "lobby"}),
        ("room", {"namespace": "wsrt.admin", "room": "lobby"}),
        ("rooms", {"namespace": "wsrt.admin"}),
        ("users", {"namespace": "wsrt.admin"}),
        ("user", {}),
    ],
)
async def test_no_such_page(operator: MakeOperator, name: str, query: dict[str, str]) -> None:
    """Invalid names, and namespaces of wsrt's own, have no page."""
    root = await operator()
    await root.see(name, status=404, **query)


async def test_unknown_namespace(operator: MakeOperator) -> None:
    """An unknown namespace is shown as empty."""
    root = await operator()
    assert "No rooms." in await root.see("rooms", namespace="elsewhere")


async def test_no_consumers(operator: MakeOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no consumers at all the pages are empty."""

    async def nothing() -> list[str]:
        return []

    monkeypatch.setattr("wsrt.admin.views.visible_realms", nothing)
    root = await operator()
    async with everybody(visitor("lobby")):
        assert "No rooms." in await root.see("rooms")
        assert "No users are connected." in await root.see("users")


async def test_paging(operator: MakeOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lists come in pages; the pages together have everybody."""
    monkeypatch.setattr(queries, "PAGE_ROWS", 5)
    root = await operator()
    async with everybody(*(visitor(f"room {number}", f"user {number}") for number in range(12))):
        for name, field in (("rooms", "rooms"), ("users", "users")):
            seen: set[str] = set()
            url = page(name, namespace="chat")
            for _ in range(12):
                text = (await root.client.get(url)).content.decode()
                seen |= {row[0] for row in rows(text, field)}
                following = re.search(r'data-param="next" href="([^"]*)"( hidden)?', text)
                assert following
                if following[2]:
                    break
                url = page(name) + html.unescape(following[1])
                assert "namespace=chat" in url
            assert seen == {f"{name[:4]} {number}" for number in range(12)}
            assert "First page" in text


async def test_watch(operator: MakeOperator) -> None:
    """A page says what it shows, for the socket to ask the same."""
    root = await operator()
    text = await root.see("rooms", namespace="chat", q="<b>")
    watch = re.search(r'data-watch="([^"]*)"', text)
    assert watch
    data = {"namespace": "chat", "search": "<b>", "after": None}
    assert json.loads(html.unescape(watch[1])) == {"event": "rooms.watch", "data": data}
    assert 'data-url="/ws/wsrt/admin/?site=admin"' in text


async def test_no_inline_code(operator: MakeOperator) -> None:
    """Nothing on the pages needs an exception in a content security policy."""
    root = await operator()
    async with everybody(visitor("lobby", "ada")):
        for name, query in {
            "changelist": {},
            "rooms": {},
            "users": {},
            "room": {"namespace": "chat", "room": "lobby"},
            "user": {"user": "ada"},
            "announce": {"namespace": "chat", "event": "said"},
            "log": {},
        }.items():
            text = await root.see(name, **query)
            assert not re.search(r"<style| style=|<script>|\son\w+=|javascript:|(src|href)=.https?:", text)


async def test_buttons(operator: MakeOperator) -> None:
    """Who may only look has no buttons."""
    eve = await operator(VIEW)
    async with everybody(visitor("lobby", "ada")):
        for name, query in {"room": {"namespace": "chat", "room": "lobby"}, "user": {"user": "ada"}}.items():
            text = await eve.see(name, **query)
            assert not re.search(r">\s*(Disconnect|Announce)", text)
            assert page("disconnect") not in text.replace(f'action="{page("disconnect")}"', "")
        assert "Announce" not in await eve.see("changelist")


# Where nothing can be shown.


def signed_in() -> Browser:
    client = Browser()
    client.force_login(make_user("operator", *PERMISSIONS))
    return client


@pytest.mark.parametrize(
    ("presence", "says"),
    [
        ({"BACKEND": "wsrt.presence.memory.MemoryPresence"}, "this process holds no connections"),
        ({"BACKEND": "nowhere.Nothing"}, "No module named &#x27;nowhere&#x27;"),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "OPTIONS": {"SPEED": 9}}, "no option &#x27;speed&#x27;"),
        (
            {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis://127.0.0.1:1/0"},
            "The presence store doesn’t respond",
        ),
    ],
)
def test_trouble(settings: Any, monkeypatch: pytest.MonkeyPatch, presence: dict[str, Any], says: str) -> None:
    """A store that is missing or down is told, with what to do about it, and the pages stand."""
    # As in a process that serves no consumers, outside of tests.
    monkeypatch.setattr(of_process, "is_under_test", lambda: False)
    monkeypatch.setattr(node, "is_server", lambda: False)
    settings.WSRT = {"PRESENCE": presence}
    client = signed_in()
    for name, query in {
        "changelist": {},
        "rooms": {},
        "users": {},
        "room": {"namespace": "chat", "room": "lobby"},
        "user": {"user": "ada"},
    }.items():
        text = client.get(page(name, **query)).content.decode()
        assert says in text
        assert "<h1>" in text
        assert "wsrt-live" not in text.replace("wsrt-live.", "")


def test_no_layer(settings: Any) -> None:
    """Where presence is shared and the layer is not, actions cannot reach what is shown: the pages say so."""
    client = signed_in()
    warning = "Actions reach this process only"
    assert warning not in client.get(page("log")).content.decode()
    settings.WSRT = {"PRESENCE": {"BACKEND": "wsrt.presence.redis.RedisPresence"}}
    assert warning in client.get(page("log")).content.decode()


def test_trouble_and_actions(settings: Any) -> None:
    """Disconnecting and announcing work while presence is down, without a count of the connections."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "nowhere.Nothing"}}
    client = signed_in()
    with capture_publications():  # somebody hears it
        text = client.post(page("disconnect"), {"target": '["room", "chat", "lobby"]'}).content.decode()
        assert "The number of connections is unknown" in text
        done = client.post(page("disconnect"), {"target": '["room", "chat", "lobby"]', "confirm": "1"}, follow=True)
        assert "Disconnected: room “lobby” of chat." in done.content.decode()
        data = {"to": "everyone", "data": '{"text": "hi"}'}
        text = client.post(page("announce", namespace="chat", event="said"), data).content.decode()
        assert "The number of recipients is unknown" in text


def test_nobody_hears(settings: Any) -> None:
    """In a process that holds no connections, without a layer, nothing is done, noted or said to be done."""
    client = signed_in()
    data = {"target": '["room", "chat", "lobby"]', "confirm": "1"}
    done = client.post(page("disconnect"), data, follow=True).content.decode()
    assert "Not disconnected: the channel layer “default” doesn’t reach other processes" in done
    announcement = {"to": "everyone", "data": '{"text": "hi"}', "confirm": "1"}
    response = client.post(page("announce", namespace="chat", event="said"), announcement)
    assert response.status_code == 400
    assert "doesn’t reach other processes" in response.content.decode()
    assert not LogEntry.objects.exists()


async def test_page_that_is_none(operator: MakeOperator) -> None:
    """A page of a list that does not exist is not found."""
    root = await operator(VIEW)
    async with everybody(visitor("lobby", "ada")):
        for name in ("users", "rooms"):
            await root.see(name, namespace="chat", after="zz", status=404)


async def test_search_among_many_accounts(operator: MakeOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search by name finds the connected users, however many accounts match, or the page says why it doesn't."""
    root = await operator()
    users = await User.objects.abulk_create(User(username=f"smith{number:04}") for number in range(120))
    note = re.compile(r'<p class="wsrt-note" data-if="is_cut"( hidden)?>')
    async with everybody(*(visitor("lobby", str(users[number].pk)) for number in (3, 119))):
        text = await root.see("users", namespace="chat", q="smith")
        assert [row[0] for row in rows(text, "users")] == [f"smith{n:04} {users[n].pk}" for n in (3, 119)]
        assert note.findall(text) == [" hidden"]
        monkeypatch.setattr(usernames, "MAX_MATCHES", 10)
        text = await root.see("users", namespace="chat", q="smith")
        assert len(rows(text, "users")) == 1
        assert note.findall(text) == [""]
