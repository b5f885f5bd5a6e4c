"""The session: the state machine of one connection."""

from __future__ import annotations

import collections
import enum
from typing import Any

from .. import close_codes
from ..close_codes import Close
from ..exceptions import InvalidData, InvalidFrame, ProtocolError, TooManyValues, UnknownEvent
from ..types import Limits, Ref
from .bounds import has_too_many_values
from .catalog import Catalog, Received
from .envelope import as_text, error, peek, reserved
from .frame import Frame
from .heartbeat import Beat, Heartbeat
from .rate import TokenBucket, parse_byte_rate, parse_rate

__all__ = ["SUBPROTOCOL", "RawFrame", "Session", "State"]

SUBPROTOCOL = "wsrt.v1"
"""Clients that offer it get the reserved events: hello, heartbeat, errors instead of closes."""

MINUTE = 60.0

FAILURE_FRAMES = 5
FAILURE_BYTES = 4
"""What a frame that fails costs: so many frames, and so many times its bytes."""

HEAVY_BYTES = 4096
"""Frames of this size take a tenth of a millisecond, and may take a hundred times that."""

LIGHT_NESTING = 8
"""Frames with so few containers can't be nested so deep that a recursive union takes long."""

MAX_RESERVED_BYTES = 16_384
"""The greatest reserved frame that is handled on arrival; there is no reason to send a larger one."""

BYTES_PER_SECOND = 10_000_000
"""What processor time costs: as many bytes as it takes to decode at a low speed."""

CLOSES: dict[type[ProtocolError], Close] = {
    InvalidFrame: close_codes.INVALID_MESSAGE_PAYLOAD,
    TooManyValues: close_codes.MESSAGE_TOO_LARGE,
    UnknownEvent: close_codes.UNKNOWN_EVENT,
    InvalidData: close_codes.INVALID_EVENT_DATA,
}


class State(enum.Enum):
    """A session is in one of these states."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class RawFrame:
    """
    A frame that waits for its turn, as it was received.

    Attributes:
        payload: an ASCII string, or bytes: a string with other characters takes up to four times its size.
        size: the number of its bytes.
    """

    __slots__ = ("payload", "size")

    def __init__(self, frame: str | bytes) -> None:
        # Lone surrogates are kept, and refused when the frame is decoded.
        self.payload = frame if isinstance(frame, bytes) or frame.isascii() else frame.encode("utf-8", "surrogatepass")
        self.size = len(self.payload)


class Session:
    """
    State of one connection, without I/O.

    Feed it with receive_frame(), decode() and tick(); what they return is what is to be done: a RawFrame waits for its
    turn and goes to decode(), a Received goes to the handlers, a Frame to the client, a Close ends the connection.

    Args:
        catalog: the events of the consumer.
        limits: the limits of this connection.
        connection_id: what the hello says.
        extended: whether the client speaks ``wsrt.v1``.
        can_ping: whether the transport sends protocol pings and tells of pongs.
        now: the time, in seconds of the clock that all methods are called with. It should leave out standstills of the
            process; see excuse().
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
        self._frames = None if rate is None else TokenBucket(rate, limits.rate_burst, now)
        byte_rate = parse_byte_rate(limits.rate_bytes)
        # What arrives within a second at once, and always two frames of the greatest size.
        self._bytes = None if byte_rate is None else TokenBucket(byte_rate, max(byte_rate, 2 * limits.max_payload), now)
        # Nothing of a client is parsed before it is authorized.
        self._may_parse = False

        # When the reported violations of the last minute happened.
        self._violations: collections.deque[float] = collections.deque()
        self._reports = limits.on_violation == "report" or (limits.on_violation == "auto" and extended)

    # Public methods for receiving.

    def receive_frame(self, frame: str | bytes, now: float) -> RawFrame | Frame | Close | None:
        """
        Take in one frame.

        Returns:
            RawFrame for what is to be decoded in its turn, Frame for an answer that goes out at once, Close, or None
            for nothing to do.
        """
        self.note_activity(now)
        if self._frames is not None and not self._frames.take(now):
            return self._rate_exceeded(frame, now)
        raw = RawFrame(frame)
        if raw.size > self.limits.max_payload:
            return close_codes.MESSAGE_TOO_LARGE
        if self._bytes is not None and not self._bytes.take(now, raw.size):
            return self._rate_exceeded(frame, now)
        return self.admit(raw)

    def authorize(self) -> None:
        """The client may connect: from now on its frames are parsed."""
        self._may_parse = True

    def admit(self, raw: RawFrame) -> RawFrame | Frame | None:
        """
        Handle a reserved frame ahead of those that wait; call it again for these after authorize().

        Returns:
            The frame itself if it waits for its turn, else the answer, or None for nothing to do.
        """
        found = self._read_reserved(raw)
        return raw if found is None else self._answer_reserved(*found)

    def is_heavy(self, raw: RawFrame) -> bool:
        """Return whether a frame may take so long to decode that others should run in between."""
        return raw.size >= HEAVY_BYTES or (self.catalog.is_recursive and nesting(raw.payload) > LIGHT_NESTING)

    def decode(self, raw: RawFrame, now: float) -> Received | Frame | Close | None:
        """
        Decode a frame whose turn has come.

        Returns:
            Received for an event, Frame for an answer, Close, or None for nothing to do.
        """
        try:
            return self.catalog.decode(raw.payload, self.limits.max_values)
        except UnknownEvent as problem:
            if self.extended and problem.name in RESERVED_INBOUND:
                return self._answer_reserved(problem.name, problem.ref)
            return self._violation(problem, raw, now)
        except ProtocolError as problem:
            return self._violation(problem, raw, now)

    def charge(self, seconds: float) -> None:
        """Charge the client for the processor time that one of its frames took to decode."""
        if self._bytes is not None:
            self._bytes.charge(seconds * BYTES_PER_SECOND)

    def excuse(self, seconds: float) -> None:
        """Allow for a standstill of the process: frames of that time, which come at once, keep the rates."""
        for bucket in (self._frames, self._bytes):
            if bucket is not None:
                bucket.excuse(seconds)

    def note_activity(self, now: float) -> None:
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

    def _read_reserved(self, raw: RawFrame) -> tuple[str, Ref | None] | None:
        """Return name and ref of a reserved event, None for any other frame."""
        if not (self.extended and self._may_parse) or raw.size > MAX_RESERVED_BYTES:
            return None
        marker: Any = RESERVED_MARKER if isinstance(raw.payload, str) else RESERVED_MARKER.encode()
        if marker not in raw.payload:
            return None
        try:
            text = as_text(raw.payload)
            if has_too_many_values(text, self.limits.max_values):
                return None
            name, ref = peek(text)
        except InvalidFrame:
            return None
        return (name, ref) if name in RESERVED_INBOUND else None

    def _answer_reserved(self, name: str, ref: Ref | None) -> Frame | None:
        if name == "wsrt.ping":
            return PONG if ref is None else reserved("wsrt.pong", {}, ref=ref)
        # wsrt.pong: any frame is life, and it was noted. wsrt.resume: no room keeps history yet, nothing to claim.
        return None if ref is None else reserved("wsrt.ok", {}, ref=ref)

    def _rate_exceeded(self, frame: str | bytes, now: float) -> Frame | Close:
        # Requests over the rate count as violations too: a limit that a ref lifts would be none.
        if not self._reports or not self._report(now):
            return close_codes.RATE_LIMIT_EXCEEDED
        return error("rate_limited", close_codes.RATE_LIMIT_EXCEEDED.reason, ref=self._ref_of(frame))

    def _ref_of(self, frame: str | bytes) -> Ref | None:
        if not self._may_parse or size_of(frame) > self.limits.max_payload:
            return None
        try:
            return peek(frame)[1]
        except InvalidFrame:
            return None

    def _violation(self, problem: ProtocolError, raw: RawFrame, now: float) -> Frame | Close:
        # Requests pay as well. They don't close by themselves, but the rate does.
        if self._frames is not None:
            self._frames.charge(FAILURE_FRAMES - 1)
        if self._bytes is not None:
            self._bytes.charge((FAILURE_BYTES - 1) * raw.size)
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


RESERVED_MARKER = '"wsrt.'
"""In every reserved frame, but for those that escape the letters of the name: they are answered in their turn."""

RESERVED_INBOUND = frozenset({"wsrt.ping", "wsrt.pong", "wsrt.resume"})
PING = reserved("wsrt.ping", {})
PONG = reserved("wsrt.pong", {})


def nesting(payload: str | bytes) -> int:
    """Return the number of containers in a frame, or more where brackets are in strings: at least its depth."""
    if isinstance(payload, str):
        return payload.count("{") + payload.count("[")
    return payload.count(b"{") + payload.count(b"[")


def size_of(frame: str | bytes) -> int:
    """Return the length of a frame in bytes of UTF-8."""
    if isinstance(frame, bytes) or frame.isascii():
        return len(frame)
    return len(frame.encode("utf-8", "surrogatepass"))
