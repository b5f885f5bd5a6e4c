"""Patterns: the URL patterns of a consumer of which a client can make paths."""

from __future__ import annotations

import re
from urllib.parse import quote

from ...schema.routes import PARAMETER, parameters_of

__all__ = ["patterns"]

NO_PATH = re.compile(r"[()\[\]{}|*+?^$\\]")
"""What is left of a regular expression in a pattern: no path can be made of that."""


def patterns(paths: list[str]) -> list[str]:
    """Return the patterns of which paths can be made, percent-encoded but for their parameters."""
    seen: set[frozenset[str]] = set()
    found = []
    for path in paths:
        names = frozenset(parameters_of(path))
        # Of patterns with the same parameters the first is taken.
        if NO_PATH.search(PARAMETER.sub("", path)) or names in seen:
            continue
        seen.add(names)
        # Text and names of parameters, by turns.
        parts = enumerate(PARAMETER.split(path))
        text = "".join(f"{{{part}}}" if number % 2 else quote(part, safe="/~:@!&',;=") for number, part in parts)
        # "//" at the start would name another host.
        found.append(f"/%2F{text[2:]}" if text.startswith("//") else text)
    return found
