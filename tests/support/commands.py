"""Commands of Python in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import ROOT


def run(folder: Path, *command: str, **environment: str) -> str:
    """Return the output of ``python *command`` in a folder with its own settings."""
    inherited = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def manage(*arguments: str, **environment: str) -> str:
    """Return the output of a command of the demo."""
    return run(ROOT, "manage.py", *arguments, **environment)
