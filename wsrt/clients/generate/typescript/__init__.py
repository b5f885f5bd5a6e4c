"""The generator of TypeScript clients: a module for each consumer, an index, and the runtime."""

from __future__ import annotations

import re
from typing import Literal

from ....schema.description import Description
from ..files import header
from .client import Client
from .names import RUNTIME, exported, files
from .text import literal

__all__ = ["Extension", "generate"]

Extension = Literal["none", "js", "ts"]

IMPORTED = re.compile(r'(?<=from ")(\./[\w./-]+)\.js(?=")')
"""The module that a line imports. The sources of the runtime use the extension of the compiled files."""


def generate(description: Description, *, extension: Extension = "none") -> dict[str, str]:
    """
    Return the text of each generated file, by its path within the folder.

    Args:
        description: The description of the consumers.
        extension: The extension in imports. Bundlers and test runners need none. Node needs "js" for compiled ES
            modules, and "ts" if it runs the sources.
    """
    top = f"{header(description, '//')}\n"
    clients = {entry["name"]: Client(entry) for entry in description["consumers"]}
    modules = files(clients)
    texts = {f"{modules[name]}.ts": f"{top}{_module(client)}" for name, client in clients.items()}
    texts["index.ts"] = f"{top}{_index(clients, modules)}"
    for path in sorted(RUNTIME.glob("*.ts")):
        texts[f"runtime/{path.name}"] = f"{top}{path.read_text(encoding='utf-8')}"
    imported = r"\1" if extension == "none" else rf"\1.{extension}"
    return {name: IMPORTED.sub(imported, text) for name, text in texts.items()}


def _module(client: Client) -> str:
    return "\n".join(
        [
            'import * as wsrt from "./runtime/index.js";\n',
            *client.declarations().values(),
            client.events(),
            f"{client.about()}export class {client.fixed.client} extends {client.base} {{\n"
            "  constructor(url: wsrt.Address, options: wsrt.ClientOptions = {}) {\n"
            f"    super(url, {client.options});\n"
            f"  }}\n{_path(client)}}}\n",
        ]
    )


def _path(client: Client) -> str:
    parameters = client.parameters()
    if not parameters:
        return ""
    # One overload for each pattern: a union would also accept a combination of their parameters.
    overloads = "".join(f"  static path({each}): string;\n" for each in parameters)
    patterns = ", ".join(map(literal, client.patterns))
    return (
        f"\n{client.about_path()}{overloads}"
        "  static path(parameters: wsrt.PathParameters = {}): string {\n"
        f"    return wsrt.pathOf([{patterns}], parameters);\n  }}\n"
    )


def _index(clients: dict[str, Client], modules: dict[str, str]) -> str:
    lines = ['export * from "./runtime/index.js";\n']
    seen: set[str] = set()
    for consumer, names in exported({name: client.meanings() for name, client in clients.items()}).items():
        fixed = clients[consumer].fixed
        types = {name: new for name, new in names.items() if new not in seen}
        seen |= set(types.values())
        items = [
            fixed.client,
            *(f"type {name}" for name in (fixed.receives, fixed.sends, fixed.replies)),
            *(f"type {name}" if name == new else f"type {name} as {new}" for name, new in types.items()),
        ]
        body = "".join(f"  {item},\n" for item in items)
        lines.append(f'export {{\n{body}}} from "./{modules[consumer]}.js";\n')
    return "".join(lines)
