"""Fixtures of the tests of durable publishing: real databases, SQLite in a file and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import Database
from tests.support.postgres import PostgresServer
from wsrt.cluster.in_process import observers
from wsrt.cluster.outgoing import Outgoing


@pytest.fixture(scope="package")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def sqlite_file(tmp_path: Path, django_db_blocker: Any) -> Iterator[Database]:
    """A SQLite file with the tables of durable publishing."""
    with django_db_blocker.unblock(), Database.sqlite(tmp_path / "db.sqlite3") as database:
        yield database


@pytest.fixture
def postgresql(postgres: PostgresServer, django_db_blocker: Any) -> Iterator[Database]:
    """A database of PostgreSQL with the empty tables of durable publishing."""
    with django_db_blocker.unblock(), Database.postgresql(postgres) as database:
        yield database


@pytest.fixture(params=["sqlite_file", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the two."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def sent() -> Iterator[list[Outgoing]]:
    """What this process sends. It doesn't leave the process."""
    found: list[Outgoing] = []
    observers.append(found.append)
    try:
        yield found
    finally:
        observers.remove(found.append)
