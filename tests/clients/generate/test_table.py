"""The table of types in docs/howto/typescript.md says what is generated."""

from __future__ import annotations

import ast
import dataclasses
import html
import re
from pathlib import Path

from tests.schema import consumers
from tests.schema.consumers import EveryTypeConsumer
from tests.support.processes import ROOT

from .compiler import errors, write_typescript

PAGE = ROOT / "docs/howto/typescript.md"
LEFT_OUT = ", may be left out"

TYPE = re.compile(r"`([^`]+)`")
EQUAL = """\
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Is<A extends true> = A;
"""


@dataclasses.dataclass
class Row:
    """A row: the type in Python, in TypeScript where it is sent, and where it is received."""

    python: str
    sent: str
    received: str


def cells(line: str) -> list[str]:
    """Return the cells of a row of a table. Code with a pipe, which is written as HTML, is returned in backticks."""
    found = [cell.strip() for cell in line.split("|")[1:-1]]
    return [re.sub("<code>(.*?)</code>", lambda match: f"`{html.unescape(match[1])}`", cell) for cell in found]


def rows(text: str) -> list[Row]:
    """Return the rows of the page."""
    table = text.partition("| field on the server | type when sent |")[2].partition("\n\n")[0]
    return [Row(*cells(line)[:3]) for line in table.splitlines()[2:]]


def fields() -> dict[str, list[str]]:
    """Return the names of the fields of EveryTypeConsumer's event, by their source."""
    source = Path(consumers.__file__).read_text()
    [everything] = [
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Everything"
    ]
    found: dict[str, list[str]] = {}
    for node in everything.body:
        if isinstance(node, ast.AnnAssign):
            name, _, text = str(ast.get_source_segment(source, node)).partition(": ")
            alias = re.search(r'alias="([^"]+)"', text)
            found.setdefault(re.sub(r"\b(dt|uuid)\.", "", text), []).append(alias[1] if alias else name)
    return found


def assertion(name: str, model: str, cell: str) -> str:
    """Return a line that compiles where a field is what a cell says."""
    match = TYPE.match(cell)
    assert match, cell
    optional = "?" if cell.endswith(LEFT_OUT) else ""
    expected = f'{{ readonly "{name}"{optional}: {match[1]} }}'
    return f'export type {re.sub(r"[^a-z]", "_", name)}_{model} = Is<Equal<Pick<{model}, "{name}">, {expected}>>;\n'


def program(found: list[Row]) -> str:
    named = fields()
    text = f'import type {{ {", ".join(NAMES)} }} from "./client/every-type.js";\n{EQUAL}'
    for row in found:
        match = TYPE.match(row.python)
        assert match, row
        for name in named[match[1]]:
            text += assertion(name, "EverythingInput", row.sent) + assertion(name, "Everything", row.received)
    return text


NAMES = (
    *("Everything", "EverythingInput", "Cat", "CatInput", "Dog", "Tree", "TreeInput"),
    *("BoxInt", "BoxIntInput", "BoxStr", "BoxStrInput"),
)


def test_every_type_has_a_row() -> None:
    """Each type of the consumer with every type stands in the table, and nothing else."""
    stated = [match[1] for row in rows(PAGE.read_text()) if (match := TYPE.match(row.python))]
    assert sorted(stated) == sorted(fields())


def test_rows(tmp_path: Path) -> None:
    """The compiler agrees with each cell: the types are equal, not only alike; of a wrong cell it would say so."""
    write_typescript(tmp_path / "client", [EveryTypeConsumer])
    found = rows(PAGE.read_text())
    (tmp_path / "table.ts").write_text(program(found))
    wrong = [
        dataclasses.replace(found[0], sent="`string`, may be left out"),
        dataclasses.replace(found[1], received="`number | null`"),
        dataclasses.replace(found[5], received="`any`"),
    ]
    (tmp_path / "wrong.ts").write_text(program(wrong))
    first = len(program([]).splitlines()) + 1
    failures = errors(tmp_path, noUnusedLocals=False)
    assert failures == {"wrong.ts": {first: "TS2344", first + 3: "TS2344", first + 5: "TS2344"}}
