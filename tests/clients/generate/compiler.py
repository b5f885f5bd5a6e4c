"""Generated clients and programs that use them, compiled as strictly as the compiler can."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.clients.toolchain import FOLDER, ToolFailed, install, run
from wsrt import TypedEventConsumer
from wsrt.clients.generate import javascript, typescript
from wsrt.clients.generate.files import write
from wsrt.schema.description import describe

PROGRAMS = Path(__file__).parent / "programs"

Consumers = Iterable[type[TypedEventConsumer]]


def write_typescript(folder: Path, consumers: Consumers, extension: typescript.Extension = "none") -> None:
    """Write clients in TypeScript, as the command does."""
    write(folder, typescript.generate(describe(consumers), extension=extension))


def write_javascript(folder: Path, consumers: Consumers) -> None:
    """Write clients in JavaScript, as the command does."""
    write(folder, javascript.generate(describe(consumers)))


def errors(folder: Path, *files: str, **options: object) -> dict[str, dict[int, str]]:
    """
    Return the code of the first error in each line, by file and line, of all that is in a folder.

    Args:
        files: these alone, and what they import.
        options: of the compiler, beside those of the runtime's own tests.
    """
    install()
    config = folder / "tsconfig.json"
    compiler = {
        "lib": ["ES2022", "DOM"],
        "types": ["node"],
        "typeRoots": [f"{FOLDER}/node_modules/@types"],
        "rootDir": "/",
        "noEmit": True,
        "paths": {name: [f"{FOLDER}/node_modules/@types/{name}"] for name in ("react", "react/*")},
        **options,
    }
    what = {"files": files} if files else {}
    config.write_text(json.dumps({"extends": f"{FOLDER}/tsconfig.base.json", "compilerOptions": compiler, **what}))
    try:
        run("node_modules/.bin/tsc", "--project", str(config), "--pretty", "false")
    except ToolFailed as failure:
        return _parse(str(failure), folder)
    return {}


def _parse(text: str, folder: Path) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for path, line, code in re.findall(r"^(\S+?)\((\d+),\d+\): error (TS\d+)", text, re.MULTILINE):
        name = (FOLDER / path).resolve().relative_to(folder.resolve()).as_posix()
        found.setdefault(name, {}).setdefault(int(line), code)
    assert found, text
    return found


def expected(text: str) -> Mapping[int, str]:
    """Return the errors that the comments of a program name, by line."""
    lines = enumerate(text.splitlines(), 1)
    return {number: match[1] for number, line in lines if (match := re.search(r"// (TS\d+): ", line))}
