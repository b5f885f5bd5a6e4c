"""
The functions that act on connections of any process: close them, change their rooms, check their permissions again.

``disconnect``, ``remove_from_room`` and ``permissions_changed`` take effect as soon as a process receives the command,
even while a handler is running. When the call returns, the command has taken effect for the connections of this
process, and the channel layer has accepted it for the other processes.
"""

from __future__ import annotations

import secrets
from typing import Any

from .addresses import CONTROL_GROUP, Audience, Room, User
from .close_codes import DISCONNECTED, Close
from .cluster.commits import send_on_commit
from .cluster.messages import CommandMessage
from .cluster.outgoing import Outgoing, layer_aliases
from .cluster.sending import require_no_loop, send
from .delivery.calls import must_be_awaited
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
    Close the connections of an audience, after sending what is already queued for them.

        disconnect(to.User(7), code=4750, reason="Banned")

    Args:
        to: An address from wsrt.addresses, or an expression of addresses.
        namespace: The namespace of the rooms and users in the address. None for every namespace.
        tenant: The tenant of the connections, None for the connections without a tenant, or ``ALL_TENANTS``. If it
            isn't given and a consumer of the namespace defines ``tenant``, the tenant is the result of
            ``WSRT["TENANT"]``.
        code: The close code: 4410, another code of the table of close codes, or one of the application's own:
            4500-4749, after which clients reconnect, or 4750-4999, after which they don't.
        reason: The text of the close frame, cut off at 123 bytes.
        on_commit: Whether to wait for the commit if a transaction is open.
        using: The alias of the database whose transaction ``on_commit`` refers to. None for the default database.

    Raises:
        ValueError: The code can't be sent, or a tenant is given and no consumer of the namespace has tenants.
        TypeError: ``to`` isn't an address.
        UnknownNamespace: No consumer of this process has the namespace.
        TenantRequired: The namespace has tenants, and the call doesn't say which one is meant.
        BackplaneUnavailable: The channel layer didn't accept the command.
        WrongContext: An event loop is running in this thread; await adisconnect() instead.
    """
    _send("disconnect", to, namespace, tenant, _closing(code, reason), on_commit, using)


@must_be_awaited
async def adisconnect(
    to: Audience,
    *,
    namespace: str | None = None,
    tenant: Tenants = NOT_GIVEN,
    code: int = DISCONNECTED.code,
    reason: str = DISCONNECTED.reason,
) -> None:
    """Close the connections of an audience, immediately, even inside a transaction. See disconnect()."""
    await _asend("disconnect", to, namespace, tenant, _closing(code, reason))


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
    Make the connections of an audience join a room.

    Each connection joins as if one of its handlers called ``join``: after the handlers that are running or waiting, and
    only if ``authorize_room`` allows it. A refusal is logged and counted.

    Args:
        to: An address from wsrt.addresses, or an expression of addresses.
        room: The name of the room.
        namespace: The namespace of the room and of the connections.

    The other arguments and the exceptions are those of disconnect().

    Raises:
        InvalidRoom: The text can't be the name of a room.
    """
    _send("add_to_room", to, namespace, tenant, {"room": Room(room).name}, on_commit, using)


@must_be_awaited
async def aadd_to_room(to: Audience, room: str, *, namespace: str, tenant: Tenants = NOT_GIVEN) -> None:
    """Make the connections of an audience join a room, immediately, even inside a transaction. See add_to_room()."""
    await _asend("add_to_room", to, namespace, tenant, {"room": Room(room).name})


def remove_from_room(
    to: Audience,
    room: str,
    *,
    namespace: str,
    tenant: Tenants = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> None:
    """
    Remove the connections of an audience from a room.

    Each process removes its connections as soon as it receives the command. Frames that wait for a client and were
    published to exactly this room are dropped. A ``join`` of the room that is still in progress raises
    PermissionDenied. Afterwards the hook ``on_removed`` is called, but never at the same time as a handler of the
    connection. The arguments and the exceptions are those of add_to_room().
    """
    _send("remove_from_room", to, namespace, tenant, {"room": Room(room).name}, on_commit, using)


@must_be_awaited
async def aremove_from_room(to: Audience, room: str, *, namespace: str, tenant: Tenants = NOT_GIVEN) -> None:
    """Remove the connections of an audience from a room, at once, even inside a transaction. See remove_from_room()."""
    await _asend("remove_from_room", to, namespace, tenant, {"room": Room(room).name})


def permissions_changed(
    user: object,
    *,
    namespace: str | None = None,
    tenant: Tenants = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> None:
    """
    Make every connection of a user check its permissions again.

    Each connection calls ``reload_user``, ``authorize``, and ``authorize_room`` for each of its rooms. It leaves the
    rooms that are refused. It is closed with 4403 if ``authorize`` refuses, and with 4401 if the user was deleted or is
    inactive. Publications for it are withheld until the hooks have returned.

    Args:
        user: The user: an int, str, UUID, saved model instance, or other object with a ``pk``.

    The other arguments and the exceptions are those of disconnect().
    """
    _send("permissions_changed", User(user), namespace, tenant, {}, on_commit, using)


@must_be_awaited
async def apermissions_changed(user: object, *, namespace: str | None = None, tenant: Tenants = NOT_GIVEN) -> None:
    """Make every connection of a user check its permissions again, immediately. See permissions_changed()."""
    await _asend("permissions_changed", User(user), namespace, tenant, {})


def _closing(code: int, reason: str) -> dict[str, Any]:
    """Return the arguments of a disconnect command. Raises ValueError for a code that can't be sent."""
    Close(code, reason)
    return {"code": code, "reason": reason}


def _send(
    name: str,
    to: Audience,
    namespace: str | None,
    tenant: Tenants,
    arguments: dict[str, Any],
    on_commit: bool,
    using: str | None,
) -> None:
    require_no_loop(f"a{name}")
    for command in _commands(name, to, namespace, tenant, arguments):
        send_on_commit(command, on_commit, using)


async def _asend(name: str, to: Audience, namespace: str | None, tenant: Tenants, arguments: dict[str, Any]) -> None:
    for command in _commands(name, to, namespace, tenant, arguments):
        await send(command)


def _commands(
    name: str, to: Audience, namespace: str | None, tenant: Tenants, arguments: dict[str, Any]
) -> list[Outgoing]:
    """Return one command for each channel layer of the namespace."""
    if not isinstance(to, Audience):
        raise TypeError(
            f"the argument 'to' must be an address, such as wsrt.addresses.User(...), not {type(to).__name__}"
        )
    command = CommandMessage(
        namespace, controlled_tenants(tenant, namespace), to, name, arguments, secrets.token_hex(8)
    )
    # A node that uses two layers receives the command twice and drops the copy by its id.
    return [Outgoing(command, frozenset([CONTROL_GROUP]), alias, None) for alias in sorted(layer_aliases(namespace))]
