"""``manage.py wsrt_schema``: the schema of all consumers."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from ...schema.asyncapi import asyncapi, json_schema
from ...schema.description import describe
from ...schema.text import to_json, to_yaml


class Command(BaseCommand):
    help = "Writes the events that clients may send and receive, and the close codes, as AsyncAPI 3.0 or JSON Schema."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=["asyncapi", "json-schema"], default="asyncapi")
        parser.add_argument(
            "--output",
            metavar="FILE",
            type=Path,
            help="the output file; YAML if its name ends in .yaml or .yml, else JSON",
        )
        parser.add_argument("--title", default="Realtime", help="the title of the AsyncAPI document")
        parser.add_argument(
            "--version-of", metavar="VERSION", default="1.0.0", help="the version of the AsyncAPI document"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            description = describe()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if not description["consumers"]:
            raise CommandError('No consumers found: check that WSRT["CONSUMERS"] names the modules that define them.')
        if options["format"] == "asyncapi":
            document = asyncapi(
                description,
                title=options["title"],
                version=options["version_of"],
                session_cookie=settings.SESSION_COOKIE_NAME,
            )
        else:
            document = json_schema(description)
        output: Path | None = options["output"]
        is_yaml = output is not None and output.suffix.lower() in (".yaml", ".yml")
        text = _yaml(document) if is_yaml else to_json(document)
        if output is None:
            self.stdout.write(text, ending="")
            return
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error}") from error
        number = len(description["consumers"])
        self.stderr.write(self.style.SUCCESS(f"{output}: {number} consumer{'s'[: number != 1]}"))


def _yaml(document: dict[str, Any]) -> str:
    try:
        return to_yaml(document)
    except ImportError as error:
        raise CommandError('YAML needs PyYAML: pip install "wsrt[yaml]". JSON works without it.') from error
