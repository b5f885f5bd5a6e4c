"""The heartbeat of one connection: the timer that drives it, and the pings that it sends."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..close_codes import Close
from ..delivery.outbox import Outbox
from ..delivery.timer_wheel import TimerWheel
from ..delivery.transport import Transport
from ..metrics import counters
from ..protocol.frame import Frame
from ..protocol.session import Session

logger = logging.getLogger("wsrt")


class HeartbeatTimer:
    """
    Sends a ping when the session says that one is due, and closes the connection when the answer is missing.

    All connections of a node share one timer wheel, so that an idle connection needs neither a task nor a timer.

    Args:
        session: The session of the connection, which decides. It has no heartbeat where the limit is switched off, or
            where the client has no way to answer a ping.
        outbox: The outbox of the connection.
        transport: Sends protocol pings to clients that don't speak ``wsrt.v1``, and reports their pongs.
        wheel: The timer wheel of the node.
        connection_id: The id of the connection, for the log.
        close: Closes the connection.
    """

    __slots__ = ("_close", "_connection_id", "_outbox", "_session", "_transport", "_wheel")

    def __init__(
        self,
        session: Session,
        outbox: Outbox,
        transport: Transport,
        wheel: TimerWheel,
        *,
        connection_id: str,
        close: Callable[[Close], None],
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._transport = transport
        self._wheel = wheel
        self._connection_id = connection_id
        self._close = close

    def observe_pongs(self) -> None:
        """Count pongs of the WebSocket protocol as activity, where the server reports them."""
        if self._session.heartbeat is not None and self._transport.can_ping:
            self._transport.observe_pongs(lambda: self._session.note_activity(self._wheel.time()))

    def start(self) -> None:
        """Start the timer, if the connection has a heartbeat."""
        if self._session.heartbeat is not None:
            self._wheel.add(self.tick, self._session.heartbeat.due)

    def stop(self) -> None:
        """Stop the timer."""
        self._wheel.discard(self.tick)

    def tick(self, now: float) -> float | None:
        """
        Let the session decide what is due. Called by the timer wheel.

        Args:
            now: The time of the wheel, in seconds.

        Returns:
            The time of the next call. None if there is none.
        """
        heartbeat = self._session.heartbeat
        # The wheel may be calling its due entries while one of them closes this connection.
        if heartbeat is None or not self._session.is_open:
            return None
        # Any frame keeps the connection alive for proxies: a ping is only due after a time without one.
        heartbeat.last_sent = max(heartbeat.last_sent, self._outbox.last_sent)
        match self._session.tick(now):
            case Frame() as ping:
                self._ping(ping)
            case Close() as close:
                counters.count("heartbeat_timeouts")
                self._close(close)
                return None
        return heartbeat.due

    def _ping(self, ping: Frame) -> None:
        if self._session.extended:
            self._outbox.put_direct(ping)
            return
        try:
            self._transport.ping()
        except Exception as error:
            # The server has lost the client. It will report the disconnect to the reader.
            counters.count("pings_failed")
            logger.debug("! %s ping failed: %r", self._connection_id, error)
