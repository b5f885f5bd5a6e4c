"""
Errors raised by the client.

* ClientError
    * RequestError            the server refused a request
    * RequestTimeout          it did not answer in time
    * ConnectionLost          there is no connection, or it was lost before the answer
        * Disconnected        and there will be none, until connect() is called again
    * QueueFull               too much is waiting for a connection
    * QueueExpired            it waited for too long
    * PayloadTooLarge         the server would not take it
    * InvalidFrame            the server sent what this client does not understand
    * Unauthorized            raised by your get_token: there are no credentials, and asking again is useless
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .state import Reason


class ClientError(Exception):
    """The base of all errors of this client."""


@dataclasses.dataclass(frozen=True)
class FieldError:
    """
    What is wrong with a field.

    Attributes:
        loc: the path within the event's data.
        msg: for people.
        type: for programs.
    """

    loc: tuple[str | int, ...]
    msg: str
    type: str


class RequestError(ClientError):
    """
    Raised when the answer to a request is ``wsrt.error``.

    Attributes:
        code: for programs, such as "invalid_data" or "forbidden".
        message: for people.
        errors: what is wrong with which field.
    """

    def __init__(self, code: str, message: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.errors = errors

    @classmethod
    def of(cls, data: Any) -> RequestError:
        """Return the error that the data of a ``wsrt.error`` tells of."""
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
    """Raised when a request is not answered in time. Nobody knows whether it was carried out."""


class ConnectionLost(ClientError, ConnectionError):
    """Raised when there is no connection, or when it ended before the answer came."""


class Disconnected(ConnectionLost):
    """
    Raised when there is no connection and none will be made.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"disconnected: {reason}")
        self.reason = reason


class QueueFull(ClientError):
    """Raised when more is waiting for a connection than the limits allow."""


class QueueExpired(ClientError):
    """Raised or reported when something waited in the queue for too long. It was not sent."""


class PayloadTooLarge(ClientError, ValueError):
    """Raised for a frame over the server's ``max_payload``. It was not sent."""


class InvalidFrame(ClientError, ValueError):
    """Reported when the server sent what this client does not understand."""


class Unauthorized(ClientError):
    """For your ``get_token`` to raise: nobody is signed in. The client stays disconnected."""
