"""The application that test servers run."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from tests.apps.chat.consumers import (
    ChatConsumer,
    HereConsumer,
    LayerConsumer,
    PlainConsumer,
    QuietConsumer,
    UnmannedConsumer,
)
from wsrt.asgi import with_runtime

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("chat/", ChatConsumer.as_asgi()),
                    path("witness/", ChatConsumer.as_asgi(rate=None, rate_bytes=None)),
                    path("chat/<str:room>/", ChatConsumer.as_asgi()),
                    path("here/<str:room>/", HereConsumer.as_asgi()),
                    path("layer/", LayerConsumer.as_asgi()),
                    path("plain/", PlainConsumer.as_asgi()),
                    path("quiet/<str:room>/", QuietConsumer.as_asgi()),
                    path("unmanned/", UnmannedConsumer.as_asgi()),
                ]
            )
        ),
    }
)
runtime = with_runtime(application)
# A scope without a user, as below no AuthMiddleware.
bare = UnmannedConsumer.as_asgi()
