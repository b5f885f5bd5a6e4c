"""An application whose connections are limited, in each way on a path of its own."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from tests.apps.chat.events import Echo, Echoed
from wsrt import TypedEventConsumer, on
from wsrt.asgi import with_runtime


class LimitedConsumer(TypedEventConsumer):
    """Belongs to the user that the query names, from the beginning or when it is asked."""

    namespace = "limited"
    out_events = (Echoed,)

    async def identity(self) -> object:
        return self.query.get("user")

    async def on_connect(self) -> None:
        if user := self.query.get("later"):
            await self.set_user_id(user)

    @on
    async def echo(self, event: Echo) -> Echoed:
        return Echoed(value=event.value)


PLACES = 5

application = with_runtime(
    ProtocolTypeRouter(
        {
            "http": http,
            "websocket": URLRouter(
                [
                    path("refuse/", LimitedConsumer.as_asgi(max_connections_per_user=PLACES)),
                    path(
                        "replace/",
                        LimitedConsumer.as_asgi(max_connections_per_user=PLACES, connection_limit_policy="replace"),
                    ),
                    path("address/", LimitedConsumer.as_asgi(max_connections_per_address=PLACES)),
                    path("free/", LimitedConsumer.as_asgi()),
                ]
            ),
        }
    )
)
