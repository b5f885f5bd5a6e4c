"""``manage.py wsrt_init``: a first chat in an existing project."""

from __future__ import annotations

import difflib
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand

from ..setup import Change, Plan, make_plan


class Command(BaseCommand):
    help = (
        "Sets up a project: settings, the ASGI application, and a chat with events, a consumer and a page in an app, "
        "which is created if there is none. Files that can't be parsed, and those of the app, aren't changed."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("app", metavar="APP", help="the label or dotted path of an app, or the name of a new one")
        parser.add_argument("--dry-run", action="store_true", help="show the changes, and write nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        plan = make_plan(options["app"])
        for change in plan.changes:
            for line in _diff(change, plan):
                self.stdout.write(self._painted(line))
        if not options["dry_run"]:
            plan.write()
        if not plan.changes:
            self.stdout.write("Nothing to change.")
        elif options["dry_run"]:
            self.stdout.write("Nothing was written, because of --dry-run.")
        self.stdout.write("\nLeft to do:")
        for number, text in enumerate([*plan.left, *_last_steps(plan)], 1):
            self.stdout.write(f"{number}. {text}")

    def _painted(self, line: str) -> str:
        match line[:1]:
            case "+":
                return self.style.SUCCESS(line)
            case "-":
                return self.style.ERROR(line)
        return line


def _last_steps(plan: Plan) -> Iterator[str]:
    yield "python manage.py migrate"
    where = "" if plan.page is None else f", and open http://127.0.0.1:8000{plan.page} in two windows"
    yield f"python manage.py runserver{where}"


def _diff(change: Change, plan: Plan) -> Iterator[str]:
    """Yield the lines of a unified diff, or only the file's name if its content isn't worth showing."""
    name = str(change.path.relative_to(plan.root) if change.path.is_relative_to(plan.root) else change.path)
    if not change.is_shown:
        yield f"+++ {name}"
        return
    before = "" if change.before is None else change.before.decode(errors="replace")
    lines = difflib.unified_diff(
        before.splitlines(),
        change.after.decode(errors="replace").splitlines(),
        "/dev/null" if change.before is None else name,
        name,
        lineterm="",
    )
    yield from lines
