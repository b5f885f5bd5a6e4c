"""Log-outs and deactivations in a browser: what the page in another tab, on another process, shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.recipes.site import Site, create_database, environment, shell
from tests.support import report
from tests.support.browser import chromium
from tests.support.processes import RedisServer

pytestmark = [pytest.mark.browser, pytest.mark.servers]

REVALIDATE = 12.0
"""In seconds. No check comes as early as a log-out closes sockets."""

REASON = "You are signed out. Load the page again to sign in."


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    database: Path = tmp_path_factory.mktemp("sessions") / "demo.sqlite3"
    create_database(database)
    with RedisServer() as redis:
        yield {
            **environment(database, redis.url),
            "DJANGO_SETTINGS_MODULE": "tests.apps.revalidating",
            "WSRT_TEST_REVALIDATE": str(REVALIDATE),
        }


@pytest.fixture(scope="module")
def sites(variables: dict[str, str]) -> Iterator[list[Site]]:
    """Two processes."""
    with Site(variables) as one, Site(variables) as two:
        yield [one, two]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as instance:
        yield instance


def sign_in(context: BrowserContext, site: Site, name: str) -> Page:
    page = context.new_page()
    page.goto(site.url)
    page.get_by_role("button", name=name).click()
    expect(page.locator("#state")).to_have_text("Live")
    return page


def open_room(context: BrowserContext, site: Site) -> Page:
    page = context.new_page()
    page.goto(site.url)
    expect(page.locator("#state")).to_have_text("Live")
    return page


def test_log_out_in_another_tab(browser: Browser, sites: list[Site]) -> None:
    """A log-out in one tab closes the socket of the other one, at another process. That page says why, and stays."""
    context, other_device = browser.new_context(), browser.new_context()
    leaving, phone = sign_in(context, sites[0], "Ada"), sign_in(other_device, sites[0], "Ada")
    other = open_room(context, sites[1])
    started = time.monotonic()
    leaving.get_by_role("button", name="Sign out").click(no_wait_after=True)
    expect(other.locator("#state")).to_have_text("Disconnected")
    took = time.monotonic() - started
    expect(other.locator("#lost")).to_contain_text(REASON)
    expect(other.locator("#wire .closed")).to_contain_text("4401")
    report.note("From a log-out to the page in another tab that shows it", f"{took:.2f} s")
    expect(phone.locator("#state")).to_have_text("Live")
    # Reloaded, it asks to sign in.
    other.reload()
    expect(other.get_by_role("button", name="Ada")).to_be_visible()
    for each in (context, other_device):
        each.close()


def test_deactivated_user(browser: Browser, sites: list[Site], variables: dict[str, str]) -> None:
    """A user who is deactivated elsewhere is disconnected within REVALIDATE, and the page says why."""
    context = browser.new_context()
    page = sign_in(context, sites[1], "Linus")
    code = "from django.contrib.auth.models import User; User.objects.filter(username='linus').update(is_active=False)"
    shell(code, variables)
    started = time.monotonic()
    expect(page.locator("#state")).to_have_text("Disconnected")
    took = time.monotonic() - started
    expect(page.locator("#lost")).to_contain_text(REASON)
    report.note("From a deactivation to the page that shows it", f"{took:.2f} s (REVALIDATE is {REVALIDATE:g} s)")
    context.close()
