"""The log lines that explain, while DEBUG is set, why frames were refused and connections were closed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from django.conf import settings

from .. import close_codes
from ..close_codes import TABLE, Close
from ..exceptions import EventRateExceeded, InvalidData, ProtocolError, RateExceeded, UnknownEvent
from ..metrics import MAX_QUOTED, counters, quoted
from ..protocol.frame import Frame
from ..protocol.session import CLOSES, RawFrame
from ..types import FieldError
from .hooks import Hooks
from .refusals import Refusal

LINES = 10
"""How many lines of each kind are logged within the window of the counters."""

MAX_ERRORS = 3
"""How many errors of fields a line shows."""

MAX_NAMES = 20
"""How many names of events a line shows."""

LOGGED_ELSEWHERE = {
    close_codes.NORMAL,
    close_codes.SERVER_SHUTTING_DOWN,
    close_codes.CONNECTION_SETUP_FAILED,
    close_codes.MESSAGE_HANDLING_FAILED,
    *(set(CLOSES.values()) - {close_codes.MESSAGE_TOO_LARGE}),
}
"""The closes that need no explanation, or are logged with their cause."""


class Explanations:
    """
    Counts the refused frames and the closes of one connection. While DEBUG is True, also logs the reasons.

    Args:
        hooks: The consumer.
        owner: The name of the consumer.
    """

    __slots__ = ("_hooks", "_is_logging", "_owner")

    def __init__(self, hooks: Hooks, owner: str) -> None:
        self._hooks = hooks
        self._owner = owner
        self._is_logging = settings.DEBUG

    def rejected(self, problem: ProtocolError, raw: RawFrame, outcome: Frame | Close) -> None:
        """Explain why a frame broke the protocol, and what follows."""
        if isinstance(problem, RateExceeded):
            counters.count("rates_exceeded")
        if not self._is_logging:
            counters.count("frames_refused")
            return
        follows = ""
        if isinstance(outcome, Close):
            follows = f". The connection is closed with {outcome.code} {outcome.reason}"
            if outcome in CLOSES.values():
                follows += '. A client that offers the subprotocol "wsrt.v1" gets an error instead'
        counters.count(
            "frames_refused", "%s refused %s%s", self._owner, self._problem(problem, raw), follows, lines=LINES
        )

    def refused(self, event: str, handler: str, refusal: Refusal, *, is_answered: bool) -> None:
        """Explain why a handler refused an event."""
        counters.count(
            "requests_refused",
            "%s.%s refused %s: %s, %s%s" if self._is_logging else None,
            self._owner,
            handler,
            quoted(event),
            quoted(refusal.code),
            _errors(refusal.errors) or quoted(refusal.message),
            "" if is_answered else ". The client gets no answer, because its frame has no ref",
            lines=LINES,
        )

    def closed(self, close: Close) -> None:
        """Explain why the server closes a connection."""
        if close in TABLE and close not in LOGGED_ELSEWHERE:
            counters.count(
                "connections_closed",
                "%s closed a connection with %d %s: %s" if self._is_logging else None,
                self._owner,
                close.code,
                close.reason,
                TABLE[close],
                lines=LINES,
            )

    def _problem(self, problem: ProtocolError, raw: RawFrame) -> str:
        match problem:
            case UnknownEvent():
                return f"{quoted(problem.name)}: {self._unknown(problem.name)}"
            case InvalidData():
                return f"{quoted(problem.name)}: {_errors(problem.errors)}"
            case EventRateExceeded():
                return f"{quoted(problem.name)}: the client sends it more often than the event's rate allows"
            case RateExceeded():
                return f"the frame {_shown(raw.payload)}: the client sends more than RATE and RATE_BYTES allow"
        errors = _errors(problem.errors) or 'it is not {"event": "...", "data": ...} in JSON'
        return f"the frame {_shown(raw.payload)}: {errors}"

    def _unknown(self, name: str) -> str:
        receives, unmarked = self._hooks.catalog.receives, self._hooks.unmarked_handlers
        if name in unmarked:
            return f"{unmarked[name]}() takes this event, but isn't marked with @on"
        if name in self._hooks.catalog.sends:
            return f"the consumer only sends this event. It receives {_names(receives)}"
        close = difflib.get_close_matches(name[:100], receives, 1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        return f"unknown event{meant}. The consumer receives {_names(receives)}"


def _shown(payload: str | bytes) -> str:
    # No character takes more than four bytes.
    start = payload[: 4 * MAX_QUOTED]
    return quoted(start.decode("utf-8", "replace") if isinstance(start, bytes) else start)


def _names(events: Iterable[str]) -> str:
    names = sorted(events)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return (", ".join(map(repr, names[:MAX_NAMES])) or "no events") + more


def _errors(errors: Sequence[FieldError]) -> str:
    """Return errors of fields, which never contain the input, as one line."""
    lines = [": ".join(filter(None, [".".join(map(str, error["loc"])), error["msg"]])) for error in errors[:MAX_ERRORS]]
    more = f" and {len(errors) - MAX_ERRORS} more" if len(errors) > MAX_ERRORS else ""
    return "; ".join(lines) + more
