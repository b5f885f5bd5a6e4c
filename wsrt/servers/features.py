"""Whether the servers that are installed have what they are recognised by, seen without starting them."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

Features = Mapping[str, str]
"""By ``module:Class``, or ``module:`` for a module itself, the names that are used of it, separated by spaces."""


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without doing so."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def missing_of(features: Features) -> list[str] | None:
    """
    Return what is missing, as ``Class.name`` or ``module``.

    None where something of somebody else is not installed that the server needs for this: it cannot serve with it.
    """
    missing: list[str] = []
    for place, names in features.items():
        module_name, _, class_name = place.partition(":")
        try:
            with warnings.catch_warnings():
                # Of the age of what they import, which is theirs.
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
        found = set(dir(owner)) | set(_set_by_methods(owner))
        missing += [f"{class_name or module_name}.{name}" for name in names.split() if name not in found]
    return missing


def _set_by_methods(owner: Any) -> Iterator[str]:
    """Yield the attributes that the methods of a class set: on instances, which there are none of."""
    for base in inspect.getmro(owner) if inspect.isclass(owner) else ():
        for value in vars(base).values():
            code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
            for instruction in dis.get_instructions(code) if code is not None else ():
                if instruction.opname == "STORE_ATTR":
                    yield instruction.argval
