"""The index of the generated package, which exports all clients and the names of the runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from . import literals
from .imports import import_from
from .layout import listing, statement
from .names import RUNTIME, by_kind

__all__ = ["FOLDER", "index", "runtime_names"]

FOLDER = Path(__file__).resolve().parents[2] / "runtime/python"
"""The sources of the runtime. They aren't imported, because generating doesn't need their dependencies."""


@cache
def runtime_names() -> tuple[str, ...]:
    """Return the names that the runtime exports."""
    exported = (FOLDER / "__init__.py").read_text(encoding="utf-8").partition("__all__ = [")[2].partition("]")[0]
    return tuple(re.findall(r'"(\w+)"', exported))


def index(clients: Mapping[str, str]) -> str:
    """Return the text of ``__init__.py``, given a dict from the clients' names to their modules."""
    modules = sorted(clients.items(), key=lambda item: item[1])
    lines = [import_from(f".{module}", [client]) for client, module in modules if module < RUNTIME[1:]]
    lines.append(import_from(RUNTIME, runtime_names()))
    lines += [import_from(f".{module}", [client]) for client, module in modules if module > RUNTIME[1:]]
    exported = [literals.string(name) for name in sorted((*clients, *runtime_names()), key=by_kind)]
    return (
        f'"""The clients of this project."""\n\nfrom __future__ import annotations\n\n{"".join(lines)}\n'
        f"{statement(0, '__all__', None, listing(exported))}\n"
    )
