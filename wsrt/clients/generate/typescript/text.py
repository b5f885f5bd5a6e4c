"""Text: values, keys and comments as source that says just what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

__all__ = ["comment", "key", "literal"]

IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)


def literal(value: str | float | bool | None) -> str:
    """Return a value as it stands in JavaScript; what cannot be seen is escaped."""
    # Whole floats are numbers like others: 1.0 would be the same type under another name.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "".join(_visible(each) for each in json.dumps(value, ensure_ascii=False))


def key(name: str) -> str:
    """Return a name as the key of an object."""
    return name if IDENTIFIER.fullmatch(name) and name != "__proto__" else literal(name)


def comment(paragraphs: Sequence[str], indent: str = "", *, is_deprecated: bool = False) -> str:
    """
    Return paragraphs as a comment of JSDoc, with the end of its last line; "" where there is nothing to say.

    Nothing in them ends the comment, or is a tag of it.
    """
    lines: list[str] = []
    for paragraph in filter(None, (each.strip() for each in paragraphs)):
        lines += [*([""] if lines else []), *(_plain(line) for line in paragraph.expandtabs(4).splitlines())]
    if is_deprecated:
        lines.append("@deprecated")
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    inner = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{inner}{indent} */\n"


def _plain(line: str) -> str:
    shown = "".join(each if each.isprintable() else " " for each in line).rstrip()
    # A slash ends the comment behind a star, the one before each line too; an at sign begins a tag behind a space.
    shown = re.sub(r"(?<=\*)/|^/", r"\\/", shown)
    return re.sub(r"(?<!\S)@", r"\\@", shown)


def _visible(each: str) -> str:
    if each.isprintable():
        return each
    units = each.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
