from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from demo_project.chat.announcing import announce
from demo_project.chat.models import Room
from wsrt.cluster.layers import is_local


class Command(BaseCommand):
    help = "Announce something in a room from a process that holds no connections, as a worker would."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("room", help="the slug of the room, such as lobby")
        parser.add_argument("text")
        parser.add_argument("--author", default="The server")

    def handle(self, *args: Any, **options: Any) -> None:
        room = Room.objects.filter(slug=options["room"]).first()
        if room is None:
            slugs = ", ".join(Room.objects.values_list("slug", flat=True))
            raise CommandError(f"There is no room {options['room']!r}. The rooms are: {slugs}")
        announce(room, options["author"], options["text"])
        self.stdout.write(self.style.SUCCESS(f"Announced in {room.name}."))
        if is_local("default"):
            self.stderr.write(
                "Without Redis, no other process receives it, and pages show it when they are reloaded. "
                "To start the demo with Redis: make demo REDIS=1"
            )
