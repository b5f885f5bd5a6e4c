"""The generator of clients for pages without a bundler: a module that imports "wsrt", and types for editors."""

from __future__ import annotations

from pathlib import Path

from ...schema.description import Description
from .files import header
from .typescript.client import Client
from .typescript.names import exported
from .typescript.text import literal

__all__ = ["RUNTIME_TYPES", "generate"]

RUNTIME_TYPES = Path(__file__).resolve().parents[1] / "runtime/javascript/wsrt.d.ts"
"""The types of the runtime, which the static file doesn't contain."""


def generate(description: Description) -> dict[str, str]:
    """Return the text of each generated file, by its path within the folder."""
    top = f"{header(description, '//')}\n"
    entries = description["consumers"]
    names = exported({entry["name"]: Client(entry).meanings() for entry in entries})
    clients = [Client(entry, names[entry["name"]]) for entry in entries]
    return {
        "index.js": top + "\n".join(['import * as wsrt from "wsrt";\n', *map(_class, clients)]),
        "index.d.ts": top + "\n".join([_HEAD, *_declarations(clients)]),
        "wsrt.d.ts": top + RUNTIME_TYPES.read_text(encoding="utf-8"),
    }


_HEAD = """\
/// <reference path="./wsrt.d.ts" />
import type * as wsrt from "wsrt";
"""


def _class(client: Client) -> str:
    text = (
        f"{client.about()}export class {client.fixed.client} extends wsrt.Client {{\n"
        "  constructor(url, options = {}) {\n"
        f"    super(url, {client.options});\n  }}\n"
    )
    if client.patterns:
        patterns = ", ".join(map(literal, client.patterns))
        text += (
            f"\n{client.about_path()}  static path(parameters = {{}}) {{\n"
            f"    return wsrt.pathOf([{patterns}], parameters);\n  }}\n"
        )
    return f"{text}}}\n"


def _declarations(clients: list[Client]) -> list[str]:
    # Types that several clients share are declared once.
    shared = {name: text for client in reversed(clients) for name, text in client.declarations().items()}
    parts = [shared.pop(name) for client in clients for name in client.declarations() if name in shared]
    for client in clients:
        paths = "".join(f"  static path({each}): string;\n" for each in client.parameters())
        about = f"\n{client.about_path()}" if paths else ""
        parts += [
            client.events(),
            f"{client.about()}export class {client.fixed.client} extends {client.base} {{\n"
            f"  constructor(url: wsrt.Address, options?: wsrt.ClientOptions);\n{about}{paths}}}\n",
        ]
    return parts
