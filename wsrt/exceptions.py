"""
Errors raised by wsrt.

* WsrtError
    * DeclarationError       the declaration of an event or consumer class is invalid (also a TypeError)
    * WrongContext           a function was called where it can't work: a sync one in an event loop (RuntimeError)
    * UnknownNamespace       no consumer of this process has the namespace (LookupError)
    * TenantRequired         the namespace has tenants, and the call doesn't specify one (TypeError)
    * UndeclaredEvent        the event is not in the namespace's ``out_events`` (ValueError)
    * UnsendableEvent        the event cannot be encoded, or is larger than 1 MiB (ValueError)
    * ProtocolError          the client sent something that isn't an event which the consumer receives
        * InvalidFrame       not UTF-8, not JSON, or not an envelope
            * TooManyValues  more JSON values than MAX_VALUES
        * UnknownEvent       the consumer doesn't receive an event of this name
        * InvalidData        the data isn't valid for the event's model
        * RateExceeded       the client sent more frames or bytes than RATE and RATE_BYTES allow
            * EventRateExceeded  the client sent more of an event than the event's own ``rate`` allows
    * Refused                a handler refuses a request; answered with ``wsrt.error``
        * TooManyRooms       the connection is in MAX_ROOMS rooms already
        * TooManyKeys        too many keys of the connection hold the room already
        * InvalidKey         the key of a join is too long (also a ValueError)
        * TooManyTasks       the connection runs MAX_TASKS tasks already
        * InvalidRoom        the string isn't a valid room name (also a ValueError)
    * BackplaneUnavailable   the channel layer did not accept a publication or a join
        * StoreUnavailable   a store of presence or history did not answer
        * PublicationsFailed some publications of a batch were not accepted

A ProtocolError is a mistake of the client: ``on_violation`` decides whether it closes the connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .types import FieldError, Publication, Ref

__all__ = [
    "BackplaneUnavailable",
    "DeclarationError",
    "EventRateExceeded",
    "InvalidData",
    "InvalidFrame",
    "InvalidKey",
    "InvalidRoom",
    "ProtocolError",
    "PublicationsFailed",
    "Refused",
    "StoreUnavailable",
    "TenantRequired",
    "TooManyKeys",
    "TooManyRooms",
    "TooManyTasks",
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
    """Raised when a class with an invalid declaration is created. The message says what to change."""


class WrongContext(WsrtError, RuntimeError):
    """
    Raised when a function can't work where it is called. The message says what to do instead.

    Examples: a synchronous function in a running event loop, an async method without one, ``join()`` in a hook that
    ``join()`` itself calls, and reading presence that other processes keep in their memory.
    """


class UnknownNamespace(WsrtError, LookupError):
    """Raised when no consumer known to this process has the namespace."""


class TenantRequired(WsrtError, TypeError):
    """Raised when consumers of a namespace have tenants, and a call doesn't specify the tenant."""


class UndeclaredEvent(WsrtError, ValueError):
    """Raised when an event is sent that no consumer of its namespace declares. Nothing is sent."""


class UnsendableEvent(WsrtError, ValueError):
    """Raised when an event can't be sent: it holds NaN or an unvalidated value of a wrong type, or exceeds 1 MiB."""


class ProtocolError(WsrtError):
    """
    Raised when the client sent something that isn't an event which the consumer receives.

    Attributes:
        code: The code for ``wsrt.error``.
        message: The message for ``wsrt.error``.
        ref: The ref of the frame; None if it has none or it can't be read.
        errors: The invalid fields of the event's data. They never contain the input.
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
    Raised when a frame names an event that the consumer doesn't receive.

    Attributes:
        name: The event's name.
    """

    code = "unknown_event"
    message = "Unknown event"

    def __init__(self, ref: Ref | None, name: str) -> None:
        super().__init__(ref)
        self.name = name


class InvalidData(ProtocolError):
    """
    Raised when the data of a frame isn't valid for the model of its event.

    Attributes:
        name: The event's name.
    """

    code = "invalid_data"
    message = "Invalid event data"

    def __init__(self, ref: Ref | None, errors: tuple[FieldError, ...], name: str) -> None:
        super().__init__(ref, errors)
        self.name = name


class RateExceeded(ProtocolError):
    """Raised when the client sent more frames or bytes than ``rate`` and ``rate_bytes`` allow."""

    code = "rate_limited"
    message = "Rate limit exceeded"


class EventRateExceeded(RateExceeded):
    """
    Raised when the client sent more of an event than the event's own ``rate`` allows.

    Attributes:
        name: The event's name.
    """

    def __init__(self, ref: Ref | None, name: str) -> None:
        super().__init__(ref)
        self.name = name


class Refused(WsrtError):
    """
    Raise this in a handler to refuse a request.

    A frame with a ``ref`` is answered with ``wsrt.error``. A frame without a ``ref`` isn't answered. The connection
    stays open.

    Args:
        code: One of the codes of ``wsrt.error``, or one of the application's own.
        message: A sentence for the client's user; the code by default.
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message


class TooManyRooms(Refused):
    """Raised by ``join`` when the connection is in ``max_rooms`` rooms already."""

    def __init__(self, limit: int) -> None:
        super().__init__("forbidden", f"A connection may be in {limit} rooms at most")


class TooManyKeys(Refused):
    """Raised by ``join`` with a key when the connection already holds the room by 100 other keys of ``join``."""

    def __init__(self, limit: int) -> None:
        super().__init__("forbidden", f"At most {limit} keys of a connection may hold a room")


class InvalidKey(Refused, ValueError):
    """
    Raised by ``join`` and ``leave`` for a key that is too long.

    Keys may come from clients. Raised in a handler, this exception refuses the request.
    """

    def __init__(self, limit: int) -> None:
        super().__init__("invalid_data", f"A key must not be longer than {limit} characters")


class TooManyTasks(Refused):
    """Raised by ``create_task`` when ``max_tasks`` tasks of the connection are running already."""

    def __init__(self, limit: int) -> None:
        super().__init__("rate_limited", f"A connection may run {limit} tasks at the same time")


class InvalidRoom(Refused, ValueError):
    """
    Raised for an invalid room name: it is empty, has more than MAX_ROOM_NAME bytes, begins with ``wsrt.``, or isn't
    UTF-8.

    Room names often come from clients. Raised in a handler, this exception refuses the request.
    """

    def __init__(self, message: str) -> None:
        super().__init__("invalid_data", message)


class BackplaneUnavailable(WsrtError):
    """Raised when the channel layer did not accept a publication or a join. Connections stay open; try again later."""


class StoreUnavailable(BackplaneUnavailable):
    """Raised when a store of presence or history didn't answer, or the settings don't name a usable one."""


class PublicationsFailed(BackplaneUnavailable):
    """
    Raised when some publications of a batch were not accepted. The others were sent.

    Attributes:
        errors: The error of each of them, by its index in the list of publications.
        positions: The positions of those that were sent, in the order of the list; None without history, and for those
            that failed.
    """

    def __init__(self, errors: Mapping[int, BackplaneUnavailable], positions: Sequence[Publication | None]) -> None:
        first = min(errors)
        super().__init__(
            f"{len(errors)} of {len(positions)} publications were not accepted, such as [{first}]: {errors[first]}"
        )
        self.errors = dict(errors)
        self.positions = list(positions)
