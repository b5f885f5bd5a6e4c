"""The demo as ``make demo`` starts it: one server or two, which are started again when they end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process, is_listening
from tests.support.redis import say
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.servers]

SCRIPT = [sys.executable, str(ROOT / "scripts/demo.py")]


class Demo(Process):
    """scripts/demo.py with two servers."""

    def __init__(self, database: Path) -> None:
        self.port = free_port(3)  # two servers, then Redis
        super().__init__(
            [*SCRIPT, "--redis", "--port", str(self.port)],
            {"DEMO_DB": str(database), "DJANGO_SETTINGS_MODULE": "demo_project.settings"},
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: "Press Ctrl-C" in self.log(), "the demo", seconds=120)

    def server(self, port: int) -> psutil.Process:
        """The process of the server on a port."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children()
        return next(each for each in family if f"127.0.0.1:{port}" in each.cmdline())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("demo") / "demo.sqlite3") as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as instance:
        yield instance


def enter(browser: Browser, port: int, name: str) -> Page:
    page = browser.new_context().new_page()
    page.goto(f"http://127.0.0.1:{port}")
    page.get_by_role("button", name=name).click()
    expect(page.locator("#state")).to_have_text("Live")
    return page


def test_addresses(demo: Demo) -> None:
    """An address is only printed once a server listens there."""
    printed = re.findall(r"The chat is at http://127\.0\.0\.1:(\d+)$", demo.log(), re.MULTILINE)
    assert [int(port) for port in printed] == [demo.port, demo.port + 1]
    assert all(is_listening(int(port)) for port in printed)


def test_kill_this_server(browser: Browser, demo: Demo) -> None:
    """
    A server is killed with its button: its window continues on the other server, at the second attempt, and says so.

    The other server isn't disturbed, the killed one is started again, and messages reach both windows all along.
    """
    ada, grace = enter(browser, demo.port, "Ada"), enter(browser, demo.port + 1, "Grace")
    expect(ada.locator("#served-by")).to_contain_text(f"North, process {demo.server(demo.port).pid}, port {demo.port}")
    expect(grace.locator("#served-by b")).to_have_text("South")
    expect(grace.locator("#here")).to_have_text(re.compile("Ada *North"))
    ada.get_by_role("button", name="Kill this server").click()
    expect(ada.locator("#wire-note")).to_have_text("North is gone. This window continues on South.")
    expect(ada.locator("#served-by")).to_contain_text(f"South, process {demo.server(demo.port + 1).pid}")
    expect(ada.locator("#state")).to_have_text("Live")
    expect(ada.locator("#wire .planned")).to_have_text([re.compile("Attempt 1 in"), re.compile("Attempt 2 in")])
    expect(ada.locator("#wire .closed")).to_have_text([re.compile("Closed 1006"), re.compile("Not reached")])
    expect(grace.locator("#wire .closed")).to_have_count(0)
    ada.get_by_label("Message to Lobby").fill("Still here")
    ada.get_by_role("button", name="Send", exact=True).click()
    for page in (ada, grace):
        expect(page.locator(".message .text", has_text="Still here")).to_have_count(1)

    # The page of the killed server ends the other one, by its own token.
    eventually(lambda: f"The chat is at http://127.0.0.1:{demo.port} again" in demo.log(), seconds=60)
    ada.get_by_role("button", name="Kill this server").click()
    for page in (ada, grace):
        expect(page.locator("#wire-note")).to_have_text(
            "South is gone. This window continues on North.", timeout=20_000
        )
        expect(page.locator("#state")).to_have_text("Live")
    eventually(lambda: f"The chat is at http://127.0.0.1:{demo.port + 1} again" in demo.log(), seconds=60)
    for page in (ada, grace):
        page.context.close()


def test_missed_messages(browser: Browser, demo: Demo) -> None:
    """A dropped connection receives what the other window wrote; with Redis flushed, the panel says why it loads it."""
    ada, grace = enter(browser, demo.port, "Ada"), enter(browser, demo.port + 1, "Grace")

    def drop_and_write(text: str) -> None:
        ada.get_by_role("button", name="Drop my connection").click()
        grace.get_by_label("Message to Lobby").fill(text)
        grace.get_by_role("button", name="Send", exact=True).click()
        expect(grace.locator(".message .text", has_text=text)).to_have_count(1)

    drop_and_write("kept")
    expect(ada.locator("#wire .recovered", has_text="Received 1 missed event")).to_have_count(1, timeout=30_000)
    expect(ada.locator(".message .text", has_text="kept")).to_have_count(1)
    drop_and_write("flushed")
    redis = re.search(r"redis://127\.0\.0\.1:(\d+)", demo.log())
    assert redis
    say(int(redis[1]), "FLUSHALL")
    expect(ada.locator("#wire .reloaded")).to_contain_text("their history was lost or emptied", timeout=30_000)
    expect(ada.locator(".message .text", has_text="flushed")).to_have_count(1)
    for page in (ada, grace):
        page.context.close()


def test_port_in_use(tmp_path: Path) -> None:
    """A port that is in use is named, and so is the command that avoids it; nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*SCRIPT, "--port", str(port)],
            env={**os.environ, "DEMO_DB": str(tmp_path / "demo.sqlite3")},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    hint = re.fullmatch(rf"Port {port} is in use. Choose another one: make demo PORT=(\d+)\n", done.stderr)
    assert hint, done.stderr
    assert not is_listening(int(hint[1]))
