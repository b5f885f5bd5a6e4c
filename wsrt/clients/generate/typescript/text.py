"""Values, keys and comments as TypeScript source."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

__all__ = ["comment", "key", "literal"]

IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)


def literal(value: str | float | bool | None) -> str:
    """Return a JavaScript literal. Characters that aren't printable are escaped."""
    # Write whole floats as integers: in TypeScript 1.0 and 1 are the same type.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "".join(_visible(each) for each in json.dumps(value, ensure_ascii=False))


def key(name: str) -> str:
    """Return a name as the key of an object literal or type."""
    return name if IDENTIFIER.fullmatch(name) and name != "__proto__" else literal(name)


def comment(paragraphs: Sequence[str], indent: str = "", *, is_deprecated: bool = False) -> str:
    """
    Return paragraphs as a JSDoc comment with a final newline, or "" if there is no text.

    The text is escaped, so that it can't end the comment or contain tags.
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
    escaped = "".join(each if each.isprintable() else " " for each in line).rstrip()
    # A slash after a star would end the comment, including the star before each line. An at sign at the start of a word
    # would begin a tag.
    escaped = re.sub(r"(?<=\*)/|^/", r"\\/", escaped)
    return re.sub(r"(?<!\S)@", r"\\@", escaped)


def _visible(each: str) -> str:
    if each.isprintable():
        return each
    units = each.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
