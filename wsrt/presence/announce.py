"""How other nodes learn what has changed in rooms whose members are shown."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from ..addresses import Room
from ..cluster.layers import is_local
from ..cluster.messages import PresenceMessage
from ..cluster.node import nodes
from ..cluster.sending import Outgoing, layer_alias, send
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from ..protocol.namespaces import namespaces
from ..realms import split_realm
from .base import EVERYONE, Change, PresenceStore


def messages_of(changes: Iterable[Change]) -> Iterator[PresenceMessage]:
    """Return what other nodes have to be told, by rooms: nothing where no consumer shows who is there."""
    rooms: dict[tuple[str, str], list[list[Any]]] = {}
    is_shown = functools.cache(_is_shown)
    for change in changes:
        if change.room != EVERYONE and is_shown(change.namespace):
            told = [change.kind, change.user_id, change.connections, change.data, change.version]
            rooms.setdefault((change.namespace, change.room), []).append(told)
    for (namespace, room), found in rooms.items():
        yield PresenceMessage(namespace, Room(room), found)


async def tell(store: PresenceStore, messages: Iterable[PresenceMessage]) -> None:
    """Tell every node that may want to know."""
    for message in messages:
        alias = layer_alias(split_realm(message.realm)[0])
        if not store.is_shared or is_local(alias):
            # Nobody else has these rooms; all loops of this process do.
            for node in nodes():
                node.post(message)
            continue
        try:
            await send(Outgoing(message, message.audience.groups(message.realm), alias, None))
        except BackplaneUnavailable:
            # Whoever misses it sees so by the versions.
            counters.count("presence_changes_untold")


def _is_shown(realm: str) -> bool:
    """Return whether any consumer of a realm's namespace shows who is in its rooms."""
    space = namespaces.get(split_realm(realm)[0])
    return space is not None and any(getattr(consumer, "presence", False) for consumer in space.consumers)
