"""The rate of the worker, as the benchmark measures it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT
from tests.support.report import note

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def test_rate() -> None:
    """
    The worker publishes at least a third as many events a second as publish_many, in one run of both.

    Beside other programs, which slow the worker and its database down more, half of that is enough.
    """
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    check = ["--check", "--slack", "0.5"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.durable", "--dry", *check, "--events", "3000", "--rounds", "3"],
        cwd=ROOT,
        env={**environment, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    for line in done.stdout.splitlines():
        note("Durable publishing", line)
    assert done.returncode == 0, done.stdout + done.stderr
