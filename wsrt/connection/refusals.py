"""Refusals: exceptions by which hooks and handlers say no. They are answered, and cost the client nothing else."""

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
"""What psycopg2 says in a ValueError where psycopg raises a DataError."""

logger = logging.getLogger("wsrt")

Translate = Callable[[Exception], Exception | None]
"""A consumer's ``refusal_for``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """
    What ``wsrt.error`` says.

    Attributes:
        wants_login: Whether signing in may help: None where it may if the client is not signed in.
    """

    code: str
    message: str
    errors: tuple[FieldError, ...] = ()
    wants_login: bool | None = False

    def close(self, *, is_anonymous: bool) -> Close:
        """Return how a connection ends whose set-up was refused."""
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
"""What False from ``authorize`` means."""


def refusal_of(error: Exception, translate: Translate) -> Refusal | None:
    """
    Return what to answer for an exception of a hook or handler; None where it is a bug.

    Args:
        translate: Asked about what is not one of wsrt's own refusals.
    """
    refusal = _own(error)
    if refusal is not None:
        return refusal
    try:
        translated = translate(error)
    except Exception:
        counters.count("handlers_failed")
        logger.exception("refusal_for failed for %s", quoted(error))
        return None
    if translated is not None:
        refusal = _own(translated) or _foreign(translated)
        if refusal is None:
            logger.error("refusal_for returned %r, which is not a refusal: return Refused(...) or None", translated)
        return refusal
    return _foreign(error)


def _own(error: Exception) -> Refusal | None:
    match error:
        case Refused():
            # Translated now, where the message is lazy.
            return Refusal(str(error.code), "" if error.message is None else str(error.message))
        case PermissionDenied():
            return Refusal("forbidden", str(error) or "Forbidden", wants_login=None)
        case Http404():
            # get_object_or_404 names the model in its message, which is not for clients.
            return Refusal("not_found", "Not found")
        case ValidationError():
            return invalid_data(_field_errors(error))
        case BackplaneUnavailable():
            return Refusal("unavailable", "Try again later")
    return None


def _foreign(error: Exception) -> Refusal | None:
    """Return what the exceptions of Django REST framework, of databases and of Django itself mean."""
    if isinstance(error, SuspiciousOperation):
        # A query of a thousand fields, a path out of bounds: Django answers 400, and so does this.
        counters.count("suspicious_refused", "refused what a client sent: %s", quoted(error))
        return invalid_data(())
    if isinstance(error, DataError) or (type(error) is ValueError and error.args == (NUL_REFUSED,)):
        # Text with a NUL for PostgreSQL, a number out of its range: no client may close its connection, and fill the
        # log with tracebacks, by such data.
        counters.count("database_data_refused", "the database refused what a client sent: %s", quoted(error))
        return invalid_data(())
    match drf.read(error):
        case None:
            return None
        case list() as errors:
            return invalid_data(errors)
        case (status, code, message):
            return _of_status(status, code, message)


def _of_status(status: int, code: str, message: str) -> Refusal | None:
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
    """Return the refusal of data, with as many errors as one answer holds."""
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
        # The parameters do not fit the text: the text alone then.
        return [str(error.message)]
