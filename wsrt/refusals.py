"""Refusals: exceptions by which a handler says no. They are answered, and cost the client nothing else."""

from __future__ import annotations

import dataclasses

from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.http import Http404

from . import close_codes
from .close_codes import Close
from .exceptions import BackplaneUnavailable, Refused
from .types import FieldError

REFUSALS = (PermissionDenied, Http404, ValidationError, Refused, BackplaneUnavailable)
"""What is answered with ``wsrt.error``. Anything else that a handler raises is a bug."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """What ``wsrt.error`` says."""

    code: str
    message: str
    errors: tuple[FieldError, ...] = ()


def refusal_of(error: Exception) -> Refusal:
    """Return what to answer for one of REFUSALS."""
    match error:
        case Refused():
            # Translated now, where the message is lazy.
            return Refusal(str(error.code), "" if error.message is None else str(error.message))
        case PermissionDenied():
            return Refusal("forbidden", str(error) or "Forbidden")
        case Http404():
            # get_object_or_404 names the model in its message, which is nobody's business.
            return Refusal("not_found", "Not found")
        case ValidationError():
            return Refusal("invalid_data", "Invalid event data", tuple(_field_errors(error)))
        case _:
            return Refusal("unavailable", "Try again later")


def setup_close(error: Exception, *, is_anonymous: bool) -> Close:
    """Return how a connection ends whose set-up raised one of REFUSALS."""
    match error:
        case Http404() | Refused(code="not_found"):
            return close_codes.NOT_FOUND
        case BackplaneUnavailable() | Refused(code="unavailable"):
            return close_codes.CONNECTION_SETUP_FAILED
        case Refused(code="rate_limited"):
            return close_codes.RATE_LIMIT_EXCEEDED
        case PermissionDenied() if is_anonymous:
            return close_codes.UNAUTHENTICATED
        case _:
            return close_codes.FORBIDDEN


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
