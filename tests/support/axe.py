"""What makes a page hard to use: what axe-core finds, and contrasts that are too low."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.clients import toolchain

LEAST = {"text": 4.5, "control": 3.0}
"""The least contrast with what is around it (WCAG 2.2, success criteria 1.4.3 and 1.4.11)."""

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""The rules that axe applies."""


@functools.cache
def axe() -> str:
    """Return the script of axe-core, which package-lock.json pins."""
    toolchain.install()
    return (toolchain.FOLDER / "node_modules/axe-core/axe.min.js").read_text()


def violations(page: Page, within: str = "html") -> list[str]:
    """
    Return what axe finds in a page, one line for each element.

    Args:
        page: The page, in the state to examine.
        within: A selector of the part to examine.
    """
    page.evaluate(axe())
    result: dict[str, Any] = page.evaluate(
        "([within, tags]) => axe.run(within, {resultTypes: ['violations'], runOnly: tags})", [within, TAGS]
    )
    return [
        f"{found['id']}: {node['html'][:200]}: {node['failureSummary'][:300]}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


def faint(page: Page, within: str = "body") -> list[str]:
    """Return the texts and controls in a part of a page whose contrast is too low, one line for each."""
    script = Path(__file__).with_name("contrast.js").read_text()
    measured = page.evaluate(script, f"{within} *")
    assert any(each["kind"] == "text" for each in measured), "no text was measured"
    return [
        f"{each['kind']} {each['name']!r}: {each['ratio']:.2f}"
        for each in measured
        if each["ratio"] < LEAST[each["kind"]]
    ]
