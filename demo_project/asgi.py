"""The ASGI application: HTTP goes to Django's views, WebSockets go to the chat and to the admin."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter

from demo_project.chat.routing import websocket_urlpatterns
from demo_project.recipes.routing import websocket_urlpatterns as recipe_urlpatterns
from wsrt.asgi import with_runtime
from wsrt.routing import admin_urlpatterns

application = with_runtime(
    ProtocolTypeRouter(
        {
            "http": django_application,
            "websocket": AuthMiddlewareStack(
                URLRouter([*websocket_urlpatterns, *recipe_urlpatterns, *admin_urlpatterns])
            ),
        }
    )
)
