"""``manage.py wsrt_disconnect``: closes connections on any node."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...addresses import Audience, Connection, Room, User, UserKey, parts_of
from ...close_codes import CREDENTIALS_EXPIRED, DISCONNECTED, Close
from ...control import disconnect
from ...exceptions import WrongContext
from ...presence.access import is_connected, open_store, run
from ...presence.base import EVERYONE, StoreUnavailable
from ...realms import ALL_TENANTS, AllTenants, includes
from ...tenants import controlled_tenants
from ..cluster import command_errors, given_tenant, require_reachable
from ..tables import counted, printable


class Command(BaseCommand):
    help = "Closes the connections of a user or a room, or a single connection, on any node of the cluster."

    def add_arguments(self, parser: CommandParser) -> None:
        whom = parser.add_mutually_exclusive_group(required=True)
        whom.add_argument("--user", help="the user's key, as shown by wsrt_presence")
        whom.add_argument("--room", help="the room's name")
        whom.add_argument("--connection", metavar="ID", help="the connection's id, as shown by wsrt_presence --user")
        parser.add_argument("--namespace", help="close only connections of this namespace; all by default")
        tenants = parser.add_mutually_exclusive_group()
        tenants.add_argument("--tenant", help="the tenant of the room or user, if the namespace has tenants")
        tenants.add_argument(
            "--all-tenants", action="store_true", help="close connections of every tenant, and those without one"
        )
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--code",
            type=int,
            default=DISCONNECTED.code,
            help="the close code; 4410 (clients stay disconnected) by default; your own codes are 4500-4749 (clients "
            "reconnect) and 4750-4999 (they stay disconnected)",
        )
        how.add_argument(
            "--log-out",
            action="store_true",
            help=f"close with {CREDENTIALS_EXPIRED.code} {CREDENTIALS_EXPIRED.reason}: clients need new credentials to "
            "connect again; sessions and tokens stay valid",
        )
        parser.add_argument("--reason", help=f"the close reason sent with the code; {DISCONNECTED.reason!r} by default")
        parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        namespace = options["namespace"]
        with command_errors():
            to = audience(options)
            close = requested_close(options)
            require_reachable(namespace)
            # A connection's id is unique across tenants.
            is_any = options["all_tenants"] or (options["connection"] is not None and options["tenant"] is None)
            tenant = controlled_tenants(ALL_TENANTS if is_any else given_tenant(options), namespace)
            # Counted before the request is sent: afterwards the connections are gone.
            known, why = known_connections(to, namespace, tenant)
            disconnect(to, namespace=namespace, tenant=tenant, code=close.code, reason=close.reason, on_commit=False)
        if options["json"]:
            document = {
                "to": dict([to.to_message()]),
                "namespace": namespace,
                "tenant": None if isinstance(tenant, AllTenants) else tenant,
                "code": close.code,
                "reason": close.wire_reason,
                "connections": known,
            }
            self.stdout.write(json.dumps(document, indent=2))
            return
        where = "all namespaces" if namespace is None else repr(namespace)
        if isinstance(tenant, str):
            where += f" for the tenant {tenant!r}"
        request = f"Asked every node to close {to!r} of {where}: {close.code} {printable(close.wire_reason)}"
        self.stdout.write(self.style.SUCCESS(request.rstrip()))
        if known is None:
            self.stdout.write(f"The number of connections is not known: {why}.")
        else:
            self.stdout.write(f"According to presence, this affects {counted(known, 'connection')}.")
        if options["log_out"]:
            self.stdout.write(
                "Sessions and tokens stay valid: a client that still has one can connect again. To keep a user out, "
                "deactivate the account or set another password first."
            )


def requested_close(options: dict[str, Any]) -> Close:
    """Return the close that the options ask for. Raises ValueError for a code that can't be sent."""
    code, reason = options["code"], options["reason"]
    if not options["log_out"]:
        return Close(code, DISCONNECTED.reason if reason is None else reason)
    if reason is not None:
        raise CommandError("--reason can't be used with --log-out, which sends a reason of its own.")
    return CREDENTIALS_EXPIRED


def audience(options: dict[str, Any]) -> Audience:
    """Return the audience that the options name. Raises ValueError for an invalid user, room or connection id."""
    if options["user"] is not None:
        return User(UserKey(options["user"]))
    if options["room"] is not None:
        return Room(options["room"])
    parts_of(options["connection"])
    return Connection(options["connection"])


def known_connections(to: Audience, namespace: str | None, tenant: str | AllTenants | None) -> tuple[int | None, str]:
    """Return the number of connections that presence knows, and ""; or None and the reason if it can't be read."""
    try:
        return run(_count, to, namespace, tenant), ""
    except (StoreUnavailable, WrongContext) as error:
        return None, str(error)


async def _count(to: Audience, namespace: str | None, tenant: str | AllTenants | None) -> int:
    store = await open_store()
    spaces = [realm for realm in await store.namespaces() if includes(namespace, tenant, realm)]
    match to:
        case User():
            return sum(
                [number for space in spaces for number in await store.user_connections(space, EVERYONE, [to.id])]
            )
        case Room():
            return sum(count.connections for count in await store.counts([(space, to.name) for space in spaces]))
        case Connection():
            return int(await is_connected(spaces, to.id))
    raise TypeError(f"connections of {to!r} cannot be counted")
