"""The state of a client, and the reasons for it."""

from __future__ import annotations

import dataclasses
import enum


class State(enum.Enum):
    """The state of a client."""

    CLOSED = "closed"  # not connected, and not trying to connect
    CONNECTING = "connecting"  # requesting a token, opening a socket, or waiting for the server's wsrt.hello
    OPEN = "open"
    WAITING = "waiting"  # no socket; the client will reconnect


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """
    Why there is no connection.

    Attributes:
        kind: "client" (``close()`` was called), "server" (the server sent a close frame), "network" (the connection
            ended without one, or could not be opened), "timeout" (no answer to the handshake, or no ``wsrt.hello``),
            "dead" (the server was silent for too long), "token" (``get_token`` or the request for a ticket failed),
            "unauthorized" (the server rejected the credentials, and there are no others), "invalid" (connecting can't
            work, such as with a bad URL).
        code: The close code, or None.
        text: The reason in the close frame, or a description of the problem.
    """

    kind: str
    code: int | None = None
    text: str = ""

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.kind, self.code, self.text) if part not in (None, ""))


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """
    The state of a client, with details.

    Attributes:
        state: The state.
        reason: Why the client is waiting or closed. None while connecting or open, and before the first connect().
        outdated: Whether the server's events differ from those this client was generated from.
    """

    state: State
    reason: Reason | None = None
    outdated: bool = False
