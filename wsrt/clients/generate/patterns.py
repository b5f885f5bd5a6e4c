"""The URL patterns of a consumer from which a client can build paths."""

from __future__ import annotations

import re
from urllib.parse import quote

from ...schema.routes import PARAMETER, parameters_of

__all__ = ["patterns"]

NO_PATH = re.compile(r"[()\[\]{}|*+?^$\\]")
"""A remainder of a regular expression in a pattern. No path can be built from it."""


def patterns(paths: list[str]) -> list[str]:
    """Return the patterns from which paths can be built, percent-encoded except for their parameters."""
    seen: set[frozenset[str]] = set()
    found = []
    for path in paths:
        names = frozenset(parameters_of(path))
        # If several patterns have the same parameters, use the first.
        if NO_PATH.search(PARAMETER.sub("", path)) or names in seen:
            continue
        seen.add(names)
        # split() returns text and names of parameters alternately.
        parts = enumerate(PARAMETER.split(path))
        text = "".join(f"{{{part}}}" if number % 2 else quote(part, safe="/~:@!&',;=") for number, part in parts)
        # A path that starts with "//" would refer to another host.
        found.append(f"/%2F{text[2:]}" if text.startswith("//") else text)
    return found
