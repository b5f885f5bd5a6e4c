from __future__ import annotations

import logging
import time

from wsrt import BackplaneUnavailable, publish_to_user

from .events import Progress
from .models import Export

REPORT_SECONDS = 0.2
"""The minimum number of seconds between two reports of a job. A fast job would flood the channel layer."""

logger = logging.getLogger(__name__)


def run_export(export_id: int) -> None:
    """Do the work, in any process: the owner sees it advance. An error is reported to the owner, and raised."""
    export = Export.objects.get(pk=export_id)
    reported = 0.0
    try:
        for number in range(1, export.total + 1):
            write_row(number)
            export.done = number
            if time.monotonic() - reported > REPORT_SECONDS:
                report(export, Export.State.RUNNING)
                reported = time.monotonic()
    except Exception:
        report(export, Export.State.FAILED)
        raise
    report(export, Export.State.FINISHED)


def report(export: Export, state: Export.State) -> None:
    """Store how far an export has come, and publish it to its owner."""
    export.state = state
    export.save(update_fields=["state", "done"])
    try:
        publish_to_user(export.owner_id, Progress.model_validate(export), namespace="progress")
    except BackplaneUnavailable:
        # The work is worth more than its progress bar, and a page that reconnects reads the row.
        logger.warning("export %s: progress could not be published", export.pk)


def write_row(number: int) -> None:
    """Stand in for the real work."""
    time.sleep(0.05)
