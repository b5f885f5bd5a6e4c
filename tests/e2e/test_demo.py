"""The demo in a real browser: two people, one room, what the panel shows, a server that restarts."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support import commands, report
from tests.support.axe import faint, violations
from tests.support.browser import chromium
from tests.support.frames import Frames, Seen
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process, is_listening
from wsrt.admin.live import AdminConsumer
from wsrt.schema.asyncapi import json_schema
from wsrt.schema.description import describe

pytestmark = pytest.mark.browser


class Demo(Process):
    """The demo's own server, as ``make demo`` starts it."""

    def __init__(self, database: Path) -> None:
        self.port = free_port()
        command = [sys.executable, str(ROOT / "manage.py"), "runserver", "--noreload", f"127.0.0.1:{self.port}"]
        super().__init__(command, environment(database))

    def wait_until_ready(self) -> None:
        self._until(lambda: is_listening(self.port), "the demo")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def environment(database: Path) -> dict[str, str]:
    return {"DEMO_DB": str(database), "DJANGO_SETTINGS_MODULE": "demo_project.settings"}


def manage(database: Path, *arguments: str) -> str:
    """Return the output of a command of the demo with this database."""
    return commands.manage(*arguments, **environment(database))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.sqlite3"
    manage(path, "migrate", "--verbosity", "0")
    manage(path, "seed_demo")
    return path


@pytest.fixture(scope="module")
def demo(database: Path) -> Iterator[Demo]:
    with Demo(database) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as instance:
        yield instance


@pytest.fixture(scope="module")
def schemas(database: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """What frames are to be, by the path of their socket: of the demo as its command writes it, and of the admin."""
    return {
        "/ws/rooms/": (json.loads(manage(database, "wsrt_schema", "--format", "json-schema")), "Chat"),
        "/ws/wsrt/admin/": (json_schema(describe([AdminConsumer])), "Admin"),
    }


@pytest.fixture
def frames(schemas: dict[str, tuple[dict[str, Any], str]]) -> Iterator[Frames]:
    """Every frame of the pages of a test; it fails where one is not as the schema says."""
    frames = Frames(schemas)
    yield frames
    assert frames.seen
    assert frames.problems() == []


Enter = Callable[..., Page]


@pytest.fixture
def enter(browser: Browser, demo: Demo, frames: Frames) -> Iterator[Enter]:
    """Signs in, in a window of one's own, and waits until the room is live."""
    contexts = []

    def enter(*, user: str | None = None, guest: str | None = None, **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        frames.watch(page)
        page.goto(demo.url)
        if user:
            page.get_by_role("button", name=user).click()
        else:
            page.get_by_label("Or come as a guest").fill(guest or "")
            page.get_by_role("button", name="Enter").click()
        expect(page.locator("#state")).to_have_text("Live")
        return page

    yield enter
    for context in contexts:
        context.close()


def say(page: Page, text: str) -> None:
    page.get_by_label(re.compile("^Message to")).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def message(page: Page, text: str | re.Pattern[str]) -> Locator:
    """The messages in the room with a text."""
    return page.locator(".message .text", has_text=text)


def row(page: Page, kind: str, text: str | re.Pattern[str]) -> Locator:
    """The rows of the panel of a kind, with a text."""
    return page.locator(f"#wire .{kind}").filter(has_text=text)


def test_two_people(enter: Enter) -> None:
    """A message and a typing mark reach the other; an announcement made by a view reaches both."""
    ada, guest = enter(user="Ada"), enter(guest="Bo")
    ada.get_by_label("Message to Lobby").press_sequentially("he")
    expect(guest.locator("#typing")).to_have_text("Ada is typing…")
    say(ada, "hello <b>Bo</b>")
    for page in (ada, guest):
        expect(message(page, "hello <b>Bo</b>")).to_have_count(1)
    expect(guest.locator("#typing")).to_be_empty()
    expect(ada.locator("#typing")).to_be_empty()

    ada.get_by_text("Announce to the room").click()
    ada.get_by_placeholder("The coffee is ready").fill("The coffee is ready")
    ada.get_by_role("button", name="Announce", exact=True).click()
    expect(ada.get_by_text("Announced to everyone in Lobby.")).to_be_visible()
    for page in (ada, guest):
        expect(page.locator(".announcement .text", has_text="The coffee is ready")).to_have_count(1)


def test_guests_of_one_name(enter: Enter) -> None:
    """Two guests who call themselves the same are two people: each in a color, and neither's words are the other's."""
    one, two = enter(guest="Sam"), enter(guest="Sam")
    say(one, "I am Sam")
    say(two, "So am I")
    for page, own, other in ((one, "I am Sam", "So am I"), (two, "So am I", "I am Sam")):
        expect(page.locator(".mine .text", has_text=own)).to_have_count(1)
        expect(message(page, other)).to_have_count(1)
        expect(page.locator(".mine .text", has_text=other)).to_have_count(0)
    color = "(mark) => getComputedStyle(mark).backgroundColor"
    colors = {two.locator(".message", has_text=text).locator(".avatar").evaluate(color) for text in ("I am", "So am")}
    assert len(colors) == 2


def test_announcements_are_for_members(enter: Enter) -> None:
    """A guest has no form for announcements, and the view refuses one."""
    guest = enter(guest="Eve")
    expect(guest.get_by_text("Announce to the room")).to_have_count(0)
    token = guest.locator("[name=csrfmiddlewaretoken]").first.input_value()
    data = {"text": "Hear, hear", "csrfmiddlewaretoken": token}
    assert guest.request.post(f"{guest.url}announce/", form=data).status == 403


def test_keyboard(enter: Enter) -> None:
    """Writing needs no mouse and no way there: the composer has the focus, and a link leads to it from the top."""
    page = enter(user="Grace")
    composer = page.get_by_label("Message to Lobby")
    expect(composer).to_be_focused()
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the message")).to_be_focused()
    page.keyboard.press("Enter")
    expect(composer).to_be_focused()


def test_newest_message_after_a_reload(enter: Enter) -> None:
    """However many messages there are, the newest is in view after a reload, and while things appear around them."""
    page = enter(user="Grace", viewport={"width": 1280, "height": 500})
    for number in range(12):
        say(page, f"line {number}")
    last = message(page, "line 11")
    expect(last).to_be_visible()
    page.reload()
    expect(page.locator("#here li").first).to_be_visible()
    expect(last).to_be_in_viewport(ratio=1)
    page.get_by_text("Announce to the room").click()
    expect(last).to_be_in_viewport(ratio=1)
    page.locator("#messages").evaluate("(list) => { list.scrollTop = 0; }")
    say(page, "line 12")
    # Who writes wants to see it, wherever they have scrolled to.
    expect(message(page, "line 12")).to_be_in_viewport(ratio=1)


def test_empty_room(enter: Enter) -> None:
    """An empty room says that it is empty, until somebody says something."""
    page = enter(user="Grace")
    page.get_by_role("link", name=re.compile("^Engineering")).click()
    hint = page.get_by_text("Nothing has been said here yet.")
    expect(hint).to_be_visible()
    say(page, "hello")
    expect(hint).to_be_hidden()


def test_members_only(enter: Enter) -> None:
    """A guest is refused by the room of the members, and told so; a member is not."""
    guest = enter(guest="Eve")
    guest.get_by_role("link", name=re.compile("^Members")).click()
    expect(guest.locator("#state")).to_have_text("Disconnected")
    expect(guest.locator("#lost")).to_contain_text("This room is for members only.")
    ada = enter(user="Grace")
    ada.get_by_role("link", name=re.compile("^Members")).click()
    expect(ada.locator("#state")).to_have_text("Live")


def test_server_restart(enter: Enter, demo: Demo, database: Path) -> None:
    """The server is killed and started again: both pages come back, and miss nothing that was stored meanwhile."""
    first, second = enter(user="Linus"), enter(user="Margaret")
    say(first, "before the restart")
    expect(message(second, "before the restart")).to_have_count(1)
    demo.kill()
    for page in (first, second):
        expect(page.locator("#state")).to_have_text(re.compile("^(Offline|Connecting)$"))
    # What is said meanwhile waits, and is sent once.
    say(first, "while the server was down")
    say(first, "and one more")
    expect(first.get_by_role("list", name="Not sent yet").get_by_text("Waiting to be sent")).to_have_count(2)
    said = manage(database, "announce", "lobby", "while you were away")
    assert "make demo REDIS=1" in said
    demo.start()
    for page in (first, second):
        expect(page.locator("#state")).to_have_text("Live", timeout=30_000)
        expect(page.locator(".announcement .text", has_text="while you were away")).to_have_count(1)
        # The history was in the memory of the server.
        expect(row(page, "reloaded", "their history was lost or emptied")).to_have_count(1)
    for page in (first, second):
        expect(message(page, "while the server was down")).to_have_count(1)
    expect(first.locator(".message .text")).to_contain_text(["while the server was down", "and one more"])
    expect(first.get_by_role("list", name="Not sent yet").get_by_role("listitem")).to_have_count(0)
    say(second, "after the restart")
    for page in (first, second):
        expect(message(page, "after the restart")).to_have_count(1)
        expect(message(page, "before the restart")).to_have_count(1)


def test_operator(enter: Enter) -> None:
    """Ada sees in the admin who is in the lobby, and sends a guest away; others have no way there."""
    guest, ada = enter(guest="Mallory"), enter(user="Ada")
    expect(guest.get_by_role("link", name="Admin")).to_have_count(0)
    ada.get_by_role("link", name="Admin").click()
    expect(ada.locator("#wsrt-live")).to_have_text("Live")
    ada.get_by_role("navigation", name="Realtime").get_by_role("link", name="Users").click()
    ada.get_by_label("Id or name contains").fill("mallory")
    ada.get_by_role("button", name="Search").click()
    ada.get_by_role("link", name=re.compile("^mallory-")).click()
    ada.get_by_role("button", name="Disconnect this user").click()
    expect(ada.get_by_text(re.compile("^Disconnected: user"))).to_be_visible()
    expect(guest.locator("#state")).to_have_text("Disconnected")
    expect(guest.locator("#lost")).to_contain_text("An operator has disconnected you.")
    expect(row(guest, "closed", "Closed 4410")).to_contain_text("Disconnected by the server")
    guest.get_by_role("button", name="Reconnect").click()
    expect(guest.locator("#state")).to_have_text("Live")
    expect(guest.locator("#lost")).to_be_hidden()


def test_retry_now(enter: Enter, demo: Demo) -> None:
    """Who doesn't want to wait for the next attempt presses a button."""
    page = enter(user="Linus")
    page.clock.install()
    demo.kill()
    expect(page.locator("#lost")).to_contain_text("The connection was lost.")
    # From here on no time passes for the page, so no attempt is made by itself.
    page.clock.pause_at(page.evaluate("Date.now() + 60_000"))
    demo.start()
    expect(page.locator("#lost")).to_contain_text(re.compile(r"Next try in \d+ s|Reconnecting"))
    page.get_by_role("button", name="Retry now").click()
    expect(page.locator("#state")).to_have_text("Live")


def test_typed_frames(enter: Enter) -> None:
    """The panel shows what goes over the wire, both ways, and the process at its other end."""
    page = enter(user="Grace")
    expect(page.locator("#served-by")).to_have_text(re.compile(r"^The server, process \d+, port \d+$"))
    say(page, "over the wire")
    request = row(page, "sent", "message.send").last
    expect(request).to_contain_text('{"text":"over the wire"}')
    number = re.search(r"#\d+", request.inner_text())
    assert number
    expect(row(page, "received", f"wsrt.ok {number[0]}")).to_have_count(1)
    expect(row(page, "received", "message.sent")).to_contain_text('"text":"over the wire"')


def test_refused_fields(enter: Enter) -> None:
    """The panel names each field that the server refuses; the connection stays."""
    page = enter(user="Grace")
    page.get_by_role("button", name="Send something invalid").click()
    refused = row(page, "refused", "invalid_data")
    expect(refused.locator("dt")).to_have_text(["name", "slug", "topic"])
    expect(refused.locator("dd").first).to_have_text("String should have at least 2 characters")
    expect(page.locator("#wire .closed")).to_have_count(0)


def test_dropped_connection(enter: Enter) -> None:
    """A connection that is cut comes back by itself; what the other window wrote meanwhile follows, and is counted."""
    page, other = enter(user="Grace"), enter(guest="Bo")
    page.get_by_role("button", name="Drop my connection").click()
    for number in range(3):
        say(other, f"in the meantime {number}")
    expect(row(page, "closed", "Closed 1006")).to_contain_text("No close frame")
    expect(row(page, "planned", re.compile(r"Attempt 1 in \d"))).to_have_count(1)
    expect(row(page, "opened", re.compile(r"Reconnected after \d+\.\d s"))).to_have_count(1, timeout=30_000)
    expect(row(page, "recovered", "Received 3 missed events")).to_have_count(1)
    expect(message(page, "in the meantime")).to_have_text([f"in the meantime {number}" for number in range(3)])
    expect(row(page, "sent", "message.catch_up")).to_have_count(0)


def test_slow_client(enter: Enter) -> None:
    """A client that reads too slowly is closed with a reason, and comes back; the others notice nothing."""
    page, other = enter(user="Grace"), enter(guest="Bo")
    page.get_by_role("button", name="Be a slow client").click()
    expect(row(page, "received", "demo.tick").first).to_be_visible()
    expect(row(page, "closed", "Closed 1013")).to_contain_text("WebSocket backpressure overflow", timeout=20_000)
    expect(row(page, "opened", "Reconnected after")).to_have_count(1)
    expect(page.locator("#state")).to_have_text("Live")
    expect(other.locator("#wire .closed")).to_have_count(0)
    expect(row(other, "received", "demo.tick")).to_have_count(0)


def test_code(enter: Enter) -> None:
    """The panel has the code of the consumer that serves it, as it stands in the file."""
    page = enter(user="Grace")
    page.get_by_text("The code behind it").click()
    consumer, events = (each.inner_text() for each in page.locator(".source pre").all())
    assert consumer in (ROOT / "demo_project/chat/consumers.py").read_text()
    assert "async def send_message(self, event: SendMessage) -> None:" in consumer
    assert "publish_to_room" in consumer
    assert len(consumer.splitlines()) <= 23
    assert 'class MessageSent(Event, name="message.sent", history=True):' in events


def test_kill_is_for_the_demo(enter: Enter, database: Path) -> None:
    """A server can only be killed where it is started again, in development, from this machine, and from its pages."""
    page = enter(user="Grace")
    expect(page.get_by_role("button", name="Kill this server")).to_have_count(0)
    url = page.url.replace("rooms/lobby/", "demo/kill/")
    assert page.request.post(url).status == 403
    token = page.locator("[name=csrfmiddlewaretoken]").first.input_value()
    assert page.request.post(url, form={"csrfmiddlewaretoken": token}).status == 404
    script = """
        from django.contrib.auth.models import User
        from django.http import Http404
        from django.test import RequestFactory, override_settings
        from demo_project.backstage.views import kill

        for address, settings in (
            ("192.0.2.7", {"DEBUG": True, "DEMO_PORTS": [1]}),
            ("127.0.0.1", {"DEBUG": False, "DEMO_PORTS": [1]}),
            ("127.0.0.1", {"DEBUG": True, "DEMO_PORTS": []}),
        ):
            request = RequestFactory().post("/demo/kill/", REMOTE_ADDR=address)
            request.user = User.objects.get(username="ada")
            with override_settings(**settings):
                try:
                    kill(request)
                except Http404:
                    print("refused")
    """
    refused = manage(database, "shell", "--verbosity", "0", "--command", textwrap.dedent(script))
    assert refused.split() == ["refused"] * 3


def test_documentation(enter: Enter) -> None:
    """The link to the documentation leads there, or says how to build it."""
    page = enter(user="Grace")
    page.get_by_role("link", name="Docs").click()
    if (ROOT / "site/index.html").exists():
        expect(page.get_by_role("heading", level=1).first).to_be_visible()
    else:
        expect(page.get_by_text("make docs")).to_be_visible()


def test_second_window(enter: Enter, demo: Demo) -> None:
    """The second window is signed in as nobody, so that one can be somebody else there."""
    page = enter(user="Grace")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Second window").click()
    expect(opened.value.get_by_role("heading", name="Who are you?")).to_be_visible()
    assert opened.value.url.startswith(f"http://localhost:{demo.port}/")


def test_who_is_here(enter: Enter, demo: Demo) -> None:
    """Everybody in the room is shown to everybody, each once, and goes when the last window is closed."""
    ada = enter(user="Ada")
    here = ada.get_by_role("list", name="Who is here").get_by_role("listitem")
    # Those of the tests before are shown until their grace is over.
    expect(here).to_have_text(["AAda"], timeout=20_000)
    bo = enter(guest="Bo")
    expect(here.filter(has_text="Bo")).to_have_count(1)
    expect(bo.get_by_role("list", name="Who is here").get_by_role("listitem")).to_have_count(2)
    second = bo.context.new_page()
    second.goto(f"{demo.url}/rooms/lobby/")
    expect(second.locator("#state")).to_have_text("Live")
    expect(bo.get_by_role("list", name="Who is here").get_by_role("listitem")).to_have_count(2)
    bo.get_by_role("link", name=re.compile("^Random")).click()
    second.close()
    expect(here).to_have_count(1, timeout=20_000)


def test_offline(enter: Enter) -> None:
    """A page without a network says so at once, counts down, and comes back by itself when there is one."""
    page = enter(user="Grace")
    page.context.set_offline(True)
    expect(page.locator("#state")).to_have_text(re.compile("^(Offline|Connecting)$"))
    say(page, "from the tunnel")
    expect(page.get_by_role("list", name="Not sent yet")).to_contain_text("from the tunnel")
    page.context.set_offline(False)
    expect(page.locator("#state")).to_have_text("Live", timeout=30_000)
    expect(message(page, "from the tunnel")).to_have_count(1)


def test_refused_message(enter: Enter) -> None:
    """A message that the server does not take stays, with what is wrong with it, until it is dropped."""
    page = enter(user="Grace")
    page.evaluate("document.getElementById('text').removeAttribute('maxlength')")
    say(page, "x" * 2001)
    outbox = page.get_by_role("list", name="Not sent yet")
    expect(outbox).to_contain_text("Not sent. A message has 1 to 2,000 characters.")
    outbox.get_by_role("button", name="Send again").click()
    expect(outbox).to_contain_text("Not sent. A message has 1 to 2,000 characters.")
    outbox.get_by_role("button", name="Drop it").click()
    expect(outbox.get_by_role("listitem")).to_have_count(0)


def test_open_a_room(enter: Enter) -> None:
    """What the server says of a form stands beside its fields; once it is right the room is there, for everybody."""
    guest, ada = enter(guest="Bo"), enter(user="Ada")
    guest.get_by_role("button", name="Open a room").click()
    name, slug, topic, members = (guest.get_by_label(label) for label in ("Name", "Address", "Topic", "For members"))
    # What Pydantic says of the event.
    topic.fill("x" * 101)
    guest.get_by_role("button", name="Open it").click()
    expect(name).to_have_accessible_description("A name has 2 to 50 characters.")
    expect(topic).to_have_accessible_description("A topic has 1 to 100 characters.")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(slug).not_to_have_attribute("aria-invalid", "true")
    expect(name).to_be_focused()
    # What Django says of the model.
    name.fill("Lobby again")
    slug.fill("lobby")
    topic.fill("")
    guest.get_by_role("button", name="Open it").click()
    expect(slug).to_have_accessible_description("A room with this address already exists.")
    expect(topic).to_have_accessible_description("This field cannot be blank.")
    expect(name).not_to_have_attribute("aria-invalid", "true")
    expect(slug).to_be_focused()
    # What the handler says.
    slug.fill("book-club")
    topic.fill("One a <b>month</b>")
    members.check()
    guest.get_by_role("button", name="Open it").click()
    expect(members).to_have_accessible_description("Only members can open a members' room.")
    expect(members).to_be_focused()
    members.uncheck()
    name.fill("Book club")
    guest.get_by_role("button", name="Open it").click()
    expect(guest.get_by_role("heading", name="Book club")).to_be_visible()
    expect(guest.locator("#state")).to_have_text("Live")
    room = ada.get_by_role("link", name="Book club")
    expect(room).to_have_text("Book club One a <b>month</b>")
    room.click()
    expect(ada.locator("#state")).to_have_text("Live")
    say(ada, "chapter one")
    expect(message(guest, "chapter one")).to_have_count(1)


def test_activity_of_other_rooms(enter: Enter, frames: Frames) -> None:
    """A message marks its room in the lists of pages that show another room, and that may be read, after a drop too."""

    def marked(page: Page) -> Locator:
        return page.get_by_label("Rooms").locator("a:has(.new) b")

    ada, bo, grace = enter(user="Ada"), enter(guest="Bo"), enter(user="Grace")
    rooms = ada.locator("#rooms a").count()
    expect(row(ada, "received", "wsrt.joined")).to_have_count(rooms)
    expect(row(bo, "received", "wsrt.joined")).to_have_count(rooms - 1)
    # A guest may not read the room of the members.
    expect(row(bo, "refused", "forbidden")).to_have_count(1)
    grace.get_by_role("link", name="Members").click()
    expect(grace.locator("#state")).to_have_text("Live")
    say(grace, "no guests in here")
    expect(marked(ada)).to_have_text(["Members · members · new"])
    grace.get_by_role("link", name="Random").click()
    expect(grace.locator("#state")).to_have_text("Live")
    bo.get_by_role("button", name="Drop my connection").click()
    expect(row(bo, "opened", "Reconnected")).to_be_visible()
    expect(row(bo, "received", "wsrt.joined")).to_have_count(2 * (rooms - 1))
    say(grace, "for everyone")
    expect(marked(bo)).to_have_text(["Random · new"])
    expect(marked(ada)).to_have_text(["Random · new", "Members · members · new"])
    # The page that shows the room marks nothing.
    expect(message(grace, "for everyone")).to_have_count(1)
    expect(marked(grace)).to_have_count(0)
    ada.get_by_role("link", name="Random").click()
    expect(ada.locator("#state")).to_have_text("Live")
    expect(marked(ada)).to_have_count(0)
    assert frames.events(is_sent=True) >= {"wsrt.subscribe"}


def test_form_without_a_connection(enter: Enter) -> None:
    """A form that cannot be sent says so, and keeps what was written."""
    page = enter(user="Grace")
    page.context.set_offline(True)
    expect(page.locator("#state")).not_to_have_text("Live")
    page.get_by_role("button", name="Open a room").click()
    page.get_by_label("Name").fill("Nowhere")
    page.get_by_role("button", name="Open it").click()
    expect(page.get_by_role("alert")).to_have_text("There is no connection at the moment.")
    expect(page.get_by_label("Name")).to_have_value("Nowhere")


def test_outdated(enter: Enter, demo: Demo) -> None:
    """A page with the client of another schema says that it is old, and works on."""
    page = enter(user="Linus")
    hint = page.get_by_text("There is a newer version of this page.")
    expect(hint).to_be_hidden()

    def older(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=re.sub(r'schemaHash: "\w+"', 'schemaHash: "older"', response.text()))

    page.route("**/clients/index.js", older)
    page.goto(f"{demo.url}/rooms/random/")
    expect(page.locator("#state")).to_have_text("Live")
    expect(hint).to_be_visible()
    say(page, "still here")
    expect(message(page, "still here")).to_have_count(1)


def test_frames(enter: Enter, frames: Frames) -> None:
    """Every event of the demo was seen by the comparison with the schema, and so were reserved ones."""
    ada, bo = enter(user="Ada"), enter(guest="Bo")
    ada.get_by_label("Message to Lobby").press_sequentially("he")
    expect(bo.locator("#typing")).to_have_text("Ada is typing…")
    say(ada, "hello")
    expect(message(bo, re.compile("^hello$"))).to_have_count(1)
    ada.get_by_role("button", name="Open a room").click()
    ada.get_by_role("button", name="Open it").click()
    expect(ada.get_by_label("Name")).to_be_focused()
    for label, text in (("Name", "Frames"), ("Address", "frames"), ("Topic", "What went over the wire")):
        ada.get_by_label(label).fill(text)
    ada.get_by_role("button", name="Open it").click()
    expect(bo.get_by_role("link", name="Frames")).to_be_visible()
    expect(ada.locator("#state")).to_have_text("Live")
    sent, received = frames.events(is_sent=True), frames.events(is_sent=False)
    assert sent >= {"message.send", "typing.start", "room.open", "wsrt.resume"}
    answers = {"wsrt.ok", "wsrt.error"}
    assert received >= {"message.sent", "typing", "room.opened", "wsrt.hello", "wsrt.joined", "wsrt.presence", *answers}
    report.note("Frames of the demo", f"{len(frames.seen)} of one test, {len(sent | received)} events, all valid")


def test_frames_that_break_the_schema_are_found(enter: Enter, frames: Frames) -> None:
    """The comparison finds a wrong frame that a page sent, and each one that is spoilt, whichever it is."""
    page = enter(user="Margaret")
    say(page, "all is well")
    expect(message(page, "all is well")).to_have_count(1)
    assert frames.problems() == []
    good = list(frames.seen)
    page.evaluate(
        """() => new Promise((resolve) => {
            const socket = new WebSocket("/ws/rooms/lobby/");
            socket.onopen = () => socket.send('{"event": "message.send", "data": {"text": ""}}');
            socket.onclose = resolve;
        })"""
    )
    (problem,) = frames.problems()
    assert problem.startswith('sent at /ws/rooms/lobby/: {"event": "message.send", "data": {"text": ""}}')
    spoilt = [dataclasses.replace(seen, text=text) for seen in good if (text := spoil(seen))]
    events = {json.loads(seen.text)["event"] for seen in spoilt}
    assert events >= {"wsrt.hello", "wsrt.joined", "wsrt.presence", "message.send", "message.sent"}
    for seen in spoilt:
        frames.seen = [seen]
        assert frames.problems(), seen
    frames.seen = good


def spoil(seen: Seen) -> str:
    """Return the frame with data that its event cannot have; "" for one that may have any."""
    frame = json.loads(seen.text)
    if frame["event"] in {"typing.start", "wsrt.ok", "wsrt.resume"}:
        return ""
    frame["data"] = [] if frame["event"] in {"wsrt.ping", "wsrt.pong"} else {"room": 7}
    return json.dumps(frame)


def test_unreadable_pages_are_found(browser: Browser) -> None:
    """What test_looks asserts can fail: faint text, faint fields, and a field without a label are found."""
    page = browser.new_page(color_scheme="light")
    page.set_content(
        """<html lang="en"><title>Test</title><main><h1>Test</h1>
        <p id="faint" style="color: #999">faint</p><p style="color: oklch(0.4 0 0)">clear</p>
        <input style="border: 1px solid #ccc"><input aria-label="clear" style="border: 1px solid #777"></main>"""
    )
    assert {found.partition(":")[0] for found in violations(page)} == {"color-contrast", "label"}
    text, control = faint(page)
    assert text.startswith("text 'p faint faint': 2.8")
    assert control.startswith("control 'input")
    page.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (390, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(390, "light", marks=pytest.mark.slow),
    ],
)
def test_looks(enter: Enter, demo: Demo, scheme: str, width: int, tmp_path_factory: Any) -> None:
    """The pages fit their window, can be read and used by all, and say nothing on the console; pictures are kept."""
    folder = Path(os.environ.get("WSRT_SCREENSHOTS") or tmp_path_factory.getbasetemp() / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    bo, ada = enter(guest="Bo", **options), enter(user="Ada", **options)
    complaints: list[str] = []
    ada.on("console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None)
    ada.on("pageerror", lambda error: complaints.append(str(error)))
    ada.reload()
    expect(ada.locator("#state")).to_have_text("Live")

    def look(page: Page, name: str) -> None:
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) <= 0, name
        page.screenshot(path=folder / f"demo-{name}-{scheme}-{width}.png")
        assert violations(page) == [], name
        assert faint(page) == [], name

    def look_around(page: Page, name: str) -> None:
        """Look at a page that has a panel below the fold of a narrow window, too."""
        look(page, name)
        if width < 760:
            page.screenshot(path=folder / f"demo-{name}-all-{scheme}-{width}.png", full_page=True)

    visitor = bo.context.browser.new_context(**options).new_page()  # type: ignore[union-attr]
    visitor.goto(demo.url)
    look(visitor, "sign-in")
    visitor.context.close()
    ada.get_by_role("button", name="Send something invalid").click()
    expect(ada.locator("#wire .refused")).to_be_visible()
    say(bo, "Is anybody here?")
    expect(message(ada, "Is anybody here?").last).to_be_visible()
    say(ada, "I am, and so is everybody who is named above.")
    bo.get_by_label("Message to Lobby").press_sequentially("He")
    expect(ada.locator("#typing")).to_have_text("Bo is typing…")
    look_around(ada, "room")
    ada.get_by_text("The code behind it").click()
    ada.get_by_text("Announce to the room").click()
    look_around(ada, "code")
    ada.get_by_role("button", name="Open a room").click()
    ada.get_by_label("Topic").fill("x" * 101)
    ada.get_by_label("Address").fill("lobby")
    ada.get_by_role("button", name="Open it").click()
    expect(ada.get_by_label("Name")).to_be_focused()
    look(ada, "form")
    assert complaints == []
    ada.get_by_role("button", name="Cancel").click()
    ada.context.set_offline(True)
    expect(ada.locator("#state")).not_to_have_text("Live")
    say(ada, "Written in a tunnel")
    expect(ada.get_by_text("Waiting to be sent")).to_be_visible()
    ada.evaluate("document.getElementById('outdated').hidden = false")
    look(ada, "offline")
    ada.goto("about:blank")
    report.note("Screenshots of the demo", f"{scheme} {width}: {folder}")
