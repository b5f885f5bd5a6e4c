"""The package as it is published."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def build(source: Path, output: Path, *targets: str) -> None:
    """Build the wheel and the sdist, or only one of them, as make dist does."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(output)]
    for target in targets:
        command += ["--target", target]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
