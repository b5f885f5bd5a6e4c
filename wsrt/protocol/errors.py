"""The description of validation errors for clients, which never contains the input."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import ErrorDetails, PydanticKnownError

from ..types import FieldError
from .bounds import VISIT
from .events import Event
from .schema import Schema

MAX_ERRORS = 20
"""The maximum number of errors in one answer. A frame of 64 KiB can hold thousands of undeclared keys."""

MAX_BUILT = 100
"""The maximum number of errors that are built, of which MAX_ERRORS are shown."""

TOO_COMPLEX = FieldError(loc=[], msg="Too many ways to match a recursive union", type="too_complex")
"""The error for data that a recursive union may match in so many ways that validation was stopped."""

UNEXPLAINED = FieldError(loc=[], msg="Invalid, with too many errors to list", type="too_many_errors")
"""The error for data whose errors would be too expensive to find."""

OWN_TEXT = {"value_error": "Value error, ", "assertion_error": "Assertion failed, "}
"""The error types whose message is the text of a validator, with the prefix that Pydantic adds to it."""

INPUT_CONTEXT = frozenset({"error", "tag", "method_name", "nested_type"})
"""The keys of the context of Pydantic's errors whose values come from the input."""


def field_errors(error: ValidationError, model: type[Event], data: Any, *, depth: int = 2) -> tuple[FieldError, ...]:
    """
    Return the errors of an event's data for ``wsrt.error``.

    Args:
        error: The error of the validator.
        model: The model of the event.
        data: The received data, parsed. Its keys that no model declares become "*" in ``loc``.
        depth: The number of parts at the beginning of Pydantic's ``loc`` that aren't part of the data: 2 if the
            envelope was validated, its event and "data".
    """
    declared = declared_names(model)
    details = [
        detail
        for detail in error.errors(include_url=False, include_input=False)
        if VISIT not in detail["loc"] and (not depth or detail["loc"][1:2] == ("data",))
    ]
    return tuple(
        FieldError(loc=_location(detail["loc"][depth:], data, declared), msg=_render(detail), type=detail["type"])
        for detail in details[:MAX_ERRORS]
    )


def shortened(data: Any, model: type[Event]) -> Any:
    """Return parsed data with at most MAX_ERRORS undeclared keys in each object."""
    return _shorten(data, declared_names(model))


def _shorten(value: Any, declared: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [_shorten(item, declared) for item in value]
    if not isinstance(value, dict):
        return value
    dropped = frozenset([key for key in value if key not in declared][MAX_ERRORS:])
    return {key: _shorten(item, declared) for key, item in value.items() if key not in dropped}


@functools.cache
def declared_names(model: type[BaseModel]) -> frozenset[str]:
    """Return all field names and aliases of a model and its nested models."""
    names = set(model.model_fields)
    for by_alias in (True, False):
        try:
            schema = model.model_json_schema(by_alias=by_alias, schema_generator=Schema)
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            continue  # a type without a JSON schema: its nested names aren't known, so they are shown as "*"
        names.update(_properties(schema))
    return frozenset(names)


def _properties(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for value in schema.values():
            yield from _properties(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _properties(value)


def _location(loc: Iterable[str | int], data: Any, declared: frozenset[str]) -> list[str | int]:
    shown: list[str | int] = []
    for part in loc:
        # A key of the input that no model declares. A part that isn't a key is the label of a union's member.
        is_foreign = isinstance(data, dict) and part in data and part not in declared
        shown.append("*" if is_foreign else part)
        if isinstance(data, dict):
            data = data.get(part, data)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return shown


def _render(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind in OWN_TEXT:
        return detail["msg"].removeprefix(OWN_TEXT[kind])
    # Render the message again, with a placeholder for everything that comes from the input.
    context = {key: "\0" if key in INPUT_CONTEXT else value for key, value in detail.get("ctx", {}).items()}
    try:
        text = PydanticKnownError(kind, context or None).message()  # type: ignore[arg-type]  # any of its own types
    except (KeyError, TypeError):
        return detail["msg"]  # a PydanticCustomError, whose text is the validator's own
    return re.sub("[,:] \0", "", text).replace("\0", "*")
