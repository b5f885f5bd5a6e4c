"""
Presence: the users and connections that are online, in the whole cluster.

    from wsrt import presence

    presence.count("lobby", namespace="chat")
    presence.online([ada, grace])  # the users among these who are connected
    for member in await presence.amembers("lobby", namespace="chat"):
        print(member.user_id, member.data)

A connection counts from the end of its ``on_connect``, in its namespace and in every room that it joined, whether or
not its consumer sets ``presence``. After a crash, results are correct again within one lease (30 seconds by default).

Every function has an asynchronous twin with the prefix ``a``.
"""

from .base import BadCursor, StoreUnavailable
from .queries import (
    aconnections,
    acount,
    ais_online,
    amembers,
    aonline,
    arooms,
    astats,
    ausers,
    connections,
    count,
    is_online,
    members,
    online,
    rooms,
    stats,
    users,
)
from .results import ConnectionInfo, Member, NodeInfo, Page, RoomInfo, Stats

__all__ = [
    "BadCursor",
    "ConnectionInfo",
    "Member",
    "NodeInfo",
    "Page",
    "RoomInfo",
    "Stats",
    "StoreUnavailable",
    "aconnections",
    "acount",
    "ais_online",
    "amembers",
    "aonline",
    "arooms",
    "astats",
    "ausers",
    "connections",
    "count",
    "is_online",
    "members",
    "online",
    "rooms",
    "stats",
    "users",
]
