"""The transport: what a server can do for one connection."""

from __future__ import annotations

from collections.abc import Callable

from ..types import Send

Write = Callable[[bytes], bool]
"""Hands a framed message to the socket at once; returns False where it cannot, and nothing was written then."""


class Transport:
    """
    Plain ASGI, and the interface of those that can do more (see wsrt.servers).

    Attributes:
        server: who serves the connection.
        closes_as_told: whether every close code arrives with its reason.
        has_back_pressure: whether ``send`` waits while the peer does not read.
        can_ping: whether protocol pings can be sent, and their pongs are seen.
        can_abort: whether a socket that is stuck can be cut.
        coalesces: whether several sends in a row cost less than one at a time.
    """

    server = "asgi"
    closes_as_told = False
    has_back_pressure = False
    can_ping = False
    can_abort = False
    coalesces = False

    def __init__(self, send: Send) -> None:
        # What the application calls in the place of the server's own.
        self.send = send

    def watch(self, on_life: Callable[[], None]) -> None:
        """
        Have pings and pongs of the peer reported, and the server's own keepalive switched off.

        Called before the handshake is answered, where ``can_ping``.
        """

    def ping(self) -> None:
        """Send a protocol ping. Raises what the server raises."""

    def abort(self) -> bool:
        """Cut the connection without a word; return whether that was possible."""
        return False

    def writer(self) -> Write | None:
        """Return the fast path of an open connection; None where frames must go through ``send``."""
        return None
