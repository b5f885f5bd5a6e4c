"""The hash of a catalog, and the agreement of wire and schema."""

from __future__ import annotations

import enum
import json
import math
from enum import IntFlag
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from django.utils.translation import gettext_lazy
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WrapSerializer,
    computed_field,
    field_serializer,
    model_serializer,
)
from pydantic.alias_generators import to_camel

from wsrt import Event, TypedEventConsumer, on
from wsrt.exceptions import InvalidData, InvalidFrame
from wsrt.protocol.catalog import Catalog
from wsrt.protocol.envelope import encode
from wsrt.protocol.schema import Schema, without_words
from wsrt.schema.description import describe
from wsrt.testing import connect


class Inner(BaseModel):
    first_name: str = Field(alias="firstName")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    last_seen: int = 0


class Aliased(Event, name="aliased"):
    who: Inner
    several: list[Inner] = Field(default_factory=list)
    camel: Camel | None = None
    re_named: int = Field(1, alias="re-named")


def test_aliases() -> None:
    """Models within an event are written by their aliases too, as the schema says."""
    event = Aliased(who=Inner(firstName="Ada"), several=[Inner(firstName="Bob")], camel=Camel(last_seen=7))
    assert json.loads(encode(event).frame().text)["data"] == {
        "who": {"firstName": "Ada"},
        "several": [{"firstName": "Bob"}],
        "camel": {"lastSeen": 7},
        "re-named": 1,
    }
    # What is written is read again.
    assert Catalog([Aliased], []).decode(encode(event).frame().text).event == event


def plain() -> type[Event]:
    class Told(Event, name="told"):
        a: int
        b: str = ""

    return Told


def computed() -> type[Event]:
    class Told(Event, name="told"):
        a: int
        b: str = ""

        @computed_field  # type: ignore[prop-decorator]
        @property
        def double(self) -> int:
            return 2 * self.a

    return Told


def renamed() -> type[Event]:
    class Told(Event, name="told"):
        a: int
        b: str = Field("", serialization_alias="z")

    return Told


def excluded() -> type[Event]:
    class Told(Event, name="told"):
        a: int
        b: str = Field("", exclude=True)

    return Told


def excluded_at_times() -> type[Event]:
    class Told(Event, name="told"):
        a: int
        b: str = Field("", exclude_if=lambda value: not value)

    return Told


def serialized() -> type[Event]:
    class Told(Event, name="told"):
        a: int
        b: str = ""

        @field_serializer("a")
        def as_text(self, value: int) -> str:
            return str(value)

    return Told


class Shown(BaseModel):
    name: str


class OtherShown(BaseModel):
    name: str
    away: bool = False


def test_the_hash_sees_what_clients_get() -> None:
    """Whatever changes what a client sends, gets or may expect changes the hash: each of these is another."""
    told, other = plain(), computed()
    catalogs = [
        Catalog([], [told]),
        *(Catalog([], [make()]) for make in (computed, renamed, excluded, excluded_at_times, serialized)),
        Catalog([told], []),
        Catalog([told], [told]),
        Catalog([told], [told], {"told": ["told"]}),
        Catalog([told], [told], {"told": ["told", "wsrt.ok"]}),
        Catalog([], [told], shown=Shown),
        Catalog([], [told], shown=OtherShown),
    ]
    hashes = [catalog.schema_hash for catalog in catalogs]
    assert len(set(hashes)) == len(hashes)
    assert Catalog([], [plain()]).schema_hash == hashes[0]
    assert Catalog([], [other]).schema_hash == hashes[1]


def test_the_hash_sees_no_words() -> None:
    """Descriptions are for people: they may be in any language, and ``python -OO`` leaves docstrings out."""

    class One(Event, name="one"):
        """Said."""

        description: str = Field("", description="What was said", title="Text")
        title: int = 0

    described = One

    class One(Event, name="one"):  # type: ignore[no-redef]  # the same but for words
        description: str = Field("", description=gettext_lazy("Name"))
        title: int = 0

    assert Catalog([One], []).schema_hash == Catalog([described], []).schema_hash

    class One(Event, name="one"):  # type: ignore[no-redef]  # without a property that is called so
        title: int = 0

    assert Catalog([One], []).schema_hash != Catalog([described], []).schema_hash


def test_words() -> None:
    """Words are left out where they are keywords, and stay where they are data or names of properties."""
    schema = {
        "title": "T",
        "description": "D",
        "properties": {"title": {"type": "string", "title": "Title", "default": {"description": "data"}}},
        "const": {"title": "data"},
    }
    assert without_words(schema) == {
        "properties": {"title": {"type": "string", "default": {"description": "data"}}},
        "const": {"title": "data"},
    }


class Greeted(Event, name="greeted"):
    name: str = Field(description=gettext_lazy("Name"))


class LazyWordsConsumer(TypedEventConsumer):
    namespace = "lazy-words"
    out_events = (Greeted,)

    @on
    async def greet(self, event: Greeted) -> Greeted:
        return event


async def test_descriptions_that_are_translated_late() -> None:
    """A lazily translated description keeps no client out, and is text in the schema."""
    async with connect(LazyWordsConsumer, subprotocols=["wsrt.v1"]) as client:
        assert await client.request(Greeted(name="Ada")) == Greeted(name="Ada")
    (entry,) = describe([LazyWordsConsumer])["consumers"]
    assert '"description": "Name"' in json.dumps(entry)


class Permission(IntFlag):
    READ = 4
    WRITE = 2


class Odd(Event, name="odd"):
    limit: float = math.inf
    permission: Permission = Permission.READ
    note: str | None = Field(None, exclude_if=lambda value: value is None)
    discriminator: int = 0
    default: Inner | None = None
    const: list[Inner] = Field(default_factory=list)


class OddWordsConsumer(TypedEventConsumer):
    namespace = "odd-words"
    out_events = (Odd,)


def odd() -> Any:
    (entry,) = describe([OddWordsConsumer])["consumers"]
    json.dumps(entry, allow_nan=False)
    return entry["definitions"].get("Odd") or entry["sends"][0]["schema"]


def test_what_json_does_not_have() -> None:
    """A default that JSON cannot say is left out of the schema; the field still has one."""
    schema = odd()
    assert "default" not in schema["properties"]["limit"]


def test_flags() -> None:
    """Flags are numbers: all combinations are values, not the members alone."""
    (entry,) = describe([OddWordsConsumer])["consumers"]
    assert entry["definitions"]["Permission"]["type"] == "integer"
    assert "enum" not in entry["definitions"]["Permission"]


def test_fields_that_are_left_out_at_times() -> None:
    """A field with ``exclude_if`` is not always there."""
    assert "note" not in odd()["required"]
    assert "limit" in odd()["required"]


@pytest.mark.parametrize("name", ["discriminator", "default", "const"])
def test_properties_with_names_of_keywords(name: str) -> None:
    """A property may be called as a keyword is."""
    from wsrt.schema.asyncapi import asyncapi, json_schema

    description = describe([OddWordsConsumer])
    for document in (asyncapi(description, title="T", version="1"), json_schema(description)):
        text = json.dumps(document)
        assert f'"{name}": {{' in text
        assert "#/$defs/Inner" not in text


@pytest.mark.parametrize("text", [r"\ud800", r"\uDC00", r"party \ud83c", r"\ud83c\ud83c\udf89"])
@pytest.mark.parametrize("ref", ["1", "\N{PARTY POPPER}", r"\ud83c\udf89"])
def test_half_a_character(text: str, ref: str) -> None:
    """A request with half a character in it, as JavaScript cuts text, is an invalid one that is answered."""
    frame = f'{{"event":"odd","data":{{"text":"{text}"}},"ref":"{ref}"}}'
    with pytest.raises(InvalidFrame) as caught:
        Catalog([Odd], []).decode(frame)
    assert caught.value.ref == json.loads(f'"{ref}"')


class Way(enum.Enum):
    EMAIL = "email"
    POST = "post"
    SMS = "sms"
    MAIL = "email"  # noqa: PIE796 - a second name of a member


class Ways(BaseModel):
    ways: set[Way] = {Way.SMS, Way.EMAIL}


class InAnyOrder(Event, name="in-any-order"):
    ways: set[Way] = {Way.SMS, Way.POST, Way.EMAIL}
    by_name: dict[str, frozenset[str]] = {"a": frozenset({"x", "z", "y"})}
    several: list[set[int]] = [{3, 1, 2}]
    inner: Ways = Ways()


def test_sets_have_one_order() -> None:
    """Sets in defaults are written in one order: every process has the same schema, and the same hash."""
    schema = InAnyOrder.model_json_schema(schema_generator=Schema)
    defaults = {name: field.get("default") for name, field in schema["properties"].items()}
    assert defaults == {
        "ways": ["email", "post", "sms"],
        "by_name": {"a": ["x", "y", "z"]},
        "several": [[1, 2, 3]],
        "inner": {"ways": ["email", "sms"]},
    }
    assert schema["$defs"]["Way"]["enum"] == ["email", "post", "sms"]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2
    SAME = 2


class Share(enum.Enum):
    HALF = 0.5
    ALL = 1
    YES = True
    TEXT = "text"


class Rights(IntFlag):
    READ = 1
    WRITE = 2


class Keys(Event, name="keys"):
    levels: dict[Level, int] = {}
    shares: dict[Share, int] = {}
    rights: dict[Rights, int] = {}
    words: dict[Literal["a", "b"], int] = {}


class Person(BaseModel):
    first: str = Field(validation_alias=AliasPath("name", "first"))
    last: str = Field("", validation_alias=AliasPath("name", "last"))
    city: str = Field(validation_alias=AliasPath("places", 1, "city"))
    newest: int = Field(0, validation_alias=AliasPath("years", -1))
    age: int = Field(validation_alias=AliasChoices(AliasPath("facts", 0), "age"))


class People(Event, name="people"):
    person: Person
    own: int = Field(0, validation_alias=AliasPath("other", "own"))


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)

    first_name: str = Field(alias="firstName")
    deep: int = Field(0, validation_alias=AliasPath("a", "b"))


class Named(Event, name="named"):
    who: ByName


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (Keys, {"levels": {"1": 1, "2": 2}}),
        (Keys, {"words": {"a": 1}}),
        (People, {"person": {"name": {"first": "Ada"}, "places": [{}, {"city": "London"}], "age": 36}, "own": 1}),
        (
            People,
            {
                "person": {
                    "name": {"first": "Ada", "last": "L"},
                    "places": [1, {"city": "L"}],
                    "years": [1, 2],
                    "age": 36,
                }
            },
        ),
        (Named, {"who": {"first_name": "Ada", "deep": 1}}),
    ],
)
def test_what_the_schema_permits_is_taken(model: type[Event], data: Any) -> None:
    """Keys that are numbers, fields within an AliasPath and fields by name alone are sent as the schema says."""
    jsonschema.validate(data, described(model, "validation"))
    received = Catalog([model], []).decode(json.dumps({"event": model.__event__.name, "data": data}))  # type: ignore[union-attr]
    assert isinstance(received.event, model)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (Keys, {"levels": {"3": 1}}),
        (Keys, {"levels": {"LOW": 1}}),
        (People, {"person": {"first": "Ada", "places": [{}, {"city": "London"}], "age": 36}}),
        (People, {"person": {"name": {"first": "Ada"}, "places": [{"city": "London"}], "age": 36}}),
        (Named, {"who": {"firstName": "Ada"}}),
    ],
)
def test_what_the_schema_forbids_is_refused(model: type[Event], data: Any) -> None:
    """What would be refused as a frame does not match the schema."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, described(model, "validation"))
    with pytest.raises(InvalidData):
        Catalog([model], []).decode(json.dumps({"event": model.__event__.name, "data": data}))  # type: ignore[union-attr]


def test_where_an_error_is_within_an_alias_path() -> None:
    """Errors of fields that are read from within an object say where, by the keys of that object."""
    data = {"person": {"name": {"first": 1}, "places": [{}, {"city": "London"}], "age": 36}}
    with pytest.raises(InvalidData) as caught:
        Catalog([People], []).decode(json.dumps({"event": "people", "data": data}))
    assert [error["loc"] for error in caught.value.errors] == [["person", "name", "first"]]


def test_keys_that_are_sent() -> None:
    """Keys of every kind of enum are sent as the schema says."""
    event = Keys(
        levels={Level.HIGH: 1},
        shares={Share.HALF: 1, Share.ALL: 2, Share.YES: 3, Share.TEXT: 4},
        rights={Rights.READ | Rights.WRITE: 1},
        words={"a": 1},
    )
    data = json.loads(encode(event).frame().text)["data"]
    jsonschema.validate(data, described(Keys, "serialization"))
    keys = described(Keys, "serialization")["properties"]
    assert keys["levels"]["propertyNames"] == {"enum": ["1", "2"]}
    assert set(data["shares"]) <= set(keys["shares"]["propertyNames"]["enum"])


class Silent(BaseModel):
    number: int

    @model_serializer
    def as_text(self):  # type: ignore[no-untyped-def]
        return f"number {self.number}"


class Serialized(Event, name="serialized"):
    field: int
    told: int
    plain: Annotated[int, PlainSerializer(str)]
    unsaid: Annotated[int, PlainSerializer(lambda value: str(value))]
    wrapped: Annotated[int | None, WrapSerializer(lambda value, write: [write(value)], when_used="unless-none")]
    whole: Silent

    @field_serializer("field")
    def _field(self, value):  # type: ignore[no-untyped-def]
        return {"value": value}

    @field_serializer("told")
    def _told(self, value: int) -> list[int]:
        return [value]


def test_serializers_without_a_return_annotation() -> None:
    """What a serializer returns without saying so may be anything; what it says stands in the schema."""
    event = Serialized(field=1, told=2, plain=3, unsaid=4, wrapped=5, whole=Silent(number=6))
    schema = described(Serialized, "serialization")
    data = json.loads(encode(event).frame().text)["data"]
    assert data["wrapped"] == [5]
    jsonschema.validate(data, schema)
    kinds = {name: each.get("type") for name, each in schema["properties"].items()}
    assert kinds == {"field": None, "told": "array", "plain": "string", "unsaid": None, "wrapped": None, "whole": None}
    # What is received is read by the type, not by the serializer.
    assert described(Serialized, "validation")["properties"]["field"]["type"] == "integer"


def described(model: type[Event], mode: Any) -> Any:
    return model.model_json_schema(by_alias=True, mode=mode, schema_generator=Schema)
