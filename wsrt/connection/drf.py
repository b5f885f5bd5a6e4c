"""Support for the exceptions of Django REST framework, raised by code that an API shares with a consumer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from ..types import FieldError


def read(error: Exception) -> list[FieldError] | tuple[int, str, str] | None:
    """
    Read an exception of Django REST framework.

    Returns:
        For a ValidationError, the errors of its fields. For another APIException, its status, code and message. For any
        other exception, None.
    """
    # Looked up rather than imported: a module that isn't loaded hasn't raised this exception.
    exceptions: Any = sys.modules.get("rest_framework.exceptions")
    if exceptions is None or not isinstance(error, exceptions.APIException):
        return None
    api: Any = error
    if isinstance(error, exceptions.ValidationError):
        return list(_errors(api.detail, []))
    message = api.detail
    # A detail that is a list or a dict has no single message.
    text = str(message) if isinstance(message, str) else str(api.default_detail)
    code = getattr(message, "code", None) or api.default_code
    return int(api.status_code), str(code), text


def _errors(detail: Any, loc: list[str | int]) -> Iterator[FieldError]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from _errors(value, loc if key == _own_key() else [*loc, key])
    elif isinstance(detail, list):
        for number, value in enumerate(detail):
            # The items are messages of one field, or, with many=True, one dict for each object.
            yield from _errors(value, [*loc, number] if isinstance(value, dict | list) else loc)
    else:
        yield FieldError(loc=list(loc), msg=str(detail), type=str(getattr(detail, "code", None) or "invalid"))


def _own_key() -> str:
    """Return the key for errors that don't belong to a field."""
    return str(sys.modules["rest_framework.settings"].api_settings.NON_FIELD_ERRORS_KEY)
