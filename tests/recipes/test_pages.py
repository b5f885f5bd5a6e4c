"""The recipes' pages in a browser: each is live, fits every screen in both themes, and shows what it promises."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, WebSocketRoute, expect

from demo_project.recipes import RECIPES, Recipe
from tests.recipes.site import Site, create_database, environment
from tests.support.axe import faint, violations
from tests.support.browser import chromium

pytestmark = pytest.mark.browser

each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server, without Redis, as ``make demo`` starts it."""
    database = tmp_path_factory.mktemp("recipes") / "demo.sqlite3"
    create_database(database)
    with Site({**environment(database), "TOKEN_SOURCE": "tests.recipes.sources.talk"}) as site:
        yield site
        assert "Traceback" not in site.log()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as instance:
        yield instance


Open = Callable[..., Page]


@pytest.fixture
def open_as(browser: Browser, site: Site) -> Iterator[Open]:
    """Signs in as a user in a window of its own, and opens a recipe's page. Errors of the page fail the test."""
    contexts, errors = [], []

    def open_as(user: str, recipe: str, **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))

        def note(message: ConsoleMessage) -> None:
            if message.type == "error" and f"/recipes/{recipe}/" in page.url:  # a test may visit other pages
                errors.append(message.text)

        page.on("console", note)
        page.goto(f"{site.url}/recipes/{recipe}/")
        page.get_by_role("button", name=user).click()
        expect(page.locator("#state")).to_have_text("Live")
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert errors == []


def test_index(browser: Browser, site: Site) -> None:
    """The demo's first page leads to the recipes, and their index to each of them."""
    with browser.new_page() as page:
        page.goto(site.url)
        page.get_by_role("link", name="Recipes").click()
        for recipe in RECIPES:
            link = page.get_by_role("link", name=recipe.title)
            expect(link).to_have_attribute("href", f"/recipes/{recipe.name}/")


@each_recipe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screens(open_as: Open, recipe: Recipe, scheme: str) -> None:
    """A page is live and readable in both themes, and never wider than the screen; axe finds nothing in it."""
    page = open_as("Grace", recipe.name, color_scheme=scheme, viewport={"width": 1280, "height": 800})
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(OVERFLOW) == 0
        assert violations(page) == []
        assert faint(page) == []


def test_notifications(open_as: Open) -> None:
    """A form notifies a user in all tabs, and reading in one tab clears the other."""
    ada, linus = open_as("Ada", "notifications"), open_as("Linus", "notifications")
    second = ada.context.new_page()
    second.goto(ada.url)
    expect(second.locator("#state")).to_have_text("Live")
    for text in ("The build is green", "Lunch <b>now</b>"):
        linus.get_by_label("Recipient").select_option(label="ada")
        linus.get_by_label("Text").fill(text)
        linus.get_by_role("button", name="Send").click()
        expect(linus.locator("#state")).to_have_text("Live")
    for tab in (ada, second):
        items = tab.get_by_role("listitem")
        expect(items).to_contain_text(["The build is green", "Lunch <b>now</b>"])
        expect(tab.locator("#count")).to_have_text("2")
    ada.get_by_role("button", name="Mark all as read").click()
    for tab in (ada, second):
        expect(tab.get_by_text("Nothing new.")).to_be_visible()
        expect(tab.locator("#count")).to_be_hidden()
    expect(linus.get_by_role("listitem")).to_have_count(0)


def test_progress(open_as: Open) -> None:
    """An export advances in both tabs, and goes on where a page is reloaded."""
    page = open_as("Margaret", "progress")
    second = page.context.new_page()
    second.goto(page.url)
    expect(second.locator("#state")).to_have_text("Live")
    page.get_by_role("button", name="Start an export").click()
    running = page.get_by_text(re.compile(r"^Export \d+: running$"))
    expect(running).to_be_visible()
    page.reload()
    for tab in (page, second):
        expect(tab.get_by_text(re.compile(r"^Export \d+: finished$"))).to_be_visible(timeout=30_000)
        assert tab.get_by_role("progressbar").evaluate("(bar) => bar.value === bar.max")


def test_live_rows(open_as: Open) -> None:
    """Rows that a page or the admin changes are the same on every page. A wrong row is refused with the reason."""
    ada, linus = open_as("Ada", "live_rows"), open_as("Linus", "live_rows")
    linus.get_by_role("button", name="Add").click()
    expect(linus.get_by_role("alert")).to_have_text("String should have at least 1 character")
    for title in ("Water the plants", "Feed the <b>cat</b>"):
        linus.get_by_label("New ticket").fill(title)
        linus.get_by_role("button", name="Add").click()
        row = ada.get_by_role("listitem").filter(has_text=title)
        expect(row).to_have_count(1)
    expect(linus.locator("#problem")).to_be_empty()
    ada.get_by_role("listitem").first.get_by_label("Status").select_option("doing")
    expect(linus.get_by_role("listitem").first.get_by_label("Status")).to_have_value("doing")
    ada.get_by_role("link", name="admin").click()
    ada.get_by_role("link", name="Water the plants").click()
    ada.get_by_label("Title").fill("Water the garden")
    ada.get_by_role("button", name="Save", exact=True).click()
    expect(linus.get_by_role("listitem").first).to_contain_text("Water the garden")
    ada.get_by_role("link", name="Water the garden").first.click()
    ada.locator(".deletelink").click()  # Its role depends on the version of Django.
    ada.get_by_role("button", name="Yes, I’m sure").click()
    expect(linus.get_by_role("listitem")).to_have_count(1)
    expect(linus.get_by_role("listitem")).to_contain_text("Feed the <b>cat</b>")


def test_live_rows_come_back(browser: Browser, site: Site) -> None:
    """A row that a later list lacks comes back with a higher version, and a deleted row never does."""
    sockets: list[WebSocketRoute] = []

    def connect(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    def send(event: str, **data: Any) -> None:
        sockets[-1].send(json.dumps({"event": event, "data": data}))

    def save(version: int) -> None:
        send("ticket.saved", id=10**6, title=f"Version {version}", status="open", version=version)

    with browser.new_page() as page:
        page.route_web_socket(re.compile("/ws/live-rows/"), connect)
        page.goto(f"{site.url}/recipes/live_rows/")
        page.get_by_role("button", name="Ada").click()
        expect(page.locator("#state")).to_have_text("Live")
        row = page.get_by_role("listitem").filter(has_text="Version")
        save(2)
        expect(row).to_contain_text("Version 2")
        send("ticket.list", tickets=[])
        expect(row).to_have_count(0)
        save(2)
        save(3)
        expect(row).to_contain_text("Version 3")
        send("ticket.deleted", id=10**6)
        save(4)
        expect(row).to_have_count(0)


def test_token_stream(open_as: Open) -> None:
    """An answer appears while it is written, can be stopped, and the next one can be read to its end."""
    page = open_as("Grace", "token_stream")
    ask, stop = page.get_by_role("button", name="Ask"), page.get_by_role("button", name="Stop")
    ask.click()
    expect(page.get_by_role("alert")).to_have_text("String should have at least 1 character")
    page.get_by_label("Question").fill("Go on")
    ask.click()
    answer = page.locator("#answer")
    expect(answer).to_contain_text("You asked: Go on and on and on")
    expect(ask).to_be_disabled()
    stop.click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(answer).not_to_contain_text("That is all.")
    page.get_by_label("Question").fill("Why <b>now</b>?")
    page.get_by_label("Question").press("Enter")
    expect(answer).to_have_text("You asked: Why <b>now</b>? That is all.")
    expect(ask).to_be_enabled()
    expect(stop).to_be_disabled()


def test_cursors(open_as: Open) -> None:
    """A pointer moves on the other page, at the same place of a smaller board, and goes with its page."""
    ada = open_as("Ada", "cursors", viewport={"width": 1280, "height": 800})
    linus = open_as("Linus", "cursors", viewport={"width": 390, "height": 800})
    for page in (ada, linus):
        expect(page.locator("#here")).to_contain_text(re.compile("Ada.*Linus|Linus.*Ada"))
    board, other = linus.locator("#board"), ada.locator("#board")
    box = board.bounding_box()
    assert box
    linus.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    cursor = other.get_by_text("Linus")
    expect(cursor).to_be_visible()
    left, top = (float(cursor.evaluate(f"(cursor) => parseFloat(cursor.style.{side})")) for side in ("left", "top"))
    assert (left, top) == (pytest.approx(25, abs=1), pytest.approx(50, abs=1))
    linus.close()
    expect(cursor).to_have_count(0, timeout=20_000)
    expect(ada.locator("#here")).not_to_contain_text("Linus")
