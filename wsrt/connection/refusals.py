"""
The refusals of hooks and handlers: exceptions that are expected.

A refused request is answered with ``wsrt.error``. A refused set-up closes the connection.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable

from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, SuspiciousOperation, ValidationError
from django.db import DataError
from django.http import Http404

from .. import close_codes
from ..close_codes import Close
from ..exceptions import BackplaneUnavailable, Refused
from ..metrics import counters, quoted
from ..protocol.errors import MAX_ERRORS
from ..types import FieldError
from . import drf

NUL_REFUSED = "A string literal cannot contain NUL (0x00) characters."
"""The message of the ValueError that psycopg2 raises where psycopg raises a DataError."""

logger = logging.getLogger("wsrt")

Translate = Callable[[Exception], Exception | None]
"""A consumer's ``refusal_for``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """
    The content of a ``wsrt.error`` frame.

    Attributes:
        code: The error code.
        message: The text for the developer of the client.
        errors: The errors of individual fields.
        wants_login: Whether signing in may help. None means that it may if the client isn't signed in yet.
    """

    code: str
    message: str
    errors: tuple[FieldError, ...] = ()
    wants_login: bool | None = False

    def close(self, *, is_anonymous: bool) -> Close:
        """Return the close code with which a refused set-up, or a lost permission, ends the connection."""
        match self.code:
            case "not_found":
                return close_codes.NOT_FOUND
            case "unavailable":
                return close_codes.CONNECTION_SETUP_FAILED
            case "rate_limited":
                return close_codes.RATE_LIMIT_EXCEEDED
        if self.wants_login or (self.wants_login is None and is_anonymous):
            return close_codes.UNAUTHENTICATED
        return close_codes.FORBIDDEN


NOT_AUTHORIZED = Refusal("forbidden", "Forbidden", wants_login=None)
"""The refusal that False from ``authorize`` stands for."""


def refusal_of(error: Exception, translate: Translate) -> Refusal | None:
    """
    Return the refusal for an exception of a hook or handler, or None if it is an unexpected exception.

    Args:
        error: The exception.
        translate: The consumer's ``refusal_for``, called for exceptions that aren't refusals of wsrt's own.
    """
    refusal = _own_refusal(error)
    if refusal is not None:
        return refusal
    try:
        translated = translate(error)
    except Exception:
        counters.count("handlers_failed")
        logger.exception("refusal_for raised an exception for %s", quoted(error))
        return None
    if translated is not None:
        refusal = _own_refusal(translated) or _foreign_refusal(translated)
        if refusal is None:
            logger.error("refusal_for returned %r, which isn't a refusal: return Refused(...) or None", translated)
        return refusal
    return _foreign_refusal(error)


def _own_refusal(error: Exception) -> Refusal | None:
    match error:
        case Refused():
            # A lazy message is translated here, in the language that is active for the handler.
            return Refusal(str(error.code), "" if error.message is None else str(error.message))
        case PermissionDenied():
            return Refusal("forbidden", str(error) or "Forbidden", wants_login=None)
        case Http404():
            # The message of get_object_or_404 names the model, which clients mustn't see.
            return Refusal("not_found", "Not found")
        case ValidationError():
            return invalid_data(_field_errors(error))
        case BackplaneUnavailable():
            return Refusal("unavailable", "Try again later")
    return None


def _foreign_refusal(error: Exception) -> Refusal | None:
    """Return the refusal for an exception of Django REST framework, of a database or of Django itself."""
    if isinstance(error, SuspiciousOperation):
        # For example a query with too many fields, or a path outside of its root. Django answers 400 in a view.
        counters.count("suspicious_refused", "refused data that a client sent: %s", quoted(error))
        return invalid_data(())
    if isinstance(error, DataError) or (type(error) is ValueError and error.args == (NUL_REFUSED,)):
        # For example text with a NUL for PostgreSQL, or a number out of range. A client must not be able to fill the
        # log with tracebacks by sending such data.
        counters.count("database_data_refused", "the database refused data that a client sent: %s", quoted(error))
        return invalid_data(())
    match drf.read(error):
        case None:
            return None
        case list() as errors:
            return invalid_data(errors)
        case (status, code, message):
            return _refusal_of_status(status, code, message)


def _refusal_of_status(status: int, code: str, message: str) -> Refusal | None:
    match status:
        case 400:
            return Refusal("invalid_data", message)
        case 401:
            return Refusal("forbidden", message, wants_login=True)
        case 403:
            return Refusal("forbidden", message, wants_login=None)
        case 404:
            return Refusal("not_found", message)
        case 429:
            return Refusal("rate_limited", message)
        case 503:
            return Refusal("unavailable", message)
    return Refusal(code, message) if 400 <= status < 500 else None


def invalid_data(errors: Iterable[FieldError]) -> Refusal:
    """Return the refusal of data that isn't valid, with at most MAX_ERRORS errors."""
    return Refusal("invalid_data", "Invalid event data", tuple(itertools.islice(errors, MAX_ERRORS)))


def _field_errors(error: ValidationError) -> list[FieldError]:
    fields = error.error_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.error_list}
    return [
        FieldError(
            loc=[] if field == NON_FIELD_ERRORS else [field], msg=message, type=str(problem.code or "value_error")
        )
        for field, problems in fields.items()
        for problem in problems
        for message in _messages(problem)
    ]


def _messages(error: ValidationError) -> list[str]:
    try:
        return error.messages
    except (KeyError, TypeError, ValueError):
        # The parameters don't match the placeholders of the text: use the text alone.
        return [str(error.message)]
