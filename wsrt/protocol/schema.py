"""
JSON Schema of events, as the wire has them.

One way of writing it for the hash by which servers and clients know each other, and for what is generated.
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

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Write keys as the text that they are in JSON, where they have values of their own: an IntEnum, for one."""
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
        """Say of what a serializer returns that it may be anything, where it has no return annotation."""
        written = super().ser_schema(schema)
        if written is None and schema.get("type") in ("function-plain", "function-wrap"):
            # Pydantic has such functions itself: they return what the type says.
            module = str(getattr(schema.get("function"), "__module__", None))
            return None if module.partition(".")[0] in ("pydantic", "operator") else {}
        return written

    def _named_required_fields_schema(self, named_required_fields: Sequence[tuple[str, bool, Any]]) -> JsonSchemaValue:
        """Put fields that are read from within an object, by an AliasPath, into that object."""
        fields = [(field, self._path(field[2])) for field in named_required_fields]
        written = super()._named_required_fields_schema([field for field, path in fields if path is None])
        for (name, is_required, field), path in fields:
            if path is not None:
                alone = super()._named_required_fields_schema([(name, is_required, field)])
                for schema in alone["properties"].values():
                    _put(written, path, schema, is_required=is_required)
        return written

    def _get_alias_name(self, field: Any, name: str) -> str:
        # What the server sends has its aliases, whatever a model's configuration says.
        is_ignored = self.mode == "validation" and self._config.validate_by_alias is False
        return name if is_ignored else super()._get_alias_name(field, name)

    def _path(self, field: Any) -> list[str | int] | None:
        """Return where a field is read from; None where it may be given by a name."""
        found = field.get("validation_alias") if self.mode == "validation" and self.by_alias else None
        if not isinstance(found, list) or self._config.validate_by_name or self._config.validate_by_alias is False:
            return None
        # A single path, or those of AliasChoices.
        paths: list[list[str | int]] = found if isinstance(found[0], list) else [found]
        return None if any(len(path) == 1 for path in paths) else paths[0]

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
        return {key: inner for key, inner in plain if is_finite(inner)}
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


def _key_text(value: Any) -> str:
    """Return a value as it is written as a key."""
    [text] = from_json(to_json({value: None}))
    return str(text)


def _put(schema: JsonSchemaValue, path: Sequence[str | int], value: JsonSchemaValue, *, is_required: bool) -> None:
    """Put the schema of a value where a path leads to within objects and arrays."""
    step, *rest = path
    if isinstance(step, int) and step < 0:
        return  # counted from the end: JSON Schema can't say that
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
