"""
What turns TypeScript into something that runs: npm, tsc and esbuild, in tests/clients/typescript.

``python -m tests.clients.toolchain`` writes ``wsrt/static/wsrt/client.js`` and its types.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from wsrt import close_codes

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "wsrt/clients/runtime/typescript"
FOLDER = ROOT / "tests/clients/typescript"
BUNDLERS = ROOT / "tests/clients/bundlers"
BUILD = FOLDER / "build"
COMPILED = BUILD / "tests/clients/typescript"
STATIC = ROOT / "wsrt/static/wsrt/client.js"
STATIC_TYPES = ROOT / "wsrt/clients/runtime/javascript/wsrt.d.ts"

BANNER = "/* wsrt's client for browsers, made by tests/clients/toolchain.py from wsrt/clients/runtime/typescript. */"

PLAIN = 'export * from "./index.js"; export * from "./store.js"; export * from "./history.js";'
"""What projects without a bundler get; hooks for React are of no use to them."""

NODE = 18
"""The oldest major version that runs the tests."""

MODULE = re.compile(r'^declare module "(\w+)" \{\n.*?^\}\n', re.MULTILINE | re.DOTALL)

CORE = 'export * from "./index.js";'


class ToolFailed(AssertionError):
    """A tool found something; its words are the message."""


def run(*command: str, text: str = "", folder: Path = FOLDER) -> str:
    """Run a command in the folder of package.json, and return its output."""
    done = subprocess.run(
        ["nice", "-n", "10", *command], cwd=folder, input=text, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise ToolFailed(f"{' '.join(command)}\n{done.stdout[-20_000:]}\n{done.stderr[-5_000:]}")
    return done.stdout


@functools.cache
def install(folder: Path = FOLDER) -> None:
    """Install what the lock file of a folder names, unless that was done."""
    if _node() < NODE:
        raise ToolFailed(f"Node {NODE} or newer is needed, this is {_node()}")
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules/.wsrt-stamp"
    with _alone(folder):
        if not stamp.exists() or stamp.read_text() != wanted:
            run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", folder=folder)
            stamp.write_text(wanted)


@functools.cache
def build() -> None:
    """Compile runtime, tests and driver, as strictly as the compiler can."""
    install()
    with _alone():
        run("node_modules/.bin/tsc", "--project", "tsconfig.json")


def node_command() -> list[str]:
    """Return the command of Node, with its own WebSocket where there is one."""
    return ["node", *(["--experimental-websocket", "--no-warnings"] if _node() >= 20 else [])]


def compiled(name: str) -> list[str]:
    """Return the command of a program of this folder."""
    build()
    return [*node_command(), str(COMPILED / f"{name}.js")]


def bundle(entry: str, *options: str) -> str:
    """Return a program and what it imports as one ES module; imports are relative to the runtime."""
    install()
    return run(
        "node_modules/.bin/esbuild",
        "--bundle",
        "--format=esm",
        "--target=es2022",
        "--log-level=warning",
        f"--tsconfig-raw={json.dumps({'compilerOptions': {'target': 'ES2022'}})}",
        *options,
        text=entry,
    )


def plain_file() -> str:
    """Return the text of the static file."""
    return f"{BANNER}\n{bundle(_absolute(PLAIN), '--minify')}"


def plain_types() -> str:
    """Return the text of the types of the static file: a declaration of the module "wsrt"."""
    install()
    with _alone():
        run("node_modules/.bin/tsc", "--project", "tsconfig.types.json")
        text = (BUILD / "wsrt.d.ts").read_text()
    modules = {
        match[1]: match[0]
        for match in re.finditer(r'^declare module "(\w+)" \{\n.*?^\}\n', text, re.MULTILINE | re.DOTALL)
    }
    needed: list[str] = []
    waiting = ["index", "store", "history"]
    while waiting:
        name = waiting.pop(0)
        if name not in needed:
            needed.append(name)
            waiting += re.findall(r'from "(\w+)";', modules[name])
    # Names that no package has; other modules of the page may have any.
    inner = "".join(re.sub(r'(declare module|from) "(\w+)"', r'\1 "wsrt/\2"', modules[name]) for name in needed)
    exported = "".join(f'    export * from "wsrt/{name}";\n' for name in ("index", "store", "history"))
    return f'declare module "wsrt" {{\n{exported}}}\n{inner}'


def sizes(entry: str) -> tuple[int, int]:
    """Return the bytes of an entry and what it imports: minified, and gzipped."""
    text = bundle(_absolute(entry), "--minify").encode()
    return len(text), len(gzip.compress(text, 9))


def close_rows() -> list[tuple[int, int, str, str]]:
    """Return the rows of close_codes.ts."""
    rows = re.findall(r'\[(\d+), (\d+), "([^"]*)", "(\w+)"\]', (RUNTIME / "close_codes.ts").read_text())
    return [(int(code), int(fallback), reason, reconnect) for code, fallback, reason, reconnect in rows]


def expected_rows() -> list[tuple[int, int, str, str]]:
    """Return the rows that close_codes.ts should have."""
    return [(row.code, row.fallback_code, row.reason, row.reconnect.value) for row in close_codes.TABLE]


def _node() -> int:
    return int(run("node", "--version").removeprefix("v").partition(".")[0])


def _absolute(entry: str) -> str:
    # esbuild resolves what comes from stdin against the current folder.
    return entry.replace('"./', f'"{RUNTIME}/').replace(".js", ".ts")


@contextlib.contextmanager
def _alone(folder: Path = FOLDER) -> Iterator[None]:
    """Let no other process write to the folder in the meantime."""
    with (folder / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    STATIC.write_text(plain_file())
    STATIC_TYPES.write_text(plain_types())
    sys.stdout.write(f"{STATIC.relative_to(ROOT)}: {sizes(PLAIN)} bytes, the core {sizes(CORE)}\n")
