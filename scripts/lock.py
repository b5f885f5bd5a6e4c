"""
Pin everything that is installed here, in requirements/*.txt and package-lock.json. Usage: make lock.

Each file applies to every supported Python and platform. All files except lowest.txt and django-*.txt come from one
resolution, so that they can share an environment. They pin the newest versions that pyproject.toml allows; lowest.txt
pins the lowest versions of direct dependencies.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "requirements"
TYPESCRIPT = ROOT / "tests/clients/typescript"

PROJECT = "pyproject.toml"
"""A source of requirements: the dependencies of wsrt, next to its groups and extras."""

FILES: dict[str, list[str]] = {
    "build": ["--group=build"],
    "lock": ["--group=lock"],
    "docs": ["--group=docs"],
    "demo": ["--extra=daphne", "--extra=redis", PROJECT],
    "test": ["--all-extras", "--group=test", "--group=lint", PROJECT],
    "bench": ["--extra=daphne", "--extra=redis", "--extra=uvicorn", "--group=bench", PROJECT],
}
"""The requirements that each file pins."""

DJANGO = {
    "5.2": "Django~=5.2.0",
    "6.0": "Django~=6.0.0; python_version >= '3.12'",
    "6.1": "Django~=6.1.0; python_version >= '3.12'",
}
"""The series that the workflow tests. Each is pinned in its own file, to be installed over test.txt."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-npm", action="store_true", help="leave package-lock.json unchanged")
    options = parser.parse_args()
    PINS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "everything.txt"
        _compile(
            everything, "--all-extras", *(f"--group={group}" for group in ("dev", "bench", "build", "lock")), PROJECT
        )
        for name, selection in FILES.items():
            _compile(PINS / f"{name}.txt", "--constraints", str(everything), *selection)
        for series, requirement in DJANGO.items():
            wanted = Path(folder) / "django.in"
            wanted.write_text(requirement)
            _compile(PINS / f"django-{series}.txt", "--no-deps", str(wanted))
    _compile(PINS / "lowest.txt", "--resolution=lowest-direct", "--all-extras", "--group=test", PROJECT)
    if not options.no_npm:
        if shutil.which("npm") is None:
            print("npm is missing; package-lock.json is unchanged", file=sys.stderr)
            return 1
        subprocess.run(["npm", "update", "--package-lock-only", "--no-audit", "--no-fund"], cwd=TYPESCRIPT, check=True)
    return 0


def _compile(target: Path, *options: str) -> None:
    """Resolve requirements for all Pythons and platforms, with the hash of every file."""
    print(f"{target.name} ...", flush=True)
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--generate-hashes"),
        *("--python-version=3.11", "--system-certs", "--no-emit-index-url", "--no-annotate"),
        "--custom-compile-command=make lock",
        *options,
        f"--output-file={target}",
    ]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
