"""A client for wsrt: typed events over a WebSocket that reconnects automatically."""

from __future__ import annotations

from .client import Client, Unsubscribe
from .errors import (
    ClientError,
    ConnectionLost,
    Disconnected,
    FieldError,
    InvalidFrame,
    PayloadTooLarge,
    QueueExpired,
    QueueFull,
    RequestError,
    RequestTimeout,
    Unauthorized,
)
from .events import Delivery, Incoming, Model, Outgoing, Sends
from .options import Limits, Timings
from .paths import Segment, path_of
from .reconnect import Reconnect, reconnect_for
from .rooms import Member, Room, RoomChange
from .state import Reason, State, Status
from .subscriptions import Subscription, SubscriptionState
from .unset import UNSET, Omittable, Unset

__all__ = [
    "UNSET",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Delivery",
    "Disconnected",
    "FieldError",
    "Incoming",
    "InvalidFrame",
    "Limits",
    "Member",
    "Model",
    "Omittable",
    "Outgoing",
    "PayloadTooLarge",
    "QueueExpired",
    "QueueFull",
    "Reason",
    "Reconnect",
    "RequestError",
    "RequestTimeout",
    "Room",
    "RoomChange",
    "Segment",
    "Sends",
    "State",
    "Status",
    "Subscription",
    "SubscriptionState",
    "Timings",
    "Unauthorized",
    "Unset",
    "Unsubscribe",
    "path_of",
    "reconnect_for",
]
