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
from ..delivery.transport import Transport
from ..types import Send
from . import daphne, hypercorn, uvicorn

__all__ = ["hook_shutdown", "transport_of"]

RECOGNISERS: tuple[Callable[[Send], Transport | None], ...] = (uvicorn.recognise, daphne.recognise, hypercorn.recognise)


def transport_of(send: Send) -> Transport:
    """Return the transport behind a server's own ``send``."""
    for recognise in RECOGNISERS:
        # A server of tomorrow may look alike and be another.
        with contextlib.suppress(AttributeError, TypeError, IndexError):
            transport = recognise(send)
            if transport is not None:
                return transport
    ledger.count(
        "transports_unknown",
        "the server is not known (its send is %s): close codes, back-pressure and pings are as ASGI has them",
        getattr(send, "__qualname__", type(send).__qualname__),
    )
    return Transport(send)


def hook_shutdown(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """
    Have connections drained when the server is told to end, before it cuts its connections.

    Args:
        loop: that serves; None while none does, at the time at which the application is made.
    """
    with contextlib.suppress(AttributeError):
        if loop is None:
            daphne.hook_shutdown()
        else:
            uvicorn.hook_shutdown(loop)
