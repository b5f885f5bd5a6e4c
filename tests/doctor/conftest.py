"""Fixtures of the tests of the doctor."""

from __future__ import annotations

import pytest

from wsrt.doctor import Finding, durable


@pytest.fixture(autouse=True)
def _only_own_consumers(only_own_consumers: None) -> None:
    """Hide the consumers of other tests: the doctor examines all consumers."""


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what asks the database, which test_durable.py tests."""

    async def examine() -> list[Finding]:
        return []

    monkeypatch.setattr(durable, "examine", examine)
