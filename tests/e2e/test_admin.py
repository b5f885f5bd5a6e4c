"""The admin's "Realtime" in a real browser: two server processes on one Redis, and three thousand connections."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocket, expect

from tests.support import report
from tests.support.axe import faint, violations
from tests.support.browser import chromium
from tests.support.client import receive
from tests.support.crowd import Crowd
from tests.support.processes import ROOT, RedisServer, Server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.servers]

CROWD = 3000

DISCONNECTED = (4410, "Disconnected by the server")
LOGGED_OUT = (4401, "Credentials expired")

ODD = '<script>alert("x")</script>/../ü 房间'

USERS = """
import django; django.setup()
from django.contrib.auth.models import Permission, User
from django.core.management import call_command

call_command("migrate", verbosity=0)
User.objects.create_superuser("root", password="root")
for name, permissions in {"eve": [], "viewer": ["view_realtime"], "leaver": ["view_realtime"]}.items():
    user = User.objects.create_user(name, password=name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
for name in ("ada", "grace", "linus"):
    User.objects.create_user(name)
"""

REVOKE = """
import django; django.setup()
from django.contrib.auth.models import User
from wsrt import permissions_changed

user = User.objects.get(username="leaver")
user.user_permissions.clear()
permissions_changed(user)
"""


@dataclass
class Cluster:
    one: Server
    two: Server
    crowd: Crowd
    options: dict[str, Any]

    def run(self, script: str) -> None:
        """Run a script in a process that holds no connections."""
        server = Server("uvicorn", **self.options)
        environment = {**os.environ, **server.environment}
        subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    database = tmp_path_factory.mktemp("admin") / "admin.sqlite3"
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        store = {
            "BACKEND": "wsrt.presence.redis.RedisPresence",
            "LOCATION": redis.url,
            "OPTIONS": {"GRACE": 1, "DETAILS": True},
        }
        options: dict[str, Any] = {
            "application": "tests.apps.admin:application",
            "layer": "pubsub",
            "redis": redis.url,
            "wsrt": {"PRESENCE": store},
            "environment": {"WSRT_TEST_DB": str(database)},
        }
        cluster = Cluster(Server("daphne", **options), Server("uvicorn", **options), Crowd(), options)
        cluster.run(USERS)
        for part in (cluster.one, cluster.two, cluster.crowd):
            stack.enter_context(part)
        cluster.crowd.come(crowd_urls(cluster.one, cluster.two))
        yield cluster


def crowd_urls(*servers: Server) -> dict[Any, str]:
    """Two connections a user, on two processes; every tenth connection is a guest's."""
    rooms = ["lobby", "engineering", "random", ODD, "garden"]
    urls: dict[Any, str] = {}
    for number in range(CROWD):
        room = rooms[number % 5] if number % 3 else f"room {number % 250}"
        user = f"?user=member-{number // 2}" if number % 10 else ""
        urls[number] = servers[number % 2].url(f"/chat/{quote(room, safe='')}/{user}")
    return urls


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as instance:
        yield instance


def enter(browser: Browser, server: Server, name: str, **options: Any) -> BrowserContext:
    """Sign in to the admin."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{server.port}", **options)
    page = context.new_page()
    page.goto("/admin/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
    page.close()
    return context


def address(name: str = "", **query: str) -> str:
    return f"/admin/wsrt/realtime/{f'{name}/' if name else ''}{f'?{urlencode(query)}' if query else ''}"


def open_live(context: BrowserContext, url: str) -> Page:
    """Open a page, and wait until it is live."""
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#wsrt-live")).to_have_text("Live", timeout=20_000)
    return page


def sessions(page: Page) -> Any:
    return page.get_by_role("table", name="Connections").locator("tbody tr:not(.wsrt-gone)")


def test_counts(browser: Browser, cluster: Cluster) -> None:
    """Either process shows all connections of both."""
    for server in (cluster.one, cluster.two):
        context = enter(browser, server, "root")
        page = open_live(context, address())
        chat = page.get_by_role("row", name=re.compile("^chat "))
        expect(chat.get_by_role("cell").nth(2)).to_have_text(str(CROWD), timeout=20_000)
        expect(page.get_by_role("table", name="Nodes").locator("tbody tr")).to_have_count(2)
        expect(page.get_by_text("This process only")).to_have_count(0)
        context.close()


def test_kick_user(browser: Browser, cluster: Cluster) -> None:
    """A user who is disconnected loses the sockets on both processes, with 4410. Other users keep theirs."""
    context = enter(browser, cluster.one, "root")
    page = open_live(context, address("user", user="member-8"))
    expect(sessions(page)).to_have_count(2)
    page.get_by_role("button", name="Disconnect this user").click()
    expect(page.get_by_text("2 connections")).to_be_visible()
    page.get_by_role("button", name="Yes, disconnect them").click()
    assert cluster.crowd.closes([16, 17]) == [DISCONNECTED, DISCONNECTED]
    expect(page.get_by_text("Disconnected: user “member-8”, 2 connections.")).to_be_visible()
    expect(page.get_by_text("No connections.")).to_be_visible()
    page.get_by_role("link", name="Log", exact=True).click()
    expect(page.get_by_role("row", name=re.compile("root.*member-8"))).to_contain_text("Disconnected (4410): 2")
    assert all(cluster.crowd.sockets[number].close_code is None for number in (14, 15, 18, 19))
    context.close()


def test_kick_connection(browser: Browser, cluster: Cluster) -> None:
    """The button of a row that came by itself disconnects that connection alone."""
    context = enter(browser, cluster.two, "root")
    page = open_live(context, address("user", user="kick"))
    page.evaluate("window.isTheSame = true")
    for name in ("kick-1", "kick-2"):
        cluster.crowd.come({name: cluster.one.url("/chat/lobby/?user=kick")})
    expect(sessions(page)).to_have_count(2)
    assert page.evaluate("window.isTheSame")
    first = sessions(page).first
    first.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_text(re.compile("^Disconnected: connection"))).to_be_visible()
    expect(sessions(page)).to_have_count(1)
    gone = [name for name in ("kick-1", "kick-2") if cluster.crowd.sockets[name].close_code is not None]
    assert len(gone) == 1
    assert cluster.crowd.closes(gone) == [DISCONNECTED]
    cluster.crowd.leave({"kick-1", "kick-2"} - set(gone))
    context.close()


def test_log_out(browser: Browser, cluster: Cluster) -> None:
    """The second button of a row closes its connection with 4401; the page of a user does so on both processes."""
    context = enter(browser, cluster.two, "root")
    page = open_live(context, address("user", user="out"))
    names = ["out-1", "out-2", "out-3"]
    for name, server in zip(names, (cluster.one, cluster.two, cluster.one), strict=True):
        cluster.crowd.come({name: server.url("/chat/lobby/?user=out")})
    expect(sessions(page)).to_have_count(3)
    sessions(page).first.get_by_role("button", name="Log out").click()
    expect(page.get_by_text(re.compile("^Logged out of sockets: connection"))).to_be_visible()
    expect(sessions(page)).to_have_count(2)
    page.get_by_role("button", name="Log out of sockets").click()
    expect(page.get_by_text("Sessions and tokens stay valid:")).to_be_visible()
    page.get_by_role("button", name="Yes, log them out").click()
    expect(page.get_by_text("Logged out of sockets: user “out”, 2 connections.")).to_be_visible()
    assert cluster.crowd.closes(names) == [LOGGED_OUT] * 3
    context.close()


def test_kick_room(browser: Browser, cluster: Cluster) -> None:
    """A room of any name is disconnected, on both processes."""
    room = f"{ODD}?&#"
    names = ["a", "b", "c"]
    servers = [cluster.one, cluster.two, cluster.two]
    cluster.crowd.come(
        {name: server.url(f"/chat/{quote(room, safe='')}/") for name, server in zip(names, servers, strict=True)}
    )
    context = enter(browser, cluster.one, "root")
    page = open_live(context, address("rooms", namespace="chat", q=room))
    page.get_by_role("link", name=room).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Room {room}")
    page.get_by_role("button", name="Disconnect everyone in this room").click()
    expect(page.get_by_text("3 connections")).to_be_visible()
    page.get_by_role("button", name="Yes, disconnect them").click()
    assert cluster.crowd.closes(names) == [DISCONNECTED] * 3
    expect(page.get_by_text("This room is empty.")).to_be_visible()
    context.close()


def test_announce(browser: Browser, cluster: Cluster) -> None:
    """An announcement is written, corrected, confirmed, and heard on both processes."""
    context = enter(browser, cluster.one, "root")
    cluster.crowd.come(
        {name: server.url("/chat/news/") for name, server in {1e6: cluster.one, 2e6: cluster.two}.items()}
    )
    page = open_live(context, address("room", namespace="chat", room="news"))
    expect(page.locator("[data-show=connections]")).to_have_text("2")
    page.get_by_role("link", name="Announce to this room").click()
    page.get_by_role("link", name="said").click()
    data = page.get_by_label("Data, as JSON")
    expect(data).to_have_value('{\n  "text": ""\n}')
    data.fill('{"text": 7}')
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("text Input should be a valid string")).to_be_visible()
    data.fill('{"text": "back at <b>six</b>"}')
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("2 connections")).to_be_visible()
    page.get_by_role("button", name="Yes, send it").click()
    expect(page.get_by_text("“said” was sent to room “news” of chat.")).to_be_visible()
    for name in (1e6, 2e6):
        heard = cluster.crowd.run(receive(cluster.crowd.sockets[name]))
        assert heard == {"event": "said", "data": {"text": "back at <b>six</b>"}, "room": "news"}
    cluster.crowd.leave([1e6, 2e6])
    context.close()


def test_live(browser: Browser, cluster: Cluster) -> None:
    """Who comes and goes is shown without a reload; focus and selection stay where they are."""
    context = enter(browser, cluster.one, "root")
    here = {name: cluster.two.url(f"/here/live/?user={name}&name={name.title()}") for name in ("ann", "bob", "cyd")}
    cluster.crowd.come({"ann": here["ann"]})
    page = open_live(context, address("room", namespace="here", room="live"))
    members = page.get_by_role("table", name="Members").locator("tbody tr")
    expect(members).to_have_count(1)
    page.evaluate("window.isTheSame = true")
    page.get_by_role("link", name="ann", exact=True).first.focus()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1 bdi'))")
    cluster.crowd.come({name: here[name] for name in ("bob", "cyd")})
    expect(members).to_have_count(3)
    expect(members.filter(has_text="bob")).to_contain_text('{"name":"Bob"}')
    expect(sessions(page)).to_have_count(3)
    expect(page.locator("[data-show=users]")).to_have_text("3")
    assert page.evaluate("document.activeElement.textContent") == "ann"
    assert page.evaluate("String(getSelection())") == "live"
    # While somebody is at a table its rows stay where they are: what is gone is marked.
    cluster.crowd.leave(["ann"])
    expect(members.filter(has_text="ann")).to_have_class(re.compile("wsrt-gone"))
    expect(members).to_have_count(3)
    page.get_by_role("link", name="Overview").focus()
    expect(members).to_have_count(2)
    expect(sessions(page)).to_have_count(2)
    cluster.crowd.leave(["bob", "cyd"])
    expect(page.get_by_text("This room is empty.")).to_be_visible()
    assert page.evaluate("window.isTheSame")
    context.close()


def test_names(browser: Browser, cluster: Cluster) -> None:
    """The link to a user is their name, with the id next to it; one without a name is known by the id."""
    context = enter(browser, cluster.one, "root")
    page = open_live(context, address("room", namespace="here", room="names"))
    # Rows that come by themselves, then rows of the server.
    cluster.crowd.come({user: cluster.two.url(f"/here/names/?user={user}") for user in ("5", "nameless")})
    for _ in range(2):
        for table in ("Members", "Connections"):
            rows = page.get_by_role("table", name=table).locator("tbody tr")
            expect(rows).to_have_count(2)
            expect(rows.get_by_role("link", name="ada", exact=True)).to_have_count(1)
            expect(rows.filter(has_text="ada").locator(".wsrt-called")).to_have_text("5")
            expect(rows.get_by_role("link", name="nameless", exact=True)).to_have_count(1)
            expect(rows.filter(has_text="nameless").locator(".wsrt-called")).to_be_hidden()
        page.reload()
    page.get_by_role("link", name="ada", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^User 5 · ada$"))
    cluster.crowd.leave(["5", "nameless"])
    context.close()


def test_counts_are_explained(browser: Browser, cluster: Cluster) -> None:
    """The nodes count more than the namespaces, by exactly the open pages of the admin; the page says so."""
    context = enter(browser, cluster.one, "root")
    page = open_live(context, address())
    nodes = page.get_by_role("table", name="Nodes").locator("tbody [data-field=connections]")
    shown = page.locator("b[data-show=connections]")
    count = "() => document.querySelectorAll('[data-rows=nodes] tbody [data-field=connections]')"
    more = f"""() => [...({count})()].reduce((sum, cell) => sum + Number(cell.textContent), 0)
        - Number(document.querySelector('b[data-show=connections]').textContent) === 1"""
    expect(nodes).to_have_count(2)
    expect(shown).not_to_be_empty()
    eventually(lambda: page.evaluate(more), "the counts to differ by this page", 30)
    expect(page.get_by_text("Nodes also count the live pages of this admin, such as this one.")).to_be_visible()
    expect(page.get_by_text("Their counts are some seconds old")).to_be_visible()
    context.close()


def test_times_are_as_on_the_server(browser: Browser, cluster: Cluster) -> None:
    """What the page writes is what the server wrote: a reload changes nothing."""
    cluster.crowd.come({"tim": cluster.two.url("/here/times/?user=tim")})
    context = enter(browser, cluster.one, "root", timezone_id="Asia/Tokyo", locale="ja-JP")
    url = address("user", user="tim")
    plain = enter(browser, cluster.one, "root", java_script_enabled=False).new_page()
    plain.goto(url)
    page = open_live(context, url)
    expect(sessions(page)).to_have_count(1)
    # The cells that do not change: of the connection, its namespace, node and beginning.
    for cell in ("th", "td:nth-child(2)", "td:nth-child(3)", "td:nth-child(4)"):
        assert sessions(page).locator(cell).inner_text() == sessions(plain).locator(cell).inner_text()
    cluster.crowd.leave(["tim"])
    plain.context.close()
    context.close()


def test_without_the_permission(browser: Browser, cluster: Cluster) -> None:
    """Who lacks the permission sees neither the page nor the way there, and the socket refuses them."""
    context = enter(browser, cluster.two, "eve")
    page = context.new_page()
    page.goto("/admin/")
    expect(page.get_by_text("Realtime")).to_have_count(0)
    for url in (address(), address("room", namespace="chat", room="lobby"), address("announce"), address("log")):
        response = page.goto(url)
        assert response is not None
        assert response.status == 403
    page.goto("/admin/")
    code = page.evaluate(
        """() => new Promise((resolve) => {
            const socket = new WebSocket(`ws://${location.host}/ws/wsrt/admin/`);
            socket.onclose = (event) => resolve(event.code);
        })"""
    )
    assert code == 4403
    context.close()


def test_viewer(browser: Browser, cluster: Cluster) -> None:
    """Who may only look has no buttons, on rows that come by themselves either."""
    context = enter(browser, cluster.one, "viewer")
    page = open_live(context, address("room", namespace="chat", room="looked at"))
    cluster.crowd.come({"seen": cluster.two.url("/chat/looked%20at/?user=seen")})
    expect(sessions(page)).to_have_count(1)
    expect(page.get_by_text(re.compile("Disconnect|Announce"))).to_have_count(0)
    expect(page.locator("#content-main button")).to_have_count(0)
    cluster.crowd.leave(["seen"])
    context.close()


def test_revoked(browser: Browser, cluster: Cluster) -> None:
    """A page whose permission is taken away says so, and stays away."""
    context = enter(browser, cluster.one, "leaver")
    page = open_live(context, address())
    cluster.run(REVOKE)
    expect(page.locator("#wsrt-live")).to_have_text("You no longer have access to this page: reload it")
    response = page.reload()
    assert response is not None
    assert response.status == 403
    context.close()


def test_server_restart(browser: Browser, cluster: Cluster) -> None:
    """A page comes back to a server that was killed and started again."""
    with Server("uvicorn", **cluster.options) as server:
        context = enter(browser, server, "root")
        page = open_live(context, address("user", user="late"))
        server.kill()
        expect(page.locator("#wsrt-live")).to_have_text("Connection lost, reconnecting…")
        server.start()
        expect(page.locator("#wsrt-live")).to_have_text("Live", timeout=30_000)
        cluster.crowd.come({"late": cluster.one.url("/chat/lobby/?user=late")})
        expect(sessions(page)).to_have_count(1)
        cluster.crowd.leave(["late"])
        context.close()


def test_without_the_route(browser: Browser, cluster: Cluster) -> None:
    """Where the route is missing the page tries a few times, says so, and does not try again on the next page."""
    options = {**cluster.options, "application": "tests.apps.admin:without_route"}
    with Server("uvicorn", **options) as server:
        context = enter(browser, server, "root")
        page = context.new_page()
        tries: list[str] = []
        page.on("websocket", lambda socket: tries.append(socket.url))
        page.clock.install()
        page.goto(address("user", user="member-20"))
        expect(sessions(page)).to_have_count(1)
        expect(page.locator("#wsrt-live")).to_be_hidden()
        # Time passes in steps: a try is to fail by the server's answer, not for want of one.
        eventually(lambda: len(tries) == 3 or page.clock.run_for(500) or page.wait_for_timeout(50))
        eventually(lambda: page.clock.run_for(500) or page.locator("#wsrt-live").is_visible())
        expect(page.locator("#wsrt-live")).to_have_text("Not live: reload the page to update it")
        page.goto(address("rooms"))
        expect(page.locator("#wsrt-live")).to_have_text("Not live: reload the page to update it")
        page.clock.run_for(120_000)
        assert len(tries) == 3
        context.close()


def test_another_version(browser: Browser, cluster: Cluster) -> None:
    """A page that another version of the server has rendered asks to be reloaded, and requests nothing."""
    context = enter(browser, cluster.one, "viewer")
    page = context.new_page()
    asked: list[Any] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: asked.append(frame)))

    # Not by a page that the test serves: Chromium keeps those from the sockets of this machine.
    page.add_init_script(
        """new MutationObserver(() => {
            const status = document.getElementById("wsrt-live");
            if (status !== null) status.dataset.schema = "0123";
        }).observe(document, {childList: true, subtree: true});"""
    )
    page.goto(address())
    expect(page.locator("#wsrt-live")).to_have_text("Not live: reload the page to update it", timeout=20_000)
    assert [json.loads(frame)["event"] for frame in asked] == ["wsrt.resume"]
    context.close()


def test_schema(browser: Browser, cluster: Cluster) -> None:
    """The schema is filtered while one types; a link to an event that is hidden shows it."""
    context = enter(browser, cluster.one, "viewer")
    page = context.new_page()
    page.goto(address("schema"))
    page.evaluate("window.isTheSame = true")
    price = page.get_by_role("article", name="price")
    everything = page.get_by_role("article").count()
    page.get_by_label("Event, model or field contains").fill("PRICE")
    expect(price).to_have_count(2)
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("navigation", name="Events of Chat").get_by_role("link")).to_have_text(["price", "price"])
    page.get_by_label("Event, model or field contains").fill("no such thing")
    expect(page.get_by_text("No events match.")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)
    page.evaluate("location.hash = 'Chat.sends.price'")
    expect(page.get_by_role("article")).to_have_count(everything)
    expect(price.last).to_be_in_viewport()
    assert page.evaluate("window.isTheSame")
    with page.expect_download() as begun:
        page.get_by_role("link", name="JSON Schema").click()
    assert "Chat.sends" in json.loads(Path(begun.value.path()).read_text())["$defs"]
    context.close()


def test_schema_without_javascript(browser: Browser, cluster: Cluster) -> None:
    """Without the script the filter works by reload."""
    context = enter(browser, cluster.one, "viewer", java_script_enabled=False)
    page = context.new_page()
    page.goto(address("schema"))
    page.get_by_label("Event, model or field contains").fill("price")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("article")).to_have_count(2)
    context.close()


def test_hashed_names(browser: Browser, cluster: Cluster, tmp_path: Path) -> None:
    """The pages are live where static files have hashes in their names, and no others are there."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.hashed_settings", "WSRT_TEST_STATIC": str(tmp_path)}
    environment = {**cluster.options["environment"], **settings}
    options = {**cluster.options, "application": "tests.apps.admin:collected", "environment": environment}
    with Server("uvicorn", **options) as server:
        collect = [sys.executable, "-m", "django", "collectstatic", "--no-input", "--verbosity", "0"]
        subprocess.run(collect, env={**os.environ, **server.environment}, cwd=ROOT, check=True)
        for name in ("admin", "client"):
            (tmp_path / f"wsrt/{name}.js").unlink()
        context = enter(browser, server, "root")
        open_live(context, address())
        context.close()


def test_pages_that_nobody_looks_at(browser: Browser, cluster: Cluster) -> None:
    """A page that was hidden for a minute closes its socket, and opens one when somebody looks at it."""
    context = enter(browser, cluster.one, "root")
    page = context.new_page()
    page.clock.install()
    sockets: list[WebSocket] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    page.goto(address())
    expect(page.locator("#wsrt-live")).to_have_text("Live")

    def turn(state: str) -> None:
        page.evaluate(
            """(state) => {
                Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            state,
        )

    turn("hidden")
    # The server's pings do not come faster: on the way the link is taken for dead, and dialed again.
    page.clock.run_for(65_000)
    eventually(lambda: all(socket.is_closed() for socket in sockets) or page.wait_for_timeout(50))
    count = len(sockets)
    for _ in range(10):
        page.clock.run_for(15_000)
        page.wait_for_timeout(20)
    assert len(sockets) == count
    turn("visible")
    eventually(lambda: len(sockets) == count + 1 or page.wait_for_timeout(50))
    expect(page.locator("#wsrt-live")).to_have_text("Live")
    context.close()


def test_without_javascript(browser: Browser, cluster: Cluster) -> None:
    """Everything works without the script, by reload."""
    context = enter(browser, cluster.two, "root", java_script_enabled=False)
    page = context.new_page()
    page.goto(address("users", namespace="chat", q="member-30"))
    page.get_by_role("link", name="member-30", exact=True).click()
    expect(page.locator("#wsrt-live")).to_be_hidden()
    sessions(page).first.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_text(re.compile("^Disconnected: connection"))).to_be_visible()
    context.close()


def test_hidden_pages_are_not_kept_up_to_date(browser: Browser, cluster: Cluster) -> None:
    """A page that is left closes its socket, and opens it when it is come back to."""
    context = enter(browser, cluster.one, "root")
    page = open_live(context, address())
    with page.expect_event("websocket") as opened:
        page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    assert opened.value.url.endswith("/ws/wsrt/admin/?site=admin")
    expect(page.locator("#wsrt-live")).to_have_text("Live")
    context.close()


PAGES = {
    "overview": address(),
    "rooms": address("rooms", namespace="chat"),
    "users": address("users", namespace="chat"),
    "room": address("room", namespace="here", room="gallery"),
    "room-odd": address("room", namespace="chat", room=ODD),
    "user": address("user", user="2"),
    "events": address("announce"),
    "announce": address("announce", namespace="chat", event="said", room="lobby"),
    "schema": address("schema"),
    "log": address("log"),
}

LABELLED = """() => [...document.querySelectorAll("#content-main :is(input:not([type=hidden]), select, textarea)")]
    .filter((field) => field.type !== "submit" && !field.labels.length).map((field) => field.outerHTML)"""


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (390, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(390, "light", marks=pytest.mark.slow),
    ],
)
def test_looks(browser: Browser, cluster: Cluster, scheme: str, width: int, tmp_path_factory: Any) -> None:
    """Each page fits its window, can be read and used by all, and says nothing on the console; pictures are kept."""
    folder = Path(os.environ.get("WSRT_SCREENSHOTS") or tmp_path_factory.getbasetemp() / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    people = [("2", "Ada"), ("2", "Ada"), ("3", "Grace"), ("", "")]
    urls = {
        f"gallery-{number}": (cluster.one, cluster.two)[number % 2].url(f"/here/gallery/?user={user}&name={name}")
        for number, (user, name) in enumerate(people)
    }
    cluster.crowd.come(urls)
    context = enter(browser, cluster.one, "root", color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    complaints: list[str] = []
    problems: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def look(name: str) -> None:
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        for between in (*((1025, 1000, 768) if width > 1000 else (320,)), width):
            page.set_viewport_size({"width": between, "height": 844})
            assert page.evaluate(overflow) <= 0, f"{name} at {between}"
        assert page.evaluate(LABELLED) == []
        number = len(complaints)
        problems.extend(f"{name}: {found}" for found in (*violations(page, "#content"), *faint(page, "#content")))
        # The content security policy complains of styles that axe sets.
        del complaints[number:]
        page.screenshot(
            path=folder / f"{name}-{scheme}-{width}.png", full_page=name not in {"rooms", "users", "room-odd"}
        )

    for name, url in PAGES.items():
        page.goto(url)
        if page.locator("#wsrt-live").count():
            expect(page.locator("#wsrt-live")).to_have_text("Live")
        look(name)
    page.goto(PAGES["room-odd"])
    page.get_by_role("button", name="Disconnect everyone in this room").click()
    look("confirm")
    page.goto(PAGES["announce"])
    page.get_by_label("Data, as JSON").fill('{"text": "hello"}')
    page.get_by_role("button", name="Send").click()
    look("announce-confirm")
    assert complaints == []
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Data, as JSON").fill('{"text": 7}')
    page.get_by_role("button", name="Send").click()
    look("announce-wrong")
    assert not problems, "\n".join(problems)
    context.close()
    cluster.crowd.leave(urls)
    report.note("Screenshots of the admin", f"{scheme} {width}: {folder}")
