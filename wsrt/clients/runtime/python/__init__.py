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
from .history import History, HistoryGap, HistoryPage, HistorySource, history_from
from .options import Limits, Timings
from .paths import Segment, path_of
from .position import Position
from .reconnect import Reconnect, reconnect_for
from .rooms import Forgotten, Member, Recovery, Room, RoomChange
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
    "Forgotten",
    "History",
    "HistoryGap",
    "HistoryPage",
    "HistorySource",
    "Incoming",
    "InvalidFrame",
    "Limits",
    "Member",
    "Model",
    "Omittable",
    "Outgoing",
    "PayloadTooLarge",
    "Position",
    "QueueExpired",
    "QueueFull",
    "Reason",
    "Reconnect",
    "Recovery",
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
    "history_from",
    "path_of",
    "reconnect_for",
]
