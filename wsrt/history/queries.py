"""The functions of ``wsrt.history`` that read, each synchronous and asynchronous."""

from __future__ import annotations

import dataclasses

from ..protocol.namespaces import namespaces
from ..realms import NOT_GIVEN, RoomId, Tenant
from ..types import MAX_OFFSET, Position
from .access import open_store, room_of_call, run
from .base import HistoryFacts, Reading
from .results import HistoryPage, page_of

DEFAULT_LIMIT = 100
"""The number of events on a page, unless the caller asks for another."""

MAX_LIMIT = 1000
"""The largest ``limit`` that a caller may ask for."""

MAX_PAGE_BYTES = 1024 * 1024
"""The maximum number of bytes of the events on a page."""

BEFORE_ALL = Position("", 0)
"""A position of no room: everything that is left comes after it."""


async def aroom_position(room: str, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> Position:
    """
    Return the position of the last publication in the history of a room.

    Call it before you load the data of a page, and give the position to the page's client. The client then receives
    every later publication, so it misses nothing between the rendering of the page and its connection.

    Args:
        room: The name of the room.
        namespace: The namespace of the room.
        tenant: The tenant that the room belongs to, or None for the connections without a tenant. If it isn't given
            and a consumer of the namespace defines ``tenant``, the tenant is the result of ``WSRT["TENANT"]``.

    Returns:
        The position. Its offset is 0 if nothing was published with history.

    Raises:
        UnknownNamespace: No consumer of this process has the namespace.
        TenantRequired: The namespace has tenants, and the call doesn't say which one is meant.
        InvalidRoom: The text can't be the name of a room.
        TypeError, ValueError: Another argument isn't valid.
        StoreUnavailable: The store can't be used or didn't answer (a BackplaneUnavailable).
        WrongContext: History is kept in the memory of each process, and this process holds no connections.
    """
    room_id = room_of_call(room, namespace, tenant)
    return await _position(room_id)


async def ahistory(
    room: str,
    since: Position | None = None,
    limit: int = DEFAULT_LIMIT,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
) -> HistoryPage:
    """
    Return the events in the history of a room after a position, in the order of their offsets.

    Args:
        room: The name of the room.
        since: The position; None for all events of the history.
        limit: The maximum number of events, from 1 to 1,000. The result has at most 1 MiB of events, or one larger one.
        namespace: The namespace of the room.
        tenant: The tenant that the room belongs to; see ``aroom_position()``.

    Raises the same as ``aroom_position()``.
    """
    room_id = room_of_call(room, namespace, tenant)
    _check(since, limit)
    reading = await read(room_id, since, limit=limit, max_bytes=MAX_PAGE_BYTES)
    return page_of(reading, namespaces.of(namespace).events)


async def afacts(room_id: RoomId) -> HistoryFacts:
    """Return the facts about the history of a room that operators see. Raises the same as aroom_position()."""
    (facts,) = await open_store().facts([room_id])
    return facts


async def read(room_id: RoomId, since: Position | None, *, limit: int, max_bytes: int) -> Reading:
    """
    Return the publications of a room after a position, or all that are left for None.

    Raises:
        StoreUnavailable, WrongContext: As for aroom_position().
    """
    reading = await open_store().read(room_id, BEFORE_ALL if since is None else since, limit=limit, max_bytes=max_bytes)
    return reading if since is not None else dataclasses.replace(reading, gap=None)


def room_position(room: str, *, namespace: str = "default", tenant: Tenant = NOT_GIVEN) -> Position:
    """
    Return the position of the last publication in the history of a room. See ``aroom_position()``.

    Raises:
        WrongContext: Called in a running event loop; await ``aroom_position()`` there.
    """
    # In this thread, because WSRT["TENANT"] may read its context or the database.
    return run("aroom_position", _position, room_of_call(room, namespace, tenant))


def history(
    room: str,
    since: Position | None = None,
    limit: int = DEFAULT_LIMIT,
    *,
    namespace: str = "default",
    tenant: Tenant = NOT_GIVEN,
) -> HistoryPage:
    """Return the events in the history of a room. See ``ahistory()``. Raises the same as ``room_position()``."""
    room_id = room_of_call(room, namespace, tenant)
    _check(since, limit)
    # The events are validated in this thread, too, where a validator may query the database.
    reading = run("ahistory", read, room_id, since, limit=limit, max_bytes=MAX_PAGE_BYTES)
    return page_of(reading, namespaces.of(namespace).events)


async def _position(room_id: RoomId) -> Position:
    (last,) = await open_store().positions([room_id])
    return last.position


def _check(since: object, limit: object) -> None:
    """Check the arguments of a call before the store is asked. Raises TypeError, ValueError."""
    if not isinstance(since, Position | None):
        raise TypeError(
            f"since must be a Position or None, not {type(since).__name__}; Position.parse() reads the text of one"
        )
    if since is not None and not (isinstance(since.offset, int) and 0 <= since.offset <= MAX_OFFSET):
        raise ValueError(f"the offset of a position must be an int from 0 to {MAX_OFFSET}, not {since.offset!r}")
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit must be from 1 to {MAX_LIMIT}, not {limit}")
