"""The pages about clients say what they are: sizes, errors, options, states."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from typing import Any

import pytest

from tests.clients.toolchain import CORE, PLAIN, RUNTIME, sizes
from tests.support.processes import ROOT
from wsrt.clients.runtime.python import Client, ClientError, Limits, State, Timings, errors

PAGE = "".join((ROOT / "docs/reference" / name).read_text() for name in ("clients.md", "client-options.md"))


def table(header: str) -> list[list[str]]:
    """Return the cells of a table, without the marks of code."""
    text = PAGE.partition(f"\n{header}\n")[2].partition("\n\n")[0]
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in text.splitlines()[1:]]


@pytest.mark.parametrize(
    ("row", "entry"),
    [(0, CORE), (1, PLAIN), (2, f'{PLAIN} export * from "./react.js";')],
    ids=["core", "static", "react"],
)
def test_sizes(row: int, entry: str) -> None:
    """The sizes are those of the sources."""
    assert tuple(map(int, table("| what the page loads | minified | minified and gzipped |")[row][1:])) == sizes(entry)


def test_size_of_the_static_file() -> None:
    """The page about the static file has the same size, in kilobytes."""
    minified, zipped = sizes(PLAIN)
    words = f"{round(minified / 1000)} kB, {round(zipped / 1000)} kB compressed"
    assert words in (ROOT / "docs/howto/javascript.md").read_text()


def test_errors() -> None:
    """Every error of both clients is in the table."""
    rows = table("| TypeScript | Python | when |")
    source = (RUNTIME / "errors.ts").read_text()
    assert {row[0] for row in rows} - {""} == set(re.findall(r"export class (\w+)", source))
    ours = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ClientError)}
    assert {row[1] for row in rows} == ours


def python_options() -> dict[str, Any]:
    """Return the numbers that may be set in Python, by their names on the page."""
    found = {}
    for name, kind in (("timings", Timings), ("limits", Limits)):
        found |= {f"{name}.{field.name}": field.default for field in dataclasses.fields(kind)}
    return found


def typescript_options() -> dict[str, Any]:
    """Return the numbers that may be set in TypeScript, by their names on the page."""
    source = (RUNTIME / "client.ts").read_text()
    found: dict[str, Any] = {}
    for name, constant in (("timings", "TIMINGS: Timings"), ("queue", "QUEUE")):
        block = re.search(rf"const {constant} = \{{(.*?)\}};", source, re.DOTALL)
        assert block
        for key, value in re.findall(r"(\w+): ([\w]+)", block[1]):
            found[f"{name}.{key}"] = json.loads(value.replace("_", ""))
    return found


def test_numbers() -> None:
    """Every number that may be set is in the table, with its default, and no other."""
    rows = table("| TypeScript | default | Python | default | meaning |")
    assert {row[0]: json.loads(row[1]) for row in rows if row[0]} == typescript_options()
    told = {row[2]: None if row[3] == "None" else float(row[3]) for row in rows if row[2]}
    assert told == python_options()


def test_numbers_are_the_same() -> None:
    """Where both clients have a number, it is the same one: milliseconds there, seconds here."""
    for row in table("| TypeScript | default | Python | default | meaning |"):
        if row[0].endswith("Ms") and row[2] and row[3] != "None":
            assert float(row[1]) == 1000 * float(row[3]), row
        elif row[0] and row[2]:
            assert row[1] in {row[3], "null"}, row


def test_options() -> None:
    """Every option is in a table, and no other."""
    rows = table("| TypeScript | Python | meaning |")
    interface = re.search(r"interface ClientOptions \{(.*?)\n\}", (RUNTIME / "types.ts").read_text(), re.DOTALL)
    assert interface
    theirs = set(re.findall(r"readonly (\w+)\?", interface[1])) - {"timings", "queue"}
    assert {row[0] for row in rows} - {""} == theirs
    ours = set(inspect.signature(Client).parameters) - {"url", "timings", "limits"}
    assert {name for row in rows for name in row[1].split(", ")} - {""} == ours


def test_states() -> None:
    """Every state and every reason is explained."""
    source = (RUNTIME / "types.ts").read_text()
    states = re.search(r"export type State = (.*?);", source)
    reasons = re.search(r"export type ReasonKind =(.*?);", source, re.DOTALL)
    assert states
    assert reasons
    assert [row[0] for row in table("| state | meaning |")] == ["connecting", "open", "waiting", "closed"]
    assert {row[0] for row in table("| state | meaning |")} == {state.value for state in State}
    assert {row[0] for row in table("| state | meaning |")} == set(re.findall(r'"(\w+)"', states[1]))
    assert {row[0] for row in table("| kind | why there is no connection |")} == set(re.findall(r'"(\w+)"', reasons[1]))
