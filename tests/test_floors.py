"""The floors of the house: a module imports from its own floor and from those below, never from above."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.syntax import parse

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wsrt"
TESTS = ROOT / "tests"

FLOORS: list[set[str]] = [
    {"exceptions", "close_codes", "addresses", "realms", "types", "metrics"},
    {"protocol"},
    {"delivery"},
    {"conf", "tenants", "tickets", "signals", "cluster", "stores", "presence", "history"},
    {"connection", "sessions", "handlers", "declarations"},
    {"consumers", "publish", "control"},
    {
        "servers",
        "apps",
        "checks",
        "testing",
        "asgi",
        "admin",
        "permissions",
        "routing",
        "rest_framework",
        "middleware",
        "doctor",
        "durable",
        "management",
        "schema",
        "clients",
        "templatetags",
        "views",
    },
]
"""Words, protocol, delivery, cluster, connection, application, doors."""

PURE: dict[str, set[str]] = {
    "protocol": {"asyncio", "time", "threading", "django", "channels", "channels_redis", "redis", "logging"},
    "delivery": {"django", "channels", "channels_redis", "redis"},
}
"""What the pure floors must not import."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the word by which a module stands in FLOORS: its folder, or its own name."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def floor_of(word: str) -> int:
    return next(number for number, words in enumerate(FLOORS) if word in words)


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute names of what a module imports, wherever in the file, but for typing only."""
    package = ("wsrt", *path.relative_to(PACKAGE).parts[:-1])
    for node in _statements(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = [*base, *([node.module] if node.module else [])]
            yield ".".join(module)
            yield from (".".join([*module, alias.name]) for alias in node.names)


def own(path: Path) -> set[str]:
    """Return the words of FLOORS that a module imports."""
    words = {name.split(".")[1] for name in imports(path) if name.startswith("wsrt.")}
    return {word for word in words if any(word in floor for floor in FLOORS)}


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _statements(node)


def test_every_module_has_a_floor() -> None:
    """A new module is given its floor."""
    words = {name_of(path) for path in MODULES} - {"__init__"}
    assert words == set().union(*FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_downwards(path: Path) -> None:
    """A module imports nothing from above its floor."""
    if name_of(path) == "__init__":
        return
    floor = floor_of(name_of(path))
    assert not {word for word in own(path) if floor_of(word) > floor}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_floors(path: Path) -> None:
    """Protocol knows neither loop, clock nor Django; delivery knows asyncio alone; words only the standard library."""
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & PURE.get(name_of(path), set())
    if name_of(path) in FLOORS[0]:
        assert tops <= {"wsrt", *sys.stdlib_module_names}


def test_publishing_does_not_need_consumers() -> None:
    """Models, views and workers import publish without consumers behind it."""
    seen: set[str] = set()
    todo = ["publish"]
    while todo:
        word = todo.pop()
        if word not in seen:
            seen.add(word)
            for path in MODULES:
                if name_of(path) == word:
                    todo += own(path)
    assert not seen & {"consumers", "connection", "handlers", "control"}


def test_no_cycles() -> None:
    """No two modules of a floor import each other, directly or around."""
    graph = {path: set(imports(path)) for path in MODULES}
    dotted = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
    }

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(str(step.relative_to(PACKAGE)) for step in (*trail, path))
        for name in graph[path]:
            # A package is imported with its modules; only the module itself counts.
            other = dotted.get(name)
            if other is not None and other.name != "__init__.py" and other not in done:
                visit(other, (*trail, path))
        done.add(path)

    done: set[Path] = set()
    for path in MODULES:
        if path.name != "__init__.py":
            visit(path, ())


def test_the_table() -> None:
    """Contributors read of the same floors."""
    rows = re.findall(r"^\| \d \w+ \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert [set(re.findall(r"`(\w+)/?`", row)) for row in reversed(rows)] == FLOORS


# The tests


UNMIRRORED = {"apps", "support", "e2e", "recipes", "site", "conformance"}
"""Folders of tests/ that mirror nothing: applications, helpers, and tests of the package as a whole."""

REPOSITORY = {"docs", "english", "floors", "mistakes", "packaging", "platforms", "rules", "stack", "typecheckers"}
"""Modules flat in tests/ that read the repository."""


def test_tests_mirror_the_package() -> None:
    """A test module is in the folder of what it tests, and flat in tests/ only if that is flat in the package."""

    def is_placed(folders: list[str], tested: str) -> bool:
        if not folders:
            return tested in REPOSITORY or (PACKAGE / f"{tested}.py").is_file()
        return folders[0] in UNMIRRORED or PACKAGE.joinpath(*folders).is_dir()

    paths = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    assert not [path for path in paths if not is_placed([*path.parts[:-1]], path.stem.removeprefix("test_"))]
