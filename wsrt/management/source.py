"""
Edits of a project's Python files: insertions at the places that the syntax tree names.

Everything else in a file stays as it is, comments and formatting included. A file that can't be parsed, before or after
the insertions, isn't changed.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator


class CannotEdit(Exception):
    """A file can't be edited. The message says why, and begins in lower case."""


class SourceFile:
    """
    The content of a Python file. Insertions are collected, and made together at the end.

    Args:
        data: The content.

    Raises:
        CannotEdit: It can't be parsed.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            self.text = data.decode(self._encoding)
            self.tree = ast.parse(self.text)
        except (SyntaxError, ValueError) as error:
            raise CannotEdit(f"it can't be parsed ({error})") from error
        # The syntax tree counts columns in bytes of UTF-8.
        self._data = self.text.encode()
        self._starts = [0]
        for line in self._data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._insertions: list[tuple[int, str]] = []

    @property
    def quote(self) -> str:
        """The quotation mark that the file prefers."""
        return "'" if self.text.count("'") > self.text.count('"') else '"'

    def quoted(self, text: str) -> str:
        """Return a string literal."""
        return f"{self.quote}{text}{self.quote}"

    def insert(self, offset: int, text: str) -> None:
        """Insert text. Of several insertions at one place, the first comes first."""
        self._insertions.append((offset, text))

    def start(self, node: ast.expr | ast.stmt) -> int:
        """Return the offset of the first character of a node."""
        return self._starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        """Return the offset behind the last character of a node."""
        return self._starts[_last_line(node) - 1] + (node.end_col_offset or 0)

    def insert_line(self, after: ast.stmt | None, line: str) -> None:
        """Insert a line after a statement, at the end of the file for None."""
        offset = len(self._data) if after is None else self._starts[_last_line(after)]
        # The last line of a file needn't end.
        is_ended = not offset or self._data[offset - 1 : offset] in (b"\n", b"\r")
        self.insert(offset, f"{line}\n" if is_ended else f"\n{line}\n")

    def insert_first(self, items: ast.List | ast.Tuple, text: str) -> None:
        """Insert an element at the beginning of a list or tuple that has elements."""
        first = items.elts[0]
        indentation = self._indentation(first)
        self.insert(self.start(first), f"{text}, " if indentation is None else f"{text},\n{indentation}")

    def insert_last(self, items: ast.List | ast.Tuple, *texts: str) -> None:
        """Append elements to a list or tuple that has elements."""
        if not texts:
            return
        last = items.elts[-1]
        indentation = self._indentation(last)
        if indentation is None or _last_line(items) == _last_line(last):
            self.insert(self.end(last), "".join(f", {text}" for text in texts))
            return
        # Below the line of the last element, whose comment stays where it is.
        if not self._data[self.end(last) :].lstrip().startswith(b","):
            self.insert(self.end(last), ",")
        self.insert(self._starts[_last_line(last)], "".join(f"{indentation}{text},\n" for text in texts))

    def _indentation(self, node: ast.expr) -> str | None:
        """Return the blanks before a node, None if it isn't the first one in its line."""
        before = self._data[self._starts[node.lineno - 1] : self.start(node)].decode()
        return None if before.strip() else before

    def result(self) -> bytes:
        """
        Return the content of the file after the insertions.

        Raises:
            CannotEdit: The result isn't valid Python.
        """
        newline = "\r\n" if b"\r\n" in self._data else "\n"
        data, pieces = self._data, []
        before = 0
        for offset, text in sorted(self._insertions, key=lambda insertion: insertion[0]):
            pieces += [data[before:offset], text.replace("\n", newline).encode()]
            before = offset
        text = b"".join([*pieces, data[before:]]).decode()
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise CannotEdit(f"the result can't be parsed ({error})") from error
        return text.encode(self._encoding)

    # What is in the file.

    def assignments(self, name: str) -> list[tuple[ast.stmt, ast.expr]]:
        """Return the assignments of a name at the top level, with their values."""
        found: list[tuple[ast.stmt, ast.expr]] = []
        for statement in self.tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    found.append((statement, value))
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                    found.append((statement, value))
        return found

    def imports(self) -> list[ast.stmt]:
        """Return the imports at the top level."""
        return [statement for statement in self.tree.body if isinstance(statement, ast.Import | ast.ImportFrom)]

    def import_of(self, module: str, name: str) -> ast.stmt | None:
        """Return the statement that imports a name from a module at the top level, None if there is none."""
        for statement in self.imports():
            if not isinstance(statement, ast.ImportFrom) or statement.level or statement.module != module:
                continue
            if any(alias.name == name and alias.asname in (None, name) for alias in statement.names):
                return statement
        return None

    def calls(self, name: str) -> Iterator[ast.Call]:
        """Yield the calls of a function or class by its name."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call) and is_call(node, name))

    def star_imports(self) -> Iterator[str]:
        """Yield the modules from which everything is imported, relative ones with their dots, the last one first."""
        for statement in reversed(self.imports()):
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                yield "." * statement.level + (statement.module or "")


def _last_line(node: ast.expr | ast.stmt) -> int:
    return node.end_lineno or node.lineno


def is_call(node: ast.AST, name: str) -> bool:
    """Return whether a node is a call of a function or class by its name."""
    match node:
        case ast.Call(func=ast.Name(id=found) | ast.Attribute(attr=found)):
            return found == name
    return False


def names_in(node: ast.expr) -> set[str]:
    """Return the names that an expression reads."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def with_elements(values: ast.expr) -> ast.List | ast.Tuple | None:
    """Return an expression if it is a list or tuple that has elements, else None."""
    return values if isinstance(values, ast.List | ast.Tuple) and values.elts else None
