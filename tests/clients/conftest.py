"""
Which clients the suite of behaviours is run with.

    python -m pytest tests/clients/test_behaviour.py tests/clients/test_recovery.py  # those of this repository
    python -m pytest ... --wsrt-client "node driver.js" --wsrt-page                  # any other

What the command has to do is written in DRIVER.md.
"""

from __future__ import annotations

import shlex

import pytest

from tests.clients.drivers import OURS, Kind


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("wsrt")
    group.addoption("--wsrt-client", metavar="COMMAND", help="the driver of a client to test in place of our own")
    group.addoption("--wsrt-page", action="store_true", help="that client lives in a page")


def kinds(config: pytest.Config) -> list[Kind]:
    """Return the clients that are tested."""
    command = config.getoption("--wsrt-client", None)
    if command is None:
        return list(OURS)
    return [Kind("own", lambda: shlex.split(command), bool(config.getoption("--wsrt-page")))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with every client that it is for."""
    for name in ("driver", "page"):
        if name in metafunc.fixturenames:
            wanted = [kind for kind in kinds(metafunc.config) if name == "driver" or kind.has_page]
            metafunc.parametrize(name, wanted, ids=lambda kind: kind.name, indirect=True)
