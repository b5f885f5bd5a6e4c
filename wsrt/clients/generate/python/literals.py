"""Values as Python source: strings, bytes, numbers and docstrings."""

from __future__ import annotations

import textwrap

__all__ = ["byte_string", "docstring", "number", "string"]

WIDTH = 120


def string(text: str) -> str:
    """Return a string literal, in the quotes that need fewer backslashes."""
    quote = _quote(text)
    return quote + "".join(f"\\{each}" if each in (quote, "\\") else _visible(each) for each in text) + quote


def byte_string(value: bytes) -> str:
    """Return a bytes literal."""
    quote = _quote(value.decode("latin-1"))
    escaped = (
        f"\\{chr(byte)}" if chr(byte) in (quote, "\\") else chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"
        for byte in value
    )
    return f"b{quote}{''.join(escaped)}{quote}"


def number(value: float) -> str:
    """Return the literal of a finite number."""
    return repr(value).replace("e+", "e")


def docstring(text: str, indent: int) -> str:
    """Return the lines of a docstring, or "" if the text is empty."""
    margin = " " * indent
    lines = [line for each in text.expandtabs(4).strip().splitlines() for line in _wrapped(each, WIDTH - indent)]
    if not lines:
        return ""
    escaped = [_escaped(line) for line in lines]
    first = escaped[0]
    if len(escaped) == 1 and len(margin) + len(first) + 6 <= WIDTH and not {first[0], first[-1]} & {'"', "\\"}:
        return f'{margin}"""{first}"""\n'
    body = "".join(f"{margin}{line}\n" if line else "\n" for line in escaped)
    return f'{margin}"""\n{body}{margin}"""\n'


def _quote(text: str) -> str:
    return "'" if text.count('"') > text.count("'") else '"'


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line.rstrip()]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _escaped(line: str) -> str:
    escaped = "".join("\\\\" if each == "\\" else _visible(each) for each in line)
    return escaped.replace('"""', '\\"\\"\\"')


def _visible(each: str) -> str:
    return each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
