"""Literals: values as source."""

from __future__ import annotations

import textwrap

__all__ = ["byte_string", "docstring", "number", "string"]

WIDTH = 120


def string(text: str) -> str:
    """Return a string in the quotes that need fewer backslashes."""
    quote = _quote(text)
    return quote + "".join(f"\\{each}" if each in (quote, "\\") else _visible(each) for each in text) + quote


def byte_string(value: bytes) -> str:
    """Return bytes."""
    quote = _quote(value.decode("latin-1"))
    shown = (
        f"\\{chr(byte)}" if chr(byte) in (quote, "\\") else chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"
        for byte in value
    )
    return f"b{quote}{''.join(shown)}{quote}"


def number(value: float) -> str:
    """Return a finite number."""
    return repr(value).replace("e+", "e")


def docstring(text: str, indent: int) -> str:
    """Return the lines of a docstring; "" where there is nothing to say."""
    margin = " " * indent
    lines = [line for each in text.expandtabs(4).strip().splitlines() for line in _wrapped(each, WIDTH - indent)]
    if not lines:
        return ""
    shown = [_escaped(line) for line in lines]
    if len(shown) == 1 and len(margin) + len(shown[0]) + 6 <= WIDTH and not {shown[0][0], shown[0][-1]} & {'"', "\\"}:
        return f'{margin}"""{shown[0]}"""\n'
    body = "".join(f"{margin}{line}\n" if line else "\n" for line in shown)
    return f'{margin}"""\n{body}{margin}"""\n'


def _quote(text: str) -> str:
    return "'" if text.count('"') > text.count("'") else '"'


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line.rstrip()]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _escaped(line: str) -> str:
    shown = "".join("\\\\" if each == "\\" else _visible(each) for each in line)
    return shown.replace('"""', '\\"\\"\\"')


def _visible(each: str) -> str:
    return each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
