"""``manage.py wsrt_presence``: shows the connected users, their connections, rooms and nodes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from wsrt import presence

from ...addresses import Room, UserKey
from ...doctor.presence import LATE_MS
from ...presence import ConnectionInfo, Member, NodeInfo, Page, RoomInfo, Stats
from ...presence.results import limits_reached
from ...realms import realm_of
from ...tenants import check_tenant
from ..cluster import command_errors
from ..tables import Column, Table, age, counted

T = TypeVar("T")

LARGEST = 10
"""Number of rooms in the overview."""

COUNTS = (Column("users", is_number=True), Column("guests", is_number=True), Column("connections", is_number=True))


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """
    The results of the command, in two forms.

    Attributes:
        document: The results as JSON, for ``--json``.
        summary, tables: The same results as text.
    """

    document: dict[str, Any]
    summary: str
    tables: list[Table]


class Command(BaseCommand):
    help = "Shows who is connected: an overview, the members of a room, the connections of a user, or the nodes."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--room", help="show the members of this room")
        what.add_argument("--user", help="show the connections of the user with this key")
        what.add_argument("--nodes", action="store_true", help="show the processes that hold connections")
        parser.add_argument("--namespace", help="show only this namespace; all by default")
        parser.add_argument("--tenant", help="show only this tenant; all by default")
        parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        with command_errors():
            stats = within(presence.stats(), options["namespace"], check_tenant(options["tenant"]))
            if options["room"] is not None:
                report = of_room(stats, Room(options["room"]).name)
            elif options["user"] is not None:
                report = of_user(stats, UserKey(options["user"]))
            elif options["nodes"]:
                report = of_nodes(stats)
            else:
                report = of_everyone(stats)
        if options["json"]:
            self.stdout.write(json.dumps(report.document, indent=2, default=dt.datetime.isoformat))
        else:
            self._show(report, is_shared=stats.is_shared)

    def _show(self, report: Report, *, is_shared: bool) -> None:
        is_terminal = self.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else None
        if not is_shared:
            self.stdout.write("This process only: presence is kept in its memory.")
        self.stdout.write(report.summary)
        for table in report.tables:
            headings, *rows = table.lines(width)
            self.stdout.write(f"\n{self.style.MIGRATE_HEADING(table.title)}")
            self.stdout.write(self.style.MIGRATE_LABEL(headings))
            for row in rows:
                self.stdout.write(row)


def within(stats: Stats, namespace: str | None, tenant: str | None) -> Stats:
    """
    Return the part of ``stats`` that belongs to one namespace and one tenant.

    Args:
        stats: The state of the cluster.
        namespace: The namespace; None for all.
        tenant: The tenant; None for all.

    Raises:
        CommandError: The namespace doesn't exist, or no user of the tenant is connected.
    """
    if namespace is not None and namespace not in stats.namespaces:
        known = ", ".join(map(repr, stats.namespaces)) or "none"
        raise CommandError(f"The namespace {namespace!r} does not exist; known namespaces: {known}.")
    everyone = tuple(
        found
        for found in stats.everyone
        if namespace in (None, found.namespace) and (tenant is None or tenant == found.tenant)
    )
    if tenant is not None and not everyone:
        raise CommandError(f"The tenant {tenant!r} has no connections.")
    return dataclasses.replace(stats, everyone=everyone)


def of_everyone(stats: Stats) -> Report:
    """Return a report on the nodes, the namespaces and the largest rooms."""
    rooms = [room for found in stats.everyone for room in presence.rooms(**_place(found), limit=LARGEST)]
    rooms.sort(key=lambda room: (-room.users - room.guests, _realm(room), room.name))
    del rooms[LARGEST:]
    connections = sum(found.connections for found in stats.everyone)
    document = {
        "is_shared": stats.is_shared,
        "connections": connections,
        "nodes": plain(stats.nodes),
        "namespaces": [{"name": found.namespace, "tenant": found.tenant, **_counts(found)} for found in stats.everyone],
        "rooms": [{**_place(room), "name": room.name, **_counts(room)} for room in rooms],
    }
    spaces = [(_realm(found), *_numbers(found)) for found in stats.everyone]
    largest = [(_realm(room), room.name, *_numbers(room)) for room in rooms]
    tables = [
        _nodes(stats.nodes),
        _limits(stats.nodes),
        Table("Namespaces", (Column("namespace"), *COUNTS), spaces),
        Table("Largest rooms", (Column("namespace"), Column("room"), *COUNTS), largest),
    ]
    summary = f"{counted(connections, 'connection')}, {counted(len(stats.nodes), 'node')}"
    return Report(document, summary, [table for table in tables if table.rows])


def of_nodes(stats: Stats) -> Report:
    """Return a report on the nodes only."""
    document = {"is_shared": stats.is_shared, "nodes": plain(stats.nodes)}
    tables = [table for table in (_nodes(stats.nodes), _limits(stats.nodes)) if table.rows]
    return Report(document, counted(len(stats.nodes), "node"), tables)


def of_room(stats: Stats, name: str) -> Report:
    """Return a report on the members of a room, in each namespace that has a room with this name."""
    rooms: list[dict[str, Any]] = []
    tables: list[Table] = []
    for space in stats.everyone:
        # Keyed by user, because a later page may repeat a user of an earlier one.
        found = {member.user_id: member for member in paged(presence.members, name, **_place(space))}
        if not found:
            continue
        members = sorted(found.values(), key=_order)
        guests = found[None].connections if None in found else 0
        room = RoomInfo(
            name,
            space.namespace,
            len(found) - (None in found),
            guests,
            sum(member.connections for member in members),
            space.tenant,
        )
        rooms.append({**_place(room), "name": name, **_counts(room), "members": plain(members)})
        title = f"{name!r} in {_realm(room)!r}: {counted(room.users, 'user')}, {counted(guests, 'guest')}, "
        tables.append(_members(f"{title}{counted(room.connections, 'connection')}", members))
    summary = f"Room {name!r}" if rooms else f"The room {name!r} is empty."
    return Report({"rooms": rooms}, summary, tables)


def of_user(stats: Stats, user: str) -> Report:
    """Return a report on the connections of a user."""
    found = {
        connection.id: connection
        for space in stats.everyone
        for connection in paged(presence.connections, user=user, **_place(space))
    }
    connections = [
        # A connection was seen when it was opened, whenever its node said so last.
        dataclasses.replace(each, last_seen=max(filter(None, (each.since, each.last_seen)), default=None))
        for each in found.values()
    ]
    document = {"user_id": user, "connections": plain(connections)}
    summary = f"User {user!r}: {counted(len(connections), 'connection')}"
    return Report(document, summary, [_connections(connections, stats.nodes)] if connections else [])


def paged(read: Callable[..., Page[T]], *args: Any, **scope: Any) -> Iterator[T]:
    """Yield the items of all pages."""
    after = None
    while True:
        page = read(*args, **scope, after=after)
        yield from page
        after = page.next
        if after is None:
            return


def plain(items: Iterable[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as objects that JSON can represent."""
    return [dataclasses.asdict(item) for item in items]


def _nodes(nodes: Iterable[NodeInfo]) -> Table:
    now = dt.datetime.now(dt.UTC)
    columns = (
        Column("process"),
        Column("node", is_whole=True),
        Column("connections", is_number=True),
        Column("refused", is_number=True),
        Column("lag", is_number=True),
        Column("lease", is_number=True),
        Column("up", is_number=True),
        Column("version"),
    )
    rows = [
        (
            f"{node.host}:{node.pid}",
            node.id,
            f"{node.connections:,}",
            f"{node.refused:,}",
            f"{node.lag_ms} ms{' (late)' if node.lag_ms > LATE_MS else ''}",
            f"{node.lease:.0f} s",
            age(node.started, now),
            node.version,
        )
        for node in sorted(nodes, key=lambda node: (node.host, node.pid, node.id))
    ]
    return Table("Nodes", columns, rows)


def _limits(nodes: Iterable[NodeInfo]) -> Table:
    columns = (
        Column("limit"),
        Column("counter"),
        Column("times", is_number=True),
        Column("processes", is_number=True),
    )
    rows = [(limit.setting, limit.name, f"{limit.times:,}", f"{limit.processes:,}") for limit in limits_reached(nodes)]
    return Table("Limits reached", columns, rows)


def _members(title: str, members: Iterable[Member]) -> Table:
    rows = [
        (
            "(guests)" if member.user_id is None else member.user_id,
            f"{member.connections:,}",
            "" if member.data is None else json.dumps(member.data, ensure_ascii=False),
        )
        for member in members
    ]
    return Table(title, (Column("user", is_whole=True), Column("connections", is_number=True), Column("data")), rows)


def _connections(connections: Iterable[ConnectionInfo], nodes: Iterable[NodeInfo]) -> Table:
    now = dt.datetime.now(dt.UTC)
    processes = {node.id: f"{node.host}:{node.pid}" for node in nodes}
    columns = (
        Column("connection", is_whole=True),
        Column("namespace"),
        Column("consumer"),
        Column("open", is_number=True),
        Column("seen", is_number=True),
        Column("process"),
        Column("session"),
        Column("expires in", is_number=True),
        Column("address"),
        Column("browser"),
    )
    rows = [
        (
            each.id,
            _realm(each),
            each.consumer,
            age(each.since, now),
            age(each.last_seen, now),
            processes.get(each.node, each.node),
            "yes" if each.has_session else "",
            "" if each.expires is None else age(now, each.expires),
            each.address or "",
            each.user_agent or "",
        )
        for each in connections
    ]
    return Table("Connections", columns, rows)


def _place(found: RoomInfo) -> dict[str, Any]:
    return {"namespace": found.namespace, "tenant": found.tenant}


def _realm(found: RoomInfo | ConnectionInfo) -> str:
    """Return the namespace, followed by the tenant if there is one."""
    return realm_of(found.namespace, found.tenant)


def _counts(found: RoomInfo) -> dict[str, int]:
    return {"users": found.users, "guests": found.guests, "connections": found.connections}


def _numbers(found: RoomInfo) -> tuple[str, ...]:
    return tuple(f"{number:,}" for number in _counts(found).values())


def _order(member: Member) -> tuple[int, int, str]:
    """Return a sort key: numeric ids by value, then other ids, then guests."""
    if member.user_id is None:
        return (2, 0, "")
    return (0, len(member.user_id), member.user_id) if member.user_id.isdecimal() else (1, 0, member.user_id)
