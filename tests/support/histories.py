"""Publications for tests of history, written into the store as publishing does."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from wsrt import Event, TypedEventConsumer
from wsrt.cluster import background_loop
from wsrt.history.backends import store_of_loop
from wsrt.history.base import Append
from wsrt.protocol.namespaces import namespaces
from wsrt.types import Position

_rooms = itertools.count()


class Said(Event, name="said", history=True):
    text: str


class TenantTalk(TypedEventConsumer):
    namespace = "history-of-tenants"
    out_events = (Said,)

    async def tenant(self) -> str | None:
        return None


TENANTS = namespaces.pop(TenantTalk.namespace)
"""To be registered during a test only: elsewhere a call without a namespace needs no tenant."""


def new_room() -> str:
    """Return the name of a room that no other test uses."""
    return f"room-{next(_rooms)}"


async def akeep(
    namespace: str, room: str, event: str, *data: Mapping[str, Any], key: str | None = None
) -> list[Position]:
    """Keep publications, and return their positions."""
    publications = [
        Append((namespace, room), secrets.token_hex(8), event, to_json(each).decode(), key=key) for each in data
    ]
    return [appended.position for appended in await store_of_loop().append(publications)]


def keep(namespace: str, room: str, event: str, *data: Mapping[str, Any], key: str | None = None) -> list[Position]:
    """Keep publications from synchronous code, and return their positions."""
    return background_loop.run(akeep(namespace, room, event, *data, key=key))
