"""WebSocket handshakes that reach a server, or a ``runserver``, that only speaks HTTP."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.core.management import get_commands

from ..metrics import counters, quoted

STOCK = frozenset({"django.core", "django.contrib.staticfiles"})
"""The apps whose ``runserver`` only speaks HTTP."""

HINT = (
    'for runserver, pip install "wsrt[daphne]", put "daphne" first in INSTALLED_APPS and set ASGI_APPLICATION. '
    "Otherwise start an ASGI server, such as `uvicorn mysite.asgi:application`"
)
"""How to serve WebSockets."""


def is_stock_runserver() -> bool:
    """Return whether this process is Django's own ``runserver``, which only speaks HTTP."""
    return sys.argv[1:2] == ["runserver"] and get_commands()["runserver"] in STOCK


def note_request(
    sender: object, environ: Mapping[str, Any] | None = None, scope: Mapping[str, Any] | None = None, **kwargs: object
) -> None:
    """
    Log a WebSocket handshake that a server has passed to Django as an HTTP request, for which Django answers 404.

    A receiver of Django's signal request_started.

    Args:
        sender: The handler of the request.
        environ: The request, from a WSGI server.
        scope: The request, from an ASGI server.
        kwargs: Further arguments of the signal.
    """
    if environ is not None:
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            counters.count(
                "handshakes_over_http",
                "a WebSocket handshake for %s reached a server that only speaks HTTP: %s",
                quoted(environ.get("PATH_INFO", "")),
                HINT,
            )
    elif scope is not None and any(
        name == b"upgrade" and value.lower() == b"websocket" for name, value in scope.get("headers", ())
    ):
        counters.count(
            "handshakes_over_http",
            "the server passed a WebSocket handshake for %s to Django as an HTTP request, because it lacks a WebSocket "
            'library: for uvicorn, pip install "wsrt[uvicorn]"',
            quoted(scope.get("path", "")),
        )
