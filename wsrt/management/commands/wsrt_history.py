"""``manage.py wsrt_history``: shows the history of a room, and deletes from it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...exceptions import BackplaneUnavailable, StoreUnavailable
from ...history.access import room_of_call, run
from ...history.base import HistoryFacts
from ...history.deletion import forget, purge
from ...history.queries import afacts
from ...realms import split_realm
from ..cluster import command_errors, given_tenant, require_reachable
from ..tables import Column, Table, age, counted, printable


class Command(BaseCommand):
    help = "Shows the history of a room, and deletes one of its publications or all of them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("room", help="the room's name")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--forget", type=int, metavar="OFFSET", help="delete the publication with this offset")
        what.add_argument(
            "--purge", action="store_true", help="delete the whole history; clients in the room load their data again"
        )
        parser.add_argument("--epoch", help="with --forget: delete nothing if the epoch of the room has changed since")
        parser.add_argument("--namespace", default="default", help="the namespace of the room; 'default' by default")
        parser.add_argument("--tenant", help="the tenant of the room, if the namespace has tenants")
        parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        offset, namespace = options["forget"], options["namespace"]
        if options["epoch"] is not None and offset is None:
            raise CommandError("--epoch can only be used with --forget.")
        has_deleted: bool | None = None
        with command_errors("HISTORY"):
            room_id = room_of_call(options["room"], namespace, given_tenant(options))
            place: dict[str, Any] = {"namespace": namespace, "tenant": split_realm(room_id[0])[1], "on_commit": False}
            if offset is not None or options["purge"]:
                require_reachable(namespace)
                has_deleted = self._delete(room_id[1], offset, options["epoch"], place)
            facts = run("afacts", afacts, room_id)
        if options["json"]:
            document = {"room": room_id[1], "namespace": namespace, "tenant": place["tenant"], **document_of(facts)}
            if has_deleted is not None:
                document["deleted"] = has_deleted
            self.stdout.write(json.dumps(document, indent=2))
            return
        where = repr(namespace) if place["tenant"] is None else f"{namespace!r} for the tenant {place['tenant']!r}"
        self.stdout.write(f"Room {room_id[1]!r} of {where}")
        for line in table_of(facts).lines(None):
            self.stdout.write(line)
        if options["purge"]:
            self.stdout.write(self.style.SUCCESS("The history was deleted. Clients in the room load their data again."))
        elif has_deleted:
            self.stdout.write(
                self.style.SUCCESS(f"The publication {offset} was deleted. Clients in the room were notified.")
            )
        elif has_deleted is not None:
            self.stdout.write(self.style.WARNING(f"The history has no publication with the offset {offset}."))

    def _delete(self, room: str, offset: int | None, epoch: str | None, place: dict[str, Any]) -> bool:
        """Delete from a room; return whether there was something to delete."""
        try:
            if offset is not None:
                return bool(forget(room, offset=offset, epoch=epoch, **place))
            purge(room, **place)
        except StoreUnavailable:
            raise
        except BackplaneUnavailable as error:
            raise CommandError(
                f"Deleted in the store, but other processes may still send it to clients: {error}.\nRun the command "
                "again when the channel layer is available; manage.py wsrt_doctor examines it."
            ) from error
        return True


def document_of(facts: HistoryFacts) -> dict[str, Any]:
    """Return the facts about a room as a dict that can be written as JSON. Times are in ISO 8601."""
    oldest = _oldest(facts)
    return {
        **facts.position.as_dict(),
        "entries": facts.entries,
        "values": facts.values,
        "bytes": facts.size,
        "oldest": None if oldest is None else oldest.isoformat(),
    }


def table_of(facts: HistoryFacts) -> Table:
    """Return the facts about a room as a table of one row."""
    columns = (
        Column("epoch", is_whole=True),
        *(Column(name, is_number=True) for name in ("offset", "events", "values", "size", "oldest")),
    )
    row = (
        printable(facts.position.epoch),
        f"{facts.position.offset:,}",
        f"{facts.entries:,}",
        f"{facts.values:,}",
        counted(facts.size, "byte"),
        age(_oldest(facts), dt.datetime.now(dt.UTC)),
    )
    return Table("History", columns, [row])


def _oldest(facts: HistoryFacts) -> dt.datetime | None:
    return None if facts.oldest is None else dt.datetime.fromtimestamp(facts.oldest, dt.UTC)
