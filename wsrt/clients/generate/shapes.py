"""
The shapes of data, read from the JSON Schema of a description.

The generators of all languages use them, so that JSON Schema is interpreted in one place.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ...protocol.schema import BY_NAME, GIVEN
from ...schema.description import ConsumerEntry, EventEntry

__all__ = [
    "Anything",
    "Choice",
    "Field",
    "ListOf",
    "Literals",
    "MapOf",
    "Message",
    "Named",
    "Nothing",
    "Reference",
    "Scalar",
    "Shape",
    "Struct",
    "TupleOf",
    "Vocabulary",
    "camel",
    "pascal",
    "references",
    "snake",
    "vocabulary",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Anything:
    """Any JSON value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing:
    """No value. A list of it is always empty, and an object that requires it can't exist."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """
    A single value.

    Attributes:
        type: The type in JSON Schema.
        format: The format in JSON Schema, such as "date-time", "uuid", "decimal" or "base64url". None if there is none.
        limits: The keywords of JSON Schema that limit it, such as ``minimum``, ``maxLength`` and ``pattern``.
    """

    type: Literal["string", "integer", "number", "boolean", "null"]
    format: str | None = None
    limits: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Literals:
    """One of several values: strings, integers, floats, booleans or None."""

    values: tuple[str | int | float | bool | None, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a named shape, by its name."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class ListOf:
    """A list of items of one shape."""

    item: Shape
    is_unique: bool = False
    limits: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class TupleOf:
    """
    A list whose first items have shapes of their own.

    Attributes:
        items: The shapes of the first items.
        rest: The shape of further items. None if there may be none.
        required: The number of ``items`` that must be present.
    """

    items: tuple[Shape, ...]
    rest: Shape | None
    required: int


@dataclasses.dataclass(frozen=True, slots=True)
class MapOf:
    """An object with arbitrary keys and values of one shape."""

    value: Shape
    limits: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """
    A field of an object.

    Attributes:
        name: The name on the wire, which may not be an identifier.
        has_default, default: The default in the schema. The default of a factory isn't known.
    """

    name: str
    shape: Shape
    is_required: bool
    description: str = ""
    is_deprecated: bool = False
    has_default: bool = False
    default: Any = dataclasses.field(default=None, hash=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Struct:
    """
    An object with known fields.

    Attributes:
        fields: The known fields.
        rest: The shape of other keys' values. None if the schema doesn't mention other keys, or forbids them.
        is_closed: Whether other keys are forbidden.
    """

    fields: tuple[Field, ...]
    rest: Shape | None = None
    is_closed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """
    One of several shapes.

    Attributes:
        members: The possible shapes.
        tag: The name of the field that identifies the shape. None if there is none.
    """

    members: tuple[Shape, ...]
    tag: str | None = None


Shape = Anything | Nothing | Scalar | Literals | Reference | ListOf | TupleOf | MapOf | Struct | Choice


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A shape with a name. It becomes a type in TypeScript, and a class or an alias in Python."""

    name: str
    shape: Shape
    description: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """
    An event, with the shape of its data.

    Attributes:
        entry: The event's entry in the description.
        shape: The shape of its data, usually a Reference.
    """

    entry: EventEntry
    shape: Shape

    @property
    def name(self) -> str:
        """The event's name on the wire."""
        return self.entry["name"]

    @property
    def replies(self) -> tuple[str, ...]:
        """The names of the events that may answer the event. "wsrt.ok" stands for no data."""
        return tuple(self.entry["replies"])


@dataclasses.dataclass(frozen=True, slots=True)
class Vocabulary:
    """
    All shapes of one consumer.

    Attributes:
        named: The named shapes. Each comes after those that it refers to, unless they are recursive.
        sends: The events that the client sends, sorted by name.
        receives: The events that the client receives, including replies, sorted by name.
        member_data: The shape of the data shown for the members of a room. None if the consumer shows none.
    """

    named: tuple[Named, ...]
    sends: tuple[Message, ...]
    receives: tuple[Message, ...]
    member_data: Shape | None


def vocabulary(consumer: ConsumerEntry) -> Vocabulary:
    """
    Return the shapes of a consumer, from the client's perspective.

    Names are PascalCase identifiers derived from the names of models. A model that differs when sent and when received
    has two shapes: "Cat", which the client receives, and "CatInput", which it sends.
    """
    reader = _Reader(consumer["definitions"])
    sends = tuple(Message(event, reader.read(event["schema"])) for event in consumer["receives"])
    receives = tuple(Message(event, reader.read(event["schema"])) for event in consumer["sends"])
    member_data = None if consumer["presence"] is None else reader.read(consumer["presence"])
    return Vocabulary(tuple(reader.named()), sends, receives, member_data)


def within(shape: Shape) -> Iterator[Shape]:
    """Yield a shape and the shapes within it. References aren't followed."""
    yield shape
    inner: list[Shape] = []
    match shape:
        case ListOf(item):
            inner = [item]
        case MapOf(value):
            inner = [value]
        case TupleOf(items, rest):
            inner = [*items, *([] if rest is None else [rest])]
        case Choice(members):
            inner = [*members]
        case Struct(fields, rest):
            inner = [*(field.shape for field in fields), *([] if rest is None else [rest])]
    for each in inner:
        yield from within(each)


def references(shape: Shape) -> Iterator[str]:
    """Yield the names that a shape refers to. References aren't followed."""
    return (each.name for each in within(shape) if isinstance(each, Reference))


def words(text: str) -> list[str]:
    """Return the words of a name, however they are joined: "message.sent" and "messageSent" have the same words."""
    parted = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3 \2\4", text)
    return re.findall(r"[^\W_]+", parted)


def pascal(text: str) -> str:
    """Return a name as ``PascalCase``, prefixed with "T" if it starts with a digit."""
    name = "".join(word[0].upper() + word[1:] for word in words(text))
    return name if name and not name[0].isdigit() else f"T{name}"


def camel(text: str) -> str:
    """Return a name as ``camelCase``."""
    name = pascal(text)
    return name[0].lower() + name[1:]


def snake(text: str) -> str:
    """Return a name as ``snake_case``."""
    name = "_".join(word.lower() for word in words(text))
    return name if name and not name[0].isdigit() else f"t_{name}"


# Private.

PREFIX = "#/$defs/"

LIMITS = (
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)


class _Reader:
    """Converts schemas to shapes, and names the definitions."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._names: dict[str, str] = {}
        for key in definitions:
            name = base = pascal(key.removesuffix("-Output"))
            number = 2
            while name in self._names.values():
                name, number = f"{base}{number}", number + 1
            self._names[key] = name

    def named(self) -> Iterable[Named]:
        done: dict[str, Named] = {}
        open_keys: set[str] = set()

        def visit(key: str) -> None:
            if key in open_keys:
                return
            open_keys.add(key)
            schema = self._definitions[key]
            for other in _references(schema):
                visit(other)
            done[key] = Named(self._names[key], self.read(schema), schema.get("description", ""))

        for key in self._definitions:
            visit(key)
        return done.values()

    def read(self, schema: Any) -> Shape:
        if schema is True or schema == {}:
            return Anything()
        if schema is False:
            return Nothing()
        if "$ref" in schema:
            return Reference(self._names[schema["$ref"].removeprefix(PREFIX)])
        if "const" in schema:
            return _literals([schema["const"]])
        if "enum" in schema:
            return _literals(schema["enum"])
        for key in ("oneOf", "anyOf"):
            if key in schema:
                return self._choice(schema[key], schema.get("discriminator"))
        if len(schema.get("allOf", ())) == 1:
            return self.read(schema["allOf"][0])
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._choice([{**schema, "type": each} for each in kind], None)
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return self._object(schema)
        if kind in ("string", "integer", "number", "boolean", "null"):
            return Scalar(kind, schema.get("format"), _limits(schema))
        return Anything()

    def _choice(self, schemas: list[Any], discriminator: Any) -> Shape:
        members: list[Shape] = []
        for schema in schemas:
            shape = self.read(schema)
            # A nested choice without a tag is merged into this one.
            inner = shape.members if isinstance(shape, Choice) and shape.tag is None else (shape,)
            # Compared by repr(), because 1 and True are different JSON values but equal in Python.
            members.extend(each for each in inner if repr(each) not in map(repr, members))
        if len(members) < 2:
            return members[0] if members else Nothing()
        tag = discriminator.get("propertyName") if isinstance(discriminator, dict) else None
        return Choice(tuple(members), tag)

    def _array(self, schema: dict[str, Any]) -> Shape:
        if "prefixItems" not in schema:
            if schema.get("maxItems") == 0:
                return TupleOf((), None, 0)
            return ListOf(self.read(schema.get("items", True)), schema.get("uniqueItems", False), _limits(schema))
        items = tuple(self.read(item) for item in schema["prefixItems"])
        more = schema.get("items", True)
        ends = more is False or schema.get("maxItems") == len(items)
        return TupleOf(items, None if ends else self.read(more), min(schema.get("minItems", 0), len(items)))

    def _object(self, schema: dict[str, Any]) -> Shape:
        more = schema.get("additionalProperties")
        if "properties" not in schema:
            patterns = list(schema.get("patternProperties", {}).values())
            if patterns:
                return MapOf(self._choice(patterns, None), _limits(schema))
            if more is False:
                return Struct((), None, is_closed=True)
            # A model without fields doesn't mention other keys, but a dict allows any keys.
            return Struct(()) if more is None and "title" in schema else MapOf(self.read(more or True), _limits(schema))
        required = set(schema.get("required", ()))
        fields = tuple(
            Field(
                name,
                self.read(each),
                name in required,
                each.get("description", "") if isinstance(each, dict) else "",
                isinstance(each, dict) and each.get("deprecated", False),
                isinstance(each, dict) and "default" in each,
                each.get("default") if isinstance(each, dict) else None,
            )
            for name, each in schema["properties"].items()
        )
        rest = None if more is None or more is False else self.read(more)
        return Struct(fields, rest, is_closed=more is False)


def _literals(values: list[Any]) -> Shape:
    if not values:
        return Nothing()  # an Enum without members
    if all(isinstance(value, str | int | float | bool | None) for value in values):
        return Literals(tuple(values))
    return Anything()


def _limits(schema: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((key, schema[key]) for key in LIMITS if key in schema)


def _references(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(PREFIX)
        for key, value in schema.items():
            if key in BY_NAME and isinstance(value, dict):
                yield from _references(list(value.values()))
            elif key not in GIVEN and key != "mapping":
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
