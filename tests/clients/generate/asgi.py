"""The application of test_round_trip.py."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from tests.clients.generate.consumers import CafeConsumer, OddConsumer
from tests.schema.consumers import EveryTypeConsumer
from wsrt.asgi import with_runtime


class RoomConsumer(EveryTypeConsumer):
    """Puts each client into the room of its path."""

    namespace = "generate-room"
    out_events = EveryTypeConsumer.out_events

    async def authorize_room(self, room: str) -> bool:
        return True

    async def on_connect(self) -> None:
        await self.join(self.kwargs["name"])


application = with_runtime(
    ProtocolTypeRouter(
        {
            "websocket": URLRouter(
                [
                    path("round trip/<path:name>/", RoomConsumer.as_asgi()),
                    path("cafe/", CafeConsumer.as_asgi()),
                    re_path(r"^odd/(?P<id>\d+)/$", OddConsumer.as_asgi()),
                ]
            )
        }
    )
)
