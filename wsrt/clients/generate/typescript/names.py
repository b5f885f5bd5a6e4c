"""The names of clients, their types and their files, unique within each module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from ..shapes import Named, words

__all__ = ["RUNTIME", "Fixed", "exported", "files", "local", "runtime_names"]

RUNTIME = Path(__file__).resolve().parents[2] / "runtime/typescript"
"""The folder of the runtime's sources."""


class Fixed:
    """The names of a client's class and event interfaces. Models with the same names are renamed."""

    def __init__(self, consumer: str) -> None:
        self.client = f"{consumer}Client"
        self.receives = f"{consumer}Receives"
        self.sends = f"{consumer}Sends"
        self.replies = f"{consumer}Replies"

    def all(self) -> tuple[str, ...]:
        return self.client, self.receives, self.sends, self.replies


@cache
def runtime_names() -> frozenset[str]:
    """Return the names that the runtime exports."""
    lists = re.findall(
        r"^export (?:type )?\{([^}]*)\}", (RUNTIME / "index.ts").read_text(encoding="utf-8"), re.MULTILINE
    )
    return frozenset(name for each in lists for name in re.findall(r"(\w+)\s*(?:,|$)", each))


def files(consumers: Iterable[str]) -> dict[str, str]:
    """Return the names of modules without suffix, by the names of consumers: "every-type" for "EveryType"."""
    found: dict[str, str] = {}
    for consumer in consumers:
        wanted = "-".join(word.lower() for word in words(consumer)) or "client"
        # Always lower case, because some file systems don't distinguish upper and lower case.
        found[consumer] = _unique(wanted, {"index", *found.values()}, "-")
    return found


def local(consumer: str, named: Iterable[Named]) -> dict[str, str]:
    """Return the names of a consumer's types in its own module, by the names of their shapes."""
    taken = set(Fixed(consumer).all())
    wanted = [each.name for each in named]
    found = {name: name for name in wanted if name not in taken}
    for name in wanted:
        if name not in found:
            found[name] = _unique(f"{name}Model", {*taken, *found.values()})
    return found


def exported(declarations: Mapping[str, Mapping[str, frozenset[str]]]) -> dict[str, dict[str, str]]:
    """
    Return the names of all consumers' types in the index, by consumer and local name.

    Types keep their names, except those that the runtime also has and those that denote different types. These are
    prefixed with the name of their consumer.

    Args:
        declarations: The declarations that each type consists of, by consumer and local name.
    """
    taken = {*runtime_names(), *(name for consumer in declarations for name in Fixed(consumer).all())}
    meanings: dict[str, set[frozenset[str]]] = {}
    for types in declarations.values():
        for name, text in types.items():
            meanings.setdefault(name, set()).add(text)
    plain = {name for name, texts in meanings.items() if len(texts) == 1} - taken
    taken |= plain
    found: dict[str, dict[str, str]] = {}
    for consumer, types in declarations.items():
        found[consumer] = {}
        for name in types:
            new = name if name in plain else _unique(f"{consumer}{name}", taken)
            found[consumer][name] = new
            taken.add(new)
    return found


def _unique(name: str, taken: Sequence[str] | set[str], joint: str = "") -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}{joint}{number}", number + 1
    return found
