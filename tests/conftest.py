"""Fixtures of all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support import report
from tests.support.processes import RedisServer


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this test's own."""
    assert shutil.which("redis-server"), "redis-server is missing: apt-get install redis-server"
    with RedisServer() as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured and saw."""
    for title, lines in report.sections.items():
        terminalreporter.section(title)
        for line in lines():
            terminalreporter.write_line(line)
