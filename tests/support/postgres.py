"""Debian's PostgreSQL on a port of its own, in a directory that is removed afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from tests.support.ports import free_port
from tests.support.processes import Process

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))

USER = "postgres"


class PostgresServer(Process):
    """A server with one database, ``postgres``, that its user may open without a password."""

    def __init__(self) -> None:
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="wsrt-postgres-"))
        data = str(self._directory / "data")
        # It refuses to run as root.
        self._as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
        # The newest that is installed.
        binaries = BINARIES[-1]
        self._initdb = [*self._as_user, str(binaries / "initdb"), "-D", data, "-U", USER, "-A", "trust", "--no-sync"]
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self._directory}", "fsync=off"]
        super().__init__(
            [
                *self._as_user,
                str(binaries / "postgres"),
                *("-D", data, "-p", str(self.port)),
                *(part for option in options for part in ("-c", option)),
            ]
        )

    def start(self) -> None:
        if self._as_user:
            shutil.chown(self._directory, USER)
        subprocess.run(self._initdb, check=True, capture_output=True, cwd="/")
        super().start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self._directory, ignore_errors=True)

    def wait_until_ready(self) -> None:
        self._until(self._answers, "postgres")

    @property
    def settings(self) -> dict[str, Any]:
        """The entry of ``DATABASES``."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": USER,
            "USER": USER,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            # Django's connections, to tell them from ours.
            "OPTIONS": {"application_name": "django"},
        }

    def backends(self) -> set[int]:
        """Return the process ids of the sessions that Django has open."""
        return {row[0] for row in self._query("SELECT pid FROM pg_stat_activity WHERE application_name = 'django'")}

    def hang_up(self) -> int:
        """End every session that Django has open, as a restart or an idle time-out does, and return their number."""
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'django'"
        return len(self._query(query))

    def age(self) -> float:
        """Return the age in seconds of the youngest session that Django has open."""
        query = "SELECT extract(epoch FROM min(now() - backend_start)) FROM pg_stat_activity"
        return float(self._query(f"{query} WHERE application_name = 'django'")[0][0] or 0)

    def _query(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._address, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    @property
    def _address(self) -> str:
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={USER}"

    def _answers(self) -> bool:
        try:
            self._query("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True
