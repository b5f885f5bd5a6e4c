"""Tables in a terminal."""

from __future__ import annotations

import datetime as dt

import pytest

from wsrt.management.tables import Column, Table, age, counted, printable, width_of

COLUMNS = (Column("id", is_whole=True), Column("name"), Column("n", is_number=True))


def test_in_line() -> None:
    """Columns are as wide as their widest cell; numbers stand to the right, no line ends with blanks."""
    table = Table("t", COLUMNS, [("1", "ada", "7"), ("22", "x", "1,000")])
    assert table.lines(None) == ["id  name      n", "1   ada       7", "22  x     1,000"]


def test_without_rows() -> None:
    """A table without rows has its headings."""
    assert Table("t", COLUMNS, []).lines(80) == ["id  name  n"]


def test_empty_column() -> None:
    """An empty column is left out."""
    assert Table("t", COLUMNS, [("1", "", "7")]).lines(None) == ["id  n", "1   7"]


def test_cut_for_the_terminal() -> None:
    """The widest cells are cut, and what is to be copied is not."""
    table = Table("t", (*COLUMNS, Column("data")), [("1" * 30, "a" * 50, "7", "b" * 20)])
    lines = table.lines(60)
    assert [width_of(line) for line in lines[1:]] == [60]
    assert lines[1].split() == ["1" * 30, "a" * 10 + "…", "7", "b" * 11 + "…"]


def test_narrow_terminal() -> None:
    """Where nothing is left to cut, lines are longer than the terminal."""
    table = Table("t", COLUMNS, [("1" * 30, "a" * 50, "7")])
    assert table.lines(20)[1].split() == ["1" * 30, "a" * 7 + "…", "7"]


def test_wide_characters() -> None:
    """What takes two columns counts as two, and what takes none as none."""
    lines = Table("t", (Column("name"), Column("n")), [("房间", "1"), ("ada", "2"), ("e\u0301", "3")]).lines(None)
    assert [width_of(line) for line in lines] == [7, 7, 7, 7]
    assert Table("t", (Column("name"), Column("n")), [("房" * 9, "1")]).lines(12)[1] == "房房房房…  1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[31mred", "\\x1b[31mred"), ("a\nb", "a\\nb"), ("\u202e", "\\u202e"), ("\ud800", "\\ud800"), ("é房", "é房")],
)
def test_printable(text: str, shown: str) -> None:
    """What a terminal would obey is escaped."""
    assert printable(text) == shown
    assert Table("t", (Column("name"),), [(text,)]).lines(None)[1] == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m 0s"), (3661, "1h 1m"), (90_000, "1d 1h"), (864_000, "10d 0h")],
)
def test_age(seconds: int, shown: str) -> None:
    """A time has its two largest units."""
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert age(now - dt.timedelta(seconds=seconds), now) == shown
    assert age(None, now) == ""


def test_counted() -> None:
    """A noun goes with its number."""
    assert [counted(number, "room") for number in (0, 1, 1200)] == ["0 rooms", "1 room", "1,200 rooms"]
