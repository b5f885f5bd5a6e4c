"""The pages of the documentation: what every page keeps to, and its figures."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from benchmarks import figure, storm_figure
from tests.test_docs import DOCS, blocks, modules_of, page
from wsrt.testing import connect

PAGES = sorted(DOCS.rglob("*.md"))
ASSETS = DOCS / "assets"
RESULTS = Path(figure.__file__).parent / "results"

MAX_LINES = 250


async def test_landing_page() -> None:
    """The consumer of the landing page sends and receives the frames that the page shows."""
    ada, text = User(pk=7, username="ada"), page("index.md")
    with modules_of("index.md") as made:
        async with connect(made.consumers.ChatConsumer, user=ada, kwargs={"room": "lobby"}) as client:
            await client.send_text(shown(text, "message.send"))
            assert await client.receive_json() == json.loads(shown(text, "message.sent"))
            await asyncio.to_thread(made.announcing.announce, "tea")
            assert await client.receive(made.consumers.MessageSent) == made.consumers.MessageSent(
                author="system", text="tea"
            )


def shown(text: str, event: str) -> str:
    """Return the frame with an event that a page shows."""
    return next(frame for frame in re.findall(r"`(\{.*\})`", text) if json.loads(frame)["event"] == event)


def links(path: Path) -> set[Path]:
    """Return the pages that a page links to."""
    targets = re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", path.read_text())
    return {(path.parent / target).resolve() for target in targets}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_length(path: Path) -> None:
    """No page is longer than a reader reads in one go."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_pipes_in_tables(path: Path) -> None:
    r"""
    Every row of a table has as many cells as the table's head, however a renderer splits the row.

    GitHub splits a row at a ``|`` in code. MkDocs doesn't, and shows the backslash of ``\|``. Both show
    ``<code>a &#124; b</code>`` as it is meant.
    """
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, *rows = table.splitlines()
        assert [row for row in rows if row.count("|") != head.count("|") or r"\|" in row] == []


def test_two_clicks() -> None:
    """Every page is reached from the landing page in two clicks on links in the text."""
    first = links(DOCS / "index.md")
    second = {target for path in first for target in links(path)}
    assert set(PAGES) - first - second - {DOCS / "index.md"} == set()


def test_figure() -> None:
    """The figure of the pages is drawn from the kept results."""
    assert figure.FIGURE.read_text() == figure.draw()


def test_figure_of_the_storm() -> None:
    """The figure of the storm is drawn from the kept results, and the page claims what they show."""
    found = json.loads(storm_figure.RESULTS.read_text())
    assert storm_figure.FIGURE.read_text() == storm_figure.draw(found)
    text = " ".join(page("explanation/performance.md").split())
    assert "every client receives every message, once and in order" in text
    assert (found["delivered"], found["clients_without_a_gap"]) == (found["expected"], found["clients"])
    assert found["python_socketio"]["delivered"] < found["python_socketio"]["expected"]
    others = found["published_by_others_on_other_machines"]
    assert f"{others['socket_io_delivered']:.2%}".replace("%", " %") in text
    assert f"{others['socket_io_recovery_p99_seconds']} seconds" in text


@pytest.mark.parametrize("palette", ["light", "dark"])
def test_palettes(palette: str) -> None:
    """The site and each drawn figure have the same colours."""
    colours = set(figure.PALETTES[palette].split("; "))
    style = (DOCS / "stylesheets/extra.css").read_text()
    drawn = [text for text in (path.read_text() for path in ASSETS.glob("*.svg")) if 'class="fig"' in text]
    adaptive = [text for text in drawn if "prefers-color-scheme" in text]
    assert len(adaptive) >= 4
    assert all(colour in text for text in [style, *adaptive] for colour in colours)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_drawn(path: Path) -> None:
    """No page draws a diagram with characters."""
    assert not re.search(
        r"^[ |v/\\+-]*[|v][ |v/\\+-]*$", "\n".join(code for _, _, code in blocks(path.read_text())), re.MULTILINE
    )


@pytest.mark.parametrize("name", figure.RESULTS)
def test_figures(name: str) -> None:
    """The table of figures says what the kept results say."""
    result = json.loads((RESULTS / f"{name}.json").read_text())
    rates = {key: round(statistics.median(each), -2) for key, each in result["deliveries_per_second"].items()}
    server = {"daphne": "Daphne"}.get(result["server"], result["server"])
    cells = [f"{rates[key]:,}/s" for key in ("fast", "ordinary", "bare", "plain")]
    row = " | ".join([f"{server}, {result['subscribers']}", *cells])
    assert f"| {row} |" in page("explanation/performance.md")
