"""The class statement of events."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, Field, JsonValue, ValidationError

from wsrt import DeclarationError, Event, RootEvent, UnsendableEvent
from wsrt.protocol.envelope import MAX_FRAME_BYTES, encode
from wsrt.protocol.events import meta
from wsrt.protocol.frame import Frame


class Point(Event, name="point", overflow="latest", key=("x", "y")):
    x: int
    y: int
    label: str = Field("", alias="theLabel")


class Anything(Event, name="anything"):
    value: Any


def test_declaration() -> None:
    """Name and options stand in __event__, so every field name is free."""

    class Odd(Event, name="odd", history=True):
        name: str
        key: str
        overflow: str

    assert (meta(Odd).name, meta(Odd).history, meta(Point).key) == ("odd", True, ("x", "y"))
    assert Odd(name="a", key="b", overflow="c").name == "a"


def test_nothing_is_inherited() -> None:
    """A subclass without a name is abstract, whatever its parent is called."""

    class Point3(Point):
        z: int

    with pytest.raises(TypeError, match="no wire name"):
        encode(Point3(x=1, y=2, z=3))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nam": "x"}, "unknown class arguments"),
        ({"name": ""}, "non-empty"),
        ({"name": 5}, "non-empty"),
        ({"name": "wsrt.x"}, "reserved"),
        ({"name": "x", "overflow": "burst"}, "overflow must be one of"),
        ({"name": "x", "overflow": "latest"}, "needs key=..., which selects"),
        ({"name": "x", "history": "latest"}, "needs key=..., which selects"),
        ({"name": "x", "key": "a"}, 'has no effect without overflow="latest" or history="latest"'),
        ({"name": "x", "overflow": "latest", "key": "nope"}, "not one of its fields"),
        ({"name": "x", "overflow": "latest", "key": (5,)}, "key must be a field name"),
        ({"name": "x", "history": 1}, "True, False or"),
        ({"name": "x", "history": True, "overflow": "drop"}, 'requires overflow="close"'),
        ({"name": "x", "rate": "2"}, 'a rate is .* such as "2/s"'),
        ({"name": "x", "rate": 2}, 'rate must be a string such as "2/s", not 2'),
        ({"history": True}, "need a wire name"),
        ({"rate": "2/s"}, "need a wire name"),
    ],
)
def test_wrong_declaration(options: dict[str, Any], says: str) -> None:
    """A wrong class statement is an error at once, which says what is allowed."""
    with pytest.raises(DeclarationError, match=says):
        type("Wrong", (Event,), {"__annotations__": {"a": int}, "__module__": __name__}, **options)


def test_config() -> None:
    """Pydantic's own configuration passes as class arguments."""

    class Strict(Event, name="strict", extra="forbid"):
        a: int

    with pytest.raises(ValidationError):
        Strict(a=1, b=2)  # type: ignore[call-arg]


def test_frozen() -> None:
    """What was validated is what is sent."""
    with pytest.raises(ValidationError):
        Point(x=1, y=2).x = 3  # type: ignore[misc]


def test_root_event() -> None:
    """Data that isn't an object."""

    class Tags(RootEvent[list[str]], name="tags"):
        pass

    assert encode(Tags(["a"])).frame().text == '{"event":"tags","data":["a"]}'
    assert meta(Tags).name == "tags"


def test_from_a_row() -> None:
    """An event is made from the attributes of any object."""
    assert Point.model_validate(SimpleNamespace(x=1, y=2, theLabel="z")).label == "z"


def test_encode() -> None:
    """Aliases, bytes, dates and decimals come out as JSON that they go in by."""

    class Rich(Event, name="rich"):
        raw: bytes
        at: datetime
        price: Decimal
        label: str = Field(alias="theLabel")

    rich = Rich(raw=b"\xff\x00", at=datetime(2026, 1, 2), price=Decimal("1.50"), label="é")  # type: ignore[call-arg]
    text = encode(rich).frame(ref=7).text
    assert text == (
        '{"event":"rich","data":{"raw":"_wA=","at":"2026-01-02T00:00:00","price":"1.50","theLabel":"é"},"ref":7}'
    )
    assert Rich.model_validate_json(rich.model_dump_json()) == rich


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_not_json(value: Any) -> None:
    """NaN and Infinity are refused at the call, wherever they hide (S29)."""
    with pytest.raises(UnsendableEvent, match="NaN"):
        encode(Anything(value=value))


def test_words_that_look_so() -> None:
    """The words NaN and Infinity are text like any other."""
    assert "NaN" in encode(Anything(value="NaN and Infinity")).data


def test_put_in_past_validation() -> None:
    """A value of a wrong type, or a lone surrogate, is refused when it is sent (S29, D4)."""
    with pytest.raises(UnsendableEvent):
        encode(Point.model_construct(x="one", y=2))
    with pytest.raises(UnsendableEvent):
        encode(Anything(value="\ud800"))
    with pytest.raises(UnsendableEvent):
        encode(Anything(value=object()))


def test_too_large() -> None:
    """An event over 1 MiB raises when it is published."""
    with pytest.raises(UnsendableEvent, match="1048576"):
        encode(Anything(value="x" * MAX_FRAME_BYTES)).frame()


def test_later_changes_are_not_seen() -> None:
    """What is encoded does not follow the caller's objects (D4)."""

    class Holder(Event, name="holder"):
        items: list[JsonValue]

    holder = Holder(items=[1])
    frame = encode(holder).frame()
    holder.items.append(2)
    assert frame.text == '{"event":"holder","data":{"items":[1]}}'


def test_key() -> None:
    """The key of "latest" holds the event, the fields and the address; an answer to a request has none."""
    one, two = Point(x=1, y=2, label="a"), Point(x=1, y=2, label="b")  # type: ignore[call-arg]
    assert encode(one).key == encode(two).key
    addresses = [None, ["room", "a"], ["user", "7"], ["everyone"], ["-", ["room", "a"], ["user", "7"]]]
    assert len({encode(one, address=address).key for address in addresses}) == len(addresses)
    answer = encode(one).frame(ref="1")
    assert (answer.overflow, answer.key) == ("close", None)


class Inner(BaseModel):
    value: float | None = None


class Outer(Event, name="outer"):
    inner: Inner


class Keyed(Event, name="keyed", overflow="latest", key="raw"):
    raw: bytes


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_json_in_a_model_within(value: float) -> None:
    """A model within an event has rules of its own, by which NaN would go out as null: it is refused."""
    with pytest.raises(UnsendableEvent, match="NaN and Infinity"):
        encode(Outer(inner=Inner(value=value)))
    assert encode(Outer(inner=Inner())).frame().text == '{"event":"outer","data":{"inner":{"value":null}}}'


def test_key_of_bytes() -> None:
    """A key may be bytes that are no text."""
    assert encode(Keyed(raw=b"\xff\x00")).key != encode(Keyed(raw=b"\xff\x01")).key


@pytest.mark.parametrize(("size", "head"), [(5, b"\x81\x05"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e")])
def test_framed(size: int, head: bytes) -> None:
    """A frame as it stands on the wire, made once."""
    frame = Frame("x" * size)
    assert frame.framed == head + b"x" * size
    assert frame.framed is frame.framed


def test_framed_large() -> None:
    """Lengths are those of UTF-8."""
    assert Frame("é" * 200).framed[:4] == b"\x81\x7e" + (400).to_bytes(2, "big")
    assert Frame("x" * 70_000).framed[:10] == b"\x81\x7f" + (70_000).to_bytes(8, "big")
