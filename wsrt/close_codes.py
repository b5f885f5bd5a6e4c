"""
The table of close codes: every close that wsrt issues, and how clients react to it.

Ranges of codes (RFC 6455, 7.4): 1000-1015 belong to the protocol. 3000-3999 are registered and used unchanged.
4000-4499 belong to wsrt. 4500-4999 belong to the application: clients reconnect after 4500-4749, but not after
4750-4999. The tables in the documentation and in the clients are generated from TABLE.
"""

from __future__ import annotations

import dataclasses
import enum

__all__ = ["TABLE", "Close", "CloseCode", "Closed", "Reconnect", "reconnect_for"]

MAX_REASON_BYTES = 123
"""A control frame has up to 125 bytes of payload, two of which are the code (RFC 6455, 5.5)."""


class Reconnect(enum.Enum):
    """How a client reconnects after a close."""

    NEVER = "never"  # not at all
    BACKOFF = "backoff"  # with increasing pauses
    SPREAD = "spread"  # at a random time in the window that the server announced
    AUTH = "auth"  # after refreshing its credentials
    LATER = "later"  # after 5 s or more


class CloseCode(enum.IntEnum):
    """The close codes as numbers."""

    NORMAL = 1000
    GOING_AWAY = 1001
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    NOT_FOUND = 4404
    SETUP_TIMEOUT = 4408
    REPLACED = 4409
    DISCONNECTED = 4410
    RATE_LIMITED = 4429


@dataclasses.dataclass(frozen=True, slots=True)
class Close:
    """
    A close code with its reason, and what the client does after it.

    Args:
        code: The close code.
        reason: The reason, which is sent to the client.
        reconnect: The rule by which the client reconnects.

    Raises:
        ValueError: A close frame can't carry the code.
    """

    code: int
    reason: str = ""
    reconnect: Reconnect = Reconnect.BACKOFF

    def __post_init__(self) -> None:
        # Some servers check for a plain int, so convert an IntEnum.
        object.__setattr__(self, "code", int(self.code))
        if not is_sendable(self.code):
            raise ValueError(
                f"{self.code} cannot be sent as a close code; use 1000, 4500-4749 (clients reconnect) "
                "or 4750-4999 (clients don't reconnect)"
            )

    @property
    def wire_reason(self) -> str:
        """The reason, truncated to 123 bytes of UTF-8 at a code-point boundary."""
        return self.reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")

    @property
    def fallback_code(self) -> int:
        """The code to use with a server that refuses this one: stock Daphne sends only 1000 and 3000-4999."""
        return self.code + 3000 if 1000 < self.code < 1015 else self.code


@dataclasses.dataclass(frozen=True, slots=True)
class Closed:
    """
    How a connection ended.

    Attributes:
        code: The close code; 1005 or 1006 if the peer sent none.
        reason: The reason, which is often empty.
        by: "client", "server", or "network" if the connection ended without a close frame. Servers report that in
            different ways: as 1005, as 1006, or without a code.
    """

    code: int
    reason: str
    by: str


def is_sendable(code: int) -> bool:
    """Return whether a close frame may carry the code. 1005, 1006 and 1015 are never sent (RFC 6455, 7.4.1)."""
    return code in {1000, 1001, 1002, 1003} or 1007 <= code <= 1014 or 3000 <= code <= 4999


# A normal end.
NORMAL = Close(CloseCode.NORMAL, "", Reconnect.NEVER)

# The client reconnects.
SERVER_SHUTTING_DOWN = Close(CloseCode.GOING_AWAY, "Server shutting down", Reconnect.SPREAD)
HEARTBEAT_TIMEOUT = Close(CloseCode.GOING_AWAY, "Heartbeat timeout", Reconnect.BACKOFF)
MESSAGE_HANDLING_FAILED = Close(CloseCode.INTERNAL_ERROR, "Message handling failed", Reconnect.BACKOFF)
CONNECTION_SETUP_FAILED = Close(CloseCode.INTERNAL_ERROR, "Connection setup failed", Reconnect.BACKOFF)
OUTBOUND_PUBLISH_FAILED = Close(CloseCode.INTERNAL_ERROR, "Outbound publish failed", Reconnect.BACKOFF)
BACKPRESSURE_OVERFLOW = Close(CloseCode.TRY_AGAIN_LATER, "WebSocket backpressure overflow", Reconnect.BACKOFF)
CONNECTION_SETUP_TIMEOUT = Close(CloseCode.SETUP_TIMEOUT, "Connection setup timeout", Reconnect.BACKOFF)
RATE_LIMIT_EXCEEDED = Close(CloseCode.RATE_LIMITED, "Rate limit exceeded", Reconnect.LATER)
TOO_MANY_CONNECTIONS = Close(CloseCode.RATE_LIMITED, "Too many connections", Reconnect.LATER)
UNAUTHENTICATED = Close(CloseCode.UNAUTHENTICATED, "Unauthenticated", Reconnect.AUTH)
CREDENTIALS_EXPIRED = Close(CloseCode.UNAUTHENTICATED, "Credentials expired", Reconnect.AUTH)

# The client doesn't reconnect, because the same would happen again.
INVALID_MESSAGE_PAYLOAD = Close(CloseCode.INVALID_PAYLOAD, "Invalid message payload", Reconnect.NEVER)
INVALID_EVENT_DATA = Close(CloseCode.INVALID_PAYLOAD, "Invalid event data", Reconnect.NEVER)
UNKNOWN_EVENT = Close(CloseCode.POLICY_VIOLATION, "Unknown event", Reconnect.NEVER)
TOO_MANY_VIOLATIONS = Close(CloseCode.POLICY_VIOLATION, "Too many violations", Reconnect.NEVER)
MESSAGE_TOO_LARGE = Close(CloseCode.MESSAGE_TOO_BIG, "Message too large", Reconnect.NEVER)
FORBIDDEN = Close(CloseCode.FORBIDDEN, "Forbidden", Reconnect.NEVER)
NOT_FOUND = Close(CloseCode.NOT_FOUND, "Not found", Reconnect.NEVER)
REPLACED = Close(CloseCode.REPLACED, "Replaced by a newer connection", Reconnect.NEVER)
DISCONNECTED = Close(CloseCode.DISCONNECTED, "Disconnected by the server", Reconnect.NEVER)


def gettext_noop(text: str) -> str:
    """Return the text, which is marked for translation. This module can't import Django's function of the same name."""
    return text


TABLE: dict[Close, str] = {
    NORMAL: gettext_noop("the consumer closes normally"),
    SERVER_SHUTTING_DOWN: gettext_noop("the server drains its connections before it exits"),
    HEARTBEAT_TIMEOUT: gettext_noop("no frame was received since the last ping"),
    INVALID_MESSAGE_PAYLOAD: gettext_noop("a frame is not UTF-8, not JSON, or not an envelope"),
    INVALID_EVENT_DATA: gettext_noop("the data isn't valid for the event's model"),
    UNKNOWN_EVENT: gettext_noop("the event is not in the catalog"),
    TOO_MANY_VIOLATIONS: gettext_noop(
        "the client sent too many invalid frames: more than `max_violations` violations within a minute"
    ),
    MESSAGE_TOO_LARGE: gettext_noop("a frame is larger than `max_payload` bytes, or has more than `max_values` values"),
    MESSAGE_HANDLING_FAILED: gettext_noop("a handler raised an unexpected exception"),
    CONNECTION_SETUP_FAILED: gettext_noop("`authorize` or `on_connect` raised an unexpected exception"),
    OUTBOUND_PUBLISH_FAILED: gettext_noop("sending a frame failed while the client was connected"),
    BACKPRESSURE_OVERFLOW: gettext_noop("the outbox exceeded its limits"),
    UNAUTHENTICATED: gettext_noop("`authenticate`, `authorize` or `on_connect` refused an anonymous user"),
    CREDENTIALS_EXPIRED: gettext_noop("the session, token or ticket is no longer valid"),
    FORBIDDEN: gettext_noop("`authorize` or `on_connect` refused a known user"),
    NOT_FOUND: gettext_noop("`authorize` or `on_connect` raised `Http404`"),
    CONNECTION_SETUP_TIMEOUT: gettext_noop(
        "the set-up of the connection, such as `authorize` and `on_connect`, took longer than `setup_timeout` seconds"
    ),
    REPLACED: gettext_noop('the user opened more connections than allowed, with the policy "replace"'),
    DISCONNECTED: gettext_noop("an operator or `disconnect()` ended the connection"),
    RATE_LIMIT_EXCEEDED: gettext_noop("the inbound rate or the inbox exceeded its limit"),
    TOO_MANY_CONNECTIONS: gettext_noop("a limit on connections was reached"),
}
"""All closes of wsrt, each with a description of when it is issued."""


def reconnect_for(code: int, reason: str = "") -> Reconnect:
    """Return the rule by which a client reconnects after a code and reason, also for those that aren't in the table."""
    rows = [row for row in TABLE if code in (row.code, row.fallback_code)]
    for row in rows:
        if row.reason == reason:
            return row.reconnect
    if rows:
        return rows[0].reconnect
    if code in {1002, 1003, 1010} or 4750 <= code <= 4999:
        return Reconnect.NEVER
    return Reconnect.BACKOFF
