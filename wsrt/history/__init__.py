"""
The history of rooms: publications that are kept for clients that were disconnected.

    from wsrt import history

    position = history.room_position("lobby", namespace="chat")
    for past in history.history("lobby", namespace="chat"):
        print(past.time, past.event)
    history.forget("lobby", offset=42, namespace="chat")

Every function has an asynchronous twin with the prefix ``a``.
"""

from ..exceptions import StoreUnavailable
from ..types import Position, Publication
from .deletion import aforget, apurge, forget, purge
from .queries import ahistory, aroom_position, history, room_position
from .results import HistoryPage, PastEvent

__all__ = [
    "HistoryPage",
    "PastEvent",
    "Position",
    "Publication",
    "StoreUnavailable",
    "aforget",
    "ahistory",
    "apurge",
    "aroom_position",
    "forget",
    "history",
    "purge",
    "room_position",
]
