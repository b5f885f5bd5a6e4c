"""``manage.py wsrt_client``: typed clients of all consumers."""

from __future__ import annotations

import functools
from argparse import ArgumentParser
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from ...clients.generate.files import Changes, ForeignFile, compare, write
from ...clients.generate.typescript import Extension
from ...consumers import TypedEventConsumer
from ...schema.description import describe, known_consumers
from ...schema.routes import client_name

LANGUAGES = ("typescript", "javascript", "python")


class Command(BaseCommand):
    help = "Writes a typed client for each consumer into a folder, or checks that the folder is up to date."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("language", choices=LANGUAGES)
        parser.add_argument(
            "--output",
            type=Path,
            metavar="DIR",
            required=True,
            help="the folder; created if it doesn't exist; your own files in it are kept",
        )
        parser.add_argument(
            "--consumer",
            action="append",
            metavar="NAME",
            default=[],
            help='write only this consumer\'s client, such as "Chat" or "ChatConsumer"; may be repeated',
        )
        parser.add_argument(
            "--import-extension",
            choices=get_args(Extension),
            help="TypeScript: the extension of imports between the files; none (the default) is for bundlers and test "
            "runners, js for ES modules that Node resolves (moduleResolution NodeNext), ts for Deno and for Node "
            "without a compiler",
        )
        parser.add_argument(
            "--check", action="store_true", help="write nothing; exit with 1 if the folder is not up to date"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["output"]
        if not folder.name:
            raise CommandError(
                "--output is empty or the current folder: name a separate folder for the generated files"
            )
        if folder.exists() and not folder.is_dir():
            raise CommandError(f"{folder} is a file: name a folder")
        generate: Callable[..., dict[str, str]] = import_module(f"wsrt.clients.generate.{options['language']}").generate
        if (extension := options["import_extension"]) is not None:
            if options["language"] != "typescript":
                raise CommandError(f"--import-extension only applies to typescript, not to {options['language']}")
            generate = functools.partial(generate, extension=extension)
        try:
            description = describe(_chosen(options["consumer"]))
            files = generate(description)
            changes = (compare if options["check"] else write)(folder, files)
        except (ImproperlyConfigured, ForeignFile) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error}") from error
        self._report(changes, folder, len(description["consumers"]), is_check=options["check"])

    def _report(self, changes: Changes, folder: Path, consumers: int, *, is_check: bool) -> None:
        style = self.style
        for sign, names, paint in (
            ("+", changes.added, style.SUCCESS),
            ("~", changes.changed, style.WARNING),
            ("-", changes.removed, style.ERROR),
        ):
            for name in names:
                self.stdout.write(paint(f"{sign} {folder / name}"))
        if is_check and changes:
            raise CommandError(f"{folder} is not up to date: run the same command without --check", returncode=1)
        what = f"{consumers} client{'s'[: consumers != 1]}"
        self.stdout.write(f"{folder}: {what}, {'up to date' if not changes or is_check else 'written'}")


def _chosen(names: list[str]) -> list[type[TypedEventConsumer]]:
    """Return the consumers with these names; all consumers if no name is given."""
    known = list(known_consumers())
    if not known:
        raise CommandError('No consumers found: check that WSRT["CONSUMERS"] names the modules that define them.')
    found = {client_name(consumer) for consumer in known}
    wanted = {name.removesuffix("Consumer").removesuffix("Client") for name in names}
    if unknown := sorted(wanted - found):
        raise CommandError(f"No consumer {', '.join(unknown)}. The consumers are {', '.join(sorted(found))}.")
    return [consumer for consumer in known if not wanted or client_name(consumer) in wanted]
