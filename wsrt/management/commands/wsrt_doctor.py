"""``manage.py wsrt_doctor``: examines the deployment, and reports problems and their fixes."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from wsrt.doctor import Finding, examine

NARROW = 72
"""Terminals with fewer columns than this show each result below its subject instead of next to it."""

SUBJECT = 20
"""Width of the column of subjects; a longer subject gets a line of its own."""

STATUS = len("warning  ")


class Command(BaseCommand):
    help = "Checks versions, settings, servers, layers, Redis and presence; exits with 1 if something does not work."
    # The checks run as part of the examination, and their messages are findings.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
        parser.add_argument(
            "--url",
            help="a WebSocket of a running server, such as ws://127.0.0.1:8000/ws/chat/: it is opened, sent an invalid "
            "frame, and closed",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        findings = asyncio.run(examine(options["url"]))
        counts = collections.Counter(finding.status for finding in findings)
        if options["json"]:
            status = next((status for status in ("error", "warning") if counts[status]), "ok")
            items = [dataclasses.asdict(finding) for finding in findings]
            self.stdout.write(json.dumps({"status": status, "findings": items}, indent=2, default=str))
        else:
            columns = shutil.get_terminal_size().columns
            for finding in findings:
                self._show(finding, columns)
            self.stdout.write(f"errors: {counts['error']}, warnings: {counts['warning']}")
        if counts["error"]:
            raise CommandError(f"errors: {counts['error']} of {len(findings)} findings")

    def _show(self, finding: Finding, columns: int) -> None:
        style = self._style(finding)
        has_own_line = columns < NARROW or len(finding.subject) > SUBJECT
        indent = 2 if columns < NARROW else STATUS + SUBJECT + 2
        seen = finding.seen if finding.id is None else f"{finding.seen} ({finding.id})"
        lines = wrap(seen, columns - indent)
        head = f"{style(finding.status)}{' ' * (STATUS - len(finding.status))}{finding.subject}"
        if not has_own_line:
            head += f"{' ' * (SUBJECT + 2 - len(finding.subject))}{lines.pop(0)}"
        self.stdout.write(head)
        for line in lines:
            self.stdout.write(" " * indent + line)
        for number, line in enumerate(wrap(finding.advice, columns - indent - 3)):
            self.stdout.write(style(f"{' ' * indent}{'   ' if number else '-> '}{line}"))

    def _style(self, finding: Finding) -> Callable[[str], str]:
        styles = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}
        return styles[finding.status]


def wrap(text: str, columns: int) -> list[str]:
    """Return the lines of a string. Long words, such as dotted paths, stay whole so that they can be copied."""
    return textwrap.wrap(text, max(columns, 20), break_long_words=False, break_on_hyphens=False)
