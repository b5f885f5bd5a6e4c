"""Tables for the terminal, with aligned columns that fit its width."""

from __future__ import annotations

import dataclasses
import datetime as dt
import unicodedata
from collections.abc import Sequence

GAP = "  "

LEAST = 8
"""The width that a cell keeps even in a narrow terminal, in terminal columns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a table.

    Attributes:
        heading: The heading of the column.
        is_number: Whether the column is aligned to the right.
        is_whole: Whether the column is never truncated, so that its values can be copied.
    """

    heading: str
    is_number: bool = False
    is_whole: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table. Each row has one string for each column."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    def lines(self, width: int | None) -> list[str]:
        """
        Return the lines of the table, the headings first. Columns without any text are left out.

        Args:
            width: The width of the terminal in columns, to which long cells are truncated. None: truncate nothing.
        """
        rows = [[printable(text) for text in row] for row in self.rows]
        used = [number for number in range(len(self.columns)) if not rows or any(row[number] for row in rows)]
        columns = [self.columns[number] for number in used]
        table = [[column.heading for column in columns], *([row[number] for number in used] for row in rows)]
        widths = [max(map(width_of, cells)) for cells in zip(*table, strict=True)]
        if width is not None:
            _narrow(columns, widths, width - len(GAP) * (len(columns) - 1))
        return [
            GAP.join(
                _cell(text, column, room) for text, column, room in zip(row, columns, widths, strict=True)
            ).rstrip()
            for row in table
        ]


def printable(text: str) -> str:
    """Return a string with control and unprintable characters escaped, because names may come from clients."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def width_of(text: str) -> int:
    """Return the number of terminal columns that a string takes."""
    return len(text) if text.isascii() else sum(map(_width_of_char, text))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 room", "2 rooms"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def age(then: dt.datetime | None, now: dt.datetime) -> str:
    """Return the time since a moment in its two largest units; "" if the moment is not known."""
    if then is None:
        return ""
    seconds = max(0, round((now - then).total_seconds()))
    units = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((number for number, (amount, _) in enumerate(units) if amount), len(units) - 1)
    return " ".join(f"{amount}{unit}" for amount, unit in units[first : first + 2])


def _narrow(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Shrink the widest columns until all fit, or none can shrink further."""
    least = [
        wide if column.is_whole else max(LEAST, width_of(column.heading))
        for column, wide in zip(columns, widths, strict=True)
    ]
    while sum(widths) > width:
        spare = [number for number in range(len(widths)) if widths[number] > least[number]]
        if not spare:
            return
        widths[max(spare, key=widths.__getitem__)] -= 1


def _cell(text: str, column: Column, width: int) -> str:
    if width_of(text) > width:
        text = f"{_start(text, width - 1)}…"
    blank = " " * (width - width_of(text))
    return blank + text if column.is_number else text + blank


def _start(text: str, width: int) -> str:
    """Return the text, truncated to fit."""
    kept = ""
    for char in text:
        width -= _width_of_char(char)
        if width < 0:
            break
        kept += char
    return kept


def _width_of_char(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
