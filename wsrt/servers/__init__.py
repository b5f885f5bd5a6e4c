"""
The capabilities of ASGI servers beyond ASGI, one module per server.

A server is recognised by its features, never by its version: it must have every attribute that the module's FEATURES
lists. A server that isn't recognised is used as plain ASGI, which is counted and logged.
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
"""The servers whose shutdown handling has been checked."""


def transport_of(send: Send) -> Transport:
    """Return the transport behind a server's own ``send``."""
    for module in SERVERS:
        # A future release may have these attributes with other types; it is then not recognised.
        with contextlib.suppress(AttributeError, TypeError, IndexError):
            transport: Transport | None = module.recognise(send)
            if transport is not None:
                if transport.server not in _known:
                    _known.add(transport.server)
                    _check_shutdown(module, transport.server)
                return transport
    counters.count(
        "transports_unknown",
        "the server isn't recognised (its send is %s): wsrt can't send protocol pings, and close codes and "
        "back-pressure depend on the server",
        getattr(send, "__qualname__", type(send).__qualname__),
    )
    return Transport(send)


def _check_shutdown(module: Any, server: str) -> None:
    """Count and log, once per server, that its shutdown can't be detected in time."""
    # Only the main thread receives signals. A server in another thread is stopped by the code that started it.
    if threading.current_thread() is threading.main_thread() and not module.is_shutdown_hooked():
        counters.count(
            "shutdowns_unseen",
            "wsrt can't notice the shutdown of %s in time: connections are drained at lifespan.shutdown, if at all; "
            "manage.py check --deploy says what the server lacks",
            server,
        )


def missing_features() -> dict[str, list[str]]:
    """
    Return the missing features of each installed server, by the server's name.

    A server with missing features would be used as plain ASGI. This imports the servers but doesn't start them.
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
    Drain connections when the server receives a shutdown signal, before it closes them itself.

    Args:
        loop: The event loop that serves; None when the application is created, before a loop is running.
    """
    if loop is not None:
        uvicorn.hook_shutdown(loop)
        return
    # Each does nothing unless its server is loaded, and at most one of them is.
    daphne.hook_shutdown()
    granian.hook_shutdown()
