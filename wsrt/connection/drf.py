"""Exceptions of Django REST framework, which services raise that an API shares with a consumer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from ..types import FieldError


def read(error: Exception) -> list[FieldError] | tuple[int, str, str] | None:
    """
    Read an exception of Django REST framework.

    Returns:
        The fields' errors of a ValidationError; the status, code and message of another APIException; None of any
        other exception.
    """
    # Looked up, never imported: what isn't loaded has raised nothing.
    exceptions: Any = sys.modules.get("rest_framework.exceptions")
    if exceptions is None or not isinstance(error, exceptions.APIException):
        return None
    api: Any = error
    if isinstance(error, exceptions.ValidationError):
        return list(_errors(api.detail, []))
    message = api.detail
    # A detail of several parts has no one message.
    text = str(message) if isinstance(message, str) else str(api.default_detail)
    code = getattr(message, "code", None) or api.default_code
    return int(api.status_code), str(code), text


def _errors(detail: Any, loc: list[str | int]) -> Iterator[FieldError]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from _errors(value, loc if key == _own_key() else [*loc, key])
    elif isinstance(detail, list):
        for number, value in enumerate(detail):
            # Messages of one field; or, with many=True, one dict for each item.
            yield from _errors(value, [*loc, number] if isinstance(value, dict | list) else loc)
    else:
        yield FieldError(loc=list(loc), msg=str(detail), type=str(getattr(detail, "code", None) or "invalid"))


def _own_key() -> str:
    """Return the key of errors that belong to no field."""
    return str(sys.modules["rest_framework.settings"].api_settings.NON_FIELD_ERRORS_KEY)
