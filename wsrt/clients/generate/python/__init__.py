"""The generator of Python clients: a package with a module for each consumer, and the runtime."""

from __future__ import annotations

from ....schema.description import Description
from ..files import header
from .client import Client
from .index import FOLDER, index
from .names import modules

__all__ = ["generate"]


def generate(description: Description) -> dict[str, str]:
    """Return the text of each generated file, by its path within the folder."""
    top = f"{header(description, '#')}\n"
    clients = [Client(entry) for entry in description["consumers"]]
    names = modules(client.consumer for client in clients)
    texts = {f"{names[client.consumer]}.py": f"{top}{client.module()}" for client in clients}
    texts["__init__.py"] = f"{top}{index({client.name: names[client.consumer] for client in clients})}"
    for path in sorted(FOLDER.glob("*.py")):
        texts[f"runtime/{path.name}"] = f"{top}{path.read_text(encoding='utf-8')}"
    return texts
