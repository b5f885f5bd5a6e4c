"""Findings about durable publishing, for each database that stores publications."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import Error, connections, router

from ..durable.checks import HINT
from .finding import Finding, error, ok, one_line, warning


async def examine() -> list[Finding]:
    """Return findings about the waiting and failed publications and the workers. Empty if the app isn't installed."""
    if not apps.is_installed("wsrt.durable"):
        return []
    return await sync_to_async(lambda: list(_examine()))()


def _examine() -> Iterator[Finding]:
    from ..durable.models import WaitingPublication

    for alias in connections:
        if not router.allow_migrate_model(alias, WaitingPublication):
            continue
        try:
            yield read(alias)
        finally:
            connections[alias].close_if_unusable_or_obsolete()


def read(alias: str) -> Finding:
    """Return the finding about a database."""
    from ..durable.status import read_status

    subject = f"durable {alias!r}"
    try:
        status = read_status(alias)
    except Error as problem:
        advice = f"Run manage.py migrate --database {alias}, and check that the database answers."
        return error(subject, one_line(problem), advice)
    seen = f"{status.waiting} publications wait, {status.failed} failed; {status.workers} workers run"
    if status.waiting:
        seen += f"; the oldest has waited for {status.oldest:.0f} s"
    facts = dataclasses.asdict(status)
    if status.is_late or not status.workers:
        return warning(subject, seen, HINT, **facts)
    if status.failed:
        advice = "See the errors in the admin, and publish the failed publications again or delete them."
        return warning(subject, seen, advice, **facts)
    return ok(subject, seen, **facts)
