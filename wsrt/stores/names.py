"""
The names of rooms as stores write them.

Different rooms never have the same name, whatever characters their names contain.
"""

from __future__ import annotations

from ..realms import RoomId


def as_bytes(text: str) -> bytes:
    """Return a name as stores write it. Names may be any strings, also those that UTF-8 can't encode."""
    try:
        return text.encode()  # which is faster than with arguments
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def field_of(room_id: RoomId) -> str:
    """Return a room's name and its realm (namespace and tenant) in one string, by which stores know the room."""
    realm, room = room_id
    return f"{len(realm)}.{realm}{room}"


def room_id_of(field: str) -> RoomId:
    """Return the realm and the name of a room. Reverses field_of()."""
    length, _, names = field.partition(".")
    return names[: int(length)], names[int(length) :]
