"""The session: the state machine of one connection."""

from __future__ import annotations

import collections
import contextlib
import enum
from typing import Any

from .. import close_codes
from ..close_codes import Close
from ..exceptions import InvalidData, InvalidFrame, ProtocolError, UnknownEvent
from ..types import Limits, Ref
from .catalog import Catalog, Received
from .envelope import Frame, error, peek, reserved
from .heartbeat import Beat, Heartbeat
from .rate import TokenBucket, parse_rate

__all__ = ["SUBPROTOCOL", "Session", "State"]

SUBPROTOCOL = "wsrt.v1"
"""Clients that offer it get the reserved events: hello, heartbeat, errors instead of closes."""

MINUTE = 60.0

CLOSES: dict[type[ProtocolError], Close] = {
    InvalidFrame: close_codes.INVALID_MESSAGE_PAYLOAD,
    UnknownEvent: close_codes.UNKNOWN_EVENT,
    InvalidData: close_codes.INVALID_EVENT_DATA,
}


class State(enum.Enum):
    """A session is in one of these states."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Session:
    """
    State of one connection, without I/O.

    Feed it with receive_frame() and tick(); what they return is what is to be done: a Received goes to the handlers, a
    Frame to the client, a Close ends the connection.

    Args:
        catalog: the events of the consumer.
        limits: the limits of this connection.
        connection_id: what the hello says.
        extended: whether the client speaks ``wsrt.v1``.
        can_ping: whether the transport sends protocol pings and tells of pongs.
        now: the time, in seconds of the clock that all methods are called with.
        jitter: 0 to 1, see Heartbeat.
    """

    def __init__(
        self,
        catalog: Catalog,
        limits: Limits,
        connection_id: str,
        *,
        extended: bool,
        can_ping: bool = False,
        now: float,
        jitter: float = 0.0,
    ) -> None:
        self.catalog = catalog
        self.limits = limits
        self.connection_id = connection_id
        self.extended = extended
        self.state = State.CONNECTING

        # How we closed. None until we do, and for good when the peer leaves first.
        self.close_sent: Close | None = None

        # None where the limit is switched off, or where the client has no way to answer a ping.
        self.heartbeat: Heartbeat | None = None
        if (extended or can_ping) and limits.heartbeat is not None and limits.heartbeat_timeout is not None:
            self.heartbeat = Heartbeat(limits.heartbeat, limits.heartbeat_timeout, now, jitter)
        rate = parse_rate(limits.rate)
        self._rate = None if rate is None else TokenBucket(rate, limits.rate_burst, now)

        # When the reported violations of the last minute happened.
        self._violations: collections.deque[float] = collections.deque()
        self._reports = limits.on_violation == "report" or (limits.on_violation == "auto" and extended)

    # Public methods for receiving.

    def receive_frame(self, frame: str | bytes, now: float) -> Received | Frame | Close | None:
        """
        Take in one frame; binary ones are read as UTF-8 text.

        Returns:
            Received for an event, Frame for an answer that goes out at once, Close, or None for nothing to do.
        """
        self.receive_life(now)
        if self._rate is not None and not self._rate.take(now):
            return self._rate_exceeded(frame, now)
        if size_of(frame) > self.limits.max_payload:
            return close_codes.MESSAGE_TOO_LARGE
        try:
            return self.catalog.decode(frame)
        except UnknownEvent as problem:
            return self._receive_reserved(frame) if self._is_reserved(frame) else self._violation(problem, now)
        except ProtocolError as problem:
            return self._violation(problem, now)

    def receive_life(self, now: float) -> None:
        """The peer was heard of, by a ping or pong of the protocol."""
        if self.heartbeat is not None:
            self.heartbeat.receive(now)

    def receive_disconnect(self) -> None:
        """The peer is gone, or has answered our close."""
        self.state = State.CLOSED

    def tick(self, now: float) -> Frame | Close | None:
        """
        Let time pass; call it again at ``heartbeat.due``.

        Returns:
            PING when one is due (a plain client gets one of the protocol), Close, or None.
        """
        if self.heartbeat is None or self.state is not State.OPEN:
            return None
        match self.heartbeat.tick(now):
            case Beat.PING:
                return PING
            case Beat.TIMEOUT:
                return close_codes.HEARTBEAT_TIMEOUT
            case _:
                return None

    # Public methods for sending.

    def accept(self) -> None:
        """The handshake is done."""
        self.state = State.OPEN

    def hello(self, server_time: float) -> Frame | None:
        """Return the greeting of a ``wsrt.v1`` client: what it may rely on. None for a plain one."""
        if not self.extended:
            return None
        data: dict[str, Any] = {
            "connection": self.connection_id,
            # Both or none: a client must not wait for pings that never come.
            "heartbeat": None if self.heartbeat is None else self.limits.heartbeat,
            "heartbeat_timeout": None if self.heartbeat is None else self.limits.heartbeat_timeout,
            "max_payload": self.limits.max_payload,
            "server_time": server_time,
            "schema": self.catalog.schema_hash,
        }
        return reserved("wsrt.hello", data)

    def close(self, close: Close) -> bool:
        """Begin to close; return whether this call did (the first one wins, S33)."""
        if self.state in (State.CLOSING, State.CLOSED):
            return False
        self.state = State.CLOSING
        self.close_sent = close
        return True

    @property
    def is_open(self) -> bool:
        """Whether events go in and out."""
        return self.state is State.OPEN

    # Private methods for receiving.

    def _is_reserved(self, frame: str | bytes) -> bool:
        return self.extended and peek(frame)[0] in RESERVED_INBOUND

    def _receive_reserved(self, frame: str | bytes) -> Frame | None:
        name, ref = peek(frame)
        if name == "wsrt.ping":
            return PONG if ref is None else reserved("wsrt.pong", {}, ref=ref)
        # wsrt.pong: any frame is life, and it was noted. wsrt.resume: no room keeps history yet, nothing to claim.
        return None if ref is None else reserved("wsrt.ok", {}, ref=ref)

    def _rate_exceeded(self, frame: str | bytes, now: float) -> Frame | Close:
        # Requests over the rate count as violations too: a limit that a ref lifts would be none.
        if not self._reports or not self._report(now):
            return close_codes.RATE_LIMIT_EXCEEDED
        ref: Ref | None = None
        if size_of(frame) <= self.limits.max_payload:
            with contextlib.suppress(InvalidFrame):
                ref = peek(frame)[1]
        return error("rate_limited", close_codes.RATE_LIMIT_EXCEEDED.reason, ref=ref)

    def _violation(self, problem: ProtocolError, now: float) -> Frame | Close:
        if problem.ref is None:
            if not self._reports:
                return CLOSES[type(problem)]
            if not self._report(now):
                return close_codes.TOO_MANY_VIOLATIONS
        return error(problem.code, problem.message, errors=problem.errors, ref=problem.ref)

    def _report(self, now: float) -> bool:
        """Note a violation; return whether the client may go on."""
        violations = self._violations
        while violations and now - violations[0] >= MINUTE:
            violations.popleft()
        violations.append(now)
        return len(violations) <= self.limits.max_violations


RESERVED_INBOUND = frozenset({"wsrt.ping", "wsrt.pong", "wsrt.resume"})
PING = reserved("wsrt.ping", {})
PONG = reserved("wsrt.pong", {})


def size_of(frame: str | bytes) -> int:
    """Return the length of a frame in bytes of UTF-8."""
    if isinstance(frame, bytes) or frame.isascii():
        return len(frame)
    return len(frame.encode("utf-8", "surrogatepass"))
