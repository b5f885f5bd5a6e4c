"""Everything that make installs is pinned, within the ranges of pyproject.toml."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.processes import ROOT
from tests.support.versions import PINS, pins, version_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = sorted(path.stem for path in PINS.glob("*.txt"))
EXTRAS = sorted(PROJECT["project"]["optional-dependencies"])
DECLARED: dict[str, list[str]] = {
    "build": ["group build"],
    "lock": ["group lock"],
    "docs": ["group docs"],
    "demo": ["project", "extra daphne", "extra redis"],
    "bench": ["project", "extra daphne", "extra redis", "extra uvicorn", "group bench"],
    "test": ["project", *(f"extra {name}" for name in EXTRAS), "group test", "group lint"],
    "lowest": ["project", *(f"extra {name}" for name in EXTRAS), "group test"],
}
"""Where pyproject.toml declares what a file pins."""


def declared(places: list[str]) -> Iterator[Requirement]:
    """Yield the requirements of some places of pyproject.toml."""
    for place in places:
        kind, _, name = place.partition(" ")
        match kind:
            case "project":
                texts = PROJECT["project"]["dependencies"]
            case "extra":
                texts = PROJECT["project"]["optional-dependencies"][name]
            case _:
                texts = PROJECT["dependency-groups"][name]
        yield from map(Requirement, texts)


def floors() -> dict[str, str]:
    """Return by project the lowest version that pyproject.toml allows, the highest of those that it names."""
    found: dict[str, str] = {}
    for requirement in declared(DECLARED["lowest"]):
        (specifier,) = requirement.specifier
        name = canonicalize_name(requirement.name)
        found[name] = max(specifier.version, found.get(name, "0"), key=Version)
    return found


@pytest.mark.parametrize("name", DECLARED)
def test_pins_are_those_of_the_project(name: str) -> None:
    """Every file pins what pyproject.toml declares, within its ranges; where not, make lock makes them agree."""
    pinned = pins(name)
    for requirement in declared(DECLARED[name]):
        found = pinned.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement.name} is not in requirements/{name}.txt: make lock"
        for one in found:
            assert version_of(one) in requirement.specifier, f"{one} is not {requirement}: make lock"


def test_lowest_versions() -> None:
    """The tests of the lowest versions have those that pyproject.toml declares, of whatever it names itself."""
    pinned = pins("lowest")
    seen = {name: {Version(version_of(one)) for one in pinned[name]} for name in floors()}
    assert seen == {name: {Version(floor)} for name, floor in floors().items()}


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_hashes(name: str) -> None:
    """A pin names one version, and the hashes of the files that may be installed."""
    text = (PINS / f"{name}.txt").read_text()
    assert len(re.findall(r"^\S+==.* \\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == sum(
        map(len, pins(name).values())
    )


@pytest.mark.parametrize("name", FILES)
def test_pins_name_no_index(name: str) -> None:
    """Where packages come from is for the machine to say."""
    assert not re.search(r"://|^--|find-links|index-url", (PINS / f"{name}.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in FILES if name != "lowest" and not name.startswith("django-")])
def test_files_share_an_environment(name: str) -> None:
    """The files pin one version of what they have in common, so that all can be installed beside each other."""
    other = pins("test")
    mine = {project: choices for project, choices in pins(name).items() if project in other}
    versions = {project: set(map(version_of, choices)) for project, choices in mine.items()}
    assert versions == {project: set(map(version_of, other[project])) for project in mine}


def test_lock_of_npm() -> None:
    """The lock file of npm has a hash for every package, and names no address."""
    lock = json.loads((ROOT / "tests/clients/typescript/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
