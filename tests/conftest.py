"""Fixtures of all tests."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import report
from tests.support.processes import REDIS, RedisServer
from wsrt.metrics import counters
from wsrt.protocol.namespaces import namespaces
from wsrt.tenants import has_tenants

# A shell ignores SIGINT for what it runs in the background, and so would every server that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_line_was_logged() -> None:
    """Let each test see its own log lines: one of each kind is logged a minute."""
    counters.forget_logged()


@pytest.fixture(autouse=True)
def _consumers_of_a_test_end_with_it() -> Iterator[None]:
    """Forget the consumers that a test has defined, even if they aren't garbage-collected soon."""
    yield
    for name, space in [*namespaces.items()]:
        for consumer in space.consumers:
            if "<locals>" in consumer.__qualname__:
                space._catalogs.pop(consumer, None)
        if not space.consumers:
            namespaces.pop(name, None)


@pytest.fixture
def only_own_consumers() -> Iterator[None]:
    """
    Hide the consumers of other test modules: a process that runs several has them all, and what looks at every
    consumer, such as a system check, would find theirs.
    """
    declared = dict(namespaces)
    namespaces.clear()
    yield
    added = dict(namespaces)
    namespaces.clear()
    namespaces.update(declared)
    # A module that was imported meanwhile isn't imported again.
    for name, space in added.items():
        for consumer, catalog in [*space._catalogs.items()]:
            if "<locals>" not in consumer.__qualname__:
                namespaces.add(name, consumer, catalog)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this test's own."""
    assert shutil.which(REDIS), f"{REDIS} is missing: apt-get install {REDIS}"
    with RedisServer() as server:
        yield server


def pytest_collection_finish() -> None:
    """Refuse a module that defines a consumer with tenants: all tests would have to say which tenant they mean."""
    if has_tenants(None):
        raise pytest.UsageError("register consumers with tenants only for their tests, as tests/test_tenants.py does")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured and saw."""
    for title, lines in report.lines().items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
    if path := os.environ.get("WSRT_TEST_FAILED"):
        failed = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
        Path(path).write_text("\n".join(dict.fromkeys(report.nodeid for report in failed)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what was seen here to the process that prints it, where tests run in several."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["report"] = report.lines()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take in what a process of pytest-xdist saw."""
    report.add(getattr(node, "workeroutput", {}).get("report", {}))
