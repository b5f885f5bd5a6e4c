from __future__ import annotations

import functools
import threading

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction

from .jobs import run_export
from .models import Export


def start_export(owner: User) -> Export:
    """Create an export, and start it when the transaction commits: a worker must find the row."""
    export = Export.objects.create(owner=owner)
    start = _enqueue if settings.CELERY_BROKER_URL else _start_thread
    transaction.on_commit(functools.partial(start, export.pk))
    return export


def _enqueue(export_id: int) -> None:
    from . import tasks  # imported here, because the demo also works without Celery

    tasks.run_export.delay(export_id)


def _start_thread(export_id: int) -> None:
    """Run the export in a thread of this process. It is lost if the process ends, so this is for the demo only."""

    def run() -> None:
        try:
            run_export(export_id)
        finally:
            connection.close()  # each thread has a connection of its own

    threading.Thread(target=run, daemon=True).start()
