"""
The JSON Schema of events as they are on the wire.

It is used for generated clients and exported schema documents. The hash by which clients recognise a server's version
is computed from it.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, from_json, to_json

from .numbers import is_finite

__all__ = ["BY_NAME", "GIVEN", "Schema", "as_plain", "without_words"]

GIVEN = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data, not schemas."""

BY_NAME = frozenset({"$defs", "patternProperties", "properties"})
"""Keywords whose values are schemas by name: their keys are not keywords."""

WORDS = frozenset({"description", "title"})
"""Keywords with text for people."""


class Schema(GenerateJsonSchema):
    """Pydantic's JSON Schema, made more precise where the wire format is stricter."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        """Require fields with defaults in events that the server sends: events are sent completely."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return not field.get("serialization_exclude") and "serialization_exclude_if" not in field
        return super().field_is_required(field, total)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """Add a format to strings that hold decimals."""
        written = super().decimal_schema(schema)
        for each in (written, *written.get("anyOf", ())):
            if each.get("type") == "string":
                each["format"] = "decimal"
        return written

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        """Describe an ``enum.Flag`` as a number, because its values are all combinations of its members."""
        written = super().enum_schema(schema)
        if issubclass(schema["cls"], enum.Flag):
            del written["enum"]
        elif "enum" in written:
            # A member with two names is one value. Compared as text, because 1 == True in Python.
            written["enum"] = list({_text(value): value for value in written["enum"]}.values())
        return written

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Write the values of keys as text, as they are in JSON, if the keys are an enumeration such as an IntEnum."""
        written = super().dict_schema(schema)
        names = written.get("propertyNames")
        if isinstance(names, dict) and "$ref" in names:
            found = self.get_schema_from_definitions(names["$ref"]) or {}
            if "enum" in found:
                written["propertyNames"] = {"enum": list(dict.fromkeys(map(_key_text, found["enum"])))}
            elif found.get("type") in ("integer", "number", "boolean"):
                del written["propertyNames"]
        return written

    def ser_schema(
        self, schema: core_schema.SerSchema | core_schema.IncExSeqSerSchema | core_schema.IncExDictSerSchema
    ) -> JsonSchemaValue | None:
        """Allow any value for a serializer without a return annotation."""
        written = super().ser_schema(schema)
        if written is None and schema.get("type") in ("function-plain", "function-wrap"):
            # The results of Pydantic's own serializers are of the type that the schema names.
            module = str(getattr(schema.get("function"), "__module__", None))
            return None if module.partition(".")[0] in ("pydantic", "operator") else {}
        return written

    def _named_required_fields_schema(self, named_required_fields: Sequence[tuple[str, bool, Any]]) -> JsonSchemaValue:
        """Write fields with an AliasPath, which are read from a nested object, into that object."""
        fields = [(field, self._path(field[2])) for field in named_required_fields]
        written = super()._named_required_fields_schema([field for field, path in fields if path is None])
        for (name, is_required, field), path in fields:
            if path is not None:
                alone = super()._named_required_fields_schema([(name, is_required, field)])
                for schema in alone["properties"].values():
                    _put(written, path, schema, is_required=is_required)
        return written

    def _get_alias_name(self, field: Any, name: str) -> str:
        # Events that the server sends always use aliases, regardless of a model's configuration.
        is_ignored = self.mode == "validation" and self._config.validate_by_alias is False
        return name if is_ignored else super()._get_alias_name(field, name)

    def _path(self, field: Any) -> list[str | int] | None:
        """Return the path from which a field is read; None if it can be given by a name."""
        found = field.get("validation_alias") if self.mode == "validation" and self.by_alias else None
        if not isinstance(found, list) or self._config.validate_by_name or self._config.validate_by_alias is False:
            return None
        # A single path, or those of AliasChoices.
        paths: list[list[str | int]] = found if isinstance(found[0], list) else [found]
        return None if any(len(path) == 1 for path in paths) else paths[0]

    def encode_default(self, dft: Any) -> Any:
        """Write sets in a stable order. The order of a set differs between processes."""
        return _in_order(dft, super().encode_default(dft))


def as_plain(value: Any) -> Any:
    """
    Return a schema as plain JSON.

    Lazy translations become text with ``str()``. Numbers that JSON doesn't have, such as an infinite default, are left
    out together with their keyword.
    """
    if isinstance(value, dict):
        plain = ((str(key), as_plain(inner)) for key, inner in value.items())
        return {key: inner for key, inner in plain if is_finite(inner)}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def without_words(schema: Any) -> Any:
    """Return a schema without texts for people, which depend on the language and are missing under ``python -OO``."""
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
    """Return the written form of a value, with sets sorted by the text of their members."""
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


def _key_text(value: Any) -> str:
    """Return the text of a value that is used as a key in JSON."""
    [text] = from_json(to_json({value: None}))
    return str(text)


def _put(schema: JsonSchemaValue, path: Sequence[str | int], value: JsonSchemaValue, *, is_required: bool) -> None:
    """Insert the schema of a value at a path of nested objects and arrays."""
    step, *rest = path
    if isinstance(step, int) and step < 0:
        return  # counted from the end, which JSON Schema can't express
    inner: JsonSchemaValue = {"type": "object" if isinstance(rest[0], str) else "array"} if rest else value
    if isinstance(step, int):
        items = schema.setdefault("prefixItems", [])
        items.extend({} for _ in range(step + 1 - len(items)))
        if not (rest and items[step].get("type") == inner["type"]):
            items[step] = inner
        if is_required:
            schema["minItems"] = max(step + 1, schema.get("minItems", 0))
        inner = items[step]
    else:
        inner = schema.setdefault("properties", {}).setdefault(step, inner)
        if is_required and step not in schema.setdefault("required", []):
            schema["required"].append(step)
    if rest and inner.get("type") in ("object", "array"):
        _put(inner, rest, value, is_required=is_required)
