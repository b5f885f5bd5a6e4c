"""The ASGI application: HTTP goes to Django's views, WebSockets go to the consumers that have a path."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from demo_project.backstage.middleware import SlowNetwork
from wsrt.asgi import with_runtime

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
application = with_runtime(get_asgi_application(), middleware=[SlowNetwork])
