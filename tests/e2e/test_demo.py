"""The demo in a real browser: two people, one room, an announcement, a server that restarts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.processes import ROOT, Process, free_port, is_listening

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


def manage(database: Path, *args: str) -> str:
    command = [sys.executable, str(ROOT / "manage.py"), *args]
    done = subprocess.run(
        command, env={**os.environ, **environment(database)}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


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


def enter(browser: Browser, demo: Demo, *, user: str | None = None, guest: str | None = None) -> Page:
    """Sign in, in a window of one's own, and wait until the room is live."""
    page = browser.new_context().new_page()
    page.goto(demo.url)
    if user:
        page.get_by_role("button", name=user).click()
    else:
        page.get_by_label("Or come as a guest").fill(guest or "")
        page.get_by_role("button", name="Enter").click()
    expect(page.locator("#state")).to_have_text("Live")
    return page


def say(page: Page, text: str) -> None:
    page.get_by_label(re.compile("^Message to")).fill(text)
    page.get_by_role("button", name="Send").click()


def test_two_people(browser: Browser, demo: Demo) -> None:
    """A message and a typing mark reach the other; an announcement made by a view reaches both."""
    ada, guest = enter(browser, demo, user="Ada"), enter(browser, demo, guest="Bo")
    ada.get_by_label("Message to Lobby").press_sequentially("he")
    expect(guest.locator("#typing")).to_have_text("Ada is typing…")
    say(ada, "hello <b>Bo</b>")
    for page in (ada, guest):
        expect(page.locator(".message .text", has_text="hello <b>Bo</b>")).to_have_count(1)
    expect(guest.locator("#typing")).to_be_empty()
    expect(ada.locator("#typing")).to_be_empty()

    guest.get_by_text("Announce to the room").click()
    guest.get_by_placeholder("The coffee is ready").fill("The coffee is ready")
    guest.get_by_role("button", name="Announce", exact=True).click()
    expect(guest.get_by_text("Announced to everybody in Lobby.")).to_be_visible()
    for page in (ada, guest):
        expect(page.locator(".announcement .text", has_text="The coffee is ready")).to_have_count(1)


def test_members_only(browser: Browser, demo: Demo) -> None:
    """A guest is refused by the room of the members, and told so; a member is not."""
    guest = enter(browser, demo, guest="Eve")
    guest.get_by_role("link", name=re.compile("^Members")).click()
    expect(guest.locator("#state")).to_have_text("Not allowed here")
    expect(guest.get_by_text("This room is for members.")).to_be_visible()
    ada = enter(browser, demo, user="Grace")
    ada.get_by_role("link", name=re.compile("^Members")).click()
    expect(ada.locator("#state")).to_have_text("Live")


def test_server_restart(browser: Browser, demo: Demo, database: Path) -> None:
    """The server is killed and started again: both pages come back, and miss nothing that was stored meanwhile."""
    first, second = enter(browser, demo, user="Linus"), enter(browser, demo, user="Margaret")
    say(first, "before the restart")
    expect(second.locator(".message .text", has_text="before the restart")).to_have_count(1)
    demo.kill()
    for page in (first, second):
        expect(page.locator("#state")).not_to_have_text("Live")
    said = manage(database, "announce", "lobby", "while you were away")
    assert "make demo REDIS=1" in said
    demo.start()
    for page in (first, second):
        expect(page.locator("#state")).to_have_text("Live", timeout=30_000)
        expect(page.locator(".announcement .text", has_text="while you were away")).to_have_count(1)
    say(second, "after the restart")
    for page in (first, second):
        expect(page.locator(".message .text", has_text="after the restart")).to_have_count(1)
        expect(page.locator(".message .text", has_text="before the restart")).to_have_count(1)


def test_operator(browser: Browser, demo: Demo, database: Path) -> None:
    """Ada sees in the admin who is in the lobby, and sends a guest away; others have no way there."""
    guest, ada = enter(browser, demo, guest="Mallory"), enter(browser, demo, user="Ada")
    expect(guest.get_by_role("link", name="Who is connected")).to_have_count(0)
    ada.get_by_role("link", name="Who is connected").click()
    expect(ada.locator("#wsrt-live")).to_have_text("Live")
    ada.get_by_role("navigation", name="Realtime").get_by_role("link", name="Users").click()
    which = "from django.contrib.auth.models import User; print(User.objects.get(first_name='Mallory').pk)"
    mallory = manage(database, "shell", "--verbosity", "0", "--command", which).strip()
    ada.get_by_label("Id or name contains").fill(mallory)
    ada.get_by_role("button", name="Search").click()
    ada.get_by_role("link", name=mallory, exact=True).click()
    ada.get_by_role("button", name="Disconnect this user").click()
    expect(ada.get_by_text(re.compile("^Disconnected: user"))).to_be_visible()
    expect(guest.locator("#state")).not_to_have_text("Live")
