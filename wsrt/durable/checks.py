"""The system checks of durable publishing. They read the database, so they only run with ``check --database``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import Error, router

HINT = "Run manage.py wsrt_durable_worker next to the servers, under the same supervision."


def check_workers(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that workers publish what is stored. Runs with ``manage.py check --database`` and ``migrate``."""
    from .models import WaitingPublication
    from .status import read_status

    messages: list[CheckMessage] = []
    for alias in databases or ():
        if not router.allow_migrate_model(alias, WaitingPublication):
            continue
        try:
            status = read_status(alias)
        except Error:
            continue  # not migrated yet
        if status.last_seen is None:
            problem = f"Durable publications of the database {alias!r} aren't published: no worker has ever run."
            messages.append(CheckWarning(problem, hint=HINT, id="wsrt.W021"))
        elif status.is_late:
            problem = (
                f"{status.waiting} durable publications wait in the database {alias!r}, the oldest for "
                f"{status.oldest:.0f} s; {status.workers} workers run."
            )
            messages.append(CheckWarning(problem, hint=HINT, id="wsrt.W022"))
    return messages
