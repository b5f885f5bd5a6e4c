"""
Servers: what each can do for a connection beyond ASGI.

One module a server. They are recognised by what they offer, never by a version; whatever is not as expected is plain
ASGI, counted and logged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from ..delivery.ledger import ledger
from ..delivery.transport import Transport, seen
from ..types import Send
from . import daphne, granian, hypercorn, uvicorn
from .features import is_installed, missing_of

__all__ = ["hook_shutdown", "missing_features", "transport_of"]

RECOGNISERS: tuple[Callable[[Send], Transport | None], ...] = (
    uvicorn.recognise,
    daphne.recognise,
    hypercorn.recognise,
    granian.recognise,
)


def transport_of(send: Send) -> Transport:
    """Return the transport behind a server's own ``send``."""
    for recognise in RECOGNISERS:
        # A server of tomorrow may look alike and be another.
        with contextlib.suppress(AttributeError, TypeError, IndexError):
            transport = recognise(send)
            if transport is not None:
                seen.add(transport.server)
                return transport
    ledger.count(
        "transports_unknown",
        "the server is not known (its send is %s): close codes, back-pressure and pings are as ASGI has them",
        getattr(send, "__qualname__", type(send).__qualname__),
    )
    seen.add(Transport.server)
    return Transport(send)


def missing_features() -> dict[str, list[str]]:
    """
    Return by server what it lacks of what it would be recognised by; servers that are not installed are left out.

    Where a list is not empty, connections would be served as plain ASGI. Imports the servers, and starts none.
    """
    found: dict[str, list[str]] = {}
    for module in (daphne, uvicorn, hypercorn, granian):
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
    with contextlib.suppress(AttributeError):
        if loop is not None:
            uvicorn.hook_shutdown(loop)
            return
        # At most one of them is loaded.
        daphne.hook_shutdown()
        granian.hook_shutdown()
