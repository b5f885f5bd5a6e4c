"""The layout of expressions as the formatter writes them: on one line if they fit, or on several."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

__all__ = [
    "WIDTH",
    "Expression",
    "Joined",
    "Prefixed",
    "Union",
    "call",
    "flat",
    "layout",
    "listing",
    "mapping",
    "statement",
    "subscript",
]

WIDTH = 120
STEP = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Prefixed:
    """An expression with a prefix on the same line: ``alias=``, ``lambda:``, or the key of a dict."""

    prefix: str
    expression: Expression


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """
    Items in brackets.

    Attributes:
        opening, closing: The text before and after the items, with the brackets.
        items: The items.
        has_comma: Whether a trailing comma is added if each item is on its own line. Not after a single item of a
            subscript, where it would make a tuple.
    """

    opening: str
    items: tuple[Expression, ...]
    closing: str
    has_comma: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Union:
    """A union of different types."""

    members: tuple[Expression, ...]


Expression: TypeAlias = str | Prefixed | Joined | Union


def subscript(head: str, *items: Expression) -> Expression:
    """Return ``head[items]``."""
    return Joined(f"{head}[", items, "]", has_comma=len(items) > 1)


def call(head: str, *items: Expression) -> Expression:
    """Return ``head(items)``."""
    return Joined(f"{head}(", items, ")")


def listing(items: Sequence[Expression]) -> Expression:
    """Return the expression of a list with these items."""
    return Joined("[", tuple(items), "]")


def mapping(pairs: Sequence[tuple[str, Expression]]) -> Expression:
    """Return a dict of pairs."""
    return Joined("{", tuple(Prefixed(f"{key}: ", value) for key, value in pairs), "}")


def flat(expression: Expression) -> str:
    """Return an expression on one line."""
    match expression:
        case Prefixed(prefix, inner):
            return prefix + flat(inner)
        case Joined(opening, items, closing):
            return opening + ", ".join(map(flat, items)) + closing
        case Union(members):
            return " | ".join(map(flat, members))
        case text:
            return text


def layout(expression: Expression, indent: int, before: int, after: int) -> str:
    """
    Return an expression on as many lines as it needs.

    Args:
        expression: The expression.
        indent: The number of columns by which its first line is indented.
        before, after: The number of columns before the expression on its first line, including the indent, and after
            its end.
    """
    text = flat(expression)
    if before + len(text) + after <= WIDTH:
        return text
    match expression:
        case Prefixed(prefix, inner):
            return prefix + layout(inner, indent, before + len(prefix), after)
        case Joined(opening, items, closing, has_comma) if items:
            inside = indent + STEP
            comma = "," if has_comma else ""
            lines = [" " * inside + layout(item, inside, inside, len(comma)) + comma for item in items]
            return "\n".join([opening, *lines, " " * indent + closing])
        case Union(members):
            # This is correct within brackets only. Elsewhere _in_parentheses() adds them.
            return f"\n{' ' * indent}| ".join(layout(each, indent, indent + 2, 0) for each in members)
        case _:
            return text


def statement(indent: int, head: str, annotation: Expression | None = None, value: Expression | None = None) -> str:
    """Return ``head: annotation = value``, omitting the parts that are None."""
    text = " " * indent + head
    equals = "" if value is None else " = "
    if annotation is not None:
        text += ": "
        tail = 0 if value is None else len(equals) + len(_opening(value))
        # A plain name is never moved to its own line.
        text += annotation if isinstance(annotation, str) else _in_parentheses(annotation, indent, len(text), tail)
    if value is None:
        return text
    text += equals
    column = len(text.rpartition("\n")[2])
    return text + _in_parentheses(value, indent, column, 0)


def _opening(value: Expression) -> str:
    """Return the part of a value that is always on its first line."""
    match value:
        case Joined(opening, items):
            return opening if items else flat(value)
        case Prefixed(prefix, inner):
            return prefix + _opening(inner)
        case _:
            return flat(value)


def _in_parentheses(expression: Expression, indent: int, before: int, after: int) -> str:
    text = flat(expression)
    inside = indent + STEP
    is_breakable = isinstance(expression, Union)
    is_short = inside + len(text) <= WIDTH
    if isinstance(expression, Joined | Prefixed) or before + len(text) + after <= WIDTH:
        return layout(expression, indent, before, after)
    if not is_breakable and not is_short:
        return text
    return f"(\n{' ' * inside}{layout(expression, inside, inside, 0)}\n{' ' * indent})"
