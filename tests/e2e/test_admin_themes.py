"""The admin's "Realtime" below themes that replace Django's templates, in a real browser."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.test_admin import USERS, address, open_live
from tests.support.browser import chromium
from tests.support.processes import ROOT, Server

pytestmark = [pytest.mark.browser, pytest.mark.servers]

THEMES = {
    "django": "",
    "unfold": "unfold",
    "jazzmin": "jazzmin",
    "grappelli": "grappelli",
    "admin_interface": "admin_interface colorfield",
}
"""Apps that a theme puts before django.contrib.admin. What isn't installed is left out."""


SIGN_IN = """
import django; django.setup()
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="root"))
print(client.session.session_key)
"""


STYLES = ROOT / "wsrt/static/wsrt/admin.css"

GAPS = """() => Array.from(document.querySelectorAll(".module + .help"), (help) =>
  Math.round(help.getBoundingClientRect().top - help.previousElementSibling.getBoundingClientRect().bottom))"""
"""The distances between tables and the help below them, in pixels."""

HIDDEN = """() => {
  const texts = [...document.querySelectorAll(".visually-hidden")];
  const visible = texts.filter((text) => text.offsetWidth > 1 || text.offsetHeight > 1);
  return { hidden: texts.length - visible.length, visible: visible.map((text) => text.textContent) };
}"""

STYLE = "(elements, name) => elements.map((element) => getComputedStyle(element)[name])"

CUT_OFF = """(buttons) => buttons
  .filter((button) => button.scrollWidth > button.clientWidth || button.scrollHeight > button.clientHeight)
  .map((button) => button.textContent)"""

UNSET = "(names) => names.filter((name) => !getComputedStyle(document.body).getPropertyValue(name))"


def server_url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(
    scope="module",
    params=[name if name == "unfold" else pytest.param(name, marks=pytest.mark.slow) for name in THEMES],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose admin has a theme."""
    apps = THEMES[request.param]
    if not all(importlib.util.find_spec(app) for app in apps.split()):
        pytest.skip(f"{request.param} is not installed")
    database = tmp_path_factory.mktemp("theme") / "theme.sqlite3"
    environment = {"WSRT_TEST_DB": str(database), "WSRT_TEST_THEME": apps}
    server = Server("uvicorn", application="tests.apps.admin:themed", environment=environment)
    subprocess.run(
        [sys.executable, "-c", USERS], env={**os.environ, **server.environment}, cwd=ROOT, check=True, timeout=120
    )
    with server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as instance:
        yield instance


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page of somebody who is signed in; errors of its scripts fail the test."""
    context = browser.new_context(base_url=server_url(server))
    # Fonts and the like from elsewhere, for which there may be no network.
    context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    environment = {**os.environ, **server.environment}
    key = subprocess.run([sys.executable, "-c", SIGN_IN], env=environment, cwd=ROOT, check=True, capture_output=True)
    context.add_cookies([{"name": "sessionid", "value": key.stdout.decode().strip(), "url": server_url(server)}])
    page = context.new_page()
    errors: list[Any] = []
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    context.close()
    assert not errors


def test_live(page: Page) -> None:
    """A page says that it is live, and shows who came, in every theme."""
    page = open_live(page.context, address("users", namespace="chat"))
    expect(page.locator("#content-main").get_by_text("No users are connected.")).to_be_visible()
    expect(page.get_by_role("heading", name="Users", exact=True)).to_have_count(1)
    other = page.context.new_page()
    other.goto("/static/wsrt/admin.css")
    other.evaluate("window.ws = new WebSocket(`ws://${location.host}/chat/lobby/?user=ada`)")
    expect(page.get_by_role("cell", name="ada").or_(page.get_by_role("rowheader", name="ada"))).to_be_visible()
    other.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_layout(page: Page, scheme: Literal["light", "dark"]) -> None:
    """Captions are above their tables, help is below, and what is for screen readers alone takes no room."""
    page.emulate_media(color_scheme=scheme)
    page.goto(address())
    assert min(page.evaluate(GAPS)) > 0
    assert page.evaluate(HIDDEN) == {"hidden": page.locator(".visually-hidden").count(), "visible": []}
    aligned = page.locator("#content-main caption, #content-main thead th:first-child, #content-main tbody th")
    assert set(aligned.evaluate_all(STYLE, "textAlign")) <= {"left", "start"}
    assert set(page.locator("#content-main caption").evaluate_all(STYLE, "captionSide")) == {"top"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors(page: Page, scheme: Literal["light", "dark"]) -> None:
    """Every variable of the style sheet has a value, and links, lines and buttons differ from the text around them."""
    page.emulate_media(color_scheme=scheme)
    page.goto(address("room", namespace="chat", room="lobby"))
    assert page.evaluate(UNSET, sorted(set(re.findall(r"var\((--[\w-]+)\)", STYLES.read_text())))) == []
    text = page.locator("#content-main").evaluate_all(STYLE, "color")
    links = page.locator("#content-main nav a:not([aria-current])").evaluate_all(STYLE, "color")
    assert not set(links) & set(text)
    assert "0px" not in page.locator("#content-main thead th").evaluate_all(STYLE, "borderBottomWidth")
    buttons = page.locator("#content-main .button").evaluate_all(STYLE, "backgroundColor")
    assert len(set(buttons)) == 2
    assert "rgba(0, 0, 0, 0)" not in buttons
    assert page.locator("#content-main").get_by_role("button").evaluate_all(CUT_OFF) == []


def test_without_marker(page: Page) -> None:
    """Where a template leaves out what says that a page is live, the page says so, and that it is not."""

    def without(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text().replace('id="wsrt-live"', ""))

    page.route("**/wsrt/realtime/**", without)
    page.goto(address())
    expect(page.get_by_role("alert")).to_contain_text("Not live: a template of this site")
