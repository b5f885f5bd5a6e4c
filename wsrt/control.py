"""Control: what the server does to connections, wherever in the cluster they are."""

from __future__ import annotations

import secrets
from typing import Any

from .addresses import CONTROL_GROUP, Audience, Room, User
from .close_codes import DISCONNECTED, Close
from .cluster.messages import CommandMessage
from .cluster.sending import Outgoing, layer_aliases, require_no_loop, send, send_on_commit
from .realms import NOT_GIVEN, Tenants
from .tenants import controlled_tenants

__all__ = [
    "aadd_to_room",
    "add_to_room",
    "adisconnect",
    "apermissions_changed",
    "aremove_from_room",
    "disconnect",
    "permissions_changed",
    "remove_from_room",
]


def disconnect(
    to: Audience,
    *,
    namespace: str | None = None,
    tenant: Tenants = NOT_GIVEN,
    code: int = DISCONNECTED.code,
    reason: str = DISCONNECTED.reason,
    on_commit: bool = True,
    using: str | None = None,
) -> None:
    """
    Close the connections of an audience, after what they were already sent.

    Args:
        namespace: whose rooms and users are meant; None for every namespace.
        tenant: the tenant, None for the connections without one, or ``ALL_TENANTS``. Not given: what
            ``WSRT["TENANT"]`` returns, where consumers of the namespace have tenants.
        code: 4410, or an application's own: 4500-4749 (clients come back) or 4750-4999 (they stay away).

    Raises:
        ValueError: the code cannot be sent.
        TenantRequired: nothing says which tenant is meant.
        BackplaneUnavailable, WrongContext: as publish_to_room().
    """
    require_no_loop("adisconnect")
    _send(_disconnect(to, namespace, tenant, code, reason), on_commit, using)


async def adisconnect(
    to: Audience,
    *,
    namespace: str | None = None,
    tenant: Tenants = NOT_GIVEN,
    code: int = DISCONNECTED.code,
    reason: str = DISCONNECTED.reason,
) -> None:
    """Close the connections of an audience, at once. See disconnect()."""
    await _asend(_disconnect(to, namespace, tenant, code, reason))


def add_to_room(
    to: Audience,
    room: str,
    *,
    namespace: str,
    tenant: Tenants = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> None:
    """
    Let the connections of an audience join a room.

    Each asks its ``authorize_room`` as for any join; what is refused is logged and counted.
    """
    require_no_loop("aadd_to_room")
    _send(_room("add_to_room", to, room, namespace, tenant), on_commit, using)


async def aadd_to_room(to: Audience, room: str, *, namespace: str, tenant: Tenants = NOT_GIVEN) -> None:
    """Let the connections of an audience join a room, at once. See add_to_room()."""
    await _asend(_room("add_to_room", to, room, namespace, tenant))


def remove_from_room(
    to: Audience,
    room: str,
    *,
    namespace: str,
    tenant: Tenants = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> None:
    """Take the connections of an audience out of a room."""
    require_no_loop("aremove_from_room")
    _send(_room("remove_from_room", to, room, namespace, tenant), on_commit, using)


async def aremove_from_room(to: Audience, room: str, *, namespace: str, tenant: Tenants = NOT_GIVEN) -> None:
    """Take the connections of an audience out of a room, at once."""
    await _asend(_room("remove_from_room", to, room, namespace, tenant))


def permissions_changed(
    user: object,
    *,
    namespace: str | None = None,
    tenant: Tenants = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> None:
    """
    Ask again what a user may do: every connection of theirs reloads the user, and leaves the rooms that
    ``authorize_room`` refuses now; it is closed 4403 where ``authorize`` refuses.
    """
    require_no_loop("apermissions_changed")
    _send(_command("permissions_changed", User(user), namespace, tenant, {}), on_commit, using)


async def apermissions_changed(user: object, *, namespace: str | None = None, tenant: Tenants = NOT_GIVEN) -> None:
    """Ask again what a user may do, at once. See permissions_changed()."""
    await _asend(_command("permissions_changed", User(user), namespace, tenant, {}))


def _disconnect(to: Audience, namespace: str | None, tenant: Tenants, code: int, reason: str) -> list[Outgoing]:
    Close(code, reason)  # raises for a code that cannot be sent
    return _command("disconnect", to, namespace, tenant, {"code": code, "reason": reason})


def _room(name: str, to: Audience, room: str, namespace: str, tenant: Tenants) -> list[Outgoing]:
    return _command(name, to, namespace, tenant, {"room": Room(room).name})


def _command(
    name: str, to: Audience, namespace: str | None, tenant: Tenants, arguments: dict[str, Any]
) -> list[Outgoing]:
    if not isinstance(to, Audience):
        raise TypeError(f"an address is needed, such as wsrt.addresses.User(...), not {type(to).__name__}")
    its_tenant = controlled_tenants(tenant, namespace)
    command = CommandMessage(namespace, its_tenant, to, name, arguments, secrets.token_hex(8))
    # A node that is on two layers gets it twice, and drops the copy by its id.
    return [Outgoing(command, frozenset([CONTROL_GROUP]), alias, None) for alias in sorted(layer_aliases(namespace))]


def _send(commands: list[Outgoing], on_commit: bool, using: str | None) -> None:
    for command in commands:
        send_on_commit(command, on_commit, using)


async def _asend(commands: list[Outgoing]) -> None:
    for command in commands:
        await send(command)
