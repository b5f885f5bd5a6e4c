"""Imports, in the order that the linter requires."""

from __future__ import annotations

from collections.abc import Iterable

from .layout import WIDTH, Joined, layout
from .names import ORIGINS, RUNTIME, by_kind

__all__ = ["import_from", "imports"]

INSTALLED = ("pydantic", "typing_extensions")


def imports(used: Iterable[str]) -> str:
    """Return the lines that import names: from the standard library, from installed packages, from the runtime."""
    names: dict[str, list[str]] = {}
    for name in used:
        names.setdefault(ORIGINS[name], []).append(name)
    groups: tuple[list[str], ...] = ([], [], [])
    for module in sorted(names):
        place = 2 if module == RUNTIME else 1 if module in INSTALLED else 0
        if module == "datetime":
            groups[place].insert(0, "import datetime as dt\n")
        else:
            groups[place].append(import_from(module, names[module]))
    return "\n".join("".join(group) for group in groups if group)


def import_from(module: str, names: Iterable[str]) -> str:
    """Return the lines that import names from one module."""
    found = tuple(sorted(names, key=by_kind))
    line = f"from {module} import {', '.join(found)}"
    if len(line) > WIDTH:
        # Parentheses are used only if the line is too long.
        line = f"from {module} import {layout(Joined('(', found, ')'), 0, WIDTH, 0)}"
    return f"{line}\n"
