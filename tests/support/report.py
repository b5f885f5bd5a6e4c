"""Observations of the tests, printed at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

sections: dict[str, Callable[[], list[str]]] = {}
"""By title, what gives the lines; asked when the run is over."""

notes: dict[str, list[str]] = {}


def note(title: str, line: str) -> None:
    """Have a line printed under a title."""
    sections.setdefault(title, lambda: notes[title])
    notes.setdefault(title, []).append(line)


def lines() -> dict[str, list[str]]:
    """Return all sections as plain data, for the process that prints them."""
    return {title: make() for title, make in sections.items()}


def add(others: dict[str, list[str]]) -> None:
    """Take in what another process saw."""
    for title, texts in others.items():
        for text in texts:
            note(title, text)


class Matrix:
    """A table that tests fill cell by cell."""

    def __init__(self, title: str) -> None:
        self._cells: dict[str, dict[str, str]] = {}
        self._columns: list[str] = []
        sections[title] = self._lines

    def put(self, row: str, column: str, text: str) -> None:
        if column not in self._columns:
            self._columns.append(column)
        self._cells.setdefault(row, {})[column] = text

    def _lines(self) -> list[str]:
        rows = [["", *self._columns]]
        rows += [
            [row, *(cells.get(column, "-") for column in self._columns)] for row, cells in sorted(self._cells.items())
        ]
        widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
