"""The short form, the same with middleware of its own, and the long form."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

from wsrt.asgi import with_runtime
from wsrt.routing import consumer_urlpatterns

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.apps.routed.settings")
application = with_runtime(get_asgi_application())

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from tests.apps.routed.consumers import RoomConsumer


class Mark:
    """Middleware that leaves a mark in the scope."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        marks = [*scope.get("marks", []), f"outer of {scope['user'].get_username()}"]
        await self.inner({**scope, "marks": marks}, receive, send)


def inner_mark(inner: Any) -> Any:
    """The same as a function, which hides the application that it wraps."""

    async def marked(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "marks": [*scope["marks"], "inner"]}, receive, send)

    return marked


with_middleware = with_runtime(get_asgi_application(), middleware=[Mark, inner_mark])
sockets = URLRouter([path("ws/own/<slug:room>/", RoomConsumer.as_asgi()), *consumer_urlpatterns()])
mixed = with_runtime(ProtocolTypeRouter({"http": get_asgi_application(), "websocket": AuthMiddlewareStack(sockets)}))
without_websockets = with_runtime(ProtocolTypeRouter({"http": get_asgi_application()}))
