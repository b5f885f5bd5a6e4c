"""Findings about the installed packages and the settings."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
from collections.abc import Iterator, Mapping

from django.conf import settings
from django.utils.module_loading import import_string

from .. import checks
from ..servers import missing_features
from .finding import Finding, error, of_checks, ok, one_line, warning

PACKAGES = (
    "Django",
    "channels",
    "pydantic",
    "channels-redis",
    "redis",
    "daphne",
    "uvicorn",
    "websockets",
    "wsproto",
    "hypercorn",
    "granian",
)


def examine() -> Iterator[Finding]:
    """Yield the findings that don't require a network connection."""
    found = versions()
    yield ok(
        "versions",
        ", ".join([f"Python {platform.python_version()}", *(f"{name} {number}" for name, number in found.items())]),
        Python=platform.python_version(),
        **found,
    )
    yield from bad_versions(found)
    yield from application()
    if settings.DEBUG:
        seen = "True: pages from any port of localhost may connect, and Django keeps every database query in memory"
        yield warning("DEBUG", seen, "Set it to False on servers that others can reach.")
    else:
        yield ok("DEBUG", "False")
    yield from complaints()
    yield from servers()


def versions() -> dict[str, str]:
    """Return the version of each package that matters and is installed."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def bad_versions(found: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings about packages that are too old or have known problems."""
    for name, least, is_needed in _required():
        if name in found and numbers(found[name]) < numbers(least):
            say = error if is_needed else warning
            yield say(name, f"{found[name]}: wsrt needs {least}", f"pip install -U {name}")
    if "daphne" in found and numbers(found["daphne"]) < (4, 2, 2):
        seen = f"{found['daphne']} accepts messages of any size from any client (CVE-2026-44545)"
        yield warning("daphne", seen, "pip install -U daphne: 4.2.2 limits them.")
    if "uvicorn" in found and not {"websockets", "wsproto"} & set(found):
        yield warning(
            "uvicorn", "doesn't serve WebSockets without the package websockets or wsproto", "pip install websockets"
        )


def _required() -> Iterator[tuple[str, str, bool]]:
    """Yield the name and minimum version of each dependency of wsrt, and whether it is mandatory."""
    known = {name.lower(): name for name in PACKAGES}
    for requirement in importlib.metadata.requires("wsrt") or ():
        match = re.match(r"([\w-]+)\s*>=\s*([\d.]+)", requirement)
        if match and match[1].lower() in known:
            yield known[match[1].lower()], match[2], "extra ==" not in requirement


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``(4, 2)`` for "4.2rc1"."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def application() -> Iterator[Finding]:
    """Yield findings about the ASGI application."""
    subject, path = "ASGI_APPLICATION", getattr(settings, "ASGI_APPLICATION", None)
    if not path:
        yield warning(
            subject,
            "not set: the application that servers run cannot be examined",
            "Set it to the dotted path of the ASGI application.",
        )
        return
    try:
        import_string(path)
    except Exception as problem:
        yield error(subject, f"{path}: {one_line(problem)}", "No server can start with it.")
        return
    messages = checks.check_runtime()
    yield from of_checks(subject, messages)
    if not messages:
        yield ok(subject, f"{path}, wrapped in with_runtime")


def complaints() -> Iterator[Finding]:
    """Yield the messages of ``manage.py check`` about the settings."""
    found: list[Finding] = []
    for check in checks.ALWAYS:
        try:
            found += of_checks("settings", check())
        except Exception as problem:
            # The settings are so malformed that the check itself failed.
            found.append(
                error("settings", f"{check.__name__}: {one_line(problem)}", "Check that CHANNEL_LAYERS is well-formed.")
            )
    yield from found or [ok("settings", "no problems found")]


def servers() -> Iterator[Finding]:
    """Yield findings about the installed servers that wsrt would recognise, and those that it would not."""
    found = missing_features()
    known = [server for server, missing in found.items() if not missing]
    if known:
        yield ok("servers", f"would be recognised: {', '.join(known)}", recognised=known)
    yield from of_checks("servers", [checks.unknown_server(*one) for one in found.items() if one[1]])
    if not found:
        yield warning("servers", "no server that wsrt supports is installed here", "Run this where the servers run.")
