"""``manage.py wsrt_routes``: the WebSocket routes of the project."""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any, TypedDict

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ...checks import check_routes
from ...consumers import TypedEventConsumer
from ...schema.routes import Route, application, routes_of
from ..tables import Column, Table

COLUMNS = (
    Column("path", is_whole=True),
    Column("consumer", is_whole=True),
    Column("namespace"),
    Column("receives"),
    Column("sends"),
)


class RouteEntry(TypedDict):
    """
    A WebSocket route.

    Attributes:
        path: The path template, such as "/ws/chat/{room}/".
        consumer: The dotted path of the class; None for an ASGI application that isn't a consumer.
        namespace: The namespace; None for a consumer that isn't one of wsrt.
        receives, sends: The names of the events that the server receives and sends.
        middleware: The names of the middleware around the route, the outermost first.
    """

    path: str
    consumer: str | None
    namespace: str | None
    receives: list[str]
    sends: list[str]
    middleware: list[str]


class Command(BaseCommand):
    help = "Lists the WebSocket routes of ASGI_APPLICATION: consumer, namespace, events and middleware."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        path = getattr(settings, "ASGI_APPLICATION", None)
        if not path:
            raise CommandError(
                "ASGI_APPLICATION isn't set: set it to the dotted path of the ASGI application, such as "
                '"mysite.asgi.application".'
            )
        try:
            found = [_entry(route) for route in routes_of(application())]
        except Exception as error:
            # Anything can happen at the import of a module of the project.
            problem = f"ASGI_APPLICATION ({path}) cannot be loaded: {type(error).__name__}: {error}"
            raise CommandError(problem) from error
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
        else:
            self._print(found)
        for message in check_routes():
            self.stderr.write(self.style.WARNING(f"{message.msg} {message.hint or ''}".rstrip()))

    def _print(self, found: list[RouteEntry]) -> None:
        if not found:
            self.stdout.write("No WebSocket routes.")
            return
        rows = [
            (
                entry["path"],
                entry["consumer"] or "",
                entry["namespace"] or "",
                ", ".join(entry["receives"]),
                ", ".join(entry["sends"]),
            )
            for entry in found
        ]
        width = shutil.get_terminal_size().columns if self.stdout.isatty() else None
        heading, *lines = Table("Routes", COLUMNS, rows).lines(width)
        self.stdout.write(self.style.MIGRATE_HEADING(heading))
        for line in lines:
            self.stdout.write(line)
        self.stdout.write("")
        for line in _middleware(found):
            self.stdout.write(line)


def _entry(route: Route) -> RouteEntry:
    consumer = route.consumer
    entry = RouteEntry(
        path=route.template,
        consumer=None if consumer is None else f"{consumer.__module__}.{consumer.__qualname__}",
        namespace=None,
        receives=[],
        sends=[],
        middleware=list(route.middleware),
    )
    if consumer is not None and issubclass(consumer, TypedEventConsumer):
        entry["namespace"] = consumer.namespace
        entry["receives"] = sorted(consumer.catalog.receives)
        entry["sends"] = sorted(consumer.catalog.sends)
    return entry


def _middleware(found: Iterable[RouteEntry]) -> list[str]:
    """Return a line for each stack of middleware: with its paths, if there is more than one stack."""
    stacks: dict[tuple[str, ...], list[str]] = {}
    for entry in found:
        stacks.setdefault(tuple(entry["middleware"]), []).append(entry["path"])
    lines = []
    for stack, paths in stacks.items():
        of_paths = f" of {', '.join(paths)}" if len(stacks) > 1 else ""
        lines.append(f"Middleware{of_paths}: {', '.join(stack) or 'none'}")
    return lines
