"""The transport: the features of a server that one connection can use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..protocol.frame import Frame
from ..types import Receive, Send

TRANSPORT = "wsrt.transport"
"""The extension of the ASGI scope with which wsrt.asgi passes the transport of the server."""


class Writer(NamedTuple):
    """
    Functions that pass messages to the server immediately, without a coroutine.

    They return False if that isn't possible now; nothing was passed then.

    Attributes:
        one: Passes a single message.
        many: Passes several messages in order, with one write if the server supports it.
    """

    one: Callable[[Frame], bool]
    many: Callable[[Sequence[Frame]], bool]


class Transport:
    """
    Plain ASGI, and the interface of transports that can do more (see wsrt.servers).

    Args:
        send: The server's ``send``.

    Attributes:
        server: The name of the server.
        preserves_close_codes: Whether all close codes and reasons reach the peer unchanged.
        has_back_pressure: Whether ``send`` waits while the peer doesn't read.
        can_ping: Whether protocol pings can be sent, and their pongs are reported.
        can_abort: Whether the connection of a peer that doesn't read can be aborted.
        send: Called by the application in place of the server's ``send``.
    """

    server = "asgi"
    preserves_close_codes = False
    has_back_pressure = False
    can_ping = False
    can_abort = False

    def __init__(self, send: Send) -> None:
        self.send = send

    def receiver(self, receive: Receive) -> Receive:
        """Return the function that the application calls in place of the server's ``receive``."""
        return receive

    def observe_pongs(self, on_pong: Callable[[], None]) -> None:
        """
        Report pings and pongs of the peer from now on, and switch off the server's own keepalive.

        Called before the handshake is answered, if ``can_ping``.

        Args:
            on_pong: Called at each ping or pong of the peer, without arguments.
        """

    def ping(self) -> None:
        """Send a protocol ping. Raises the server's exceptions."""

    def abort(self) -> bool:
        """Close the connection without a close frame; return whether that was possible."""
        return False

    def prepared_writer(self) -> Writer | None:
        """
        Return the fast path of an open connection, which writes messages that were framed once for all sockets.

        Returns:
            None if the server has to frame each message itself.
        """
        return None

    def framing_writer(self) -> Writer | None:
        """
        Return a writer that lets the server frame each message, but immediately instead of in a coroutine.

        It writes the same bytes as ``send``, in order with it.

        Returns:
            None if only ``send`` can write.
        """
        return None
