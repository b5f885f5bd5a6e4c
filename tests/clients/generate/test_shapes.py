"""What generators of clients share: shapes are read from JSON Schema once, and names are made of words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, JsonValue, TypeAdapter

from tests.schema.consumers import EveryTypeConsumer
from wsrt.clients.generate.shapes import (
    Anything,
    Choice,
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
    Vocabulary,
    camel,
    pascal,
    snake,
    vocabulary,
)
from wsrt.schema.description import ConsumerEntry, describe


class Cat(BaseModel):
    """A cat."""

    kind: Literal["cat"] = "cat"
    lives: int = Field(default=9, description="How many are left.", deprecated=True)


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Empty(BaseModel):
    pass


class Closed(BaseModel):
    model_config = {"extra": "forbid"}


class Open(BaseModel):
    model_config = {"extra": "allow"}
    name: str


STRING, INTEGER, NULL = Scalar("string"), Scalar("integer"), Scalar("null")


def shape(annotation: Any) -> Shape:
    """Return the shape of a type of Python, as a client gets it."""
    return read(TypeAdapter(annotation).json_schema(mode="serialization")).sends[0].shape


def read(schema: dict[str, Any]) -> Vocabulary:
    definitions = schema.pop("$defs", {})
    event = {"name": "it", "replies": [], "schema": schema}
    consumer: Any = {"definitions": definitions, "receives": [event], "sends": [], "presence": None}
    return vocabulary(consumer)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, STRING),
        (Annotated[str, Field(max_length=3)], Scalar("string", None, (("maxLength", 3),))),
        (Any, Anything()),
        (JsonValue, Anything()),
        (Literal["a", 1, None], Literals(("a", 1, None))),
        (Literal["a"], Literals(("a",))),
        (int | None, Choice((INTEGER, NULL))),
        (int | (str | None), Choice((INTEGER, STRING, NULL))),
        (Literal[1] | Literal[True], Choice((Literals((1,)), Literals((True,))))),
        (list[int], ListOf(INTEGER)),
        (list[Any], ListOf(Anything())),
        (set[str], ListOf(STRING, is_unique=True)),
        (tuple[int, str], TupleOf((INTEGER, STRING), None, 2)),
        (tuple[()], TupleOf((), None, 0)),
        (tuple[int, ...], ListOf(INTEGER)),
        (dict[str, int], MapOf(INTEGER)),
        (dict[str, Any], MapOf(Anything())),
        (dict[Annotated[str, Field(pattern="^a")], int], MapOf(INTEGER)),
        (Empty, Struct(())),
        (Closed, Struct((), is_closed=True)),
    ],
)
def test_shape(annotation: Any, expected: Shape) -> None:
    """A type has one shape, whatever JSON Schema calls it."""
    assert shape(annotation) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"allOf": [{"type": "string"}]}, STRING),
        ({"type": ["string", "null"]}, Choice((STRING, NULL))),
        ({"anyOf": [{"type": "string"}, {"type": "string"}]}, STRING),
        ({"type": "array", "prefixItems": [{"type": "string"}], "minItems": 0}, TupleOf((STRING,), Anything(), 0)),
        ({"type": "array", "items": False}, ListOf(Nothing())),
        ({"enum": []}, Nothing()),
        ({"anyOf": []}, Nothing()),
        ({"const": {"a": 1}}, Anything()),
        ({"not": {"type": "string"}}, Anything()),
    ],
)
def test_handwritten_schema(schema: dict[str, Any], expected: Shape) -> None:
    """Schemas that a user of Pydantic wrote by hand are read too; what says nothing known may be anything."""
    assert read(schema).sends[0].shape == expected


def test_tagged_choice() -> None:
    """A choice with a discriminator keeps its tag, and stays itself within another choice."""
    tagged = Annotated[Cat | Dog, Field(discriminator="kind")]
    choice = Choice((Reference("Cat"), Reference("Dog")), "kind")
    assert shape(tagged) == choice
    assert shape(tagged | None) == Choice((choice, NULL))


def test_fields() -> None:
    """A field keeps its name on the wire, its default and what is said of it."""
    found = read(TypeAdapter(Cat).json_schema(mode="validation")).sends[0].shape
    assert isinstance(found, Struct)
    lives = found.fields[1]
    assert (lives.name, lives.is_required, lives.has_default, lives.default) == ("lives", False, True, 9)
    assert (lives.description, lives.is_deprecated) == ("How many are left.", True)


def test_other_keys() -> None:
    """A model that allows other keys says of what shape they are."""
    found = shape(Open)
    assert isinstance(found, Struct)
    assert found.rest == Anything()
    assert not found.is_closed


def test_order_and_names() -> None:
    """What others refer to stands before them; two definitions never share a name, nor does one lose its text."""
    schema: dict[str, Any] = {
        "$ref": "#/$defs/outer",
        "$defs": {
            "outer": {
                "type": "object",
                "title": "outer",
                "properties": {"a": {"$ref": "#/$defs/in.ner"}, "b": {"$ref": "#/$defs/in_ner"}},
                "default": {"$ref": "#/$defs/nowhere"},
            },
            "in.ner": {"type": "string", "description": "The first."},
            "in_ner": {"type": "integer"},
        },
    }
    found = read(schema)
    assert [named.name for named in found.named] == ["InNer", "InNer2", "Outer"]
    assert found.named[0] == Named("InNer", STRING, "The first.")


def test_every_type() -> None:
    """References of a whole consumer lead somewhere, replies are names of events that the client receives."""
    found = vocabulary(entry())
    names = {named.name for named in found.named}
    assert set(references([message.shape for message in (*found.sends, *found.receives)])) <= names
    assert set(references([named.shape for named in found.named])) <= names
    received = {message.name for message in found.receives}
    assert {reply for message in found.sends for reply in message.replies} <= received | {"wsrt.ok"}


def entry() -> ConsumerEntry:
    [found] = [each for each in describe([EveryTypeConsumer])["consumers"] if each["name"] == "EveryType"]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, Reference):
        return [value.name]
    if isinstance(value, list | tuple):
        return [name for each in value for name in references(each)]
    names = getattr(value, "__slots__", ())
    return [name for each in names for name in references(getattr(value, each))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("message.sent", ("MessageSent", "messageSent", "message_sent")),
        ("messageSent", ("MessageSent", "messageSent", "message_sent")),
        ("HTTPError", ("HTTPError", "hTTPError", "http_error")),
        ("2fa.code", ("T2faCode", "t2faCode", "t_2fa_code")),
        ("Page[Cat]", ("PageCat", "pageCat", "page_cat")),
        ("...", ("T", "t", "t_")),
    ],
)
def test_names(text: str, expected: tuple[str, str, str]) -> None:
    """Names become identifiers, however their words are joined."""
    assert (pascal(text), camel(text), snake(text)) == expected
    assert all(name.isidentifier() for name in expected)
