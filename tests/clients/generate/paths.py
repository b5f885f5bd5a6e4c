"""Routes with several patterns a consumer, for the methods that make paths."""

from __future__ import annotations

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from tests.apps.chat.consumers import ChatConsumer

from .consumers import OddConsumer

application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("chat/", ChatConsumer.as_asgi()),
                path("chat/<room>/", ChatConsumer.as_asgi()),
                path("chat/<room>/<slug:class>/", ChatConsumer.as_asgi()),
                path("odd/<int:id>/", OddConsumer.as_asgi()),
            ]
        )
    }
)
