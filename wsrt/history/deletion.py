"""The functions of ``wsrt.history`` that delete from the history of a room, each synchronous and asynchronous."""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..addresses import CONTROL_GROUP, Room
from ..cluster import commits, outgoing, sending
from ..cluster.messages import CommandMessage
from ..delivery.calls import must_be_awaited
from ..exceptions import BackplaneUnavailable
from ..metrics import counters, quoted
from ..protocol.envelope import key_of_values
from ..protocol.events import Event, meta
from ..realms import NOT_GIVEN, RoomId, Tenant, split_realm
from ..types import MAX_OFFSET, Position
from .access import open_store, room_of_call, run
from .follower import FORGOTTEN, PURGED

T = TypeVar("T")

logger = logging.getLogger("wsrt")


def forget(
    room: str,
    *,
    offset: int | None = None,
    epoch: str | None = None,
    event: type[Event] | None = None,
    key: object = None,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> bool | None:
    """
    Delete one publication from the history of a room: by its offset, or by the key of an event with "latest".

        forget("lobby", offset=message.offset, epoch=message.epoch, namespace="chat")
        forget("market", event=Price, key="ACME", namespace="market")

    From then on, no process sends it to clients that reconnect. Clients in the room receive its position by
    ``wsrt.forgotten``, so that they can remove it from the page.

    Inside a transaction it is deleted after the commit. A failure is then logged and counted instead of raised. Outside
    a transaction, or with ``on_commit=False``, it is deleted immediately.

    Args:
        room: The name of the room.
        offset: The offset of the publication.
        epoch: The epoch of the publication. If the epoch of the room has changed since, the offset belongs to another
            publication, and nothing is deleted. None to delete it whatever the epoch is.
        event: Instead of an offset, the class of an event with ``history="latest"``.
        key: The value of the event's key field, or a tuple with the values of several key fields.
        namespace: The namespace of the room.
        tenant: The tenant that the room belongs to; see ``aroom_position()``.
        on_commit: Whether to wait for the commit if a transaction is open.
        using: The alias of the database whose transaction ``on_commit`` refers to. None for the default database.

    Returns:
        Whether the publication was in the history. None if it is deleted after a commit.

    Raises:
        UnknownNamespace: No consumer of this process has the namespace.
        TenantRequired: The namespace has tenants, and the call doesn't say which one is meant.
        InvalidRoom: The text can't be the name of a room.
        TypeError, ValueError: Another argument isn't valid.
        BackplaneUnavailable: The store didn't answer (StoreUnavailable), or the publication was deleted there and the
            channel layer didn't accept the message to the other processes. Repeat the call. After the deletion of a
            value, the store doesn't know its key any more, so repeat the call with the offset that the error names.
        WrongContext: An event loop is running in this thread; await aforget() instead.
    """
    room_id = room_of_call(room, namespace, tenant)
    which = _which(offset, epoch, event, key)
    return _on_commit("aforget", functools.partial(_forget, room_id, *which), room_id, on_commit, using)


@must_be_awaited
async def aforget(
    room: str,
    *,
    offset: int | None = None,
    epoch: str | None = None,
    event: type[Event] | None = None,
    key: object = None,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
) -> bool:
    """Delete one publication from the history of a room, immediately, even inside a transaction. See forget()."""
    room_id = room_of_call(room, namespace, tenant)
    return await _forget(room_id, *_which(offset, epoch, event, key))


def purge(
    room: str,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
    on_commit: bool = True,
    using: str | None = None,
) -> Position | None:
    """
    Delete the whole history of a room, and start a new epoch.

    Clients in the room receive ``wsrt.joined`` with ``recovered: false`` and the reason ``epoch``, so they load the
    page's data again. The arguments and the exceptions are those of forget().

    Returns:
        The room's new position, whose offset is 0. None if the history is deleted after a commit.
    """
    room_id = room_of_call(room, namespace, tenant)
    return _on_commit("apurge", functools.partial(_purge, room_id), room_id, on_commit, using)


@must_be_awaited
async def apurge(room: str, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> Position:
    """Delete the whole history of a room, immediately, even inside a transaction. See purge()."""
    return await _purge(room_of_call(room, namespace, tenant))


def _which(offset: object, epoch: object, event: object, key: object) -> tuple[int | None, str | None, str | None]:
    """
    Return the offset, the epoch and the key that the arguments of forget() mean.

    Raises:
        TypeError, ValueError: They don't refer to exactly one publication. Nothing was deleted.
    """
    if (offset is None) == (event is None) or (event is None) != (key is None):
        raise TypeError(
            "forget() needs either offset=..., or both event=... and key=...; to delete everything, call purge()"
        )
    if not isinstance(epoch, str | None):
        raise TypeError(f"epoch must be a str, not {type(epoch).__name__}")
    if offset is None:
        return None, epoch, _key(event, key if isinstance(key, tuple) else (key,))
    if not isinstance(offset, int) or isinstance(offset, bool):
        raise TypeError(f"offset must be an int, not {type(offset).__name__}")
    if not 1 <= offset <= MAX_OFFSET:
        raise ValueError(f"offset must be from 1 to {MAX_OFFSET}, not {offset}")
    return offset, epoch, None


def _key(event: Any, values: tuple[object, ...]) -> str:
    declared = meta(event)
    if declared.history != "latest":
        raise ValueError(f'{declared.name!r} isn\'t declared with history="latest": delete a publication by offset=...')
    if len(values) != len(declared.key):
        raise ValueError(f"key must contain the values of {', '.join(declared.key)}, but has {len(values)}")
    return key_of_values(declared, [_validated(event, *pair) for pair in zip(declared.key, values, strict=True)])


def _validated(event: Any, field: str, value: object) -> Any:
    """Return the value of a key field as an event has it: the 7 of an ``int`` may come as "7" from a URL."""
    model: type[Event] = event if isinstance(event, type) else type(event)
    declared = model.model_fields[field]
    # With what Annotated and Field() say about the field.
    annotation: Any = Annotated[declared.annotation, declared]
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{value!r} can't be the value of {field!r}: {error.errors()[0]['msg']}") from None


async def _forget(room_id: RoomId, offset: int | None, epoch: str | None, key: str | None) -> bool:
    store = open_store()
    position = (await store.positions([room_id]))[0].position
    if epoch is not None and epoch != position.epoch:
        return False
    found = await store.forget(room_id, offset=offset, key=key)
    # An offset is sent even if the store doesn't have it any more, for the case that an earlier call has deleted it
    # there, and failed to send.
    offsets = found if offset is None or offset > position.offset else [offset]
    if offsets:
        try:
            await _send(FORGOTTEN, room_id, {"epoch": position.epoch, "offsets": offsets})
        except BackplaneUnavailable as error:
            if offset is not None:
                raise
            # The store doesn't find the key any more.
            where = " and ".join(f"offset={each}, epoch={position.epoch!r}" for each in offsets)
            raise BackplaneUnavailable(
                f"the value was deleted, but other processes may still send it ({error}). Repeat the call with {where} "
                "instead of its key"
            ) from error
    return bool(found)


async def _purge(room_id: RoomId) -> Position:
    position = await open_store().purge(room_id)
    await _send(PURGED, room_id, {"epoch": position.epoch})
    return position


async def _send(name: str, room_id: RoomId, arguments: dict[str, Any]) -> None:
    """Send a command to all nodes. Raises BackplaneUnavailable."""
    realm, room = room_id
    namespace, tenant = split_realm(realm)
    command = CommandMessage(namespace, tenant, Room(room), name, {"room": room, **arguments}, secrets.token_hex(8))
    alias = outgoing.layer_alias(namespace)
    # Through the group of all nodes: also one without a connection in the room may remember its publications.
    await sending.send(outgoing.Outgoing(command, frozenset([CONTROL_GROUP]), alias, None))


def _on_commit(
    twin: str, work: Callable[[], Coroutine[Any, Any, T]], room_id: RoomId, on_commit: bool, using: str | None
) -> T | None:
    """Run the work after the commit of the open transaction, or immediately. Return its result, None if deferred."""
    sending.require_no_loop(f"history.{twin}")
    if commits.is_deferred(on_commit, using):
        commits.call_on_commit(functools.partial(_run_after_commit, twin, work, room_id), using)
        return None
    return run(twin, work)


def _run_after_commit(twin: str, work: Callable[[], Coroutine[Any, Any, Any]], room_id: RoomId) -> None:
    try:
        run(twin, work)
    except Exception:
        counters.count("history_deletions_lost_after_commit")
        logger.exception("failed to delete from the history of the room %s after the commit", quoted(room_id[1]))
