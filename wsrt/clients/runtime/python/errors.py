"""
The errors of the client.

* ClientError
    * RequestError            the server refused a request
    * RequestTimeout          the server didn't answer a request in time
    * ConnectionLost          there is no connection, or it was lost before the answer arrived
        * Disconnected        the client is closed and won't reconnect
    * QueueFull               too many frames are waiting for a connection
    * QueueExpired            a frame waited too long for a connection
    * PayloadTooLarge         a frame is larger than the server accepts
    * InvalidFrame            the server sent a frame that this client doesn't understand
    * Unauthorized            raised by your get_token when there are no credentials, and retrying is useless
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .state import Reason


class ClientError(Exception):
    """The base class of all errors of this client."""


@dataclasses.dataclass(frozen=True)
class FieldError:
    """
    A validation error of one field.

    Attributes:
        loc: The path to the field within the event's data.
        msg: A message for humans.
        type: An identifier for programs, such as "string_too_long".
    """

    loc: tuple[str | int, ...]
    msg: str
    type: str


class RequestError(ClientError):
    """
    Raised when the answer to a request is ``wsrt.error``.

    Attributes:
        code: An identifier for programs, such as "invalid_data" or "forbidden".
        message: A message for humans.
        errors: The validation errors, by field.
    """

    def __init__(self, code: str, message: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.errors = errors

    @classmethod
    def of(cls, data: Any) -> RequestError:
        """Return the error described by the data of a ``wsrt.error``."""
        found = data if isinstance(data, dict) else {}
        errors = found.get("errors")
        entries = errors if isinstance(errors, list) else []
        return cls(
            str(found.get("code", "internal")),
            str(found.get("message", "")),
            tuple(
                FieldError(tuple(entry.get("loc", ())), str(entry.get("msg", "")), str(entry.get("type", "")))
                for entry in entries
                if isinstance(entry, dict)
            ),
        )


class RequestTimeout(ClientError, TimeoutError):
    """Raised when a request isn't answered in time. The server may have processed it all the same."""


class ConnectionLost(ClientError, ConnectionError):
    """Raised when there is no connection, or when it ended before the answer arrived."""


class Disconnected(ConnectionLost):
    """
    Raised when the client is closed and won't reconnect.

    Attributes:
        reason: Why the client is closed.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"disconnected: {reason}")
        self.reason = reason


class QueueFull(ClientError):
    """Raised when the limits allow no more frames to wait for a connection."""


class QueueExpired(ClientError):
    """Raised or reported when a frame waited too long in the queue. It was not sent."""


class PayloadTooLarge(ClientError, ValueError):
    """Raised for a frame larger than the server's ``max_payload``. It was not sent."""


class InvalidFrame(ClientError, ValueError):
    """Raised or reported when the server sent a frame that this client doesn't understand."""


class Unauthorized(ClientError):
    """To be raised by ``get_token`` when the user isn't signed in. The client closes and doesn't retry."""
