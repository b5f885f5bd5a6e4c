"""Shapes as Python annotations, aliases and classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

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
    references,
    within,
)
from . import literals
from .layout import Expression, Prefixed, Union, call, flat, layout, statement, subscript
from .names import attributes

__all__ = ["STEP", "Types"]

SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}

FORMATS = {
    "date-time": "dt.datetime",
    "date": "dt.date",
    "time": "dt.time",
    "duration": "dt.timedelta",
    "uuid": "UUID",
    "decimal": "Decimal",
    "base64url": "bytes",
    "uri": "AnyUrl",
}
"""The types of strings with a format."""

NO_NOTES = dict.fromkeys(FORMATS, "")
"""The formats that need no note, because the type shows them."""

STEP = 4


class Types:
    """
    Writes the annotations, aliases and classes for the types of one consumer.

    Args:
        named: The consumer's named shapes, by name. See ``shapes.vocabulary()``.
        names: The names of the classes and aliases to write, by the names of the shapes.
        use: Called with each name that the written code must import.
    """

    def __init__(self, named: Mapping[str, Named], names: Mapping[str, str], use: Callable[[str], None]) -> None:
        self._named = named
        self._names = names
        self._use = use
        # The models in discriminated unions, with the name of the field that identifies them.
        self._tags = {
            (member.name, choice.tag)
            for each in named.values()
            for choice in within(each.shape)
            if isinstance(choice, Choice) and choice.tag is not None
            for member in choice.members
            if isinstance(member, Reference)
        }
        # The shapes written so far. Other names aren't defined yet when Python executes a line.
        self._written: set[str] = set()

    def alias(self, named: Named) -> str:
        """Return a named shape as an alias."""
        name, shape = self._names[named.name], named.shape
        type_ = self.annotation(shape)
        is_eager = self._is_written(shape)
        self._written.add(named.name)
        annotation = self._import("TypeAlias")
        if is_eager:
            return f"{statement(0, name, annotation, type_)}\n{literals.docstring(named.description, 0)}"
        # The alias refers to itself or to a later name. Pydantic evaluates only a TypeAliasType lazily; Pyright only
        # understands a TypeAlias wherever it is used.
        quoted = literals.string(flat(type_))
        lazy = call(self._import("TypeAliasType"), literals.string(name), quoted)
        return (
            f"if {self._import('TYPE_CHECKING')}:\n"
            f"{statement(STEP, name, annotation, quoted)}\n{literals.docstring(named.description, STEP)}"
            f"else:\n{statement(STEP, name, None, lazy)}\n"
        )

    def model(self, named: Named, bases: list[Expression]) -> str:
        """Return a named shape as a class. A shape that isn't an object becomes a root model."""
        shape = named.shape
        parents = list(bases)
        if not isinstance(shape, Struct):
            root = self.annotation(shape)
            argument = root if self._is_written(shape) else literals.string(flat(root))
            parents.append(subscript(self._import("RootModel"), argument))
        self._written.add(named.name)
        head = f"{layout(call(f'class {self._names[named.name]}', *parents), 0, 0, 1)}:\n"
        body = literals.docstring(named.description, STEP)
        if isinstance(shape, Struct):
            fields = self._config(shape) + self._fields(shape, named.name)
            body += "\n" * bool(body and fields) + fields
        return head + (body or f"{' ' * STEP}pass\n")

    def one_of(self, names: list[str | None]) -> Expression:
        """Return the union of shapes by name; None stands for the type None. It is quoted if one is defined later."""
        if not names:
            return self._import("Never")
        text = " | ".join(dict.fromkeys("None" if name is None else self._names[name] for name in names))
        return text if {name for name in names if name is not None} <= self._written else literals.string(text)

    def annotation(self, shape: Shape) -> Expression:
        """Return the annotation of a shape."""
        match shape:
            case Anything() | Nothing():
                return self._import("Any")
            case Scalar("string", format_) if format_ in FORMATS:
                return self._import(FORMATS[format_])
            case Scalar(type_):
                return SCALARS[type_]
            case Literals() | Choice():
                return _union(self._members(shape), self._tag(shape))
            case Reference(name):
                return self._names[name]
            case ListOf(item, is_unique):
                return subscript("set" if is_unique and self._is_hashable(item) else "list", self.annotation(item))
            case TupleOf():
                return self._tuple(shape)
            case MapOf(value):
                return subscript("dict", "str", self.annotation(value))
            case Struct(_, rest):
                return subscript("dict", "str", self._import("Any") if rest is None else self.annotation(rest))

    def _fields(self, struct: Struct, model: str) -> str:
        names = attributes(field.name for field in struct.fields)
        texts = [self._field(field, names[field.name], (model, field.name) in self._tags) for field in struct.fields]
        # A blank line follows a field with a docstring.
        spaced = [f"{text}\n" if '"""' in text else text for text in texts[:-1]]
        return "".join([*spaced, *texts[-1:]])

    def _field(self, field: Field, name: str, is_tag: bool) -> str:
        type_, default = self.annotation(field.shape), self._default(field, is_tag)
        known = notes(field if default is None else dataclasses.replace(field, is_required=True), NO_NOTES, _source)
        if not field.is_required and default is None:
            type_, default = subscript(self._import("Omittable"), type_), self._import("UNSET")
        options = []
        if name != field.name:
            options.append(Prefixed("alias=", literals.string(field.name)))
        if field.is_deprecated:
            options.append(Prefixed("deprecated=", "True"))
        if options:
            type_ = subscript(self._import("Annotated"), type_, call(self._import("Field"), *options))
        about = "\n".join(filter(None, [field.description.strip(), known]))
        return f"{statement(STEP, name, type_, default)}\n{literals.docstring(about, STEP)}"

    def _default(self, field: Field, is_tag: bool) -> Expression | None:
        """Return the default of a field that is always sent: it identifies the model, or has only one value."""
        shape = field.shape
        if isinstance(shape, Reference):
            shape = self._named[shape.name].shape
        if field.is_required or not field.has_default or not isinstance(shape, Literals):
            return None
        return _literal(field.default) if field.default in shape.values and (is_tag or len(shape.values) == 1) else None

    def _config(self, struct: Struct) -> str:
        if struct.rest is None:
            return ""
        config = call(self._import("ConfigDict"), Prefixed("extra=", '"allow"'))
        extra = subscript("dict", "str", self.annotation(struct.rest))
        lines = [statement(STEP, "model_config", None, config), statement(STEP, "__pydantic_extra__", extra)]
        return "".join(f"{line}\n" for line in lines) + "\n" * bool(struct.fields)

    def _members(self, shape: Literals | Choice) -> list[Expression]:
        if isinstance(shape, Literals):
            return self._literals(shape)
        members = [self.annotation(each) for each in shape.members]
        if "Decimal" in members:
            # Decimals are accepted as numbers too, but this client sends strings.
            members = [each for each in members if each != "float"]
        return list(dict.fromkeys(members))

    def _literals(self, shape: Literals) -> list[Expression]:
        values = [value for value in shape.values if not isinstance(value, float)]
        found: list[Expression] = []
        if values:
            literal = self._import("Literal")
            found.append("None" if values == [None] else subscript(literal, *dict.fromkeys(map(_literal, values))))
        # Floats aren't allowed in Literal.
        return found if len(values) == len(shape.values) else [*found, "float"]

    def _tag(self, shape: Literals | Choice) -> str | None:
        """Return the attribute that identifies the models of a union, if it has the same name in all of them."""
        if not isinstance(shape, Choice) or shape.tag is None:
            return None
        found = set()
        for member in shape.members:
            struct = self._named[member.name].shape if isinstance(member, Reference) else None
            fields = {field.name: field.shape for field in struct.fields} if isinstance(struct, Struct) else {}
            tag = fields.get(shape.tag)
            if isinstance(tag, Reference):
                tag = self._named[tag.name].shape
            if not isinstance(tag, Literals):
                return None
            found.add(attributes(fields)[shape.tag])
        if len(found) != 1:
            return None
        self._import("Annotated")
        self._import("Field")
        return found.pop()

    def _tuple(self, shape: TupleOf) -> Expression:
        items = [self.annotation(item) for item in shape.items]
        if shape.rest is not None:
            # Python has no more precise type for a tuple with an open end.
            members = dict.fromkeys([*items, self.annotation(shape.rest)])
            return subscript("tuple", Union(tuple(members)), "...")
        lengths = range(shape.required, len(items) + 1)
        return _union([subscript("tuple", *(items[:length] or ["()"])) for length in lengths])

    def _is_hashable(self, shape: Shape) -> bool:
        match shape:
            case Scalar() | Literals():
                return True
            case Reference(name):
                return isinstance(self._named[name].shape, Literals)
            case TupleOf(items, rest):
                return all(map(self._is_hashable, items)) and (rest is None or self._is_hashable(rest))
            case Choice(members):
                return all(map(self._is_hashable, members))
            case _:
                return False

    def _is_written(self, shape: Shape) -> bool:
        return set(references(shape)) <= self._written

    def _import(self, name: str) -> str:
        if name != "bytes":
            self._use(name.partition(".")[0])
        return name


def _union(members: list[Expression], tag: str | None = None) -> Expression:
    union = members[0] if len(members) == 1 else Union(tuple(members))
    if tag is None:
        return union
    return subscript("Annotated", union, call("Field", Prefixed("discriminator=", literals.string(tag))))


def _source(default: Any) -> str:
    return literals.string(default) if isinstance(default, str) else repr(default)


def _literal(value: Any) -> str:
    match value:
        case str():
            return literals.string(value)
        case bool() | None:
            return str(value)
        case _:
            return literals.number(value)
