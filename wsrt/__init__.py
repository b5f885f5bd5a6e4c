"""Typed, bounded, observable WebSockets for Django."""

from __future__ import annotations

from . import addresses, history, presence
from .addresses import Audience
from .close_codes import Close, CloseCode, Closed, Reconnect
from .consumers import TypedEventConsumer
from .control import (
    aadd_to_room,
    add_to_room,
    adisconnect,
    apermissions_changed,
    aremove_from_room,
    disconnect,
    permissions_changed,
    remove_from_room,
)
from .exceptions import (
    BackplaneUnavailable,
    DeclarationError,
    InvalidKey,
    InvalidRoom,
    Refused,
    TenantRequired,
    TooManyKeys,
    TooManyRooms,
    TooManyTasks,
    UndeclaredEvent,
    UnknownNamespace,
    UnsendableEvent,
    WrongContext,
    WsrtError,
)
from .handlers import on, on_layer
from .history import aroom_position, room_position
from .protocol.events import Event, RootEvent
from .publish import (
    abroadcast,
    apublish_many,
    apublish_to_audience,
    apublish_to_room,
    apublish_to_user,
    broadcast,
    publish_many,
    publish_to_audience,
    publish_to_room,
    publish_to_user,
)
from .realms import ALL_TENANTS
from .types import Position, Publication, RoomPresence

__version__ = "0.1.0"

__all__ = [
    "ALL_TENANTS",
    "Audience",
    "BackplaneUnavailable",
    "Close",
    "CloseCode",
    "Closed",
    "DeclarationError",
    "Event",
    "InvalidKey",
    "InvalidRoom",
    "Position",
    "Publication",
    "Reconnect",
    "Refused",
    "RoomPresence",
    "RootEvent",
    "TenantRequired",
    "TooManyKeys",
    "TooManyRooms",
    "TooManyTasks",
    "TypedEventConsumer",
    "UndeclaredEvent",
    "UnknownNamespace",
    "UnsendableEvent",
    "WrongContext",
    "WsrtError",
    "aadd_to_room",
    "abroadcast",
    "add_to_room",
    "addresses",
    "adisconnect",
    "apermissions_changed",
    "apublish_many",
    "apublish_to_audience",
    "apublish_to_room",
    "apublish_to_user",
    "aremove_from_room",
    "aroom_position",
    "broadcast",
    "disconnect",
    "history",
    "on",
    "on_layer",
    "permissions_changed",
    "presence",
    "publish_many",
    "publish_to_audience",
    "publish_to_room",
    "publish_to_user",
    "remove_from_room",
    "room_position",
]
