"""Clients in Python: right programs pass the type checker, wrong ones fail in the very line that is wrong."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings
from pydantic import ValidationError

from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from tests.clients.generate.test_table import TYPE, cells, fields
from tests.schema.consumers import EveryTypeConsumer
from tests.support.processes import ROOT
from wsrt import TypedEventConsumer
from wsrt.clients.generate import python
from wsrt.clients.generate.files import write
from wsrt.clients.generate.python import literals
from wsrt.clients.generate.python.client import Client
from wsrt.clients.generate.python.index import runtime_names
from wsrt.clients.generate.python.layout import Joined, Prefixed, Union, call, layout, statement, subscript
from wsrt.clients.generate.python.names import ORIGINS, attributes, classes, modules, parameters
from wsrt.clients.generate.python.types import Types
from wsrt.clients.generate.shapes import (
    Anything,
    Choice,
    Field,
    ListOf,
    Literals,
    MapOf,
    Named,
    Nothing,
    Reference,
    Scalar,
    Shape,
    Struct,
    TupleOf,
)
from wsrt.schema.description import describe

from .compiler import PROGRAMS
from .consumers import CafeConsumer, IndexConsumer, MailConsumer, NewsConsumer, OddConsumer

needs_ruff = pytest.mark.skipif(
    importlib.util.find_spec("ruff") is None,
    reason="how code is formatted depends on the release of ruff, which make test pins",
)

PAGE = ROOT / "docs/howto/python.md"

CONSUMERS = [
    *(EveryTypeConsumer, CafeConsumer, ChatConsumer, HereConsumer),
    *(IndexConsumer, MailConsumer, NewsConsumer, OddConsumer),
]


def write_python(folder: Path, consumers: Iterable[type[TypedEventConsumer]]) -> None:
    """Write clients in Python, as the command does."""
    with override_settings(ASGI_APPLICATION="tests.clients.generate.paths.application"):
        write(folder, python.generate(describe(consumers)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated clients, and the programs beside them."""
    root = tmp_path_factory.mktemp("python")
    write_python(root / "client", CONSUMERS)
    for name in ("good.py", "wrong.py"):
        shutil.copy(PROGRAMS / name, root)
    return root


@pytest.fixture(scope="module")
def package(folder: Path) -> Iterator[ModuleType]:
    """The generated package, imported; it is gone afterwards."""
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("client")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("client", "good")]:
            del sys.modules[name]


def tool(folder: Path, *command: str) -> str:
    """Run a Python tool in a folder, and return its output."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def mypy(folder: Path, *names: str) -> dict[str, dict[int, str]]:
    """Return the code of the first error in each line, by file and line, of what the strict type checker finds."""
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\nwarn_unreachable = true\n")
    said = tool(folder, "mypy", "--no-error-summary", "--hide-error-context", "--no-pretty", *names)
    found: dict[str, dict[int, str]] = {}
    for line in said.splitlines():
        if ": note: " in line:
            continue
        match = re.fullmatch(r"(\S+?):(\d+): error: .*\[([\w-]+)\]", line)
        assert match, said
        found.setdefault(match[1], {}).setdefault(int(match[2]), match[3])
    return found


def expected(text: str) -> Mapping[int, str]:
    """Return the errors that the comments of a program name, by line."""
    lines = enumerate(text.splitlines(), 1)
    return {number: match[1] for number, line in lines if (match := re.search(r"  # ([\w-]+): ", line))}


def test_programs(folder: Path) -> None:
    """Right programs pass, and so do all generated files; wrong ones fail line by line, each for its reason."""
    wanted = expected((PROGRAMS / "wrong.py").read_text())
    assert len(wanted) > 35
    assert mypy(folder, "client", "good.py", "wrong.py") == {"wrong.py": wanted}


def test_good_program_runs(package: ModuleType) -> None:
    """What passes the type checker is what Python takes: models are made, handlers are added."""
    importlib.import_module("good")


@needs_ruff
def test_style(folder: Path) -> None:
    """Formatter and linter find nothing to do in generated files, with this project's own rules."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    assert tool(folder, "ruff", "format", "--diff", "client").endswith("files already formatted\n")
    assert tool(folder, "ruff", "check", "client") == "All checks passed!\n"


def test_index(package: ModuleType) -> None:
    """The package has all clients, and what the runtime exports; each module says what it has."""
    clients = {f"{consumer.__name__.removesuffix('Consumer')}Client" for consumer in CONSUMERS}
    assert set(package.__all__) == {*clients, *runtime_names()}
    assert set(package.runtime.__all__) == set(runtime_names())
    for name in ("every_type", "cafe", "odd", "chat", "here", "index", "mail", "news"):
        module = importlib.import_module(f"client.{name}")
        assert all(hasattr(module, each) for each in module.__all__)


def test_left_out(package: ModuleType) -> None:
    """What is not given is not sent: the server puts in its defaults, whatever they are by then."""
    cafe = importlib.import_module("client.cafe")
    order = cafe.Order(drink=cafe.TeaInput(), size="small", table=1, route=(1, "a"))
    # Without warnings, as the client sends it: Pydantic 2.12.0 warns about unset fields in unions.
    text = order.model_dump_json(warnings=False)
    assert text == '{"drink":{"kind":"tea"},"size":"small","table":1,"route":[1,"a"]}'
    assert not order.extras
    assert repr(order.extras) == "UNSET"
    with pytest.raises(ValidationError):
        cafe.Order.model_validate(
            {**order.model_dump(warnings=False), "note": "UNSET"} | {"waiter": package.UNSET.value, "table": []}
        )


def test_defaults_of_literals() -> None:
    """Constants and what tells models apart are sent; another literal with a default is left to the server."""
    named = {
        "Dog": Named("Dog", Struct((TAG, SIZE, CONSTANT))),
        "Cow": Named("Cow", Struct((Field("kind", Literals(("cow",)), is_required=True),))),
        "Farm": Named("Farm", Struct((Field("animal", Choice((Reference("Dog"), Reference("Cow")), "kind"), True),))),
    }
    text = Types(named, {name: name for name in named}, lambda _: None).model(named["Dog"], ["Model"])
    assert 'kind: Literal["dog", "puppy"] = "dog"' in text
    assert 'size: Omittable[Literal["small", "large"]] = UNSET' in text
    assert "version: Literal[1] = 1" in text


TAG = Field("kind", Literals(("dog", "puppy")), is_required=False, has_default=True, default="dog")
SIZE = Field("size", Literals(("small", "large")), is_required=False, has_default=True, default="small")
CONSTANT = Field("version", Literals((1,)), is_required=False, has_default=True, default=1)


def test_extra_keys(package: ModuleType) -> None:
    """Where a model takes any key, so does its class; elsewhere what a newer server adds is ignored."""
    cafe = importlib.import_module("client.cafe")
    assert cafe.Extra.model_validate({"a": 1}).model_dump() == {"a": 1}
    with pytest.raises(ValidationError):
        cafe.Extra.model_validate({"a": "text"})
    assert cafe.Price.model_validate({"what": "a", "value": 1, "new": 2}).model_dump() == {"what": "a", "value": 1.0}


def test_deprecated(package: ModuleType) -> None:
    """Who reads a deprecated field is warned."""
    cafe = importlib.import_module("client.cafe")
    ordered = cafe.Ordered.model_validate(
        {"id": 1, "drink": {"kind": "tea", "minutes": 1}, "extras": {}, "waiter": "A"}
    )
    with pytest.warns(DeprecationWarning, match="deprecated"):
        assert ordered.waiter == "A"


def test_paths(package: ModuleType) -> None:
    """Paths are percent-encoded; what would lead elsewhere, or nowhere, raises."""
    client = package.ChatClient
    assert client.path() == "/chat/"
    assert client.path(room="a/ü b") == "/chat/a%2F%C3%BC%20b/"
    assert client.path(room=7, class_="x") == "/chat/7/x/"
    for value in ("", ".", ".."):
        with pytest.raises(ValueError, match="room can't be"):
            client.path(room=value)
    with pytest.raises(TypeError, match="no pattern has exactly these parameters: class"):
        client.path(class_="x")


# The table of the documentation.


def rows() -> list[tuple[str, str, str]]:
    """Return the rows of the page: the type on the server, in the client where it is sent and where it is received."""
    table = PAGE.read_text().partition("| on the server | in the client, when sent |")[2].partition("\n\n")[0]
    found = []
    for line in table.splitlines()[2:]:
        server, sent, received = cells(line)
        found.append((server, sent, received))
    return found


def annotations(text: str, model: str) -> dict[str, str]:
    """Return the annotations of a generated class, with their defaults, by the names on the wire."""
    [found] = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == model]
    lines = {}
    for node in found.body:
        if isinstance(node, ast.AnnAssign):
            source = str(ast.get_source_segment(text, node))
            alias = re.search(r'alias="([^"]+)"', source)
            name, _, said = source.partition(": ")
            lines[alias[1] if alias else name] = said
    return lines


def test_table(folder: Path) -> None:
    """The table of the page has a row for each type, and says what is generated."""
    text = (folder / "client/every_type.py").read_text()
    sent, received = annotations(text, "EverythingInput"), annotations(text, "Everything")
    named = fields()
    found = rows()
    assert sorted(match[1] for row in found if (match := TYPE.match(row[0]))) == sorted(named)
    for server, when_sent, when_received in found:
        match = TYPE.match(server)
        assert match, server
        for name in named[match[1]]:
            assert f"`{sent[name]}`" == when_sent, server
            assert f"`{received[name]}`" == when_received, server


# Text.

NASTY = ('"""', '"', "\\", 'a"', "'", "\n", "a\nb", "\\N{BULLET}", "\x00", "\u2028", '""" + x + """', "\ud800", "{x}")


@pytest.mark.parametrize("text", NASTY)
def test_strings(text: str) -> None:
    """A string is read back as what it was, and source shows all that is in it."""
    source = literals.string(text)
    assert ast.literal_eval(source) == text
    assert source.isprintable()


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("around", ["{}", "One. {}", "{} two", "One.\n\n{}\n\n    three"])
def test_docstrings(text: str, around: str) -> None:
    """Nothing that a text says ends the docstring that it stands in."""
    text = around.replace("{}", text)
    source = f"class A:\n{literals.docstring(text, 4)}    x = 1\n"
    [found] = ast.parse(source).body
    assert isinstance(found, ast.ClassDef)
    assert len(found.body) == 1 + bool(text.strip())
    assert all(line.isprintable() for line in source.splitlines())


def test_long_docstrings() -> None:
    """Lines of docstrings are wrapped with their indent."""
    text = literals.docstring("- " + "word " * 60, 4)
    assert max(map(len, text.splitlines())) <= 120
    assert literals.docstring("", 4) == literals.docstring(" \n ", 4) == ""


def test_numbers() -> None:
    """Numbers and bytes are read back as what they were."""
    for value in (0, -1, 1.5, 1e100, 1e-7, 2**70):
        assert ast.literal_eval(literals.number(value)) == value


STRING, NUMBER, NULL = Scalar("string"), Scalar("number"), Scalar("null")
DECIMAL = Scalar("string", "decimal")
KIND = Field("kind", Literals(("cat",)), is_required=False, has_default=True, default="cat")
NAMED = {
    "Cat": Named("Cat", Struct((KIND,))),
    "Dog": Named("Dog", Struct((Field("kind", Reference("Kind"), is_required=True),))),
    "Cow": Named("Cow", Struct((Field("kind", STRING, is_required=True),))),
    "Kind": Named("Kind", Literals(("dog",))),
    "Bull": Named("Bull", Struct(())),
}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Anything(), "Any"),
        (ListOf(Nothing()), "list[Any]"),
        (Scalar("integer"), "int"),
        (Scalar("string", "ipv4"), "str"),
        (Scalar("integer", "date-time"), "int"),
        (Literals(("a", 1, True, None)), 'Literal["a", 1, True, None]'),
        (Literals((1, 1.5, None)), "Literal[1, None] | float"),
        (Literals((1.5,)), "float"),
        (Literals((None,)), "None"),
        (Choice((NUMBER, DECIMAL)), "Decimal"),
        (Choice((NUMBER, DECIMAL, NULL)), "Decimal | None"),
        (Choice((Scalar("integer"), NUMBER)), "int | float"),
        (ListOf(STRING, is_unique=True), "set[str]"),
        (ListOf(Reference("Kind"), is_unique=True), "set[Kind]"),
        (ListOf(TupleOf((STRING, NUMBER), None, 2), is_unique=True), "set[tuple[str, float]]"),
        (ListOf(Choice((STRING, NULL)), is_unique=True), "set[str | None]"),
        (ListOf(Reference("Cat"), is_unique=True), "list[Cat]"),
        (ListOf(ListOf(STRING), is_unique=True), "list[list[str]]"),
        (MapOf(ListOf(NUMBER)), "dict[str, list[float]]"),
        (TupleOf((), None, 0), "tuple[()]"),
        (TupleOf((STRING, NUMBER), None, 1), "tuple[str] | tuple[str, float]"),
        (TupleOf((STRING,), NUMBER, 1), "tuple[str | float, ...]"),
        (TupleOf((STRING,), STRING, 0), "tuple[str, ...]"),
        (Choice((Reference("Cat"), Reference("Dog")), "kind"), 'Annotated[Cat | Dog, Field(discriminator="kind")]'),
        (Choice((Reference("Cat"), Reference("Cow")), "kind"), "Cat | Cow"),
        (Choice((Reference("Cat"), Reference("Bull")), "kind"), "Cat | Bull"),
        (Choice((Reference("Cat"), STRING), "kind"), "Cat | str"),
        (Choice((Reference("Cat"), Reference("Dog"))), "Cat | Dog"),
        (Struct(()), "dict[str, Any]"),
        (Struct((), NUMBER), "dict[str, float]"),
    ],
)  # fmt: skip
def test_types(shape: Shape, expected: str) -> None:
    """Each shape has its type."""
    types = Types(NAMED, {name: name for name in NAMED}, lambda name: None)
    assert layout(types.annotation(shape), 0, 0, 0) == expected


def test_names() -> None:
    """Models make way for what is imported and generated, modules for the runtime, and no name is a keyword."""
    named = [Named(name, STRING) for name in ("Said", "Client", "ClientModel", "AClient", "None", "Field")]
    assert classes(named, "AClient") == {
        "Said": "Said",
        "ClientModel": "ClientModel",
        "Client": "ClientModel2",
        "AClient": "AClientModel",
        "None": "NoneModel",
        "Field": "FieldModel",
    }
    assert modules(["Chat", "chat", "EveryType", "Runtime", "Class"]) == {
        "Chat": "chat",
        "chat": "chat_2",
        "EveryType": "every_type",
        "Runtime": "runtime_",
        "Class": "class_",
    }
    assert parameters(["room", "class", "path_of"]) == {"room": "room", "class": "class_", "path_of": "path_of_"}


def test_attributes() -> None:
    """Fields keep their names where these are identifiers in style; none hides what a model or an annotation needs."""
    wire = ["text", "class", "json", "str", "dt", "self", "messageText", "message_text", "a-b", "", "1", "_x", "ﬁ", "é"]
    assert list(attributes(wire).values()) == [
        *("text", "class_", "json_", "str_", "dt_", "self_", "message_text_2", "message_text", "a_b"),
        *("t_", "t_1", "x", "fi", "é"),
    ]


def test_imported_names_are_known(package: ModuleType) -> None:
    """What generated modules import from the runtime is what the runtime exports."""
    assert {name for name, origin in ORIGINS.items() if origin == ".runtime"} <= set(runtime_names())


LONG = [f"value_number_{number}" for number in range(12)]


@needs_ruff
@pytest.mark.parametrize(
    "source",
    [
        statement(0, "x", None, call("f", *LONG)),
        statement(0, "x", subscript("dict", "str", subscript("Literal", *LONG))),
        statement(0, "x", Union(tuple(LONG)), "None"),
        statement(0, "x", subscript("list", Union(tuple(LONG)))),
        statement(0, "x", "int", Joined("{", tuple(Prefixed(f'"{name}": ', name) for name in LONG), "}")),
        statement(0, "x", None, Joined("[", (), "]")),
        statement(0, "x" * 60, "int", literals.string("y" * 70)),
        statement(0, "x" * 60, "int", literals.string("y" * 130)),
        statement(0, "x" * 110, "Annotated", call("Field", Prefixed("alias=", '"a"'))),
    ],
)
def test_layout(source: str, tmp_path: Path) -> None:
    """Long lines are broken as the formatter breaks them."""
    file = tmp_path / "file.py"
    file.write_text(f"{source}\n")
    tool(tmp_path, "ruff", "format", "--line-length", "120", "file.py")
    assert file.read_text() == f"{source}\n"


def entry(**changes: Any) -> Any:
    [found] = describe([ChatConsumer])["consumers"]
    return {**found, **changes}


def test_without_paths() -> None:
    """A client to which no path leads has no method to make one."""
    assert "def path" not in Client(entry(paths=[])).module()
    assert "def path" not in Client(entry(paths=["/a/(b|c)/"])).module()


def test_events_without_answers() -> None:
    """A request with an event that nothing answers never returns anything."""
    receives = [{**each, "replies": []} if each["name"] == "say" else each for each in entry()["receives"]]
    text = Client(entry(receives=receives)).module()
    assert "class Say(Outgoing[Never]):" in text


def test_events_without_names() -> None:
    """An event whose data has no name in the schema gets that of its model."""
    sends = [{**each, "schema": {"type": "array", "items": {"type": "string"}}} for each in entry()["sends"]]
    text = Client(entry(sends=sends[:1], receives=[], definitions={})).module()
    assert f"class {sends[0]['model']}(Incoming, RootModel[list[str]]):" in text


def test_recursive_names() -> None:
    """What refers to itself, or to what comes later, waits in quotes."""
    types = Types(
        {"A": Named("A", ListOf(Reference("A"))), "B": Named("B", MapOf(Reference("C")))},
        {"A": "A", "B": "B", "C": "C"},
        lambda name: None,
    )
    assert types.alias(Named("A", ListOf(Reference("A")), "About A.")) == (
        'if TYPE_CHECKING:\n    A: TypeAlias = "list[A]"\n    """About A."""\n'
        'else:\n    A = TypeAliasType("A", "list[A]")\n'
    )
    assert types.model(Named("B", MapOf(Reference("C"))), ["Model"]).startswith(
        'class B(Model, RootModel["dict[str, C]"]'
    )
    assert types.one_of(["C", None]) == '"C | None"'
    assert types.one_of(["A", None, "A"]) == "A | None"
