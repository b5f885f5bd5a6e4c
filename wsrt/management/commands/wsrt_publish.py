"""``manage.py wsrt_publish``: validates an event given as JSON, and publishes it."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...addresses import Audience, Room, User, UserKey
from ...admin.announcements import InvalidAnnouncement, events_of, example_json, read_event
from ...protocol.namespaces import namespaces
from ...publish import publish_to_audience
from ..cluster import command_errors, given_tenant, require_reachable


class Command(BaseCommand):
    help = "Publishes an event to a room, to a user, or to the connections of a user that are in a room."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("room", metavar="ROOM", nargs="?", help="the room's name; optional with --user")
        parser.add_argument("event", metavar="EVENT", help="the event's wire name, such as message.sent")
        parser.add_argument("json", metavar="JSON", help="the event's data; - reads it from standard input")
        parser.add_argument("--namespace", default="default", help="the namespace; 'default' if not given")
        parser.add_argument("--tenant", help="the tenant of the room or user, if the namespace has tenants")
        parser.add_argument("--user", help="the user's key, as shown by wsrt_presence")
        # The destination "json" is taken by the event's data.
        parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON document, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        namespace, name, text = options["namespace"], options["event"], options["json"]
        with command_errors("HISTORY"):
            to = audience(options["room"], options["user"])
            known = namespaces.of(namespace).events
            if name not in known:
                names = ", ".join(map(repr, sorted(known))) or "none"
                raise CommandError(
                    f"The namespace {namespace!r} doesn't declare an event {name!r}. It declares: {names}."
                )
            require_reachable(namespace)
            try:
                event = read_event(namespace, name, sys.stdin.read() if text == "-" else text, to)
            except InvalidAnnouncement as error:
                raise CommandError(_explanation(namespace, name, error)) from None
            tenant = given_tenant(options)
            publish_to_audience(to, event, namespace=namespace, tenant=tenant, on_commit=False)
        if options["as_json"]:
            whom = {key: options[key] for key in ("room", "user") if options[key] is not None}
            place = {"namespace": namespace, "tenant": options["tenant"]}
            self.stdout.write(json.dumps({"event": name, "to": whom, **place}, indent=2))
            return
        self.stdout.write(self.style.SUCCESS(f"Published {name!r} to {to!r} of {namespace!r}."))


def audience(room: str | None, user: str | None) -> Audience:
    """Return the audience of the event. Raises CommandError if none is given, ValueError if a name is invalid."""
    if user is None:
        if room is None:
            raise CommandError("No audience: name a room before the event, or a user with --user.")
        return Room(room)
    one = User(UserKey(user))
    return one if room is None else Room(room) & one


def _explanation(namespace: str, name: str, error: InvalidAnnouncement) -> str:
    problems = [f"  {problem.field or '(the whole event)'}: {problem.message}" for problem in error.problems]
    shape = example_json(events_of(namespace)[name]).replace("\n", "\n  ")
    return "\n".join(
        [f"Nothing was sent: {name!r} is invalid.", *problems, "Valid data looks like this:", f"  {shape}"]
    )
