"""Edits of Python files: insertions keep everything else as it is."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from wsrt.management.source import CannotEdit, SourceFile, with_elements


def items_of(file: SourceFile) -> ast.List | ast.Tuple:
    [(_, value)] = file.assignments("apps")
    items = with_elements(value)
    assert items is not None
    return items


def append(file: SourceFile) -> None:
    file.insert_last(items_of(file), "'c'", "'d'")


def prepend(file: SourceFile) -> None:
    file.insert_first(items_of(file), "'z'")


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        (append, "apps = ['a']\n", "apps = ['a', 'c', 'd']\n"),
        (append, "apps = ('a',)", "apps = ('a', 'c', 'd',)"),
        (append, "apps = [\n    'a',\n]\n", "apps = [\n    'a',\n    'c',\n    'd',\n]\n"),
        (append, "apps = [\n    'a'\n]\n", "apps = [\n    'a',\n    'c',\n    'd',\n]\n"),
        (append, "apps = [\n\t'a',  # one\n\t# end\n]\n", "apps = [\n\t'a',  # one\n\t'c',\n\t'd',\n\t# end\n]\n"),
        (append, "apps = ['b',\n        'a']\n", "apps = ['b',\n        'a', 'c', 'd']\n"),
        (append, "apps = ['ü', 'a']  # ü\n", "apps = ['ü', 'a', 'c', 'd']  # ü\n"),
        (append, "apps = [\r\n    'a',\r\n]\r\n", "apps = [\r\n    'a',\r\n    'c',\r\n    'd',\r\n]\r\n"),
        (append, "\ufeffapps = ['a']\n", "\ufeffapps = ['a', 'c', 'd']\n"),
        (append, "apps: list[str] = ['a']\n", "apps: list[str] = ['a', 'c', 'd']\n"),
        (prepend, "apps = ['a']\n", "apps = ['z', 'a']\n"),
        (prepend, "apps = [\n    # first\n    'a',\n]\n", "apps = [\n    # first\n    'z',\n    'a',\n]\n"),
        (prepend, "apps = ['a',\n        'b']\n", "apps = ['z', 'a',\n        'b']\n"),
    ],
)
def test_elements(edit: Callable[[SourceFile], None], before: str, after: str) -> None:
    """Elements are inserted where their neighbours are; comments, quotes, line ends and marks stay."""
    file = SourceFile(before.encode())
    edit(file)
    assert file.result().decode() == after


def test_encoding() -> None:
    """A file keeps its declared encoding."""
    file = SourceFile("# coding: latin-1\napps = ['ü', 'a']\n".encode("latin-1"))
    append(file)
    assert file.result() == "# coding: latin-1\napps = ['ü', 'a', 'c', 'd']\n".encode("latin-1")


@pytest.mark.parametrize(
    ("text", "after"),
    [("a = 1\nb = 2\n", "a = 1\nc = 3\nb = 2\n"), ("a = 1", "a = 1\nc = 3\n"), ("a = (\n1)\n", "a = (\n1)\nc = 3\n")],
)
def test_line(text: str, after: str) -> None:
    """A line is inserted below a statement, also below the last one, whose line may not end."""
    file = SourceFile(text.encode())
    file.insert_line(file.tree.body[0], "c = 3")
    assert file.result().decode() == after


def test_end() -> None:
    """A line is appended, also to a file that is empty or doesn't end its last line."""
    for text, after in (("", "c = 3\n"), ("a = 1", "a = 1\nc = 3\n"), ("a = 1\n", "a = 1\nc = 3\n")):
        file = SourceFile(text.encode())
        file.insert_line(None, "c = 3")
        assert file.result().decode() == after


@pytest.mark.parametrize(
    "data", [b"print 'x'\n", b"apps = [\n", b"# coding: nothing\n", b"\xff\xfe", b"a = '\xe9'\n", b"\0"]
)
def test_not_python(data: bytes) -> None:
    """What can't be parsed isn't edited."""
    with pytest.raises(CannotEdit, match=r"^it can't be parsed"):
        SourceFile(data)


def test_result_is_python() -> None:
    """An edit whose result couldn't be parsed is refused."""
    file = SourceFile(b"a = 1\n")
    file.insert(0, "(")
    with pytest.raises(CannotEdit, match=r"^the result can't be parsed"):
        file.result()
