"""
The test application with the admin: its static files, and the socket of its pages.

Every page says that nothing but files of its own site may be used.
"""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.urls import path

from tests.apps.asgi import http
from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from wsrt.asgi import with_runtime
from wsrt.routing import consumer_urlpatterns

own_urlpatterns = [
    path("chat/<path:room>/", ChatConsumer.as_asgi()),
    path("here/<path:room>/", HereConsumer.as_asgi()),
]


def with_policy(application: Any) -> Any:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", b"default-src 'self'")]
            await send(message)

        await application(scope, receive, send_with_policy)

    return wrapped


def application_with(urlpatterns: list[Any], pages: Any, policy: Any = with_policy) -> Any:
    return with_runtime(
        ProtocolTypeRouter(
            {
                "http": policy(pages),
                "websocket": AuthMiddlewareStack(URLRouter(urlpatterns)),
            }
        )
    )


with_static_files = ASGIStaticFilesHandler(http)
application = application_with([*own_urlpatterns, *consumer_urlpatterns()], with_static_files)
# Themes have scripts and styles within their pages.
themed = application_with([*own_urlpatterns, *consumer_urlpatterns()], with_static_files, lambda pages: pages)
without_route = application_with([*own_urlpatterns], with_static_files)
collected = application_with([*own_urlpatterns, *consumer_urlpatterns()], http)
"""Serves static files by hashed_urls alone."""
