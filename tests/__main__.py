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
import tempfile
import time
from pathlib import Path

import pytest

from tests.support import versions
from tests.support.processes import ROOT

UNITS, SERVERS = "not servers and not browser", "servers or browser"

PROCESSES = "4"
"""Most tests wait more than they work, so there are more than cores."""

MAX_RETRIED = 3
"""Tests that may fail beside others and pass on their own. More than that is no accident."""


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

    What fails is run once more on its own, and named: a busy machine can be too slow for a test that waits for another
    process. What fails again has failed.

    Args:
        loop: the event loop of uvicorn, see tests.support.processes; empty for its own choice.
    """
    if loop:
        print(f"The tests of servers again, with uvicorn on the event loop {loop!r}", flush=True)
    selection = f"({part}) and not slow" if is_slice else part
    # A file's tests stay together, for they share servers.
    arguments = ["--durations", "40", "--dist", "loadfile", "--numprocesses", PROCESSES, "-m", selection]
    if covers and part == UNITS:
        arguments += ["--cov", "--cov-report=", "--cov-fail-under=0"]
    elif covers:
        arguments += ["--cov", "--cov-append", "--cov-report=term"]
    environment = {**os.environ, **({"WSRT_COVERAGE": "1"} if covers else {}), "WSRT_TEST_LOOP": loop}
    code, failed = run_pytest(arguments, environment)
    if code != pytest.ExitCode.TESTS_FAILED or not 0 < len(failed) <= MAX_RETRIED:
        return code
    print("Failed beside other tests, and run once more on their own:", *failed, sep="\n  ", flush=True)
    retried = [*failed, "--numprocesses", "0", *(["--cov", "--cov-append", "--cov-report=term"] if covers else [])]
    if part == UNITS:
        retried += ["--cov-fail-under=0"]
    code, _ = run_pytest(retried, environment)
    if code == pytest.ExitCode.OK:
        print("FLAKY: passed on their own, and deserve to be mended:", *failed, sep="\n  ", flush=True)
    return code


def run_pytest(arguments: list[str], environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run pytest; return its exit code, and the node ids of the tests that failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "failed")
        environment = {**environment, "WSRT_TEST_FAILED": str(path)}
        code = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment).returncode
        return code, path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
