"""
Workers of durable publishing that end at a chosen step as if by a crash: python -m tests.support.durable_host.

Each line of the input is a JSON list: the entry of DATABASES, and a step or null. For each line a child process
publishes what waits, and kills itself at the step; the output has its exit status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

STEPS = ("claimed", "read", "sent some", "sent all", "deleted", "committed")
"""The steps at which a worker is killed, from the claim to the commit."""


def main() -> None:
    import django

    django.setup()
    for line in sys.stdin:
        settings, step = json.loads(line)
        child = os.fork()
        if not child:
            _work(settings, step)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _work(settings: dict[str, Any], step: str | None) -> None:
    from django.db import connections

    from wsrt.durable import rows

    connections.databases["durable"] = {**connections.databases["default"], "OPTIONS": {}, **settings}
    publisher: Any = rows.RowPublisher("durable")
    if step == "sent some":
        rows.send_all_from_sync = _sending_some(rows.send_all_from_sync)
    elif step is not None:
        method, is_before = {
            "claimed": ("_read", True),
            "read": ("_read", False),
            "sent all": ("_delete", True),
            "deleted": ("_delete", False),
            "committed": ("_report", True),
        }[step]
        setattr(publisher, method, _crashing(getattr(publisher, method), is_before))
    code = 1
    try:
        publisher.run()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def _crashing(call: Callable[..., Any], is_before: bool) -> Callable[..., Any]:
    """Return a function that kills the process before or after a call."""

    def crash(*args: Any) -> None:
        if not is_before:
            call(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    return crash


def _sending_some(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that kills the process when the first two messages of a batch were sent."""

    def crash(outgoings: Any, **options: Any) -> None:
        send(outgoings[:2], **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return crash


if __name__ == "__main__":
    main()
