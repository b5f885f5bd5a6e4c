"""Databases that tests add to those of the settings, each under several aliases with a connection of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from django.core.management import call_command
from django.db import connections

from tests.support.postgres import PostgresServer

APP = "wsrt_durable"


class Database:
    """
    A database with the tables of wsrt.durable.

    Attributes:
        alias: Its alias.
        settings: Its entry of DATABASES.
    """

    def __init__(self, settings: dict[str, Any], alias: str = "durable") -> None:
        self.alias = alias
        self.settings = settings
        self._aliases: list[str] = []

    @classmethod
    @contextlib.contextmanager
    def sqlite(cls, path: Path) -> Iterator[Self]:
        database = cls({"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {"timeout": 30}})
        with database._opened():
            yield database

    @classmethod
    @contextlib.contextmanager
    def postgresql(cls, server: PostgresServer) -> Iterator[Self]:
        database = cls(server.settings)
        with database._opened():
            yield database

    @property
    def environment(self) -> dict[str, str]:
        """The environment by which a process has it as its default database."""
        return {"WSRT_TEST_DATABASE": json.dumps(self.settings)}

    def another(self) -> str:
        """Return another alias, with a connection of its own."""
        alias = f"{self.alias}{len(self._aliases)}"
        defaults = {**connections.databases["default"], "OPTIONS": {}}
        connections.databases[alias] = {**defaults, **self.settings}
        self._aliases.append(alias)
        return alias

    def close(self) -> None:
        """Close the connections of this thread."""
        for alias in self._aliases:
            connections[alias].close()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        self.alias = self.another()
        call_command("migrate", APP, database=self.alias, verbosity=0)
        try:
            yield
        finally:
            call_command("migrate", APP, "zero", database=self.alias, verbosity=0)
            self.close()
            for alias in self._aliases:
                delattr(connections._connections, alias)
                del connections.databases[alias]
