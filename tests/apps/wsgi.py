"""The application that test servers of synchronous workers run: views that publish, no sockets."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
