"""
Extensions of Pydantic for the fields of events.

Lazy translations are accepted as text. A class with a field of the type ``bytes`` is refused unless it declares how
JSON represents them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

from .bounds import NESTED

__all__ = ["accept_lazy_text", "undecided_bytes"]


def accept_lazy_text(schema: core_schema.CoreSchema, model: type) -> core_schema.CoreSchema:
    """
    Return the core schema of a model with ``str`` fields that also accept lazy text in Python.

    The validation of JSON doesn't change. Nested models stay as they are, because their classes have their own
    validators.
    """
    changed: core_schema.CoreSchema = _with_lazy_text(schema, model)
    return changed


def undecided_bytes(schema: core_schema.CoreSchema) -> str | None:
    """
    Return the location of bytes in a nested model that doesn't define how they are written in JSON; None if there are
    none.

    Pydantic would write them as UTF-8, regardless of the event's configuration.
    """
    return next(_undecided_bytes(schema, ""), None)


def _with_lazy_text(schema: Any, model: type) -> Any:
    kind = schema.get("type")
    if kind == "str":
        return core_schema.json_or_python_schema(
            schema, core_schema.no_info_before_validator_function(_as_text, schema)
        )
    if kind == "model" and schema["cls"] is not model:
        return schema
    changed = {
        key: _each(value, lambda inner: _with_lazy_text(inner, model)) if key in NESTED else value
        for key, value in schema.items()
    }
    if kind == "union":
        # The label of a choice is part of the location of errors, which is sent to clients, so it must not change.
        changed["choices"] = [
            new if isinstance(new, tuple) or new == old else (new, _name(old))
            for old, new in zip(schema["choices"], changed["choices"], strict=True)
        ]
    return changed


def _each(value: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    """Apply ``change`` to a schema, or to each schema of a collection."""
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    if isinstance(value, tuple):
        return (_each(value[0], change), *value[1:])  # a choice of a union, with its label
    if not isinstance(value, dict):
        return value
    return change(value) if isinstance(value.get("type"), str) else {k: _each(v, change) for k, v in value.items()}


def _name(choice: Any) -> str:
    try:
        return SchemaValidator(choice).title
    except SchemaError:  # it refers to a definition outside of the choice
        return str(choice["type"])


def _as_text(value: Any) -> Any:
    # Lazy text has the methods of str without being a str: Django's and Babel's translations, collections.UserString.
    return value if isinstance(value, str) or not hasattr(type(value), "casefold") else str(value)


def _undecided_bytes(schema: Any, where: str) -> Iterator[str]:
    if isinstance(schema, list | tuple):
        for item in schema:
            yield from _undecided_bytes(item, where)
    elif isinstance(schema, dict) and not isinstance(schema.get("type"), str):
        for name, item in schema.items():
            yield from _undecided_bytes(item, f"{where.partition('.')[0]}.{name}" if where else "")
    elif isinstance(schema, dict):
        if schema["type"] == "model":
            where = "" if "ser_json_bytes" in schema.get("config", {}) else schema["cls"].__qualname__
        if schema["type"] == "bytes" and where and "serialization" not in schema:
            yield where
        for key in NESTED & schema.keys():
            yield from _undecided_bytes(schema[key], where)
