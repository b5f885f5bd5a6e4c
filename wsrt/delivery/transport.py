"""The transport: what a server can do for one connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..protocol.frame import Frame
from ..types import Receive, Send


class Writer(NamedTuple):
    """
    Hands messages to the server at once, without a coroutine; returns False where it cannot, and took nothing then.

    Attributes:
        one: takes a single message.
        many: takes several in a row, in one write where the server can.
    """

    one: Callable[[Frame], bool]
    many: Callable[[Sequence[Frame]], bool]


class Transport:
    """
    Plain ASGI, and the interface of those that can do more (see wsrt.servers).

    Attributes:
        server: who serves the connection.
        preserves_close_codes: whether every close code arrives with its reason.
        has_back_pressure: whether ``send`` waits while the peer does not read.
        can_ping: whether protocol pings can be sent, and their pongs are seen.
        can_abort: whether a socket that is stuck can be cut.
    """

    server = "asgi"
    preserves_close_codes = False
    has_back_pressure = False
    can_ping = False
    can_abort = False

    def __init__(self, send: Send) -> None:
        # What the application calls in the place of the server's own.
        self.send = send

    def receiver(self, receive: Receive) -> Receive:
        """Return what the application calls in the place of the server's own receive."""
        return receive

    def observe_pongs(self, on_pong: Callable[[], None]) -> None:
        """
        Have pings and pongs of the peer reported, and the server's own keepalive switched off.

        Called before the handshake is answered, where ``can_ping``.
        """

    def ping(self) -> None:
        """Send a protocol ping. Raises what the server raises."""

    def abort(self) -> bool:
        """Cut the connection without a word; return whether that was possible."""
        return False

    def prepared_writer(self) -> Writer | None:
        """
        Return the fast path of an open connection: messages framed once for all sockets.

        None where the server has to frame each message itself.
        """
        return None

    def framing_writer(self) -> Writer | None:
        """Return what frames as ``send`` does, but at once; None where only ``send`` can. The same bytes, in order."""
        return None
