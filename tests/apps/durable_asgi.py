"""The application of tests/durable/test_crashes.py."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from tests.apps.durable import DurableConsumer
from wsrt.asgi import with_runtime

routes = [path("durable/<str:room>/", DurableConsumer.as_asgi())]
application = with_runtime(ProtocolTypeRouter({"http": http, "websocket": URLRouter(routes)}))
