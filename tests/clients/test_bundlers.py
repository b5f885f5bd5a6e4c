"""Generated clients in TypeScript, built and run by what users build them with."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apps.chat.consumers import ChatConsumer
from tests.clients.toolchain import BUNDLERS, FOLDER, install, node_command, run
from wsrt.clients.generate import typescript
from wsrt.clients.generate.files import write
from wsrt.schema.description import ConsumerEntry, describe

TSC = str(FOLDER / "node_modules/.bin/tsc")
ESBUILD = str(FOLDER / "node_modules/.bin/esbuild")
SAID = "/ws/chat/a/ closed RequestError function"


@pytest.fixture
def project(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A project with generated clients, below the tools that are installed."""
    install(BUNDLERS if request.node.get_closest_marker("slow") else FOLDER)
    # Not where pytest keeps its own: tools look for packages in the folders above.
    with tempfile.TemporaryDirectory(dir=BUNDLERS, prefix="build-") as name:
        folder = Path(name) / "project"
        shutil.copytree(BUNDLERS / "project", folder)
        generate(folder)
        yield folder


def generate(folder: Path, **options: Any) -> None:
    """Write the client of the chat, with a path."""
    description = describe([ChatConsumer])
    entry: ConsumerEntry = {**description["consumers"][0], "paths": ["/ws/chat/{room}/"]}
    write(folder / "client", typescript.generate({**description, "consumers": [entry]}, **options))


def tool(name: str) -> str:
    return str(BUNDLERS / "node_modules/.bin" / name)


@pytest.mark.slow
def test_webpack(project: Path) -> None:
    """webpack with ts-loader, as its own guide sets it up, builds a client that runs."""
    run(tool("webpack"), folder=project)
    assert run("node", "dist/main.js", folder=project).strip() == SAID


@pytest.mark.slow
def test_jest(project: Path) -> None:
    """Jest with ts-jest's own preset runs a client."""
    run(tool("jest"), folder=project)


@pytest.mark.slow
def test_vite(project: Path) -> None:
    """Vite builds a client that runs."""
    run(tool("vite"), "build", "--ssr", "main.ts", folder=project)
    [built] = (project / "dist").glob("main.*js")
    assert run("node", str(built), folder=project).strip() == SAID


@pytest.mark.slow
@pytest.mark.parametrize("bundler", ["--turbopack", "--webpack"])
def test_next(project: Path, bundler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Next builds a page that uses a client, with either of its bundlers, and renders it."""
    monkeypatch.setenv("NEXT_TELEMETRY_DISABLED", "1")
    run(tool("next"), "build", bundler, folder=project)
    assert SAID in (project / ".next/server/app/index.html").read_text()


def test_esbuild(project: Path) -> None:
    """esbuild builds a client that runs."""
    run(ESBUILD, "main.ts", "--bundle", "--platform=node", "--outfile=main.js", folder=project)
    assert run("node", "main.js", folder=project).strip() == SAID


COMPILERS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "bundler": ("none", {}, {"module": "ESNext", "moduleResolution": "Bundler", "noEmit": True}),
    "commonjs": ("none", {}, {"module": "CommonJS", "moduleResolution": "Node10", "ignoreDeprecations": "5.0"}),
    "node-commonjs": ("none", {}, {"module": "NodeNext", "moduleResolution": "NodeNext"}),
    "node": ("js", {"type": "module"}, {"module": "NodeNext", "moduleResolution": "NodeNext"}),
    "rewriting": ("ts", {"type": "module"}, {"module": "NodeNext", "rewriteRelativeImportExtensions": True}),
}
"""For each way to resolve modules: the extension that it asks for, the package, and the compiler's options."""


@pytest.mark.parametrize("name", COMPILERS)
def test_compiler(project: Path, name: str) -> None:
    """The compiler reads a client by each of its ways to resolve modules, and Node runs what it writes."""
    extension, package, options = COMPILERS[name]
    generate(project, extension=extension)
    suffix = "" if extension == "none" else f".{extension}"
    for path in ("app.ts", "main.ts"):
        text = (project / path).read_text()
        for module in ("./client/index", "./client/runtime/react", "./client/runtime/store", "./app"):
            text = text.replace(f'"{module}"', f'"{module}{suffix}"')
        (project / path).write_text(text)
    (project / "package.json").write_text(json.dumps(package))
    compiler = {"target": "ES2022", "strict": True, "types": [], "lib": ["ES2022", "DOM"], "outDir": "out", **options}
    (project / "tsconfig.json").write_text(json.dumps({"compilerOptions": compiler, "files": ["main.ts"]}))
    run(TSC, folder=project)
    if "noEmit" not in options:
        assert run(*node_command(), "out/main.js", folder=project).strip() == SAID
