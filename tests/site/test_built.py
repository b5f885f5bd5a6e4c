"""The site as MkDocs builds it: for readers, in both palettes and on a phone, and for programs."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from tests.support import axe
from tests.support.browser import chromium
from tests.support.commands import run
from tests.support.processes import ROOT
from tests.test_docs import DOCS

PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    run(ROOT, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder))
    return folder


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Serve the site."""
    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the module."""
    with chromium() as found:
        yield found


def address(page: str) -> str:
    """Return the address of a page on the site."""
    return page.removesuffix("index.md") if page.endswith("index.md") else f"{page.removesuffix('.md')}/"


def test_list_for_programs(site: Path) -> None:
    """llms.txt lists every page with a sentence about it; its links lead to the sources of the pages."""
    text = (site / "llms.txt").read_text()
    entries = dict(re.findall(r"^- \[[^\]]+\]\(([^)]+)\): (.+)$", text, re.MULTILINE))
    assert sorted(entries) == PAGES
    assert all(len(summary) > 20 for summary in entries.values())
    assert all((site / page).read_text().startswith("# ") for page in entries)


def test_figures(site: Path) -> None:
    """The figures of a page are part of it, so that they take its colours."""
    html = (site / "explanation/performance/index.html").read_text()
    assert '<figure class="drawn"><svg' in html
    assert "assets/fanout.svg" not in html


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("palette", ["light", "dark"])
def test_access(url: str, browser: Browser, palette: Literal["light", "dark"], width: int) -> None:
    """axe finds nothing on the landing page and on pages with tables and code; texts and controls can be told apart."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=palette)
    view = context.new_page()
    for page in ("", "howto/servers/", "reference/settings/"):
        view.goto(f"{url}/{page}")
        assert axe.violations(view) == []
        assert axe.faint(view, ".md-content") == []
    context.close()


@pytest.mark.browser
def test_phone(url: str, browser: Browser) -> None:
    """No page is wider than a phone: tables and code scroll by themselves, and words stay whole in them."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    view = context.new_page()
    wide, broken = [], []
    for page in PAGES:
        view.goto(f"{url}/{address(page)}", wait_until="domcontentloaded")
        if view.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(page)
        # A word that is broken has more boxes than one.
        if view.evaluate("""[...document.querySelectorAll('td code')].some(
            code => !/[\\s-]/.test(code.textContent) && code.getClientRects().length > 1)"""):
            broken.append(page)
    context.close()
    assert (wide, broken) == ([], [])
