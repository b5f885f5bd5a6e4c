"""
Shapes as TypeScript types.

They refer to named shapes and to built-in types only, so that models may have any name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..notes import notes
from ..shapes import (
    Anything,
    Choice,
    Field,
    ListOf,
    Literals,
    MapOf,
    Named,
    Nothing,
    Reference,
    Scalar,
    Shape,
    Struct,
    TupleOf,
)
from .text import comment, key, literal

__all__ = ["Types"]

WIDTH = 120
SCALARS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
EMPTY = "{ readonly [key: string]: never }"

FORMATS = {
    "date-time": 'A date with its time in ISO 8601: "2026-01-31T12:30:00Z".',
    "date": 'A date in ISO 8601: "2026-01-31".',
    "time": 'A time of day in ISO 8601: "12:30:00".',
    "duration": 'A duration in ISO 8601: "PT1M30S".',
    "uuid": 'A UUID: "7a6b1a1e-4f0c-4ad5-9f42-0f4a3c2b1d10".',
    "decimal": 'A decimal number as text, so that no digit is lost: "12.50".',
    "base64url": 'Bytes in base64 with "-" and "_": "aGk_".',
    "uri": 'A URL: "https://example.com/".',
    "email": 'An e-mail address: "ada@example.com".',
}
"""Notes on the formats of strings, whose type is only ``string``."""


class Types:
    """
    Writes the types of one consumer.

    Args:
        named: The consumer's named shapes, see ``shapes.vocabulary()``.
        names: The names of the types to write, by the names of the shapes.

    Attributes:
        used: The named shapes referred to so far.
    """

    def __init__(self, named: Mapping[str, Named], names: Mapping[str, str]) -> None:
        self._named = named
        self._names = names
        self.used: set[str] = set()

    def declaration(self, named: Named) -> str:
        """Return the declaration of a named shape."""
        name, shape = self._names[named.name], named.shape
        about = comment([named.description])
        # Objects with fields become interfaces: editors show their names, and they may refer to themselves.
        if isinstance(shape, Struct) and shape.fields:
            return f"{about}export interface {name} {{\n{self._body(shape, '  ')}}}\n"
        text = f"{about}export type {name} = {self.type(shape)};\n"
        if isinstance(shape, Choice | Literals) and len(text.removeprefix(about)) > WIDTH:
            members = "".join(f"\n  | {member}" for member in self._members(shape))
            text = f"{about}export type {name} ={members};\n"
        return text

    def type(self, shape: Shape, indent: str = "") -> str:
        """Return the type of a shape. Lines after the first are indented."""
        match shape:
            case Anything():
                return "unknown"
            case Nothing():
                return "never"
            case Scalar(type_):
                return SCALARS[type_]
            case Literals() | Choice():
                return " | ".join(self._members(shape, indent))
            case Reference(name):
                self.used.add(name)
                return self._names[name]
            case ListOf(item):
                return f"readonly {self._item(item, indent)}[]"
            case TupleOf():
                return self._tuple(shape, indent)
            case MapOf(value):
                return f"{{ readonly [key: string]: {self.type(value, indent)} }}"
            case Struct(fields):
                return f"{{\n{self._body(shape, f'{indent}  ')}{indent}}}" if fields else self._open(shape)

    def _members(self, shape: Literals | Choice, indent: str = "") -> list[str]:
        if isinstance(shape, Literals):
            return list(dict.fromkeys(map(literal, shape.values)))
        return list(dict.fromkeys(self._member(member, shape.tag, indent) for member in shape.members))

    def _member(self, shape: Shape, tag: str | None, indent: str) -> str:
        text = self.type(shape, indent)
        if tag is None or not isinstance(shape, Reference):
            return text
        struct = self._named[shape.name].shape
        fields = struct.fields if isinstance(struct, Struct) else ()
        for field in fields:
            # Required despite its default: without the tag the server can't identify the member of the union.
            if field.name == tag and not field.is_required:
                return f"({text} & {{ readonly {key(tag)}: {self.type(field.shape, indent)} }})"
        return text

    def _item(self, shape: Shape, indent: str) -> str:
        text = self.type(shape, indent)
        is_joined = isinstance(shape, Choice | Literals) and len(self._members(shape)) > 1
        # "readonly" binds to the outermost list only.
        return f"({text})" if is_joined or text.startswith("readonly ") else text

    def _tuple(self, shape: TupleOf, indent: str) -> str:
        items = [
            self.type(item, indent) if at < shape.required else f"{self._item(item, indent)}?"
            for at, item in enumerate(shape.items)
        ]
        if shape.rest is not None:
            items.append(f"...{self._item(shape.rest, indent)}[]")
        return f"readonly [{', '.join(items)}]"

    def _body(self, struct: Struct, indent: str) -> str:
        text = "".join(self._field(field, indent) for field in struct.fields)
        return text if struct.rest is None else f"{text}{indent}readonly [key: string]: {self._rest(struct, indent)};\n"

    def _field(self, field: Field, indent: str) -> str:
        about = comment([field.description, _notes(field)], indent, is_deprecated=field.is_deprecated)
        optional = "" if field.is_required else "?"
        return f"{about}{indent}readonly {key(field.name)}{optional}: {self.type(field.shape, indent)};\n"

    def _open(self, struct: Struct) -> str:
        return EMPTY if struct.rest is None else f"{{ readonly [key: string]: {self.type(struct.rest)} }}"

    def _rest(self, struct: Struct, indent: str) -> str:
        """Return the type of other keys. TypeScript requires that it includes the types of all fields."""
        shapes = [struct.rest, *(field.shape for field in struct.fields)]
        types = dict.fromkeys(self.type(shape, indent) for shape in shapes if shape is not None)
        if "unknown" in types:
            return "unknown"
        if not all(field.is_required for field in struct.fields):
            types["undefined"] = None
        return " | ".join(types)


def _notes(field: Field) -> str:
    return notes(field, FORMATS, lambda default: json.dumps(default, ensure_ascii=False))
