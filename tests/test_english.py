"""The English of code and documentation: phrases that need a second reading are listed, with the place of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

PLACES = [
    *(
        "wsrt",
        "demo_project",
        "scripts",
        "benchmarks",
        "docs",
        ".github",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ),
    *("SECURITY.md", "CODE_OF_CONDUCT.md"),
]
SUFFIXES = {".py", ".ts", ".lua", ".html", ".js", ".css", ".md", ".sh", ".yml"}

COPIED = {"demo_project/chat/static/chat/clients"}
"""Folders of generated files."""

PHRASES: dict[str, tuple[str, int]] = {
    '"is no": write "is not a", "isn\'t a valid"': (r"(?<!there )\bis no\b(?! longer)", re.IGNORECASE),
    '"nobody": name the subject, such as "no connection"': (r"\bnobody\b", re.IGNORECASE),
    '"whoever": name the subject, such as "the caller"': (r"\bwhoever\b", re.IGNORECASE),
    '"anew": write "again"': (r"\banew\b", re.IGNORECASE),
    '"Return what": write a noun, such as "Return the number of"': (r"\b(Return|Yield) (what|how|who|where)\b", 0),
}
"""The phrases to avoid, as regular expressions with their flags, by what to write instead."""


def paths(places: list[str]) -> Iterator[Path]:
    """Yield the files of code and documentation in some files and folders."""
    for place in places:
        path = ROOT / place
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if each.suffix in SUFFIXES and not is_in(each, COPIED):
                yield each


def is_in(path: Path, places: Iterable[str]) -> bool:
    return any(path.is_relative_to(ROOT / place) for place in places)


def hits(path: Path) -> Iterator[str]:
    """Yield the lines of a file with one of the phrases, and what to write instead."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for advice, (phrase, flags) in PHRASES.items():
            if re.search(phrase, line, flags):
                yield f"{path.relative_to(ROOT)}:{number}: {advice}: {line.strip()}"


def test_phrases() -> None:
    """No text needs a second reading because of a phrase that has a plainer form."""
    found = [hit for path in paths(PLACES) for hit in hits(path)]
    assert not found, "\n".join(found)


def test_phrases_are_found() -> None:
    """Each phrase is found where it is, and not in its accepted forms."""
    for text in (
        "X is no Y",
        "Nobody waits",
        "whoever asks",
        "load it anew",
        "Return how it ended",
        "Yield what is new",
    ):
        assert any(re.search(phrase, text, flags) for phrase, flags in PHRASES.values()), text
    for text in ("there is no room", "it is no longer open", "a renewed lease", "Returns what"):
        assert not any(re.search(phrase, text, flags) for phrase, flags in PHRASES.values()), text
