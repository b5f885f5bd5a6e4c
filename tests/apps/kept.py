"""Consumers whose publications are kept in history, for tests/servers/test_recovery.py and test_recovery_abuse.py."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from wsrt import Event, TypedEventConsumer, on
from wsrt.asgi import with_runtime


class Say(Event, name="say"):
    """Publish numbers to a room, with this much text."""

    room: str
    numbers: list[int]
    size: int = 0


class Said(Event, name="said", history=True):
    n: int
    text: str = ""


class At(Event, name="at"):
    """The position of the last publication of a request."""

    epoch: str
    offset: int


class Allow(Event, name="allow"):
    """Allow a room to connections of this process, or forbid it."""

    room: str
    is_allowed: bool


class Ping(Event, name="ping"):
    pass


forbidden: set[str] = set()


class KeptConsumer(TypedEventConsumer):
    """Joins the room that the path names, and may join others that its clients ask for."""

    namespace = "kept"
    out_events = (Said,)
    subscriptions = ("<str:name>",)

    async def authorize_room(self, room: str) -> bool:
        return room not in forbidden

    async def on_connect(self) -> None:
        if "room" in self.kwargs:
            await self.join(self.kwargs["room"])

    @on
    async def say(self, event: Say) -> At:
        at: Any = None
        for n in event.numbers:
            at = await self.publish_to_room(event.room, Said(n=n, text="x" * event.size))
        return At(epoch=at.epoch, offset=at.offset)

    @on
    async def allow(self, event: Allow) -> None:
        (forbidden.discard if event.is_allowed else forbidden.add)(event.room)

    @on
    async def ping(self, event: Ping) -> None:
        """Answer that the event was handled."""


class OtherConsumer(KeptConsumer):
    """The same rooms in another namespace."""

    namespace = "kept-other"


class TenantConsumer(KeptConsumer):
    """The same rooms of a tenant, which the path names."""

    namespace = "kept-tenants"

    async def tenant(self) -> str | None:
        return str(self.kwargs["tenant"])


application = with_runtime(
    ProtocolTypeRouter(
        {
            "http": http,
            "websocket": URLRouter(
                [
                    path("kept/", KeptConsumer.as_asgi(rate=None, rate_bytes=None)),
                    path("kept/<str:room>/", KeptConsumer.as_asgi(rate=None, rate_bytes=None)),
                    path(
                        "roomy/<str:room>/",
                        KeptConsumer.as_asgi(rate_bytes=None, max_payload=1_000_000, max_values=100_000),
                    ),
                    path("limited/<str:room>/", KeptConsumer.as_asgi()),
                    path("other/<str:room>/", OtherConsumer.as_asgi()),
                    path("tenant/<str:tenant>/<str:room>/", TenantConsumer.as_asgi()),
                ]
            ),
        }
    )
)
