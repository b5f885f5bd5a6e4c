"""The installed versions, and those that requirements/ pins."""

from __future__ import annotations

import importlib.metadata
import platform
import textwrap
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = Path(__file__).resolve().parents[2] / "requirements"


def pins(name: str) -> dict[str, list[Requirement]]:
    """Return by project what a file pins; there are several where Pythons or platforms get versions of their own."""
    found: dict[str, list[Requirement]] = {}
    for line in (PINS / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.rstrip(" \\"))
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version_of(requirement: Requirement) -> str:
    """Return the version that a pin names."""
    (specifier,) = requirement.specifier
    return specifier.version


def pinned_here(name: str) -> dict[str, str]:
    """Return by project the version that a file pins for this Python on this platform."""
    return {
        project: version_of(one)
        for project, choices in pins(name).items()
        for one in choices
        if one.marker is None or one.marker.evaluate()
    }


def installed() -> dict[str, str]:
    """Return by project the version that is installed."""
    return {canonicalize_name(one.name): one.version for one in importlib.metadata.distributions()}


def differing() -> dict[str, str]:
    """Return by project the version that is pinned, of those of which another one is installed."""
    here, wanted = installed(), pinned_here("test") | pinned_here("build")
    return {project: wanted[project] for project, version in here.items() if wanted.get(project, version) != version}


def lines() -> list[str]:
    """Return lines for the log: the versions that the tests ran with, and their differences from the pins."""
    here = sorted(installed().items())
    versions = [f"{project} {version}" for project, version in here]
    pinned = differing()
    others = [f"{project} {version} (pinned: {pinned[project]})" for project, version in here if project in pinned]
    said = [f"Python {platform.python_version()} on {platform.platform()}", *_wrapped("Installed", versions)]
    return said + (_wrapped("Of other versions than requirements/test.txt pins", others) if others else [])


def _wrapped(title: str, items: list[str]) -> list[str]:
    # A name stays with its version.
    text = ", ".join(item.replace(" ", "\0") for item in items)
    return [line.replace("\0", " ") for line in textwrap.wrap(f"{title}: {text}", 120, break_on_hyphens=False)]
