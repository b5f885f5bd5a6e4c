"""
Servers: what each can do for a connection beyond ASGI.

One module a server. They are recognised by what they offer, never by a version: by all that FEATURES names of them.
Whatever is not as expected is plain ASGI, counted and logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

from ..delivery.transport import Transport
from ..metrics import counters
from ..types import Send
from . import daphne, granian, hypercorn, uvicorn
from .features import is_installed, missing_of

__all__ = ["hook_shutdown", "missing_features", "transport_of"]

SERVERS: tuple[Any, ...] = (uvicorn, daphne, hypercorn, granian)
"""Modules with FEATURES, recognise() and is_shutdown_hooked()."""


_known: set[str] = set()
"""The servers whose shutdown was looked at."""


def transport_of(send: Send) -> Transport:
    """Return the transport behind a server's own ``send``."""
    for module in SERVERS:
        # A server of tomorrow may look alike and be another.
        with contextlib.suppress(AttributeError, TypeError, IndexError):
            transport: Transport | None = module.recognise(send)
            if transport is not None:
                if transport.server not in _known:
                    _known.add(transport.server)
                    _look_at_the_shutdown_of(module, transport.server)
                return transport
    counters.count(
        "transports_unknown",
        "the server is not known (its send is %s): close codes, back-pressure and pings are as ASGI has them",
        getattr(send, "__qualname__", type(send).__qualname__),
    )
    return Transport(send)


def _look_at_the_shutdown_of(module: Any, server: str) -> None:
    """Count and log, once for each server, that its end will not be seen in time."""
    # Other threads get no signals, and their servers are ended by whoever started them.
    if threading.current_thread() is threading.main_thread() and not module.is_shutdown_hooked():
        counters.count(
            "shutdowns_unseen",
            "the shutdown of %s cannot be seen in time: its connections are drained at lifespan.shutdown, if at all; "
            "manage.py check --deploy says what it lacks",
            server,
        )


def missing_features() -> dict[str, list[str]]:
    """
    Return by server what it lacks of what it would be recognised by; servers that are not installed are left out.

    Where a list is not empty, connections would be served as plain ASGI. Imports the servers, and starts none.
    """
    found: dict[str, list[str]] = {}
    for module in SERVERS:
        for server, features in module.FEATURES.items():
            missing = missing_of(features) if is_installed(server.partition(" ")[0]) else None
            if missing is not None:
                found[server] = missing
    return found


def hook_shutdown(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """
    Have connections drained when the server is told to end, before it cuts its connections.

    Args:
        loop: that serves; None while none does, at the time at which the application is made.
    """
    if loop is not None:
        uvicorn.hook_shutdown(loop)
        return
    # At most one of them is loaded.
    daphne.hook_shutdown()
    granian.hook_shutdown()
