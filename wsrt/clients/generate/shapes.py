"""
Shapes: what data may look like, read from the JSON Schema of a description.

Both languages are written from shapes, so that the reading of JSON Schema happens once.
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
    """No value at all: a list of it is empty, and an object that needs one cannot be made."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """
    A single value.

    Attributes:
        format: "date-time", "date", "time", "duration", "uuid", "decimal", "base64url", "uri", "email" or what else
            JSON Schema says of a string; None for nothing.
        limits: keywords of JSON Schema that bound it: ``minimum``, ``maxLength``, ``pattern``.
    """

    type: Literal["string", "integer", "number", "boolean", "null"]
    format: str | None = None
    limits: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Literals:
    """One of these values: strings, integers, floats, booleans, None."""

    values: tuple[str | int | float | bool | None, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A named shape, by its name in the vocabulary."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class ListOf:
    item: Shape
    is_unique: bool = False
    limits: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class TupleOf:
    """
    Attributes:
        rest: the shape of what may follow ``items``; None where nothing may.
        required: how many of ``items`` have to be there.
    """

    items: tuple[Shape, ...]
    rest: Shape | None
    required: int


@dataclasses.dataclass(frozen=True, slots=True)
class MapOf:
    """An object with any keys."""

    value: Shape
    limits: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """
    A field of an object.

    Attributes:
        name: on the wire; it may be no identifier.
        has_default, default: what the schema says, of fields that are not required; a factory's is not known.
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
        rest: the shape of other keys, where there may be any; None where the schema says nothing of them, or forbids
            them: ``is_closed`` tells which.
    """

    fields: tuple[Field, ...]
    rest: Shape | None = None
    is_closed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """
    One of several shapes.

    Attributes:
        tag: the name of the field that tells which, where there is one.
    """

    members: tuple[Shape, ...]
    tag: str | None = None


Shape = Anything | Nothing | Scalar | Literals | Reference | ListOf | TupleOf | MapOf | Struct | Choice


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A shape with a name: in TypeScript a type, in Python a class or an alias."""

    name: str
    shape: Shape
    description: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """
    An event, with the data that it carries.

    Attributes:
        entry: what the description says of it.
        shape: mostly a Reference.
        replies: names of the events that answer it; "wsrt.ok" stands for no data.
    """

    entry: EventEntry
    shape: Shape

    @property
    def name(self) -> str:
        """The name on the wire."""
        return self.entry["name"]

    @property
    def replies(self) -> tuple[str, ...]:
        return tuple(self.entry["replies"])


@dataclasses.dataclass(frozen=True, slots=True)
class Vocabulary:
    """
    All shapes of one consumer.

    Attributes:
        named: each after those that it refers to, where it is not recursive.
        sends: events that the client sends, in the order of their names.
        receives: events that the client receives, likewise, those that are replies included.
        shown: what members of a room show; None where they show nothing.
    """

    named: tuple[Named, ...]
    sends: tuple[Message, ...]
    receives: tuple[Message, ...]
    shown: Shape | None


def vocabulary(consumer: ConsumerEntry) -> Vocabulary:
    """
    Return the shapes of a consumer, from the client's side.

    Names are PascalCase identifiers, made of those of the models; where a model reads otherwise than it is written,
    there are two: "Cat", which the client gets, and "CatInput", which it sends.
    """
    reader = _Reader(consumer["definitions"])
    sends = tuple(Message(event, reader.read(event["schema"])) for event in consumer["receives"])
    receives = tuple(Message(event, reader.read(event["schema"])) for event in consumer["sends"])
    shown = None if consumer["presence"] is None else reader.read(consumer["presence"])
    return Vocabulary(tuple(reader.named()), sends, receives, shown)


def within(shape: Shape) -> Iterator[Shape]:
    """Yield a shape and those within it; those within what it refers to are not looked for."""
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
    """Yield the names that a shape refers to; those within what it refers to are not looked for."""
    return (each.name for each in within(shape) if isinstance(each, Reference))


def words(text: str) -> list[str]:
    """Return the words of a name, however they are joined: "message.sent" and "messageSent" are the same two."""
    parted = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3 \2\4", text)
    return re.findall(r"[^\W_]+", parted)


def pascal(text: str) -> str:
    """Return a name as ``PascalCase``; what begins with a digit gets a "T" before it."""
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
    """Reads schemas, and gives names to definitions."""

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
            # A choice that is not told apart by a field of its own dissolves in the one around it.
            inner = shape.members if isinstance(shape, Choice) and shape.tag is None else (shape,)
            # By their text: 1 and True are two values of JSON, and equal in Python.
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
            # A model without fields says nothing of its keys; a dict says that any may be there.
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
