"""
JSON Schema of events, as the wire has them.

One way of writing it for the hash by which servers and clients know each other, and for what is generated.
"""

from __future__ import annotations

import enum
import json
import math
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

__all__ = ["BY_NAME", "GIVEN", "Schema", "as_plain", "without_words"]

GIVEN = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data, not schemas."""

BY_NAME = frozenset({"$defs", "patternProperties", "properties"})
"""Keywords whose values are schemas by name: what stands there is no keyword."""

WORDS = frozenset({"description", "title"})
"""Keywords for people."""


class Schema(GenerateJsonSchema):
    """JSON Schema as Pydantic writes it, but for what it leaves open though the wire does not."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        """Say of what the server sends that fields with defaults are always there: events are sent whole."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return not field.get("serialization_exclude") and "serialization_exclude_if" not in field
        return super().field_is_required(field, total)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """Mark decimals among strings."""
        written = super().decimal_schema(schema)
        for each in (written, *written.get("anyOf", ())):
            if each.get("type") == "string":
                each["format"] = "decimal"
        return written

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        """Say of flags that they are numbers: their values are all combinations, not the members alone."""
        written = super().enum_schema(schema)
        if issubclass(schema["cls"], enum.Flag):
            del written["enum"]
        elif "enum" in written:
            # A member of two names is one value. By text, for 1 and true are two.
            written["enum"] = list({_text(value): value for value in written["enum"]}.values())
        return written

    def encode_default(self, dft: Any) -> Any:
        """Write sets in one order: theirs is another one in each process."""
        return _in_order(dft, super().encode_default(dft))


def as_plain(value: Any) -> Any:
    """
    Return a schema as plain JSON.

    Translations that are looked up late become text, as ``str()`` gives it; numbers that JSON does not have, such as an
    infinite default, are left out with their keyword.
    """
    if isinstance(value, dict):
        plain = ((str(key), as_plain(inner)) for key, inner in value.items())
        return {key: inner for key, inner in plain if _is_finite(inner)}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def without_words(schema: Any) -> Any:
    """Return a schema without what is for people alone, which may be in any language, or left out by ``python -OO``."""
    if isinstance(schema, list):
        return [without_words(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, inner in schema.items():
        if key in BY_NAME and isinstance(inner, dict):
            found[key] = {name: without_words(each) for name, each in inner.items()}
        elif key not in WORDS:
            found[key] = inner if key in GIVEN else without_words(inner)
    return found


def _in_order(value: Any, written: Any) -> Any:
    """Return what was written of a value, with its sets in the order of their members' text."""
    match value, written:
        case ((set() | frozenset()), list()):
            return sorted(written, key=_text)
        case BaseModel(), dict():
            found = {
                field.serialization_alias or field.alias or name: getattr(value, name, None)
                for name, field in type(value).model_fields.items()
            }
            return {key: _in_order(found.get(key), inner) for key, inner in written.items()}
        case dict(), dict() if len(value) == len(written):
            pairs = zip(value.values(), written.items(), strict=True)
            return {key: _in_order(inner, text) for inner, (key, text) in pairs}
        case ((list() | tuple()), list()) if len(value) == len(written):
            return [_in_order(inner, text) for inner, text in zip(value, written, strict=True)]
    return written


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return all(map(_is_finite, value)) if isinstance(value, list) else True
