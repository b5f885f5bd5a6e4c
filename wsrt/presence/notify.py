"""Messages to other nodes about changes in rooms whose members are shown to clients."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from ..addresses import Room
from ..cluster.layers import is_local
from ..cluster.messages import PresenceMessage
from ..cluster.node import nodes
from ..cluster.outgoing import Outgoing, layer_alias
from ..cluster.sending import send
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from ..protocol.namespaces import namespaces
from ..realms import split_realm
from .base import EVERYONE, Change, PresenceStore


def messages_of(changes: Iterable[Change]) -> Iterator[PresenceMessage]:
    """Yield one message for each room in ``changes``, except for rooms of consumers that don't set ``presence``."""
    rooms: dict[tuple[str, str], list[list[Any]]] = {}
    is_shown = functools.cache(_is_shown)
    for change in changes:
        if change.room != EVERYONE and is_shown(change.namespace):
            fields = [change.kind, change.user_id, change.connections, change.data, change.version]
            rooms.setdefault((change.namespace, change.room), []).append(fields)
    for (namespace, room), found in rooms.items():
        yield PresenceMessage(namespace, Room(room), found)


async def notify_nodes(store: PresenceStore, messages: Iterable[PresenceMessage]) -> None:
    """
    Send messages about changed rooms to all nodes, some of which show these rooms to clients.

    Never raises for an unreachable channel layer: nodes notice the missing versions and load the room.
    """
    for message in messages:
        alias = layer_alias(split_realm(message.realm)[0])
        if not store.is_shared or is_local(alias):
            # The store or the layer belongs to this process, so only this process's event loops can have these rooms.
            for node in nodes():
                node.post(message)
            continue
        try:
            await send(Outgoing(message, message.audience.groups(message.realm), alias, None))
        except BackplaneUnavailable:
            counters.count("presence_changes_untold")


def _is_shown(realm: str) -> bool:
    """Return whether any consumer of a realm's namespace shows the members of its rooms to clients."""
    space = namespaces.get(split_realm(realm)[0])
    return space is not None and any(getattr(consumer, "presence", False) for consumer in space.consumers)
