"""The session: the state machine of one connection, without I/O."""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable, Generator
from typing import Any

from .. import close_codes
from ..close_codes import Close
from ..exceptions import (
    EventRateExceeded,
    InvalidData,
    InvalidFrame,
    ProtocolError,
    RateExceeded,
    TooManyValues,
    UnknownEvent,
)
from ..types import Limits, Ref
from .bounds import has_too_many_values
from .catalog import SUBSCRIPTION_EVENTS, Catalog, Received
from .claims import Claims, read_claims
from .envelope import as_text, error, peek, reserved
from .events import meta
from .frame import Frame
from .heartbeat import Beat, Heartbeat
from .rate import TokenBucket, parse_byte_rate, parse_event_rate, parse_rate

__all__ = ["SUBPROTOCOL", "RawFrame", "Session", "State"]

SUBPROTOCOL = "wsrt.v1"
"""The subprotocol. Clients that offer it get the reserved events: hello, heartbeat, and errors instead of closes."""

MINUTE = 60.0
"""The window in which violations are counted, in seconds."""

FAILURE_FRAMES = 5
FAILURE_BYTES = 4
"""The cost of an invalid frame for the rates: it counts as this many frames, and as this many times its bytes."""

HEAVY_BYTES = 4096
"""The size from which a frame is heavy. Decoding it usually takes 0.1 ms, but may take 100 times as long."""

LIGHT_NESTING = 8
"""The number of containers up to which a frame can't be nested deeply enough for a recursive union to take long."""

MAX_RESERVED_BYTES = 16_384
"""The maximum size of a reserved frame that is handled on arrival. Clients have no reason to send larger ones."""

BYTES_PER_SECOND = 10_000_000
"""The cost of processor time: one second counts as this many bytes, which is a low speed of decoding."""

CLOSES: dict[type[ProtocolError], Close] = {
    InvalidFrame: close_codes.INVALID_MESSAGE_PAYLOAD,
    TooManyValues: close_codes.MESSAGE_TOO_LARGE,
    UnknownEvent: close_codes.UNKNOWN_EVENT,
    InvalidData: close_codes.INVALID_EVENT_DATA,
}


class State(enum.Enum):
    """The states of a session."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class RawFrame:
    """
    A received frame that waits to be decoded.

    Attributes:
        payload: An ASCII string, or bytes. A string with other characters would take up to four times its size.
        size: The size in bytes.
    """

    __slots__ = ("payload", "size")

    def __init__(self, frame: str | bytes) -> None:
        # Lone surrogates are kept here; decoding the frame refuses them.
        self.payload = frame if isinstance(frame, bytes) or frame.isascii() else frame.encode("utf-8", "surrogatepass")
        self.size = len(self.payload)


class Session:
    """
    The state of one connection, without I/O.

    The caller passes frames and the time to receive_frame(), decode() and tick(), and acts on their results: a RawFrame
    has to wait for its turn and is then passed to decode(), a Received goes to the handlers, a Frame is sent to the
    client, and a Close ends the connection.

    Args:
        catalog: The events of the consumer.
        limits: The limits of this connection.
        connection_id: The id of the connection, for the hello.
        extended: Whether the client speaks ``wsrt.v1``.
        can_ping: Whether the transport can send protocol pings and reports their pongs.
        now: The time, in seconds of the clock that is used for all methods. The clock should not count standstills of
            the process; see excuse().
        jitter: 0 to 1, see Heartbeat.
        on_rejected: Called with the problem of a frame that breaks the protocol, the frame, and what decode() returns
            for it.
        on_claims: Called with the claims of each ``wsrt.resume``, and with None if the first frame after authorize() is
            another one. Only for ``wsrt.v1``.

    Attributes:
        state: The state.
        close_sent: The close that wsrt has sent. None before that, and permanently if the peer closes first.
        heartbeat: The heartbeat. None if it is switched off, or if the client has no way to answer a ping.
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
        on_rejected: Callable[[ProtocolError, RawFrame, Frame | Close], None] = lambda problem, raw, outcome: None,
        on_claims: Callable[[Claims | None], object] = bool,
    ) -> None:
        self.catalog = catalog
        self.limits = limits
        self.connection_id = connection_id
        self.extended = extended
        self.state = State.CONNECTING

        self.close_sent: Close | None = None

        self.heartbeat: Heartbeat | None = None
        if (extended or can_ping) and limits.heartbeat is not None and limits.heartbeat_timeout is not None:
            self.heartbeat = Heartbeat(limits.heartbeat, limits.heartbeat_timeout, now, jitter)
        rate = parse_rate(limits.rate)
        self._frames = None if rate is None else TokenBucket(rate, limits.rate_burst, now)
        byte_rate = parse_byte_rate(limits.rate_bytes)
        # A client may send the bytes of one second at once, and always two frames of the maximum size.
        self._bytes = None if byte_rate is None else TokenBucket(byte_rate, max(byte_rate, 2 * limits.max_payload), now)
        # Of the received events that have a rate of their own, by name.
        self._events: dict[str, TokenBucket] = {}
        # Whether frames may be parsed, which they may not before the client is authorized.
        self._may_parse = False

        # The times of the violations that were reported in the last minute.
        self._violations: collections.deque[float] = collections.deque()
        self._on_rejected = on_rejected
        self._on_claims = on_claims
        # Whether the first frame after authorize() is still to come.
        self._is_first = True
        self._reports = limits.on_violation == "report" or (limits.on_violation == "auto" and extended)

    # Receiving.

    def receive_frame(self, frame: str | bytes, now: float) -> RawFrame | Frame | Close | None:
        """
        Process a received frame.

        Returns:
            A RawFrame that has to be decoded in its turn, a Frame to send immediately, a Close, or None if there is
            nothing to do.
        """
        self.note_activity(now)
        if self._frames is not None and not self._frames.take(now):
            return self._rate_exceeded(RawFrame(frame), now)
        raw = RawFrame(frame)
        if raw.size > self.limits.max_payload:
            return close_codes.MESSAGE_TOO_LARGE
        if self._bytes is not None and not self._bytes.take(now, raw.size):
            return self._rate_exceeded(raw, now)
        return self.admit(raw)

    def authorize(self) -> None:
        """Record that the client is authorized. Its frames are parsed from now on."""
        self._may_parse = True

    def admit(self, raw: RawFrame) -> RawFrame | Frame | None:
        """
        Handle a reserved frame, ahead of waiting frames. After authorize(), call it again for the waiting frames.

        Returns:
            The frame itself if it has to wait for its turn, otherwise the answer, or None if there is nothing to do.
        """
        found = self._read_reserved(raw)
        if self._is_first and self.extended and self._may_parse:
            self._is_first = False
            if found is None or found[0] != RESUME:
                self._on_claims(None)
        return raw if found is None else self._answer_reserved(*found, raw)

    def is_heavy(self, raw: RawFrame) -> bool:
        """Return whether decoding a frame may take so long that other connections should get a turn before it."""
        return raw.size >= HEAVY_BYTES or (self.catalog.is_recursive and nesting(raw.payload) > LIGHT_NESTING)

    def decode(self, raw: RawFrame, now: float) -> Received | Frame | Close | None:
        """
        Decode a frame whose turn has come. Before authorize(), only the login event of the catalog is accepted.

        Returns:
            A Received with the event, a Frame to send, a Close, or None if there is nothing to do.
        """
        try:
            received = self._accepted(self._catalog.decode(raw.payload, self.limits.max_values))
        except ProtocolError as problem:
            return self._rejection(problem, raw, now)
        return self._within_rate(received, raw, now)

    def decode_in_steps(self, raw: RawFrame, now: float) -> Generator[None, None, Received | Frame | Close | None]:
        """Decode a heavy frame in steps, between which other connections can be served. Returns what decode() does."""
        try:
            received = self._accepted((yield from self._catalog.decode_in_steps(raw.payload, self.limits.max_values)))
        except ProtocolError as problem:
            return self._rejection(problem, raw, now)
        return self._within_rate(received, raw, now)

    def charge(self, seconds: float) -> None:
        """Charge the client's byte rate for the processor time that decoding one of its frames took, in seconds."""
        if self._bytes is not None:
            self._bytes.charge(seconds * BYTES_PER_SECOND)

    def excuse(self, seconds: float) -> None:
        """Allow for a standstill of the process of ``seconds``: the frames of that time arrive all at once."""
        for bucket in (self._frames, self._bytes, *self._events.values()):
            if bucket is not None:
                bucket.excuse(seconds)

    def note_activity(self, now: float) -> None:
        """Record a sign of life of the peer, such as a protocol ping or pong."""
        if self.heartbeat is not None:
            self.heartbeat.receive(now)

    def receive_disconnect(self) -> None:
        """Record that the peer is gone or has answered the close."""
        self.state = State.CLOSED

    def tick(self, now: float) -> Frame | Close | None:
        """
        Check the heartbeat. Call it again at ``heartbeat.due``.

        Returns:
            PING if a ping is due, which for a plain client means a protocol ping; a Close on a time-out; or None.
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

    # Sending.

    def accept(self) -> None:
        """Record that the handshake was accepted."""
        self.state = State.OPEN

    def hello(self, server_time: float, expires_in: float | None = None) -> Frame | None:
        """
        Return the ``wsrt.hello`` frame for a ``wsrt.v1`` client; None for a plain client.

        Args:
            server_time: The time in seconds since 1970.
            expires_in: The seconds until the client's credentials expire. None if they don't.
        """
        if not self.extended:
            return None
        data: dict[str, Any] = {
            "connection": self.connection_id,
            # Both or neither: without a heartbeat the client must not wait for pings.
            "heartbeat": None if self.heartbeat is None else self.limits.heartbeat,
            "heartbeat_timeout": None if self.heartbeat is None else self.limits.heartbeat_timeout,
            "max_payload": self.limits.max_payload,
            "server_time": server_time,
            "expires_in": expires_in,
            "schema": self.catalog.schema_hash,
        }
        return reserved("wsrt.hello", data)

    def close(self, close: Close) -> bool:
        """Start to close the connection. Return False if it is closing already, in which case nothing changes."""
        if self.state in (State.CLOSING, State.CLOSED):
            return False
        self.state = State.CLOSING
        self.close_sent = close
        return True

    @property
    def is_open(self) -> bool:
        """Whether the connection is open for events in both directions."""
        return self.state is State.OPEN

    # Private methods.

    @property
    def _catalog(self) -> Catalog:
        """The events that the client may send now."""
        login = None if self._may_parse else self.catalog.for_login
        return self.catalog if login is None else login

    def _read_reserved(self, raw: RawFrame) -> tuple[str, Ref | None] | None:
        """Return the name and ref of a reserved event; None for any other frame."""
        if not (self.extended and self._may_parse):
            return None
        marker = RESUME_MARKER if raw.size > MAX_RESERVED_BYTES else RESERVED_MARKER
        if (marker if isinstance(raw.payload, str) else marker.encode()) not in raw.payload:  # type: ignore[operator]
            return None
        try:
            text = as_text(raw.payload)
            if has_too_many_values(text, self.limits.max_values):
                return None
            name, ref = peek(text)
        except InvalidFrame:
            return None
        return (name, ref) if name in RESERVED_INBOUND else None

    def _answer_reserved(self, name: str, ref: Ref | None, raw: RawFrame) -> Frame | None:
        if name == "wsrt.ping":
            return PONG if ref is None else reserved("wsrt.pong", {}, ref=ref)
        if name == RESUME:
            self._on_claims(read_claims(as_text(raw.payload), self.limits.max_rooms))
        # wsrt.pong needs no action, because receive_frame() has recorded the activity.
        return None if ref is None else reserved("wsrt.ok", {}, ref=ref)

    def _rate_exceeded(self, raw: RawFrame, now: float) -> Frame | Close:
        return self._over_rate(RateExceeded(self._ref_of(raw)), raw, now)

    def _within_rate(self, received: Received, raw: RawFrame, now: float) -> Received | Frame | Close:
        """Return the event if the rate of its class allows it, otherwise what follows, as for any rate."""
        # Reserved events have no rate of their own.
        rate = None if received.name in SUBSCRIPTION_EVENTS else meta(received.event).rate
        if rate is None:
            return received
        bucket = self._events.get(received.name)
        if bucket is None:
            bucket = self._events[received.name] = TokenBucket(*parse_event_rate(rate), now)
        if bucket.take(now):
            return received
        return self._over_rate(EventRateExceeded(received.ref, received.name), raw, now)

    def _over_rate(self, problem: RateExceeded, raw: RawFrame, now: float) -> Frame | Close:
        # Requests count as violations here, too. Otherwise clients could avoid the limit by adding a ref.
        outcome: Frame | Close = close_codes.RATE_LIMIT_EXCEEDED
        if self._reports and self._report(now):
            outcome = error(problem.code, problem.message, ref=problem.ref)
        self._on_rejected(problem, raw, outcome)
        return outcome

    def _ref_of(self, raw: RawFrame) -> Ref | None:
        if not (self._reports and self._may_parse) or raw.size > self.limits.max_payload:
            return None
        try:
            return peek(raw.payload)[1]
        except InvalidFrame:
            return None

    def _accepted(self, received: Received) -> Received:
        """Return the event. Raises UnknownEvent for a reserved event of a plain client."""
        if received.name in SUBSCRIPTION_EVENTS and not self.extended:
            raise UnknownEvent(received.ref, received.name)
        return received

    def _rejection(self, problem: ProtocolError, raw: RawFrame, now: float) -> Frame | Close | None:
        if self._catalog is not self.catalog:
            # Nothing is explained before the client is authorized.
            return close_codes.UNAUTHENTICATED if isinstance(problem, UnknownEvent) else CLOSES[type(problem)]
        if isinstance(problem, UnknownEvent) and self.extended and problem.name in RESERVED_INBOUND:
            return self._answer_reserved(problem.name, problem.ref, raw)
        if isinstance(problem, InvalidData) and problem.name in SUBSCRIPTION_EVENTS and not self.extended:
            problem = UnknownEvent(problem.ref, problem.name)
        # Invalid requests are charged, too. They don't close the connection themselves, but exceeding the rate does.
        if self._frames is not None:
            self._frames.charge(FAILURE_FRAMES - 1)
        if self._bytes is not None:
            self._bytes.charge((FAILURE_BYTES - 1) * raw.size)
        outcome: Frame | Close
        if problem.ref is None and not self._reports:
            outcome = CLOSES[type(problem)]
        elif problem.ref is None and not self._report(now):
            outcome = close_codes.TOO_MANY_VIOLATIONS
        else:
            outcome = error(problem.code, problem.message, errors=problem.errors, ref=problem.ref)
        self._on_rejected(problem, raw, outcome)
        return outcome

    def _report(self, now: float) -> bool:
        """Record a violation; return whether the connection stays open."""
        violations = self._violations
        while violations and now - violations[0] >= MINUTE:
            violations.popleft()
        violations.append(now)
        return len(violations) <= self.limits.max_violations


RESERVED_MARKER = '"wsrt.'
"""
The start of a reserved name in a frame, by which reserved frames are found without parsing all frames.

A frame that escapes letters of the name isn't found. It is answered in its turn, when it is decoded.
"""

RESUME = "wsrt.resume"

RESUME_MARKER = f'"{RESUME}"'
"""The reserved name that is also looked for in larger frames, because a client may be in many rooms."""

RESERVED_INBOUND = frozenset({"wsrt.ping", "wsrt.pong", RESUME})
PING = reserved("wsrt.ping", {})
PONG = reserved("wsrt.pong", {})


def nesting(payload: str | bytes) -> int:
    """Return an upper bound of the number of containers in a frame, and thus of its depth."""
    if isinstance(payload, str):
        return payload.count("{") + payload.count("[")
    return payload.count(b"{") + payload.count(b"[")
