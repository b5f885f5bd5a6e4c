"""What a client tells of itself."""

from __future__ import annotations

import dataclasses
import enum


class State(enum.Enum):
    """A client is in one of these states."""

    CLOSED = "closed"  # not connected, and not going to be
    CONNECTING = "connecting"  # from asking for a token until the server's hello
    OPEN = "open"
    WAITING = "waiting"  # there is no socket; another one is going to be opened


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """
    Why there is no connection.

    Attributes:
        kind: "client" (close() was called), "server" (a close frame came), "network" (it ended without one, or could
            not be opened), "timeout" (no answer to the handshake, or no hello), "dead" (silence for too long), "token"
            (get_token failed), "unauthorized" (there are no credentials), "invalid" (it cannot work: a bad URL).
        code: the close code; None where there is none.
        text: the reason of a close frame, or what happened.
    """

    kind: str
    code: int | None = None
    text: str = ""

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.kind, self.code, self.text) if part not in (None, ""))


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """
    A state, and what belongs to it.

    Attributes:
        reason: why it is waiting or closed; None before the first connect(), and while connecting or open.
        outdated: whether the server's events are others than those that this client was generated from.
    """

    state: State
    reason: Reason | None = None
    outdated: bool = False
