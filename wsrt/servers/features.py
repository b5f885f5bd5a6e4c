"""Checks for the attributes by which servers are recognised, on running servers and on installed ones."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

Features = Mapping[str, str]
"""The used attribute names, separated by spaces, by ``module:Class``, or by ``module:`` for those of a module."""


def has(owner: object, names: str) -> bool:
    """Return whether an object has all the named attributes. The names are separated by spaces."""
    return all(hasattr(owner, name) and not _is_empty(type(owner), name) for name in names.split())


def _is_empty(kind: Any, name: str) -> bool:
    """Return whether a class only inherits a callback from asyncio.BaseProtocol, where it does nothing."""
    empty = getattr(asyncio.BaseProtocol, name, None)
    return empty is not None and getattr(kind, name, None) is empty


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def missing_of(features: Features) -> list[str] | None:
    """
    Return the missing features, as ``Class.name`` or ``module``.

    Returns None if the server can't use this WebSocket implementation anyway, because a package isn't installed.
    """
    missing: list[str] = []
    for place, names in features.items():
        module_name, _, class_name = place.partition(":")
        try:
            with warnings.catch_warnings():
                # Deprecation warnings about the servers' own imports aren't the project's concern.
                warnings.simplefilter("ignore")
                module = importlib.import_module(module_name)
        except ImportError as error:
            if error.name is not None and error.name.partition(".")[0] != module_name.partition(".")[0]:
                return None
            missing.append(module_name)
            continue
        owner = getattr(module, class_name, None) if class_name else module
        if owner is None:
            missing.append(f"{module_name}.{class_name}")
            continue
        found = {name for name in dir(owner) if not _is_empty(owner, name)} | set(_set_by_methods(owner))
        missing += [f"{class_name or module_name}.{name}" for name in names.split() if name not in found]
    return missing


STORED = re.compile(r"\bself\.(\w+)(?=\s*(?::[^=\n]+)?=(?!=)|\s*,)")
"""An attribute of ``self`` on the left of an assignment, perhaps one of several."""


def _set_by_methods(owner: Any) -> Iterator[str]:
    """Yield the attributes that a class's methods set on ``self``, as found in its source. No instance is needed."""
    for base in inspect.getmro(owner) if inspect.isclass(owner) else ():
        for function in filter(inspect.isfunction, vars(base).values()):
            # Compiled functions have no source, but dir() lists what their classes define.
            with contextlib.suppress(OSError, TypeError):
                yield from STORED.findall(inspect.getsource(function))
