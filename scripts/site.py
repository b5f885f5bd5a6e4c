"""
What MkDocs does beyond its configuration: figures become part of the page, and the site has its pages for programs.

Figures (``docs/assets/*.svg`` with the class "fig") are put into the page, so that they take its colours. ``llms.txt``
lists the pages with a sentence about each; next to each page is its source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

IMAGE = re.compile(r'<img alt="([^"]*)" src="(?:\.\./)*assets/([\w-]+\.svg)"[^>]*/?>')

_pages: list[tuple[str, Any]] = []
"""The pages in the order of the navigation, each with the title of its section."""


def on_nav(nav: Any, config: Any, files: Any) -> None:
    """Remember the pages. Called by MkDocs."""
    _pages[:] = _walk(nav.items, "")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Return the content with its figures, and without headers of tables that have no text. Called for each page."""
    html = re.sub(r"<th([^>]*)></th>", r"<td\1></td>", html)
    return IMAGE.sub(lambda image: _figure(image, Path(config["docs_dir"])), html)


def on_post_build(config: Any) -> None:
    """Write llms.txt, and the source of each page. Called by MkDocs."""
    site = Path(config["site_dir"])
    base = config["site_url"] or ""
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}", ""]
    section = ""
    for title, page in _pages:
        if title != section:
            section = title
            lines += ["", f"## {section}", ""]
        lines.append(f"- [{page.title}]({base}{page.file.src_uri}): {summary(page.markdown)}")
        source = site / page.file.src_uri
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(page.markdown, encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def summary(markdown: str) -> str:
    """Return the first sentence of a page's first paragraph, without links."""
    paragraphs = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL).split("\n\n")
    first = next((text for text in paragraphs if re.match(r"(?![#|!<\d-]|\* )\S", text)), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(first.split())).replace("**", "")
    return re.split(r"(?<=[.:]) ", plain, maxsplit=1)[0].rstrip(":")


def _walk(items: Iterable[Any], section: str) -> Iterator[tuple[str, Any]]:
    for item in items:
        if item.is_page:
            yield section, item
        elif item.is_section:
            yield from _walk(item.children, item.title)


def _figure(image: re.Match[str], docs: Path) -> str:
    svg = (docs / "assets" / image[2]).read_text(encoding="utf-8")
    if 'class="fig"' not in svg:
        return image[0]
    return f'<figure class="drawn">{svg}</figure>'
