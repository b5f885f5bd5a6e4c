"""
Errors raised by wsrt.

* WsrtError
    * DeclarationError       an event or consumer class is declared wrongly (also a TypeError)
    * WrongContext           the sync form was called in a running event loop, or the async form outside (RuntimeError)
    * UnknownNamespace       no consumer of this process has the namespace (LookupError)
    * TenantRequired         the namespace has tenants, and the call doesn't say which one is meant (TypeError)
    * UndeclaredEvent        the event is not in the namespace's ``out_events`` (ValueError)
    * UnsendableEvent        the event cannot be encoded, or is over 1 MiB (ValueError)
    * ProtocolError          the peer sent something that is no event of the catalog
        * InvalidFrame       not UTF-8, not JSON, or not an envelope
            * TooManyValues  more JSON values than MAX_VALUES
        * UnknownEvent       an envelope whose event is not in the catalog
        * InvalidData        data that fails the event's model
    * Refused                a handler refuses a request; answered with ``wsrt.error``
        * TooManyRooms       the connection is in MAX_ROOMS rooms already
        * InvalidRoom        the string can't be the name of a room (also a ValueError)
    * BackplaneUnavailable   the channel layer did not take a publication or a join

Misuse by the programmer is another branch than misbehaviour of the peer: only a ProtocolError closes by policy.
"""

from __future__ import annotations

from .types import FieldError, Ref

__all__ = [
    "BackplaneUnavailable",
    "DeclarationError",
    "InvalidData",
    "InvalidFrame",
    "InvalidRoom",
    "ProtocolError",
    "Refused",
    "TenantRequired",
    "TooManyRooms",
    "TooManyValues",
    "UndeclaredEvent",
    "UnknownEvent",
    "UnknownNamespace",
    "UnsendableEvent",
    "WrongContext",
    "WsrtError",
]


class WsrtError(Exception):
    """Base class of every error that wsrt raises."""


class DeclarationError(WsrtError, TypeError):
    """Raised when a class is made whose declaration cannot work; the text says what to change."""


class WrongContext(WsrtError, RuntimeError):
    """Raised when a sync function is called in a running event loop, or an async one where none runs."""


class UnknownNamespace(WsrtError, LookupError):
    """Raised when no consumer known to this process has the namespace."""


class TenantRequired(WsrtError, TypeError):
    """Raised when consumers of a namespace have tenants, and a call doesn't say which tenant is meant."""


class UndeclaredEvent(WsrtError, ValueError):
    """Raised when an event is sent that its namespace does not declare. No subscriber is disturbed (D5)."""


class UnsendableEvent(WsrtError, ValueError):
    """Raised when an event cannot become a frame: NaN, a wrong type put in past validation, over 1 MiB."""


class ProtocolError(WsrtError):
    """
    Raised when the peer sent something that is no event of the catalog.

    Attributes:
        code: what ``wsrt.error`` calls it.
        ref: the frame's ref where it could be read, else None.
        errors: which fields are wrong, in terms of the event's data; never holds input.
    """

    code = "invalid_frame"
    message = "Invalid message payload"

    def __init__(self, ref: Ref | None = None, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(self.message)
        self.ref = ref
        self.errors = errors


class InvalidFrame(ProtocolError):
    """Raised when a frame is not UTF-8, not JSON, or not an envelope."""


class TooManyValues(InvalidFrame):
    """Raised when a frame holds more JSON values than ``max_values``."""

    def __init__(self, ref: Ref | None, limit: int) -> None:
        super().__init__(ref, (FieldError(loc=[], msg=f"More than {limit} values", type="too_many_values"),))


class UnknownEvent(ProtocolError):
    """
    Raised when an envelope names an event that is not in the catalog.

    Attributes:
        name: of the event.
    """

    code = "unknown_event"
    message = "Unknown event"

    def __init__(self, ref: Ref | None, name: str) -> None:
        super().__init__(ref)
        self.name = name


class InvalidData(ProtocolError):
    """Raised when the data of an envelope fails the model of its event."""

    code = "invalid_data"
    message = "Invalid event data"


class Refused(WsrtError):
    """
    Raise it in a handler to refuse a request.

    A frame with a ``ref`` is answered with ``wsrt.error``; one without gets nothing. The socket stays open.

    Attributes:
        code: one of the ``wsrt.error`` codes, or the application's own.
        message: a sentence for the person at the other end.
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message


class TooManyRooms(Refused):
    """Raised by ``join`` when the connection is in ``max_rooms`` rooms already (R7)."""

    def __init__(self, limit: int) -> None:
        super().__init__("forbidden", f"A connection may be in {limit} rooms at most")


class InvalidRoom(Refused, ValueError):
    """
    Raised for a string that can't be the name of a room: empty, reserved, over MAX_ROOM_NAME bytes, or not UTF-8.

    Names often come from clients: in a handler it refuses the request like any other Refused.
    """

    def __init__(self, message: str) -> None:
        super().__init__("invalid_data", message)


class BackplaneUnavailable(WsrtError):
    """Raised when the channel layer did not accept a publication or a join. The sockets stay; try again."""
