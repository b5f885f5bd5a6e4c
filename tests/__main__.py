"""
Run the tests in two parts, those of servers and browsers after the others; print with what, and how long it took.

``python -m tests [--all] [--units] [--coverage]``
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time

from tests.support import versions
from tests.support.processes import ROOT

UNITS, SERVERS = "not servers and not browser", "servers or browser"

PROCESSES = {UNITS: "auto", SERVERS: "4"}
"""Tests of servers wait more than they work."""


def main() -> int:
    """Run both parts, the second one too where the first one fails; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests")
    parser.add_argument("--all", action="store_true", help="run the long tests too, which are marked slow")
    parser.add_argument("--units", action="store_true", help="leave out the tests of servers and browsers")
    parser.add_argument("--coverage", action="store_true", help="measure what is covered, and fail if it is too little")
    options = parser.parse_args()
    parts = [UNITS] if options.units else [UNITS, SERVERS]
    print(*versions.lines(), sep="\n", flush=True)
    begun = time.monotonic()
    codes = [run(part, is_slice=not options.all, covers=options.coverage) for part in parts]
    if options.all and SERVERS in parts:
        codes += [run("servers", is_slice=True, covers=False, loop=loop) for loop in loops()]
    print(f"Python {platform.python_version()}: the tests took {time.monotonic() - begun:.0f} s", flush=True)
    return int(any(codes))


def loops() -> list[str]:
    """Return the event loops under which uvicorn is tested besides its own choice, uvloop."""
    return ["asyncio", *(["eager", "uvloop-eager"] if sys.version_info >= (3, 12) else [])]


def run(part: str, *, is_slice: bool, covers: bool, loop: str = "") -> int:
    """
    Run one part; return the exit code of pytest.

    Args:
        loop: the event loop of uvicorn, see tests.support.processes; empty for its own choice.
    """
    if loop:
        print(f"The tests of servers again, with uvicorn on the event loop {loop!r}", flush=True)
    selection = f"({part}) and not slow" if is_slice else part
    # A file's tests stay together, for they share servers.
    command = ["-m", "pytest", "--dist", "loadfile", "--numprocesses", PROCESSES.get(part, "4"), "-m", selection]
    if covers and part == UNITS:
        command += ["--cov", "--cov-report=", "--cov-fail-under=0"]
    elif covers:
        command += ["--cov", "--cov-append", "--cov-report=term"]
    environment = {**os.environ, **({"WSRT_COVERAGE": "1"} if covers else {}), "WSRT_TEST_LOOP": loop}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
